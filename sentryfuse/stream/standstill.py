"""How long a sensor, or one channel of it, has said the same, also across the edges of windows.

Notation: n samples · C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_REACH = 5.0  # periods between two samples that still follow each other
_LIVELY = 0.1  # share of samples in which a channel changes that is not a flag or a count
_KNOWN = 100  # samples that tell whether it does


class Standstill:
    """Follows equal samples of one sensor from window to window; windows may overlap.

    Args:
        n_channels: `C`.
    """

    def __init__(self, n_channels: int) -> None:
        self._times: NDArray[np.float64] = np.empty(0)  # of the latest window, in periods
        self._values = np.empty((0, n_channels), np.float32)
        self._runs = np.empty((0, n_channels + 1), np.intp)
        self._seen = 0
        self._changes = np.zeros(n_channels, np.intp)

    def see(self, times: NDArray[np.float64], values: NDArray[np.float32]) -> tuple[int, int]:
        """Take in the samples of a window.

        Args:
            times: ascending, `(n,)`, in nominal periods since any moment.
            values: `(n, C)`.

        Returns:
            Equal samples in a row up to one of these, all channels equal; and of one channel that used to
            move, while another one goes on moving.
        """
        n, n_channels = values.shape
        if not n:
            return 0, 0
        equal = np.zeros((n, n_channels + 1), bool)
        equal[1:, :-1] = values[1:] == values[:-1]
        carried = np.zeros(n_channels + 1, np.intp)
        known = len(self._times)
        before = int(np.searchsorted(self._times, times[0] - 1e-3)) - 1
        if before >= 0 and times[0] - self._times[before] <= _REACH:
            equal[0, :-1] = values[0] == self._values[before]
            carried = self._runs[before]
        equal[:, -1] = equal[:, :-1].all(axis=1)
        steps = np.arange(n)[:, None]
        broken = np.maximum.accumulate(np.where(equal, -1, steps), axis=0)
        runs = np.where(broken >= 0, steps - broken + 1, steps + 1 + carried)
        new = slice(0 if not known else int(np.searchsorted(times, self._times[-1] + 1e-3)), n)
        self._times, self._values, self._runs = times, values, runs
        moves = np.count_nonzero(~equal[:, :-1], axis=0)
        frozen = 0
        if self._seen >= _KNOWN and 2 * moves.max() >= n:
            lively = self._changes >= _LIVELY * self._seen
            frozen = int(runs[-1, :-1][lively].max(initial=0))
        # a channel that stands still for long does not become one that never moved
        awake = runs[new, :-1] < _KNOWN
        self._changes += np.count_nonzero(~equal[new, :-1] & awake, axis=0)
        self._seen += len(runs[new]) if bool(awake.all()) else 0
        return int(runs[:, -1].max()), frozen
