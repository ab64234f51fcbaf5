"""How long one window takes, on one thread, for ours and for a rival."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from sentryfuse.rivals.features import Floats

REPEATS = 15
WARM_UP = 2

Batch = Mapping[str, Floats]


def median_ms(answer: Callable[[Batch], Any], batches: Sequence[Batch]) -> float:
    """Median time of one call [ms].

    Args:
        answer: what is timed.
        batches: of one window each, taken in turn.
    """
    for batch in batches[:WARM_UP]:
        answer(batch)
    times = []
    for i in range(REPEATS):
        batch = batches[i % len(batches)]
        started = time.perf_counter_ns()
        answer(batch)
        times.append((time.perf_counter_ns() - started) / 1e6)
    return float(np.median(times))


def at_most(threads: int) -> AbstractContextManager[Any]:
    """Hold scikit-learn's libraries to a number of threads."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    limited: AbstractContextManager[Any] = threadpool_limits(threads)
    return limited
