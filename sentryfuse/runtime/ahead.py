"""Which sub-networks may be asked for next, and when there is time to build them before anybody asks.

What comes next cannot be known; what is one step away can be listed: one sensor less, one more, the next
levels of a policy, budgets that were asked for before. They are built between two windows, when the stream
rests long enough for a build, and within a share of one processor core.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice

from sentryfuse.engine.warm import memory_mb
from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.runtime.serving import Serving
from sentryfuse.types import Budget, Modality, Plan

AHEAD_MB = 32.0  # the default; of a million weights three dense sub-networks, or nine at ratio 0.8
SHARE, BURST_S = 0.1, 1.0  # of one core, and what may be spent at once after a rest [s]
BUILDS = 2.0  # there must be time for so many builds before one begins
MOST = 24  # sub-networks that one step leads to; of forty sensors not all
BEFORE = 4  # budgets remembered
SMALLEST = Budget(ratio=1.0)  # what answers where nothing fits the budget
_CUTS = 8  # times from one cut to the next that are looked at
Question = tuple[tuple[str, ...], Budget]


class Ahead:
    """Has likely sub-networks built while a live stream rests.

    `cut` and `rest` are called by the thread that answers; what they start runs on that of the sessions.

    Args:
        serving: the sub-network in force.
        levels: budgets of a policy, from the most generous to the most careful; none without one.
        most_mb: memory that sub-networks built ahead take together, about [MB]; 0 builds none.
        clock: rises by a second a second [s].

    Raises:
        ConfigError: a memory that means nothing.
    """

    def __init__(
        self,
        serving: Serving,
        *,
        levels: Sequence[Budget] = (),
        most_mb: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not (math.isfinite(most_mb) and most_mb >= 0):
            raise ConfigError(f"ahead_mb must be 0 or a positive number of megabytes, got {most_mb}")
        self._serving, self._levels, self.most_mb, self._clock = serving, levels, most_mb, clock
        self._budgets: list[Budget] = []  # asked for, the latest first
        self._between: deque[float] = deque(maxlen=_CUTS)  # from one cut to the next [s]
        self._cut_s: float | None = None
        self._until = 0.0  # the stream rests until then, on the clock
        self._basis: object = None
        self._walk: _Walk | None = None
        self._credit_s, self._at_s = BURST_S, clock()

    def cut(self) -> None:
        """Take in that windows were cut just now."""
        now = self._clock()
        if self._cut_s is not None:
            self._between.append(now - self._cut_s)
        self._cut_s, self._until = now, 0.0

    def rest(self, present: tuple[str, ...]) -> None:
        """Take in that no window waits; until the next is due there may be time.

        Args:
            present: sensors that the next window will have, as far as is known now; in the model's order.
        """
        if not self.most_mb or self._cut_s is None or not self._between or not present:
            return
        serving = self._serving
        budget, step = serving.budget, serving.step
        basis = (serving.sessions, present, budget, step)
        if basis != self._basis:
            self._basis = basis
            self._budgets = [budget, *(b for b in self._budgets if b != budget)][: BEFORE + 1]
            modalities = serving.bundle.layout.modalities
            wanted = questions(modalities, present, budget, self._levels, self._budgets)
            self._walk = _Walk(serving, islice(wanted, MOST), self.most_mb)
        self._until = self._cut_s + sorted(self._between)[len(self._between) // 4]  # most last longer
        if self._walk is not None and not self._walk.ended and self._has_time():
            serving.sessions.expect(partial(self._next, self._walk), most_mb=self.most_mb)

    def _next(self, walk: _Walk) -> Plan | None:
        """The next plan to build; `None` when there is no more, or no time for it now."""
        now = self._clock()
        self._credit_s = min(BURST_S, self._credit_s + SHARE * (now - self._at_s))
        self._at_s = now
        if walk is not self._walk or self._credit_s <= 0 or not self._has_time():
            return None
        plan = walk.next()
        took_s = self._serving.sessions.build_ms / 1e3 if plan else 0.0
        self._credit_s -= took_s + self._clock() - now
        return plan

    def _has_time(self) -> bool:
        return self._clock() + BUILDS * self._serving.sessions.build_ms / 1e3 < self._until


class _Walk:
    """Goes through what one step leads to, as far as memory allows; on one thread.

    Args:
        serving: whose step below the budget holds for other sensors.
        wanted: sensors and budgets, likeliest first.
        most_mb: as `Ahead`.

    Attributes:
        ended: there is no more.
    """

    def __init__(self, serving: Serving, wanted: Iterator[Question], most_mb: float) -> None:
        self._serving, self._sessions = serving, serving.sessions
        self._budget, self._step = serving.budget, serving.step
        self._wanted, self._left_mb = wanted, most_mb
        self.ended = False

    def next(self) -> Plan | None:
        """The next plan that is not ready and for which there is room."""
        for present, budget in self._wanted:
            plan = self._plan(present, budget)
            there_mb = self._sessions.look(plan)
            needed_mb = memory_mb(plan) if there_mb is None else there_mb
            if needed_mb > self._left_mb:
                continue  # a smaller one may fit
            self._left_mb -= needed_mb
            if there_mb is None:
                return plan
        self.ended = True
        return None

    def _plan(self, present: tuple[str, ...], budget: Budget) -> Plan:
        """As `Serving.choose`, which is for one thread; another budget is asked for without a step below."""
        if self._step and budget == self._budget:
            return self._serving.at_step(present, self._step)
        try:
            return self._sessions.plan(present, budget, self._serving.profile)
        except BudgetError:
            return self._sessions.plan(present, SMALLEST)


def questions(
    modalities: Sequence[Modality],
    present: Sequence[str],
    budget: Budget,
    levels: Sequence[Budget],
    before: Iterable[Budget],
) -> Iterator[Question]:
    """Sensors and budgets that are one step away, likeliest first.

    A sensor that is lost is seen when its window is cut; a budget is told before. So sensors come first.

    Args:
        modalities: of the model, in its order.
        present: sensors in use.
        budget: in force.
        levels: of a policy.
        before: other budgets that were asked for, the latest first.

    Returns:
        Sensors and budget, each pair once.
    """
    here = tuple(present)
    names = [m.name for m in modalities]
    moving = {m.name for m in modalities if m.rate_hz > 0}
    fewer = (tuple(name for name in here if name != lost) for lost in here)
    more = (
        tuple(name for name in names if name in here or name == back) for back in names if back not in here
    )
    for some in chain(fewer, more):
        if some and (not moving or moving & {*some}):  # static values alone are never answered
            yield some, budget
    near = [*levels]
    if budget in near:
        at = near.index(budget)
        near = [*near[at + 1 : at + 2], *near[max(0, at - 1) : at]]
    seen = {budget}
    for other in (*near[:2], *before):
        if other not in seen:
            seen.add(other)
            yield here, other
