"""Following a policy while readings come in: which level holds now, and why."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from sentryfuse.power.policy import Level, Policy
from sentryfuse.power.reading import Reading
from sentryfuse.types import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which level of a policy holds.

    Attributes:
        index: of the level; 0 is the most generous.
        level: itself.
        changed: whether this very update took it.
        reason: why it was taken, one sentence.
    """

    index: int
    level: Level
    changed: bool
    reason: str

    @property
    def budget(self) -> Budget:
        """What one inference may take."""
        return self.level.budget


class Governor:
    """Readings -> a level, held for a dwell time so that it does not flap.

    The first good reading takes the level its value belongs to. From then on a level is left downwards
    at the next one's `at`, upwards at its own `back_at`, and never within `dwell_s` of the last change.
    A bad reading (none, NaN, negative, a charge above 1, an old one) changes nothing and is counted; once
    there was no good one for `lost_after_s`, the most careful level is taken. It holds as well until the
    first good reading.

    Attributes:
        policy: that is followed.
        bad_readings: so far.
        changes: of level so far; the first level is none.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.bad_readings = 0
        self.changes = 0
        self._index: int | None = None
        self._reason = ""
        self._is_settled = False
        self._now_s = self._good_s = self._changed_s = -math.inf

    def update(self, reading: Reading | None, now_s: float | None = None) -> Decision:
        """Take one reading; never raises.

        Args:
            reading: the latest one; the same one may be given again until there is a newer one, and
                grows old by its own `at_s`.
            now_s: monotonic time [s]; by default taken now. A step back counts as no step.
        """
        now_s = time.monotonic() if now_s is None else now_s
        if self._now_s < now_s < math.inf:  # false for NaN
            self._now_s = now_s
        left = self._good(reading)
        if left is None:
            self.bad_readings += 1
        wanted, reason = self._wanted(left)
        before = self._index
        if before is None:
            self._index, self._reason = wanted, reason
        elif wanted != before and self._now_s - self._changed_s >= self.policy.dwell_s:
            self._index, self._reason = wanted, reason
            self._changed_s = self._now_s
            self.changes += 1
        if left is not None and self._index == wanted:
            self._is_settled = True
        index = self._index
        assert index is not None
        return Decision(
            index=index,
            level=self.policy.levels[index],
            changed=before is not None and index != before,
            reason=self._reason,
        )

    def _good(self, reading: Reading | None) -> float | None:
        """What is left by a reading that can be true and is not too old."""
        if reading is None:
            return None
        left = reading.charge if self.policy.watch == "charge" else reading.cap_w
        most = 1.0 if self.policy.watch == "charge" else math.inf
        if left is None or not 0 <= left <= most or left == math.inf:
            return None
        at_s = min(reading.at_s, self._now_s)
        if not -math.inf < at_s >= self._good_s or self._now_s - at_s >= self.policy.lost_after_s:
            return None
        self._good_s = at_s
        return left

    def _wanted(self, left: float | None) -> tuple[int, str]:
        """The level to be in, dwell time aside, and why."""
        levels, show = self.policy.levels, self.policy.show
        if left is None:
            silent_s = self._now_s - self._good_s
            if self._index is None or silent_s >= self.policy.lost_after_s:
                since = "yet" if self._good_s == -math.inf else f"for {silent_s:.0f} s"
                return len(levels) - 1, f"no good reading {since}: the most careful level"
            return self._index, self._reason
        fits = max(i for i, level in enumerate(levels) if left <= level.at)
        if not self._is_settled or self._index is None or fits >= self._index:
            return fits, f"{self._said(left)} is {f'at or below {show(levels[fits].at)}' if fits else 'left'}"
        index = self._index
        while index > fits and left >= levels[index].back_at:
            index -= 1
        if index == self._index:
            return index, self._reason
        return index, f"{self._said(left)} is at or above {show(levels[index + 1].back_at)}"

    def _said(self, left: float) -> str:
        what = "charge" if self.policy.watch == "charge" else "the limit on power"
        return f"{what} {self.policy.show(left)}"
