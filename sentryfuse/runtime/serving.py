"""The sub-network in force: which plan, for the sensors and the budget there are, and its session."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from threading import Lock, Thread
from typing import Any, NamedTuple

import numpy as np

from sentryfuse.bundle import Bundle
from sentryfuse.engine.engines import Engine, find_engine
from sentryfuse.engine.session import Session
from sentryfuse.engine.sessions import Sessions
from sentryfuse.errors import BudgetError, BundleError, ConfigError
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.runtime.events import Events
from sentryfuse.types import Budget, Plan

DIGEST = 12  # letters of a bundle's digest that name it in lines
STEP = 0.7  # of what the step above may take
LEAST_KEPT = 0.1  # share of the prunable MACs below which a step leaves the readout alone
SMALLEST = Budget(ratio=1.0)  # the readout alone or, without one, what embeds and the head


class Choice(NamedTuple):
    """A plan, and why it is over the budget; empty where it is within."""

    plan: Plan
    over: str


def stepped(budget: Budget, step: int) -> Budget:
    """A budget so many steps tighter: less time where it limits time, fewer prunable MACs where not."""
    if budget.latency_ms is not None:
        return replace(budget, latency_ms=budget.latency_ms * STEP**step)
    kept = (1 - (budget.ratio or 0.0)) * STEP**step
    return replace(budget, ratio=1 - kept if kept >= LEAST_KEPT else 1.0)


def check_answers(session: Session, bundle: Bundle) -> None:
    """Have a sub-network answer one window like those of its training, noise of their mean and deviation.

    Raises:
        BundleError: it fails, or its numbers are not finite.
    """
    rng = np.random.default_rng(0)
    windows = {
        m.name: rng.standard_normal((1, m.length, m.n_channels), dtype=np.float32)
        for m in bundle.layout.modalities
    }
    for step in bundle.layout.steps:
        mean, std = (bundle.weights.get(f"{step.name}.normalise.{leaf}") for leaf in ("mean", "std"))
        if step.window and mean is not None and std is not None:
            windows[step.window] = (mean + std * windows[step.window]).astype(np.float32)
    try:
        answer = session.run(windows)
    except Exception as error:  # whatever an engine raises
        raise BundleError(f"the new bundle fails its self-check ({error}); export it again") from error
    if not np.isfinite(answer).all():
        raise BundleError(
            "the new bundle fails its self-check, a window is answered with numbers that are not finite; "
            "train or export it again"
        )


class Serving:
    """Plans and sessions of one bundle at a time; one thread answers, any may change budget or bundle.

    Args:
        bundle: of `load_bundle`.
        budget: limits of one inference.
        profile: times measured on this device.
        threads: of the engine.
        kept: warm sub-networks.
        engine: a name or an `Engine`.
        apart: sensors whose own steps run apart.
        events: gets `switch` and `bundle`.

    Raises:
        BudgetError: no sub-network fits the budget even with all sensors.
        ConfigError: a profile of another engine or number of threads.
        BundleError: a graph that the engine refuses.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        budget: Budget,
        profile: DeviceProfile | None,
        threads: int,
        kept: int,
        engine: str | Engine,
        apart: Collection[str],
        events: Events,
    ) -> None:
        built = find_engine(engine)
        if profile is not None and (profile.engine, profile.threads) != (built.name, threads):
            raise ConfigError(
                f"the profile is of {profile.engine} with {profile.threads} threads, this runs {built.name} "
                f"with {threads}; measure a profile for that, or use its engine and threads"
            )
        self.profile, self.events = profile, events
        self._options: dict[str, Any] = {"threads": threads, "kept": kept, "engine": built, "apart": apart}
        self.bundle = self._as_run(bundle)
        self.check(budget)
        self.budget, self.step = budget, 0
        self.sessions = Sessions(self.bundle, **self._options)
        try:
            self.current = self.sessions.get(self.sessions.plan(None, budget, profile))
        except BaseException:
            self.sessions.close()
            raise
        self.plan_id = self.current.plan.plan_id
        self._over: dict[tuple[tuple[str, ...], Budget], Choice] = {}
        self._faulty: Session | None = None
        self._coming: tuple[Bundle, Sessions] | None = None
        self._swapping = Lock()

    def check(self, budget: Budget) -> None:
        """Refuse a budget that no sub-network meets, or whose unit has not been measured.

        Raises:
            BudgetError: milliseconds or millijoules without a profile that measured them, or too little for
                the smallest sub-network of all sensors.
        """
        self.bundle.plan(None, budget, self.profile)

    def check_judged(self, budget: Budget) -> None:
        """Refuse milliseconds or millijoules without a profile that measured them.

        Raises:
            BudgetError: the profile, or its energy, is missing.
        """
        if budget.latency_ms is not None:
            self.check(Budget(latency_ms=1e9))
        if budget.energy_mj is not None:
            self.check(Budget(energy_mj=1e9))

    def ask(self, budget: Budget) -> None:
        """Another budget from the next window on; how far below it the machine has to stay is found anew."""
        self.budget, self.step = budget, 0

    def at_step(self, present: tuple[str, ...], step: int) -> Plan:
        """The plan so many steps below the budget, or the smallest there is."""
        try:
            return self.sessions.plan(present, stepped(self.budget, step), self.profile)
        except BudgetError:
            return self.sessions.plan(present, SMALLEST)

    def choose(self, present: tuple[str, ...]) -> Choice:
        """The plan for these sensors, or the smallest there is, and why no other fits."""
        budget, step = self.budget, self.step
        found = self._over.get((present, budget))
        if found is not None:
            return found
        try:
            asked = self.sessions.plan(present, budget, self.profile)
            return Choice(self.at_step(present, step) if step else asked, "")
        except BudgetError as error:
            least = SMALLEST
            found = Choice(self.sessions.plan(present, least), str(error))
        self._over = {(present, budget): found}
        return found

    def session(self, plan: Plan, until: float) -> Session | None:
        """The session of a plan, waited for until then on `time.perf_counter`; a build that failed raises."""
        if plan is self.current.plan and self.current is not self._faulty:
            return self.current
        session = self.sessions.ready(plan)
        if session is None:
            self.sessions.prepare(plan, needed=True)
            self.sessions.wait(max(0.0, until - time.perf_counter()), plan)
            session = self.sessions.ready(plan)
        return session

    def put_in_force(self, session: Session, **facts: Any) -> None:
        """Remember what answered, and tell when that is another sub-network than before."""
        if session is self.current:
            return
        before, self.plan_id = self.plan_id, session.plan.plan_id
        self.current, self._faulty = session, None
        if before != self.plan_id:
            self.events.tell(
                "switch",
                **facts,
                plan_id=self.plan_id,
                before=before,
                present=list(session.plan.present),
                macs=session.plan.cost.macs,
            )

    def give_up(self, session: Session) -> None:
        """Let a session that failed go; the next window of its plan gets a new one."""
        self.sessions.drop(session.plan)
        if session is self.current:
            self._faulty = session

    def prepare(self, present: tuple[str, ...]) -> None:
        """Have the sub-network for these sensors built ahead of time."""
        self.sessions.prepare(self.choose(present).plan)

    def offer(self, bundle: Bundle, present: tuple[str, ...]) -> None:
        """Get another bundle ready to take over; if it cannot serve, nothing changes.

        Raises:
            ConfigError: it was made for other sensors, classes or normalisation.
            BundleError: a graph that the engine refuses, or that does not answer a window with numbers; or it
                was not verified with the key that the one that is serving was.
        """
        ours = self.bundle
        if ours.signed_by and bundle.signed_by != ours.signed_by:
            raise BundleError(
                f"this runtime was started with bundles of the key {ours.signed_by[:16]}, the new one was "
                f"{'verified with another' if bundle.signed_by else 'not verified'}; open it with "
                "load_bundle(path, verify=KEY)"
            )
        same = bundle.layout.modalities == ours.layout.modalities
        if not same or bundle.classes != ours.classes or bundle.normalise != ours.normalise:
            raise ConfigError(
                "the new bundle was made for other sensors, classes or normalisation than the one that is "
                "serving; start a runtime of its own for it"
            )
        made = self._as_run(bundle)
        sessions = Sessions(made, **self._options)
        try:
            check_answers(sessions.get(self._first_plan(sessions, made, present)), made)
        except BaseException:
            sessions.close()
            raise
        with self._swapping:
            before, self._coming = self._coming, (made, sessions)
        if before is not None:
            before[1].close()

    def take_over(self, present: tuple[str, ...]) -> bool:
        """Put an offered bundle in force, if there is one; old sessions are let go on another thread."""
        with self._swapping:
            coming, self._coming = self._coming, None
        if coming is None:
            return False
        before = self.sessions
        self.bundle, self.sessions = coming
        self._over, self._faulty, self.step = {}, None, 0
        self.current = self.sessions.get(self._first_plan(self.sessions, self.bundle, present))
        self.plan_id = self.current.plan.plan_id
        Thread(target=before.close, name="sentryfuse-closing", daemon=True).start()
        self.events.stamp["bundle"] = self.bundle.digest[:DIGEST]
        self.events.tell("bundle", digest=self.bundle.digest[:DIGEST])
        return True

    def close(self) -> None:
        """Let all sub-networks go."""
        self.sessions.close()
        with self._swapping:
            coming, self._coming = self._coming, None
        if coming is not None:
            coming[1].close()

    def _as_run(self, bundle: Bundle) -> Bundle:
        return bundle if self.profile is None else bundle.with_break_even(self.profile.sparse_from)

    def _first_plan(self, sessions: Sessions, bundle: Bundle, present: tuple[str, ...]) -> Plan:
        try:
            return sessions.plan(present, self.budget, self.profile)
        except BudgetError:
            return sessions.plan(present, SMALLEST)
