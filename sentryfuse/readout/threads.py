"""Independent pieces of a fit side by side, one processor each.

numpy releases the interpreter where it spends its time, so threads are enough. Not for scikit-learn, which
changes the filters of warnings for all threads while it fits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Piece = TypeVar("Piece")
Made = TypeVar("Made")


def side_by_side(make: Callable[[Piece], Made], pieces: Iterable[Piece]) -> list[Made]:
    """What `make` says of each piece, in their order; the first error is raised.

    Libraries get one thread in each of ours: matrices are small, more threads mostly wait for each other.
    """
    try:
        import scipy.linalg  # noqa: F401 - brings a BLAS of its own, to be limited with the others
        from threadpoolctl import threadpool_limits  # both come with scikit-learn
    except ModuleNotFoundError:  # as on a device: one after another
        return [make(piece) for piece in pieces]
    with threadpool_limits(1), ThreadPoolExecutor(_processors()) as pool:
        return list(pool.map(make, pieces))


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
