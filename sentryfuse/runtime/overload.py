"""A machine that is behind: which windows are dropped, so that answers stay fresh."""

from __future__ import annotations

import math

from sentryfuse.runtime.events import Events

CALM_S, CALM_HOPS = 5.0, 10.0  # without a dropped window: the overload is over


class Overload:
    """Decides which windows are too old to be answered, and tells when that begins and ends.

    Args:
        events: gets `overload` and `overload_over`.
        max_age_s: largest age of an answer [s].
        hop_s: from the start of one window to the next [s].

    Attributes:
        dropped: windows so far.
    """

    def __init__(self, events: Events, *, max_age_s: float, hop_s: float) -> None:
        self._events, self._max_age_s, self._hop_s = events, max_age_s, hop_s
        self.dropped = 0
        self._dropping, self._dropped_s = False, -math.inf  # now, and when the latest window was
        self._began: int | None = None  # windows dropped before it did

    def age_left_s(self, latency_s: float) -> float:
        """How old a window may be so that its answer is fresh; half of it while windows are dropped [s].

        Dropping down to half leaves room, so that the stream is not always at its limit.

        Args:
            latency_s: that an answer takes [s].
        """
        allowed_s = self._max_age_s / 2 if self._dropping else self._max_age_s
        return max(allowed_s - latency_s, self._max_age_s / 4)

    def judge(self, window_id: int, *, drop: bool, now_s: float, behind_s: float) -> None:
        """Take in what was decided about a window.

        Args:
            window_id: which.
            drop: whether it is dropped.
            now_s: on the source's clock [s].
            behind_s: how long ago it ended [s].
        """
        self._dropping = drop
        if drop:
            self.dropped += 1
            self._dropped_s = now_s
            if self._began is None:
                self._began = self.dropped - 1
                behind = f"{behind_s:.3g} s behind, at most {self._max_age_s:.3g} s are allowed"
                self._events.tell("overload", reason=f"windows are dropped: {behind}", window_id=window_id)
        elif self._began is not None and now_s - self._dropped_s > max(CALM_S, CALM_HOPS * self._hop_s):
            self._events.tell("overload_over", dropped=self.dropped - self._began, window_id=window_id)
            self._began = None
