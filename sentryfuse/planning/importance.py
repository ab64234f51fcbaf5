"""Importance: one number per unit, which the planner follows; numpy only.

It comes from a scorer: that of the gate from saliency, times the size of the weights. Only the gate's is
changed on its way to a plan, once: `levelled`. The planner compares what it is given per MAC.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Importance = Mapping[str, NDArray[np.float32]]
"""Block name -> `(units,)`, positive, higher stays longer; comparable within a kind of unit, of any scale."""


def levelled(importance: Importance) -> dict[str, NDArray[np.float32]]:
    """Divide every block's importance by its mean, for planning.

    Levels between blocks say how deep a block lies rather than how many of its units can go, and a plan that
    follows them starves whole blocks. What the gate knows of the units within a block is what counts.

    Args:
        importance: block name -> `(units,)`, positive.

    Returns:
        The same shape; the order within a block does not change.

    Source:
        Our choice, made on the validation person of dsads: three seeds, mean over r = 0.6, 0.8 and 0.9 and
        over all sensors and one missing, 95.3 % against 95.2 % with the root of the mean and 95.1 % for
        magnitude.
    """
    return {
        name: (values / np.maximum(values.mean(), 1e-30)).astype(np.float32)
        for name, values in importance.items()
    }
