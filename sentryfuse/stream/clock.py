"""One sensor's clock against ours: the offset between them, and whether a jump of it is real.

A sample is never received before it was taken, so the smallest difference between arrival and sample
time seen lately is the distance of the clocks plus the shortest way. That distance is kept until it
has moved by more than a sample period, so that windows do not wobble; a sensor's clock that runs a
little fast or slow is followed that way. A jump must be told by every packet for a while before it is
believed, and what the sensor says until then is not used.
"""

from __future__ import annotations

import math

HORIZON_S = 30.0  # how far back the smallest difference is looked for: 500 ppm move 15 ms in it
DEAD_BAND_S = 0.01  # a smaller move is the network's, not the clock's
SETTLE_S = 0.5  # so long must all packets agree on a jump


class SensorClock:
    """Maps the clock of one sensor to ours.

    Args:
        period_s: nominal time between samples [s].
        tolerance_s: packets may differ so much from what the clock says [s]; more is a jump or a
            packet much too late.
    """

    def __init__(self, period_s: float, tolerance_s: float) -> None:
        self.offset_s: float | None = None
        self.realigned = 0
        self.jumped_s = -math.inf
        self._band = max(period_s, DEAD_BAND_S)
        self._tolerance = tolerance_s
        self._settle = max(SETTLE_S, tolerance_s)
        self._bucket = -(1 << 62)  # of `_newer`; `_older` is of the one before
        self._newer = self._older = math.inf
        self._doubted: tuple[float, float] | None = None  # since when, and the new distance

    def lag(self, received_s: float, time_s: float) -> float:
        """How much later than expected a packet is [s]; below 0 early, 0 before the clock is known."""
        return 0.0 if self.offset_s is None else received_s - time_s - self.offset_s

    def observe(self, received_s: float, time_s: float) -> bool:
        """Take in the times at which one packet was sampled and arrived.

        Args:
            received_s: on our clock [s].
            time_s: of its last sample, on the sensor's clock [s].

        Returns:
            Whether the clock has just been set anew, so that older samples mean nothing.
        """
        difference = received_s - time_s
        if self.offset_s is not None and abs(difference - self.offset_s) > self._tolerance:
            return self._suspect(received_s, difference)
        self._doubted = None
        bucket = math.floor(received_s / HORIZON_S)
        if bucket > self._bucket:
            self._older = self._newer if bucket == self._bucket + 1 else math.inf
            self._newer, self._bucket = math.inf, bucket
        if bucket == self._bucket:
            self._newer = min(self._newer, difference)
        elif bucket == self._bucket - 1:
            self._older = min(self._older, difference)
        return False

    def estimate_s(self) -> float | None:
        """The offset that a window cut now would use [s]: our time = sensor's time + offset."""
        best = min(self._newer, self._older)
        if math.isinf(best):
            return self.offset_s
        moved = self.offset_s is None or abs(best - self.offset_s) > self._band
        return best if moved else self.offset_s

    def commit(self) -> None:
        """Use the offset as it is now; called between windows only, so that one window has one."""
        now = self.estimate_s()
        self.realigned += self.offset_s is not None and now != self.offset_s
        self.offset_s = now

    @property
    def is_uncertain(self) -> bool:
        """Whether the latest packets had another time than the clock expected."""
        return self._doubted is not None

    def _suspect(self, received_s: float, difference: float) -> bool:
        """Accept a jump once packets have agreed on it for a while."""
        if self._doubted is None or abs(difference - self._doubted[1]) > self._tolerance / 2:
            self._doubted = (received_s, difference)
        since, first = self._doubted
        if received_s - since < self._settle:
            self._doubted = (since, min(first, difference))
            return False
        self.offset_s = self._newer = min(first, difference)
        self._older, self._bucket = math.inf, math.floor(received_s / HORIZON_S)
        self._doubted = None
        self.jumped_s = received_s
        return True
