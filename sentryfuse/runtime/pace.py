"""Whether the latest windows were answered within the budget, measured and not predicted."""

from __future__ import annotations

from collections import deque

from sentryfuse.runtime.events import Events
from sentryfuse.types import Budget

LATEST, TOO_LATE = 100, 0.05  # windows looked at, and the share of them that may exceed the budget


class Pace:
    """Compares the latency of the latest windows with the budget.

    Args:
        events: gets `too_slow`.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._late: deque[bool] = deque(maxlen=LATEST)

    def judge(self, latency_ms: float, budget: Budget, window_id: int) -> str:
        """Take in one window.

        Args:
            latency_ms: that it took [ms].
            budget: that held for it.
            window_id: for the event.

        Returns:
            What is wrong, empty when nothing is, when there is no limit or too few windows.
        """
        limit = budget.latency_ms
        if limit is None:
            self._late.clear()
            return ""
        self._late.append(latency_ms > limit)
        n, late = len(self._late), sum(self._late)
        if n < LATEST // 5 or late <= TOO_LATE * n:
            self._events.tell_once("too_slow", "")
            return ""
        self._events.tell_once("too_slow", f"budget {limit:g} ms", window_id=window_id, late=late, of=n)
        return f"{late} of the last {n} windows took longer than the budget of {limit:g} ms"
