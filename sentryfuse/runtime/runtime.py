"""The stream runtime: samples in, one result per window out, always with the right sub-network.

    source -> Cutter -> sensors present --+
    meter -> Governor -> budget ----------+-> plan -> session -> Result

Use it from one thread; `set_budget` and `swap` may be called from any.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.engine.engines import ENGINE, Engine
from sentryfuse.errors import ConfigError
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.power import Governor, LadderReader, Policy
from sentryfuse.runtime.events import Events
from sentryfuse.runtime.pace import Pace
from sentryfuse.runtime.person import Person
from sentryfuse.runtime.result import Result, Status
from sentryfuse.runtime.sensors import SensorWatch
from sentryfuse.runtime.serving import Serving
from sentryfuse.stream import Cutter, CutWindow, HealthRules, Source, Verdict
from sentryfuse.types import Budget, Plan

DEADLINE_HOPS, DEADLINE_MS = 0.5, 1000.0  # of the default: half a hop, and no more than a second
POWER_EVERY_S = 1.0
STALE_HOPS = 10  # an answer older than so many hops is not repeated


class _LastAnswer(NamedTuple):
    """The last answer computed from a window."""

    end_s: float
    answer: str
    probabilities: NDArray[np.float32]
    plan: Plan
    plan_id: str


class Runtime:
    """Answers a stream window by window, with the sensors that are there and the budget that is left.

    Args:
        bundle: of `load_bundle`.
        source: of `open_source`; stays the caller's to close.
        budget: limits of one inference; `None` means none.
        profile: times measured on this device, for budgets in milliseconds.
        policy: charge or power that is left -> budget, in place of one; needs `reader`.
        reader: of `open_reader`; stays the caller's to close.
        hop_s: from the start of one window to the next [s]; `None` is the window's length.
        rules: what a sensor may do and still be used.
        wait_s: how long a window waits for late packets [s].
        deadline_ms: how long a window may wait for its sub-network to be built [ms]; `None` is half a hop,
            a second at most.
        threads: of the engine.
        engine: a name or an `Engine`.
        kept: warm sub-networks.
        events: where events go; `None` only logs them.

    Raises:
        BudgetError: no sub-network fits the budget, or a level of the policy, even with all sensors.
        ConfigError: numbers that mean nothing, a policy without a reader or beside a budget, or a profile of
            another engine or number of threads.
        BundleError: a graph that the engine refuses.
    """

    def __init__(
        self,
        bundle: Bundle,
        source: Source,
        *,
        budget: Budget | None = None,
        profile: DeviceProfile | None = None,
        policy: Policy | None = None,
        reader: LadderReader | None = None,
        hop_s: float | None = None,
        rules: HealthRules | None = None,
        wait_s: float = 0.1,
        deadline_ms: float | None = None,
        threads: int = 1,
        engine: str | Engine = ENGINE,
        kept: int = 4,
        events: Events | None = None,
    ) -> None:
        if deadline_ms is not None and not (math.isfinite(deadline_ms) and deadline_ms >= 0):
            raise ConfigError(f"deadline_ms must be 0 or a positive number, got {deadline_ms}")
        if policy is not None and reader is None:
            raise ConfigError("a policy follows a meter, and none was given; open one with open_reader")
        if policy is not None and budget is not None:
            raise ConfigError("a policy and a budget both say what a window may take; give one of them")
        self.source = source
        self.events = events or Events()
        self._cutter = Cutter(
            bundle.layout.modalities,
            hop_s=hop_s,
            rules=rules,
            scale=_scale(bundle),
            wait_s=wait_s,
            start_s=source.start_s,
        )
        own_ms = min(DEADLINE_MS, 1e3 * DEADLINE_HOPS * self._cutter.hop_s)
        self.deadline_ms = own_ms if deadline_ms is None else deadline_ms
        self._person = Person(bundle.names, bundle.subject_floor) if bundle.normalise == "subject" else None
        self._serving = Serving(
            bundle,
            budget=budget or Budget(ratio=0.0),
            profile=profile,
            threads=threads,
            kept=kept,
            engine=engine,
            apart=_slower_than(self._cutter.hop_s, bundle),
            events=self.events,
        )
        try:
            for level in () if policy is None else policy.levels:
                self._serving.check(level.budget)
        except BaseException:
            self._serving.close()
            raise
        self._governor = None if policy is None else Governor(policy)
        self._reader, self._power_at, self._energy_label = reader, -math.inf, "none"
        self._moving = {m.name for m in bundle.layout.modalities if m.rate_hz > 0}
        self._due: deque[tuple[CutWindow, float]] = deque()  # windows, and when they were cut
        self._tokens: dict[str, NDArray[np.float32]] = {}  # of slow sensors, made by the current session
        self._pace = Pace(self.events)
        self._last: _LastAnswer | None = None
        self._sensors = SensorWatch(bundle.names, self.events)

    @property
    def bundle(self) -> Bundle:
        """The bundle in force."""
        return self._serving.bundle

    @property
    def budget(self) -> Budget:
        """What one inference may take now."""
        return self._serving.budget

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._serving.current.plan

    @property
    def window_s(self) -> float:
        """Length of a window [s]."""
        return self._cutter.window_s

    @property
    def hop_s(self) -> float:
        """From the start of one window to the next [s]."""
        return self._cutter.hop_s

    def __iter__(self) -> Iterator[Result]:
        """Results until the source has ended."""
        while not self.source.ended:
            yield from self.step()
        while results := self.finish():
            yield from results

    def step(self, timeout_s: float = 0.1) -> list[Result]:
        """Take in what has arrived and answer windows that are due; never raises.

        Args:
            timeout_s: wait at most so long for samples [s]; not at all while windows are due.

        Returns:
            One result per window, in order; mostly none or one. At least one of those due, then as many as
            the deadline allows; the rest wait for the next call.
        """
        began = time.perf_counter()
        self._guarded("power", self._follow_power)
        if not self._guarded("source", self._take_in, 0.0 if self._due else timeout_s):
            time.sleep(max(0.0, timeout_s - (time.perf_counter() - began)))  # a dead source must not spin
        self._guarded("stream", self._cut)
        return self._answer_due(time.perf_counter() + self.deadline_ms / 1e3)

    def finish(self) -> list[Result]:
        """Answer windows that have ended, without waiting for late packets; for the end of a source.

        Returns:
            Some of them in order, none when there are no more: call until then.
        """
        if not self._due:
            self._guarded("stream", self._flush)
        return self._answer_due(time.perf_counter() + self.deadline_ms / 1e3)

    def set_budget(self, budget: Budget, reason: str = "asked for") -> None:
        """Change what one inference may take, from the next window on.

        Args:
            budget: one that the sensors present cannot meet is answered by the smallest sub-network, as
                DEGRADED.
            reason: for the events.

        Raises:
            BudgetError: milliseconds or millijoules without a profile that measured them; nothing changes.
        """
        if budget == self.budget:
            return
        self._serving.check_judged(budget)
        self._serving.budget = budget
        self.events.tell("budget", reason=reason, **budget.limits)

    def swap(self, bundle: Bundle) -> None:
        """Serve another bundle from the next window on; if it cannot, this one goes on unchanged.

        Args:
            bundle: made for the same sensors, classes and normalisation.

        Raises:
            ConfigError: it was made for others.
            BundleError: a graph that the engine refuses.
        """
        if self._person is not None:
            Person(bundle.names, bundle.subject_floor)
        self._serving.offer(bundle, self._sensors.present)

    def counters(self) -> dict[str, Any]:
        """What was counted since the start, ready for `json.dumps`: per sensor, per kind of event."""
        sensors = self._cutter.counters()
        for name, counted in self.source.counters().items():
            for kind, n in counted.items():
                sensors[name][kind] = sensors[name].get(kind, 0) + n
        return {"sensors": sensors, "events": dict(self.events.counts), "unknown": self._cutter.unknown}

    def close(self) -> None:
        """Let the sub-networks go; source and meter stay the caller's."""
        self._serving.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take_in(self, timeout_s: float) -> None:
        self._cutter.push(self.source.read(timeout_s))

    def _cut(self) -> None:
        now_s = self.source.now_s()
        self._look_for_silence(now_s)
        self._due.extend((window, time.perf_counter()) for window in self._cutter.cut(now_s))

    def _flush(self) -> None:
        self._due.extend((w, time.perf_counter()) for w in self._cutter.flush(self.source.now_s()))

    def _answer_due(self, until: float) -> list[Result]:
        results: list[Result] = []
        while self._due and (not results or time.perf_counter() < until):
            window, cut = self._due.popleft()
            results.append(self._answer(window, cut, time.perf_counter() + self.deadline_ms / 1e3))
        return results

    def _answer(self, window: CutWindow, cut: float, until: float) -> Result:
        for name in [name for name in self._tokens if window.changed[name]]:
            del self._tokens[name]
        session = None
        try:
            self._take_over()
            self._sensors.see(window)
            if not window.present or (self._moving and not self._moving & set(window.present)):
                self._tokens = {}
                return self._without(window, cut, Status.REFUSED, "no live sensor is there")
            plan, over = self._serving.choose(window.present)
            self.events.tell_once("over_budget", over, window_id=window.window_id)
            session = self._serving.session(plan, until)
            if session is None:
                self.events.tell("stale", window_id=window.window_id)
                reason = f"the sub-network was not ready within {self.deadline_ms:g} ms"
                return self._without(window, cut, Status.STALE, reason)
            self._expect_returns(window)
            values = window.values if self._person is None else self._person.standardise(window.values)
            if session is not self._serving.current:
                self._tokens = {}
            reused = tuple(name for name in session.apart if name in self._tokens)
            started = time.perf_counter()
            probabilities = session.run(values, self._tokens)[0]
            latency_ms = 1e3 * (time.perf_counter() - started)
            if not np.isfinite(probabilities).all():
                raise ConfigError("the sub-network answered with numbers that are not finite")
        except Exception as error:  # a stream must go on by itself
            self._tokens = {}
            if session is not None:
                self._serving.give_up(session)
            self._tell_fault(error, window_id=window.window_id)
            return self._without(window, cut, Status.FAULT, f"{type(error).__name__}: {error}")
        waited_ms = round(1e3 * (time.perf_counter() - cut), 3)
        self._serving.put_in_force(session, window_id=window.window_id, waited_ms=waited_ms)
        absent = [name for name in window.verdicts if name not in window.present]
        reasons = [f"without {', '.join(f'{n} ({window.verdicts[n]})' for n in absent)}"] if absent else []
        reasons += [
            reason for reason in (over, self._pace.judge(latency_ms, self.budget, window.window_id)) if reason
        ]
        answer = self.bundle.classes[int(probabilities.argmax())]
        plan_id = self._serving.plan_id
        self._last = _LastAnswer(window.end_s, answer, probabilities, session.plan, plan_id)
        if self._reader is not None:
            self._reader.count(session.plan.cost.macs, session.plan.dense.macs)
        return Result(
            window_id=window.window_id,
            end_s=window.end_s,
            at_s=time.monotonic(),
            status=Status.DEGRADED if reasons else Status.OK,
            reason="; ".join(reasons),
            present=window.present,
            reused=reused,
            verdicts=window.verdicts,
            answer=answer,
            probabilities=probabilities,
            plan=session.plan,
            plan_id=plan_id,
            latency_ms=latency_ms,
            delay_ms=1e3 * (time.perf_counter() - cut),
            age_s=None,
            energy_label=self._energy_label,
        )

    def _without(self, window: CutWindow, cut: float, status: Status, reason: str) -> Result:
        """A result without an answer of this window; only STALE repeats the last one, unless it is old."""
        last, repeat = self._last, None
        if last is not None:
            age_s = window.end_s - last.end_s
            reason += f"; the last answer is {age_s:.3g} s old"
            if status is Status.STALE and age_s <= STALE_HOPS * self.hop_s:
                repeat = last
        return Result(
            window_id=window.window_id,
            end_s=window.end_s,
            at_s=time.monotonic(),
            status=status,
            reason=reason,
            present=() if repeat is None else repeat.plan.present,
            reused=(),
            verdicts=window.verdicts,
            answer=None if repeat is None else repeat.answer,
            probabilities=None if repeat is None else repeat.probabilities,
            plan=None if repeat is None else repeat.plan,
            plan_id=None if repeat is None else repeat.plan_id,
            latency_ms=None,
            delay_ms=1e3 * (time.perf_counter() - cut),
            age_s=None if last is None else window.end_s - last.end_s,
            energy_label=self._energy_label,
        )

    def _take_over(self) -> None:
        """Put a swapped bundle in force, between two windows."""
        if self._serving.take_over(self._sensors.present):
            self._tokens = {}
            self._cutter.rescale(_scale(self.bundle))
            if self._person is not None:
                self._person = Person(self.bundle.names, self.bundle.subject_floor)

    def _look_for_silence(self, now_s: float) -> None:
        """A sensor that falls silent between windows: have the sub-network without it built ahead."""
        if self._sensors.look(self._cutter.silent(now_s), now_s) and self._sensors.left:
            self._serving.prepare(self._sensors.left)

    def _expect_returns(self, window: CutWindow) -> None:
        """Sensors that are good again and wait to be trusted: have the sub-network with them built ahead."""
        if any(verdict is Verdict.RECOVERING for verdict in window.verdicts.values()):
            good = (Verdict.OK, Verdict.RECOVERING)
            self._serving.prepare(tuple(n for n, verdict in window.verdicts.items() if verdict in good))

    def _follow_power(self) -> None:
        now_s = self.source.now_s()
        if self._reader is None or now_s - self._power_at < POWER_EVERY_S:
            return
        self._power_at = now_s
        reading = self._reader.read(now_s)
        self._energy_label = str(reading.label)
        for note in reading.notes:
            self.events.tell("power", note=note)
        if self._governor is not None:
            decision = self._governor.update(reading, now_s)
            self.set_budget(decision.budget, decision.reason)
            self._serving.prepare(self._sensors.present)

    def _guarded(self, what: str, action: Callable[..., None], *arguments: Any) -> bool:
        """Run an action whose error must not end the stream; the same error is one event until it is over."""
        try:
            action(*arguments)
        except Exception as error:
            self.events.tell_once(f"fault {what}", f"{type(error).__name__}: {error}")
            return False
        self.events.tell_once(f"fault {what}", "")
        return True

    def _tell_fault(self, error: Exception, **facts: Any) -> None:
        self.events.tell("fault", reason=f"{type(error).__name__}: {error}", **facts)


def _scale(bundle: Bundle) -> Mapping[str, tuple[Any, Any]] | None:
    """Mean and deviation in training by sensor; `None` where the model sees each person's own."""
    if bundle.normalise == "subject":
        return None
    found = {}
    for step in bundle.layout.steps:
        if step.window:
            mean, std = (bundle.weights.get(f"{step.name}.normalise.{leaf}") for leaf in ("mean", "std"))
            if mean is not None and std is not None:
                found[step.window] = (mean, std)
    return found


def _slower_than(hop_s: float, bundle: Bundle) -> tuple[str, ...]:
    """Sensors with less than one sample per hop; none where all values are standardised anew."""
    if bundle.normalise == "subject":
        return ()
    return tuple(m.name for m in bundle.layout.modalities if m.rate_hz * hop_s < 1)
