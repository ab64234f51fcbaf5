"""One window -> one result: the sub-network for the sensors present, and what stands in without an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.engine.session import Session
from sentryfuse.errors import ConfigError
from sentryfuse.power import LadderReader
from sentryfuse.readout import PersonFeatures
from sentryfuse.runtime.events import Events
from sentryfuse.runtime.load import LoadLoop
from sentryfuse.runtime.offers import DIGEST
from sentryfuse.runtime.pace import Pace
from sentryfuse.runtime.person import Person, features_of_person, person_of
from sentryfuse.runtime.result import Result, Status
from sentryfuse.runtime.sensors import SensorWatch
from sentryfuse.runtime.serving import Serving
from sentryfuse.stream import CutWindow, Verdict
from sentryfuse.types import Plan

STALE_HOPS = 10  # an answer older than so many hops is not repeated
Scale = Mapping[str, tuple[Any, Any]]


class _LastAnswer(NamedTuple):
    """The last answer computed from a window."""

    end_s: float
    answer: str | float
    probabilities: NDArray[np.float32]
    plan: Plan
    plan_id: str
    bundle: str


class _OfBundle(NamedTuple):
    """What windows are standardised by, of one bundle."""

    scale: Scale | None
    person: Person | None
    features: PersonFeatures | None

    @classmethod
    def new(cls, bundle: Bundle) -> Self:
        return cls(scale_of(bundle), person_of(bundle), features_of_person(bundle))

    def again(self, bundle: Bundle) -> Self:
        """Of the same bundle, read again: what was gathered of the person stays."""
        if self.features is not None and bundle.mixture is not None:
            self.features.follow(bundle.mixture.readout)
        return self._replace(scale=scale_of(bundle))


class Answering:
    """Answers windows one after the other.

    Args:
        serving: the sub-network in force.
        sensors: which are present.
        events: gets `stale`, `over_budget`, `fault`.
        reader: counts the work done; `None` without a meter.
        hop_s: from the start of one window to the next [s].
        deadline_ms: how long a window may wait for its sub-network to be built [ms].
        rescale: called with the statistics of another bundle that has taken over.
        now_s: the source's clock [s].
        max_age_s: an answer that comes later after the end of its window is STALE [s].
        is_live: whether that clock runs on by itself.

    Attributes:
        energy_label: written into the results.
        latency_s: of the latest answer [s].
        load: follows how long answers take.
    """

    def __init__(
        self,
        serving: Serving,
        sensors: SensorWatch,
        events: Events,
        *,
        reader: LadderReader | None,
        hop_s: float,
        deadline_ms: float,
        rescale: Callable[[Scale | None], None],
        now_s: Callable[[], float],
        max_age_s: float,
        is_live: bool,
    ) -> None:
        self.serving, self.sensors, self.energy_label = serving, sensors, "none"
        self._events, self._reader, self._rescale = events, reader, rescale
        self._hop_s, self._deadline_ms = hop_s, deadline_ms
        self._now_s, self._max_age_s = now_s, max_age_s
        self.latency_s = 0.0
        self.load = LoadLoop(serving, events, hop_ms=1e3 * hop_s if is_live else None)
        self._moving = {m.name for m in serving.bundle.layout.modalities if m.rate_hz > 0}
        self._of_bundle = _OfBundle.new(serving.bundle)
        self._before: _OfBundle | None = None  # of the bundle that is gone back to
        self._session: Session | None = None  # that the window at hand is answered by
        self._pace = Pace(events)
        self._tokens: dict[str, NDArray[np.float32]] = {}  # of slow sensors, made by the current session
        self._last: _LastAnswer | None = None

    def answer(self, window: CutWindow, cut: float) -> Result:
        """Answer one window; never raises.

        A bundle on probation that fails at it is sent away, and the one before answers.

        Args:
            window: the next one.
            cut: when it was cut, on `time.perf_counter` [s].
        """
        if window.dropped:
            return self._without(window, cut, Status.STALE, "dropped, since the machine was behind")
        try:
            return self._answered(window, cut)
        finally:
            self.serving.tell_taken()

    def _answered(self, window: CutWindow, cut: float) -> Result:
        """Answer a window that is not dropped."""
        for name in [name for name in self._tokens if window.changed[name]]:
            del self._tokens[name]
        live = bool(window.present) and not (self._moving and not self._moving & set(window.present))
        self._session = None
        try:
            self.sensors.see(window)
            self._take_over(window.present if live else (), window.window_id)
            if not live:
                self._tokens = {}
                return self._without(window, cut, Status.REFUSED, "no live sensor is there")
            return self._in_time(window, cut)
        except Exception as error:  # a stream must go on by itself
            reason = f"{type(error).__name__}: {error}"
            self._lose_session()
        if self._roll_back(reason, window.window_id):
            try:
                return self._computed(window, cut)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                self._lose_session()
        self._events.tell("fault", reason=reason, window_id=window.window_id)
        return self._without(window, cut, Status.FAULT, reason)

    def _in_time(self, window: CutWindow, cut: float) -> Result:
        """Answer a window, and judge a bundle on probation by how long it took."""
        serving = self.serving
        started = time.perf_counter()
        result = self._computed(window, cut)
        late = result.latency_ms is None or time.perf_counter() - started > self._deadline_ms / 1e3
        if not serving.judge(window.window_id, late=late):
            return result
        reason = f"{serving.probation.said} of {self._deadline_ms:g} ms"
        went_back = self._roll_back(reason, window.window_id)
        return self._computed(window, cut) if went_back and result.latency_ms is None else result

    def _computed(self, window: CutWindow, cut: float) -> Result:
        """Answer a window with the bundle in force.

        Raises:
            Exception: whatever an engine raises, and numbers that are not finite.
        """
        until = time.perf_counter() + self._deadline_ms / 1e3
        plan, over = self.serving.choose(window.present)
        self._events.tell_once("over_budget", over, window_id=window.window_id)
        self.serving.keep_ready(window.present)
        session = self._session = self.serving.session(plan, until)
        if session is None:
            self._events.tell("stale", window_id=window.window_id)
            reason = f"the sub-network was not ready within {self._deadline_ms:g} ms"
            return self._without(window, cut, Status.STALE, reason)
        self._expect_returns(window)
        own = self._of_bundle
        values = window.values if own.person is None else own.person.standardise(window.values)
        if session is not self.serving.current:
            self._tokens = {}
        reused = tuple(name for name in session.apart if name in self._tokens)
        started = time.perf_counter()
        probabilities = session.run(values, self._tokens, own.features, window.values)[0]
        latency_ms = 1e3 * (time.perf_counter() - started)
        if not np.isfinite(probabilities).all():
            raise ConfigError("the sub-network answered with numbers that are not finite")
        waited_ms = round(1e3 * (time.perf_counter() - cut), 3)
        self.serving.put_in_force(session, window_id=window.window_id, waited_ms=waited_ms)
        return self._result(window, cut, session, probabilities, reused, over, latency_ms)

    def _result(
        self,
        window: CutWindow,
        cut: float,
        session: Session,
        probabilities: NDArray[np.float32],
        reused: tuple[str, ...],
        over: str,
        latency_ms: float,
    ) -> Result:
        """What a sub-network has answered, and how far it can be relied on."""
        absent = [name for name in window.verdicts if name not in window.present]
        reasons = [f"without {', '.join(f'{n} ({window.verdicts[n]})' for n in absent)}"] if absent else []
        too_slow = self._pace.judge(latency_ms, self.serving.budget, window.window_id)
        reasons += [reason for reason in (over, too_slow) if reason]
        if self.serving.held.changed:
            reasons.append(f"{self.serving.held.changed}; the sub-network was built before that")
        if self.serving.step:
            reasons.append(f"{self.serving.step} steps below the budget, so that the machine keeps up")
        age_s = self._now_s() - window.end_s
        is_late = age_s > self._max_age_s
        if is_late:
            reasons.insert(
                0, f"said {age_s:.3g} s after the window's end, later than {self._max_age_s:.3g} s"
            )
        self.latency_s = 1e-3 * latency_ms
        self._follow_load(latency_ms, window.window_id)
        bundle = self.serving.bundle
        answer = bundle.target.said(probabilities, bundle.classes)
        plan_id = self.serving.plan_id
        digest = bundle.digest[:DIGEST]
        self._last = _LastAnswer(window.end_s, answer, probabilities, session.plan, plan_id, digest)
        if self._reader is not None:
            self._reader.count(session.plan.cost.macs, session.plan.dense.macs)
        return Result(
            window_id=window.window_id,
            end_s=window.end_s,
            at_s=time.monotonic(),
            status=Status.STALE if is_late else Status.DEGRADED if reasons else Status.OK,
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
            age_s=age_s,
            energy_label=self.energy_label,
            classes=self.serving.bundle.classes,
            target=self.serving.bundle.target,
            bundle=digest,
        )

    def _without(self, window: CutWindow, cut: float, status: Status, reason: str) -> Result:
        """A result without an answer of this window; only STALE repeats the last one, unless it is old."""
        last, repeat = self._last, None
        if last is not None:
            age_s = window.end_s - last.end_s
            reason += f"; the last answer is {age_s:.3g} s old"
            if status is Status.STALE and age_s <= STALE_HOPS * self._hop_s:
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
            energy_label=self.energy_label,
            classes=self.serving.bundle.classes,
            target=self.serving.bundle.target,
            bundle=self.serving.bundle.digest[:DIGEST] if repeat is None else repeat.bundle,
        )

    def _follow_load(self, latency_ms: float, window_id: int) -> None:
        try:
            self.load.see(latency_ms, window_id)
        except Exception as error:  # the answer is there; a step that cannot be taken must not lose it
            self._events.tell_once("fault load", f"{type(error).__name__}: {error}", window_id=window_id)

    def _take_over(self, present: tuple[str, ...], window_id: int) -> None:
        """Put a swapped bundle in force, between two windows."""
        if not self.serving.before:  # the one in force has proven itself
            self._before = None
        if self.serving.take_again(present):
            self._adopt(self._of_bundle.again(self.serving.bundle))
        if self.serving.take_over(present, window_id):
            self._before = self._before or self._of_bundle
            self._adopt(_OfBundle.new(self.serving.bundle))

    def _roll_back(self, reason: str, window_id: int) -> bool:
        """Go back to the bundle before, between two attempts at one window."""
        back = self._before
        if back is None or not self.serving.roll_back(reason, window_id):
            return False
        self._before = self._session = None
        self._adopt(back)
        return True

    def _adopt(self, own: _OfBundle) -> None:
        """Standardise as the bundle that is in force now asks for."""
        self._tokens, self._of_bundle = {}, own
        self._rescale(own.scale)

    def _lose_session(self) -> None:
        """Let the sub-network go that has failed."""
        self._tokens = {}
        if self._session is not None:
            self.serving.give_up(self._session)

    def _expect_returns(self, window: CutWindow) -> None:
        """Sensors that are good again and wait to be trusted: have the sub-network with them built ahead."""
        if any(verdict is Verdict.RECOVERING for verdict in window.verdicts.values()):
            good = (Verdict.OK, Verdict.RECOVERING)
            self.serving.prepare(tuple(n for n, verdict in window.verdicts.items() if verdict in good))


def scale_of(bundle: Bundle) -> Scale | None:
    """Mean and deviation in training by sensor; `None` where the model sees each person's own alone."""
    if bundle.normalise == "subject":
        typical = {name: np.asarray(rows, np.float32) for name, rows in bundle.subject_prior.items()}
        return {name: (mean, std) for name, (mean, _, _, std) in typical.items()} or None
    found = {}
    for step in bundle.layout.steps:
        if step.window:
            mean, std = (bundle.weights.get(f"{step.name}.normalise.{leaf}") for leaf in ("mean", "std"))
            if mean is not None and std is not None:
                found[step.window] = (mean, std)
    return found


def slower_than(hop_s: float, bundle: Bundle) -> tuple[str, ...]:
    """Sensors with less than one sample per hop; none where all values are standardised anew."""
    if bundle.normalise == "subject":
        return ()
    return tuple(m.name for m in bundle.layout.modalities if m.rate_hz * hop_s < 1)
