"""Window statistics: what comes in is raw windows, what goes out is one row of features per window.

numpy alone, the same on the workstation and on the device. Every feature is made of matrix products
with constant bases, reductions, sorts and element-wise operations, so that a graph can hold it too.
"""

from __future__ import annotations

from sentryfuse.statistics.features import features
from sentryfuse.statistics.names import feature_names, n_bands
from sentryfuse.statistics.order import order_statistics

__all__ = ["feature_names", "features", "n_bands", "order_statistics"]
