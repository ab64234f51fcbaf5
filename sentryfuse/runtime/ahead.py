"""Which sub-networks may be asked for next, and when there is time to build them before anybody asks.

What comes next cannot be known; what is one step away can be listed: one sensor less, one more, the next
levels of a policy, budgets that were asked for before. They are built between two windows, when the stream
rests long enough for a build, and within a share of one processor core. First come the readouts of other
sensors: they do not depend on the budget.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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

    def rest(self, present: tuple[str, ...], asked: Collection[str] = ()) -> None:
        """Take in that no window waits; until the next is due there may be time.

        Args:
            present: sensors that the next window will have, as far as is known now; in the model's order.
            asked: those that are to be used; one that is not present may come back at any moment.
        """
        if not self.most_mb or self._cut_s is None or not self._between or not present:
            return
        serving = self._serving
        budget, step = serving.budget, serving.step
        away = tuple(name for name in asked if name not in present)
        basis = (serving.sessions, present, away, budget, step)
        if basis != self._basis:
            self._basis = basis
            self._budgets = [budget, *(b for b in self._budgets if b != budget)][: BEFORE + 1]
            near = [*one_step(serving.bundle.layout.modalities, present, away)]
            alone = ((some, SMALLEST) for some in (near if serving.bundle.mixture else ()))
            wanted = islice(questions(near, present, budget, self._levels, self._budgets), MOST)
            # what comes next if nothing happens may be there and not used yet: it must not be pushed out
            expected = [(present, budget)]
            self._walk = _Walk(serving, chain(expected, islice(alone, MOST), wanted), self.most_mb)
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
        self._wanted, self._left_mb, self._half_mb = wanted, most_mb, most_mb / 2
        self.ended = False

    def next(self) -> Plan | None:
        """The next plan that is not ready and for which there is room."""
        for present, budget in self._wanted:
            plan = self._plan(present, budget)
            there_mb = self._sessions.look(plan)
            needed_mb = memory_mb(plan) if there_mb is None else there_mb
            if needed_mb > self._left_mb - (self._half_mb if plan.readout_alone else 0.0):
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


def one_step(
    modalities: Sequence[Modality], present: Sequence[str], away: Collection[str] = ()
) -> Iterator[tuple[str, ...]]:
    """Sensors that are one step away, likeliest first: one back that was away, one lost, one asked for.

    Args:
        modalities: of the model, in its order.
        present: sensors in use.
        away: others that are to be used.

    Returns:
        Sets of sensors in the model's order, each once; static values alone are never answered.
    """
    names = [m.name for m in modalities]
    moving = {m.name for m in modalities if m.rate_hz > 0}
    back = [name for name in names if name in away and name not in present]
    off = [name for name in names if name not in present and name not in back]
    for changed in (*back, *present, *off):
        some = tuple(name for name in names if (name in present) != (name == changed))
        if some and (not moving or moving & {*some}):
            yield some


def questions(
    near: Iterable[tuple[str, ...]],
    present: Sequence[str],
    budget: Budget,
    levels: Sequence[Budget],
    before: Iterable[Budget],
) -> Iterator[Question]:
    """Sensors and budgets that are one step away, likeliest first.

    A sensor that is lost is seen when its window is cut; a budget is told before. So sensors come first.

    Args:
        near: of `one_step`.
        present: sensors in use.
        budget: in force.
        levels: of a policy.
        before: other budgets that were asked for, the latest first.

    Returns:
        Sensors and budget, each pair once.
    """
    for some in near:
        yield some, budget
    beside = [*levels]
    if budget in beside:
        at = beside.index(budget)
        beside = [*beside[at + 1 : at + 2], *beside[max(0, at - 1) : at]]
    seen = {budget}
    for other in (*beside[:2], *before):
        if other not in seen:
            seen.add(other)
            yield tuple(present), other
