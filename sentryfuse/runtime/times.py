"""How long something took, counted by how long: the buckets of a histogram."""

from __future__ import annotations

from bisect import bisect_left

BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # our choice


class Times:
    """How many times lay in which bucket; written by one thread at a time, read by any.

    Attributes:
        counts: one per bucket of `BUCKETS_S` and one for those above, not summed up.
        total_s: sum of all [s].
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total_s = 0.0

    def see(self, time_s: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS_S, time_s)] += 1
        self.total_s += time_s
