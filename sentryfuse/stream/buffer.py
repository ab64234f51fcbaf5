"""The newest samples of one sensor in the order they were taken, in memory that never grows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_HOLE = 0.25  # of a period: what is nearer than that to a sample takes its place


class Added(NamedTuple):
    """What became of some samples.

    Attributes:
        duplicate: their time was there already; they change nothing.
        reordered: placed before samples that had come earlier.
        crowded: refused, because they were to fill holes only and there was none.
        dropped: older samples that had to go for them.
    """

    duplicate: int = 0
    reordered: int = 0
    crowded: int = 0
    dropped: int = 0


class SampleBuffer:
    """Samples sorted by their time, each time once.

    Args:
        capacity: most samples kept; the oldest go first.
        n_channels: `C`.
        period_s: nominal time between samples [s].
    """

    def __init__(self, capacity: int, n_channels: int, period_s: float) -> None:
        self._capacity = capacity
        self._near = _HOLE * period_s
        # Twice the room, so that samples only rarely move to the front.
        self._times = np.empty(2 * capacity, np.float64)
        self._values = np.empty((2 * capacity, n_channels), np.float32)
        self._low = self._high = 0

    def __len__(self) -> int:
        """Samples inside."""
        return self._high - self._low

    @property
    def times_s(self) -> NDArray[np.float64]:
        """When they were taken, `(n,)`, ascending [s]; a view, valid until the next change."""
        return self._times[self._low : self._high]

    @property
    def values(self) -> NDArray[np.float32]:
        """Their values, `(n, C)`; a view, valid until the next change."""
        return self._values[self._low : self._high]

    @property
    def nbytes(self) -> int:
        """Memory held, the same from the first sample to the last [bytes]."""
        return self._times.nbytes + self._values.nbytes

    def add(
        self, times_s: NDArray[np.float64], values: NDArray[np.float32], *, only_holes: bool = False
    ) -> Added:
        """Put samples where they belong.

        Args:
            times_s: `(n,)`, finite, in any order [s].
            values: `(n, C)`.
            only_holes: refuse samples that lie on others without being the same.
        """
        duplicate = reordered = crowded = 0
        if len(times_s) > 1 and not (times_s[1:] > times_s[:-1]).all():
            times_s, first = np.unique(times_s, return_index=True)
            duplicate = len(values) - len(first)
            values = values[first]
        if len(self) and len(times_s) and times_s[0] <= self._times[self._high - 1]:
            own = self.times_s
            place = np.searchsorted(own, times_s)
            right = own[np.minimum(place, len(own) - 1)]
            fresh = right != times_s
            duplicate += len(fresh) - int(fresh.sum())
            if only_holes:
                left = own[np.maximum(place - 1, 0)]
                hole = np.minimum(abs(right - times_s), abs(left - times_s)) >= self._near
                crowded = int((fresh & ~hole).sum())
                fresh &= hole
            times_s, values, place = times_s[fresh], values[fresh], place[fresh]
            reordered = int((place < len(own)).sum())
            if reordered:
                times_s = np.insert(own, place, times_s)
                values = np.insert(self.values, place, values, axis=0)
                self._high = self._low
        return Added(duplicate, reordered, crowded, self._append(times_s, values))

    def forget_before(self, time_s: float) -> None:
        """Let go of samples taken before a time [s]."""
        self._low += int(np.searchsorted(self.times_s, time_s))

    def clear(self) -> None:
        """Let go of all samples."""
        self._low = self._high = 0

    def _append(self, times_s: NDArray[np.float64], values: NDArray[np.float32]) -> int:
        """Add samples newer than all others; gives how many old ones went."""
        excess = max(0, len(self) + len(times_s) - self._capacity)
        gone = min(excess, len(self))
        self._low += gone
        times_s, values = times_s[excess - gone :], values[excess - gone :]
        if self._high + len(times_s) > len(self._times):
            kept = len(self)
            self._times[:kept] = self.times_s.copy()
            self._values[:kept] = self.values.copy()
            self._low, self._high = 0, kept
        end = self._high + len(times_s)
        self._times[self._high : end] = times_s
        self._values[self._high : end] = values
        self._high = end
        return excess
