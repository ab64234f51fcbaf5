"""The closed loop: measured times over the limit -> a smaller sub-network, and back up with hysteresis."""

from __future__ import annotations

from collections import deque

import numpy as np

from sentryfuse.runtime.events import Events
from sentryfuse.runtime.serving import Serving
from sentryfuse.types import Plan

RECENT, TOO_MANY = 20, 5  # windows looked at, and how many of them over the limit are one step down ...
LATEST, TOO_LATE = 100, 0.05  # ... or, of so many, this share: a budget in milliseconds is a 95th percentile
HOP_SHARE = 0.8  # of a hop that an answer may take on a live stream, or the queue grows
ROOM = 0.8  # of the limit that the larger sub-network must be expected to leave free below
HOLD, MOST_HOLD = 100, 3200  # windows before a step up; doubled each time it did not last
_MOST_GROWTH = 2.0  # of the time from one step to the next


class LoadLoop:
    """Follows how long answers take, and moves `serving.step`.

    A step is taken once its sub-network is built, so that no window waits for it.

    Args:
        serving: its budget is what is asked for, its step how far below it stays.
        events: gets `step_down` and `step_up`.
        hop_ms: from one window to the next on a live stream [ms]; `None` where nothing runs on by itself.
    """

    def __init__(self, serving: Serving, events: Events, *, hop_ms: float | None) -> None:
        self._serving, self._events = serving, events
        self._hop_ms = hop_ms
        self._latest: deque[float] = deque(maxlen=LATEST)  # times as shares of the limit
        self._hold, self._since = HOLD, 0
        self._went_up = False  # by the latest step
        self._coming: tuple[int, Plan] | None = None
        self._least: Plan | None = None  # below it there is nothing
        self._asked, self._of = serving.budget, serving.bundle
        self._dropped = 0

    def dropped(self) -> None:
        """Take in that a window was dropped, since the machine was behind."""
        self._dropped += 1

    def see(self, latency_ms: float, window_id: int) -> None:
        """Take in one answered window, and move on to another step where it is time.

        Args:
            latency_ms: that its sub-network took [ms].
            window_id: for the event.
        """
        serving = self._serving
        if serving.budget != self._asked or serving.bundle is not self._of:  # both begin anew, as `step` does
            self._of = serving.bundle
            self._asked, self._hold, self._coming, self._least = serving.budget, HOLD, None, None
            self._clear()
        limit = self._limit_ms()
        if limit is None:
            return
        self._latest.append(latency_ms / limit)
        self._since += 1
        if self._coming is not None:
            self._arrive(window_id)
        elif self._is_too_slow():
            self._go(serving.step + 1)
        elif serving.step and self._since >= self._hold and self._has_room():
            self._go(serving.step - 1)

    def _limit_ms(self) -> float | None:
        limits = [self._serving.budget.latency_ms, None if self._hop_ms is None else HOP_SHARE * self._hop_ms]
        return min((limit for limit in limits if limit is not None), default=None)

    def _is_too_slow(self) -> bool:
        over = [share > 1 for share in self._latest]
        if self._dropped and len(over) >= TOO_MANY and 2 * sum(over[-TOO_MANY:]) > TOO_MANY:
            return True
        recent = len(over) >= RECENT // 2 and sum(over[-RECENT:]) >= TOO_MANY
        return recent or (len(over) == LATEST and sum(over) > TOO_LATE * LATEST)

    def _has_room(self) -> bool:
        """Whether the sub-network one step up can be expected to hold the limit."""
        serving = self._serving
        now = serving.current.plan
        above = serving.at_step(now.present, serving.step - 1)
        growth = min(_MOST_GROWTH, above.cost.macs / max(1, now.cost.macs))
        return float(np.percentile(list(self._latest), 95)) * max(1.0, growth) < ROOM

    def _go(self, step: int) -> None:
        """Have the sub-network of another step built."""
        serving = self._serving
        now = serving.current.plan
        plan = serving.at_step(now.present, step)
        if step > serving.step and (plan.cost.macs >= now.cost.macs or now is self._least):
            self._least = now
            return
        serving.sessions.prepare(plan)
        self._coming = (step, plan)

    def _arrive(self, window_id: int) -> None:
        """Take the step whose sub-network has been built."""
        assert self._coming is not None
        step, plan = self._coming
        serving = self._serving
        try:
            if serving.sessions.ready(plan) is None and serving.sessions.is_preparing(plan):
                return
        except Exception as error:  # it could not be built; what is in force goes on
            self._coming, self._least = None, serving.current.plan
            self._events.tell("fault", reason=f"{type(error).__name__}: {error}", window_id=window_id)
            return
        down = step > serving.step
        share = float(np.percentile(list(self._latest), 95))
        if down and self._went_up and self._since < self._hold:
            self._hold = min(2 * self._hold, MOST_HOLD)
        elif not down:
            self._hold = self._hold if self._went_up else max(HOLD, self._hold)
        serving.step, self._coming, self._went_up = step, None, not down
        self._events.tell(
            "step_down" if down else "step_up",
            reason=f"answers take {share:.0%} of the {self._limit_ms():.4g} ms there are (95th percentile)",
            step=step,
            macs=plan.cost.macs,
            dropped=self._dropped,
            window_id=window_id,
        )
        self._clear()

    def _clear(self) -> None:
        self._latest.clear()
        self._since = self._dropped = 0
