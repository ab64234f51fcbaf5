"""The stream runtime: samples in, one result per window out, always with the right sub-network.

    source -> Cutter -> sensors present --+
    meter -> Governor -> budget ----------+-> plan -> session -> Result

Use it from one thread; `set_budget` and `swap` may be called from any.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.power import Governor, LadderReader, Policy
from sentryfuse.profile import DeviceProfile
from sentryfuse.pruning.plan import largest_ratio
from sentryfuse.run.engines import ENGINE, Engine
from sentryfuse.run.events import Events
from sentryfuse.run.person import Person
from sentryfuse.run.result import Result, Status
from sentryfuse.run.session import Session
from sentryfuse.run.sessions import Sessions
from sentryfuse.stream import Cutter, CutWindow, HealthRules, Source, Verdict
from sentryfuse.types import Budget, Plan

DEADLINE_MS = 100.0
POWER_EVERY_S = 1.0


class _Answer(NamedTuple):
    """The last answer that was made of a window."""

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
        budget: limits of one inference; `None` means none. A policy takes its place.
        profile: times measured on this device, for budgets in milliseconds.
        policy: what is left -> budget; needs `reader`.
        reader: of `open_reader`; stays the caller's to close.
        hop_s: from the start of one window to the next [s]; `None` is the window's length.
        rules: what a sensor may do and still be used.
        wait_s: how long a window waits for late packets [s].
        deadline_ms: how long a window may wait for its sub-network to be built [ms].
        threads: of the engine.
        engine: a name or an `Engine`.
        kept: warm sub-networks.
        events: where events go; `None` only logs them.

    Raises:
        BudgetError: no sub-network fits the budget even with all sensors.
        ConfigError: numbers that mean nothing, or a policy without a reader.
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
        deadline_ms: float = DEADLINE_MS,
        threads: int = 1,
        engine: str | Engine = ENGINE,
        kept: int = 4,
        events: Events | None = None,
    ) -> None:
        if not (math.isfinite(deadline_ms) and deadline_ms >= 0):
            raise ConfigError(f"deadline_ms must be 0 or a positive number, got {deadline_ms}")
        if policy is not None and reader is None:
            raise ConfigError("a policy follows a meter, and none was given; open one with open_reader")
        self.source, self.profile, self.deadline_ms = source, profile, deadline_ms
        self.events = events or Events()
        self.budget = budget or Budget(ratio=0.0)
        self.bundle = bundle
        self._cutter = Cutter(
            bundle.layout.modalities,
            hop_s=hop_s,
            rules=rules,
            scale=_scale(bundle),
            wait_s=wait_s,
            start_s=source.start_s,
        )
        slow = _slower_than(self._cutter.hop_s, bundle)
        self._options: dict[str, Any] = {"threads": threads, "kept": kept, "engine": engine, "apart": slow}
        self.sessions = Sessions(bundle, **self._options)
        try:
            self._current = self.sessions.get(self.sessions.plan(None, self.budget, profile))
        except BaseException:
            self.sessions.close()
            raise
        self._plan_id = self._current.plan.plan_id
        self._tokens: dict[str, NDArray[np.float32]] = {}  # of slow sensors, made by the current session
        self._person = Person(bundle) if bundle.normalise == "subject" else None
        self._governor = None if policy is None else Governor(policy)
        self._reader, self._power_at, self._energy_label = reader, -math.inf, "none"
        self._coming: tuple[Bundle, Sessions] | None = None
        self._over: dict[tuple[tuple[str, ...], Budget], tuple[Plan, str]] = {}
        self._last: _Answer | None = None
        self._present: tuple[str, ...] = bundle.names
        self._seen: dict[str, bool] = {}
        self._silent: set[str] = set()
        self._told_over = ""

    @property
    def window_s(self) -> float:
        """Length of a window [s]."""
        return self._cutter.window_s

    @property
    def hop_s(self) -> float:
        """From the start of one window to the next [s]."""
        return self._cutter.hop_s

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._current.plan

    def __iter__(self) -> Iterator[Result]:
        """Results until the source has ended."""
        while not self.source.ended:
            yield from self.step()
        yield from self.finish()

    def step(self, timeout_s: float = 0.1) -> list[Result]:
        """Take in what has arrived and answer the windows that are due; never raises.

        Args:
            timeout_s: wait at most so long for samples [s]. A window then waits for its sub-network no
                longer than the deadline.

        Returns:
            One result per window that was due, in order; mostly none or one.
        """
        try:
            self._follow_power()
            packets = self.source.read(timeout_s)
            self._cutter.push(packets)
            now_s = self.source.now_s()
            self._look_for_silence(now_s)
            windows = self._cutter.cut(now_s)
        except Exception as error:  # a stream that nobody can reach must go on
            self._tell_fault(error)
            return []
        return [self._answer(window) for window in windows]

    def finish(self) -> list[Result]:
        """Answer the windows that have ended, without waiting for late packets; for the end of a source."""
        try:
            windows = self._cutter.flush(self.source.now_s())
        except Exception as error:
            self._tell_fault(error)
            return []
        return [self._answer(window) for window in windows]

    def set_budget(self, budget: Budget, reason: str = "asked for") -> None:
        """Change what one inference may take, from the next window on.

        Args:
            budget: one that the sensors present cannot meet is answered by the smallest sub-network, as
                DEGRADED.
            reason: for the events.
        """
        if budget == self.budget:
            return
        self.budget = budget
        self.events.tell("budget", reason=reason, **_limits(budget))
        self._prepare(self._present)

    def swap(self, bundle: Bundle) -> None:
        """Serve another bundle from the next window on; if it cannot, this one goes on unchanged.

        Args:
            bundle: made for the same sensors and classes.

        Raises:
            ConfigError: it was made for others.
            BundleError: a graph that the engine refuses.
        """
        same = bundle.layout.modalities == self.bundle.layout.modalities
        if not same or bundle.classes != self.bundle.classes or bundle.normalise != self.bundle.normalise:
            raise ConfigError(
                "the new bundle was made for other sensors, classes or normalisation than the one that is "
                "serving; start a runtime of its own for it"
            )
        sessions = Sessions(bundle, **self._options)
        try:
            sessions.get(sessions.plan(self._present or None, None))
        except BaseException:
            sessions.close()
            raise
        self._coming = (bundle, sessions)

    def counters(self) -> dict[str, Any]:
        """What was counted since the start, ready for `json.dumps`: per sensor, per kind of event."""
        sensors = self._cutter.counters()
        for name, counted in self.source.counters().items():
            for kind, n in counted.items():
                sensors[name][kind] = sensors[name].get(kind, 0) + n
        return {"sensors": sensors, "events": dict(self.events.counts), "unknown": self._cutter.unknown}

    def close(self) -> None:
        """Let the sub-networks go; source and meter stay the caller's."""
        self.sessions.close()
        if self._coming is not None:
            self._coming[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, window: CutWindow) -> Result:
        began = time.perf_counter()
        for name in [name for name in self._tokens if window.changed[name]]:
            del self._tokens[name]
        try:
            self._take_over()
            self._tell_sensors(window)
            if not window.present:
                return self._without(window, began, Status.REFUSED, "no sensor is there")
            plan, over = self._choose(window.present)
            if over and over != self._told_over:
                self.events.tell("over_budget", window_id=window.window_id, reason=over)
            self._told_over = over
            session = self._session(plan, began)
            self._expect_returns(window)
            if session is None:
                self.events.tell("stale", window_id=window.window_id)
                reason = f"the sub-network was not ready within {self.deadline_ms:g} ms"
                return self._without(window, began, Status.STALE, reason)
            values = window.values if self._person is None else self._person.standardise(window.values)
            if session is not self._current:
                self._tokens = {}
            reused = tuple(name for name in session.apart if name in self._tokens)
            started = time.perf_counter()
            probabilities = session.run(values, self._tokens)[0]
            latency_ms = 1e3 * (time.perf_counter() - started)
            if not np.isfinite(probabilities).all():
                raise ConfigError("the sub-network answered with numbers that are not finite")
        except Exception as error:
            self._tokens = {}
            self._tell_fault(error, window.window_id)
            return self._without(window, began, Status.FAULT, f"{type(error).__name__}: {error}")
        self._in_force(session, window.window_id, began)
        reasons = [over] if over else []
        absent = [name for name in window.verdicts if name not in window.present]
        if absent:
            reasons.insert(0, f"without {', '.join(f'{n} ({window.verdicts[n]})' for n in absent)}")
        answer = self.bundle.classes[int(probabilities.argmax())]
        self._last = _Answer(window.end_s, answer, probabilities, session.plan, self._plan_id)
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
            plan_id=self._plan_id,
            latency_ms=latency_ms,
            delay_ms=1e3 * (time.perf_counter() - began),
            age_s=None,
            energy_label=self._energy_label,
        )

    def _without(self, window: CutWindow, began: float, status: Status, reason: str) -> Result:
        """A result that is not made of its window: only STALE repeats the last answer."""
        last, repeat = self._last, None
        if last is not None:
            reason += f"; the last answer is {window.end_s - last.end_s:.3g} s old"
            repeat = last if status is Status.STALE else None
        return Result(
            window_id=window.window_id,
            end_s=window.end_s,
            at_s=time.monotonic(),
            status=status,
            reason=reason,
            present=window.present,
            reused=(),
            verdicts=window.verdicts,
            answer=None if repeat is None else repeat.answer,
            probabilities=None if repeat is None else repeat.probabilities,
            plan=None if repeat is None else repeat.plan,
            plan_id=None if repeat is None else repeat.plan_id,
            latency_ms=None,
            delay_ms=1e3 * (time.perf_counter() - began),
            age_s=None if last is None else window.end_s - last.end_s,
            energy_label=self._energy_label,
        )

    def _choose(self, present: tuple[str, ...]) -> tuple[Plan, str]:
        """The plan for these sensors, or the smallest there is and why no plan fits."""
        budget = self.budget
        found = self._over.get((present, budget))
        if found is None:
            try:
                plan = self.sessions.plan(present, budget, self.profile)
            except BudgetError as error:
                least = Budget(ratio=largest_ratio(self.bundle.layout, present))
                found = self.sessions.plan(present, least), str(error)
                self._over = {(present, budget): found}
            else:
                return plan, ""
        return found

    def _session(self, plan: Plan, began: float) -> Session | None:
        """The session of a plan, waited for until the deadline; a build that failed raises."""
        if plan is self._current.plan:
            return self._current
        session = self.sessions.ready(plan)
        if session is None:
            self.sessions.prepare(plan)
            left_s = self.deadline_ms / 1e3 - (time.perf_counter() - began)
            self.sessions.wait(max(0.0, left_s))
            session = self.sessions.ready(plan)
        return session

    def _in_force(self, session: Session, window_id: int, began: float) -> None:
        if session is self._current:
            return
        before, self._current, self._plan_id = self._plan_id, session, session.plan.plan_id
        self.events.tell(
            "switch",
            window_id=window_id,
            plan_id=self._plan_id,
            before=before,
            present=list(session.plan.present),
            macs=session.plan.cost.macs,
            waited_ms=round(1e3 * (time.perf_counter() - began), 3),
        )

    def _tell_sensors(self, window: CutWindow) -> None:
        self._present = window.present or self._present
        for name, verdict in window.verdicts.items():
            on = verdict is Verdict.OK
            if self._seen.get(name, True) != on:
                kind = "sensor_back" if on else "sensor_lost"
                self.events.tell(kind, sensor=name, verdict=str(verdict), window_id=window.window_id)
            self._seen[name] = on

    def _look_for_silence(self, now_s: float) -> None:
        """A sensor that falls silent between windows: have the sub-network without it built ahead."""
        silent = set(self._cutter.silent(now_s))
        new = sorted(silent - self._silent)
        self._silent = silent
        for name in new:
            self.events.tell("sensor_silent", sensor=name, stream_s=round(now_s, 6))
        left = tuple(name for name in self._present if name not in silent)
        if new and left:
            self._prepare(left)

    def _expect_returns(self, window: CutWindow) -> None:
        """Sensors that are good again and wait to be trusted: have the sub-network with them built ahead."""
        if any(verdict is Verdict.RECOVERING for verdict in window.verdicts.values()):
            good = (Verdict.OK, Verdict.RECOVERING)
            self._prepare(tuple(name for name, verdict in window.verdicts.items() if verdict in good))

    def _prepare(self, present: tuple[str, ...]) -> None:
        try:
            self.sessions.prepare(self._choose(present)[0])
        except Exception as error:  # only ahead of time; who needs it will ask again, and be told
            self._tell_fault(error)

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

    def _take_over(self) -> None:
        """Put a swapped bundle in force, between two windows."""
        if self._coming is None:
            return
        (bundle, sessions), self._coming = self._coming, None
        self.bundle, before, self.sessions = bundle, self.sessions, sessions
        self._over = {}
        self._current = sessions.get(sessions.plan(self._present or None, None))
        self._plan_id, self._tokens = self._current.plan.plan_id, {}
        before.close()
        self.events.tell("bundle", digest=bundle.digest[:12])

    def _tell_fault(self, error: Exception, window_id: int | None = None) -> None:
        self.events.tell("fault", error=f"{type(error).__name__}: {error}", window_id=window_id)


def _scale(bundle: Bundle) -> Mapping[str, tuple[Any, Any]] | None:
    """Mean and deviation in training by sensor; `None` where the model sees each person's own."""
    if bundle.normalise == "subject":
        return None
    found = {}
    for step in bundle.layout.steps:
        if step.op == "embed":
            mean, std = (bundle.weights.get(f"{step.name}.normalise.{leaf}") for leaf in ("mean", "std"))
            if mean is not None and std is not None:
                found[step.needs[0]] = (mean, std)
    return found


def _slower_than(hop_s: float, bundle: Bundle) -> tuple[str, ...]:
    """Sensors that mostly have no news from one window to the next; none where all are standardised anew."""
    if bundle.normalise == "subject":
        return ()
    return tuple(m.name for m in bundle.layout.modalities if m.rate_hz * hop_s < 1)


def _limits(budget: Budget) -> dict[str, Any]:
    """The limits that a budget has."""
    names = ("ratio", "macs", "latency_ms", "memory_mb", "energy_mj")
    return {name: getattr(budget, name) for name in names if getattr(budget, name) is not None}
