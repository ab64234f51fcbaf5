"""The sub-network in force: which plan, for the sensors and the budget there are, and its session."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from threading import Lock
from typing import Any

from sentryfuse.bundle import Bundle
from sentryfuse.engine.engines import Engine, find_engine
from sentryfuse.engine.session import Session
from sentryfuse.engine.sessions import Sessions
from sentryfuse.errors import ConfigError, InputError
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.runtime.events import Events
from sentryfuse.runtime.inforce import Choice, InForce, make
from sentryfuse.runtime.offers import DIGEST, Offer, Offers, Outcome, check_alike, check_answers
from sentryfuse.runtime.person import person_of
from sentryfuse.runtime.probation import Probation
from sentryfuse.runtime.times import Times
from sentryfuse.types import Budget, Plan


class Serving:
    """The bundle that answers, the one before it while this one is on probation, and the one to come.

    One thread answers, any may change budget or bundle.

    Args:
        bundle: of `load_bundle`.
        budget: limits of one inference.
        profile: times measured on this device.
        threads: of the engine.
        kept: warm sub-networks.
        engine: a name or an `Engine`.
        apart: sensors whose own steps run apart.
        probed: memory is looked after; see `Scrub`.
        events: gets `switch`, `bundle`, `bundle_proven`, `bundle_refused` and `roll_back`.

    Attributes:
        offers: what became of bundles that were offered.
        probation: of the bundle in force.
        builds: how long sub-networks took to build.

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
        probed: bool = False,
    ) -> None:
        built = find_engine(engine)
        if profile is not None and (profile.engine, profile.threads) != (built.name, threads):
            raise ConfigError(
                f"the profile is of {profile.engine} with {profile.threads} threads, this runs {built.name} "
                f"with {threads}; measure a profile for that, or use its engine and threads"
            )
        self.profile, self.events, self.builds = profile, events, Times()
        self._options: dict[str, Any] = {
            "threads": threads,
            "kept": kept,
            "engine": built,
            "apart": apart,
            "built": self.builds.see,
            "probed": probed,
        }
        made = self._as_run(bundle)
        made.plan(None, budget, profile)
        self.budget = budget
        self.offers, self.probation = Offers(), Probation()
        self._now = self._made(made, made.names)
        self._offer: Offer | None = None  # of the bundle in force
        self._proven: InForce | None = None  # the latest that passed its probation
        self._coming: tuple[InForce, Offer] | None = None
        self._again: InForce | None = None  # the bundle in force, read again
        self._untold: Offer | None = None  # took over, and its first window is being answered
        self._closed = False
        self._swapping = Lock()

    @property
    def bundle(self) -> Bundle:
        """The bundle in force."""
        return self._now.bundle

    @property
    def held(self) -> InForce:
        """It with all that is held for it."""
        return self._now

    @property
    def sessions(self) -> Sessions:
        """Its sub-networks."""
        return self._now.sessions

    @property
    def current(self) -> Session:
        """The sub-network that answered last."""
        return self._now.current

    @property
    def plan_id(self) -> str:
        """Of its plan."""
        return self._now.plan_id

    @property
    def step(self) -> int:
        """How far below the budget the sub-network stays, so that the machine keeps up."""
        return self._now.step

    @step.setter
    def step(self, step: int) -> None:
        self._now.step = step

    @property
    def before(self) -> str:
        """Beginning of the digest of the bundle that is gone back to if this one fails; empty if none is."""
        back = self._proven
        return "" if back is None else back.bundle.digest[:DIGEST]

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
        self.budget = budget
        for held in (self._now, self._proven):
            if held is not None:
                held.step = 0

    def at_step(self, present: tuple[str, ...], step: int) -> Plan:
        """The plan so many steps below the budget, or the smallest there is."""
        return self._now.at_step(present, self.budget, step)

    def choose(self, present: tuple[str, ...]) -> Choice:
        """The plan for these sensors, or the smallest there is, and why no other fits."""
        return self._now.choose(present, self.budget)

    def session(self, plan: Plan, until: float) -> Session | None:
        """The session of a plan, waited for until then on `time.perf_counter`; a build that failed raises."""
        now = self._now
        if now.changed:
            return now.sound(plan)
        if plan is now.current.plan and now.current is not now.faulty:
            return now.current
        session = now.sessions.ready(plan)
        if session is None:
            now.sessions.prepare(plan, needed=True)
            now.sessions.wait(max(0.0, until - time.perf_counter()), plan)
            session = now.sessions.ready(plan)
        return session

    def put_in_force(self, session: Session, **facts: Any) -> None:
        """Remember what answered, and tell when that is another sub-network than before."""
        now = self._now
        if session is now.current:
            return
        before, now.plan_id = now.plan_id, session.plan.plan_id
        now.current, now.faulty = session, None
        if before != now.plan_id:
            self.events.tell(
                "switch",
                **facts,
                plan_id=now.plan_id,
                before=before,
                present=list(session.plan.present),
                macs=session.plan.cost.macs,
            )

    def give_up(self, session: Session) -> None:
        """Let a session that failed go; the next window of its plan gets a new one."""
        self._now.sessions.drop(session.plan)
        if session is self._now.current:
            self._now.faulty = session

    def renew(self, bundle: Bundle, present: tuple[str, ...]) -> None:
        """Get the bundle in force, read again, ready to take its own place; raises as `offer` does."""
        made = self._checked(bundle, present)
        with self._swapping:
            gone = made if self._closed else self._again
            if not self._closed:
                self._again = made
        if gone is not None:
            gone.sessions.close()

    def take_again(self, present: tuple[str, ...]) -> bool:
        """Put the bundle in force that was read again, if it can answer these sensors at once."""
        made, now = self._again, self._now
        if made is None:
            return False
        is_same = made.bundle.digest == now.bundle.digest
        with suppress(Exception):  # it cannot be built for these sensors, and the window will show it
            if is_same and present and not made.is_ready(present, self.budget):
                return False
        with self._swapping:
            if self._again is not made:
                return False
            self._again = None
        if not is_same:  # another one has taken over
            made.let_go()
            return False
        made.step, self._now = now.step, made
        now.let_go()
        return True

    def prepare(self, present: tuple[str, ...]) -> None:
        """Have the sub-network for these sensors built ahead of time."""
        self._now.sessions.prepare(self.choose(present).plan)

    def keep_ready(self, present: tuple[str, ...]) -> None:
        """Have the bundle that may be gone back to ready for these sensors."""
        if self._proven is not None:
            with suppress(Exception):  # it must not count as a fault of the one on probation
                self._proven.is_ready(present, self.budget)

    def offer(self, bundle: Bundle, present: tuple[str, ...]) -> Offer:
        """Get another bundle ready to take over; if it cannot serve, nothing changes.

        Returns:
            What becomes of it; one that waited for its window until now is replaced.

        Raises:
            ConfigError: it was made for other sensors, classes or normalisation, or nothing is served any
                more.
            BundleError: a graph that the engine refuses, or that does not answer a window with numbers; or it
                was not verified with the key that the one that is serving was.
        """
        try:
            made = self._checked(bundle, present)
        except InputError as error:
            self.refuse(str(error), bundle.digest[:DIGEST])
            raise
        offer = self.offers.begin(bundle.digest[:DIGEST])
        with self._swapping:
            before, closed = self._coming, self._closed
            self._coming = None if closed else (made, offer)
        if closed:
            made.sessions.close()
            self.offers.settle(offer, Outcome.REFUSED, reason="the run has ended")
            raise ConfigError("the run has ended; start another one with this bundle")
        if before is not None:
            reason = f"replaced by a later offer, {offer.digest}, before a window came"
            self.offers.settle(before[1], Outcome.REPLACED, reason=reason)
            before[0].sessions.close()
        return offer

    def refuse(self, reason: str, digest: str = "", **facts: Any) -> None:
        """Remember and tell that a bundle cannot serve."""
        self.offers.settle(self.offers.begin(digest), Outcome.REFUSED, reason=reason)
        self.events.tell("bundle_refused", reason=reason, digest=digest, **facts)

    def take_over(self, present: tuple[str, ...], window_id: int) -> bool:
        """Put an offered bundle in force, if there is one that can answer this window at once.

        Args:
            present: sensors that the window is answered from; with none it need not be ready.
            window_id: of the first window that is its own.
        """
        coming = self._coming
        if coming is None:
            return False
        made, offer = coming
        try:
            if present and not made.is_ready(present, self.budget):
                return False  # this window is still the old one's; the next one asks again
        except Exception as error:  # it cannot be built for these sensors
            self._give_back(coming, f"{type(error).__name__}: {error}")
            return False
        with self._swapping:
            if self._coming is not coming:  # replaced just now
                return False
            self._coming = None
        before, self._now = self._now, made
        if self._proven is None:
            self._proven = before
        else:  # it was on probation itself: the one that is known to do well is kept
            before.let_go()
        self._offer = self._untold = offer
        self.probation.begin()
        self.offers.settle(offer, Outcome.TOOK_OVER, window_id=window_id)
        self._tell("bundle", before.bundle, window_id)
        return True

    def tell_taken(self) -> None:
        """Let those go on who wait for a bundle to take over: its first window is answered."""
        untold = self._untold
        if untold is not None:
            self._untold = None
            untold.tell()

    def judge(self, window_id: int, *, late: bool) -> bool:
        """Take in an answered window of the bundle in force.

        Args:
            window_id: which.
            late: not answered within the deadline.

        Returns:
            Whether the bundle has failed its probation, being late once too often: go back.
        """
        was_left = self.probation.left
        failed = self.probation.see(late=late)
        if was_left and not self.probation.left and self._proven is not None:
            self._proven.let_go()
            self._proven = None
            if self._offer is not None:
                self._offer.proven = True
            self.events.tell("bundle_proven", digest=self.bundle.digest[:DIGEST], window_id=window_id)
        return failed

    def roll_back(self, reason: str, window_id: int) -> bool:
        """Go back to the bundle before, if the one in force is on probation.

        Args:
            reason: what it did.
            window_id: at which window, which is answered by the one before.
        """
        back = self._proven
        if back is None:
            return False
        failed, self._now, self._proven = self._now, back, None
        self.probation.end()
        if self._offer is not None:
            self.offers.settle(self._offer, Outcome.ROLLED_BACK, window_id=window_id, reason=reason)
            self._offer = None
        failed.let_go()
        self._tell("roll_back", failed.bundle, window_id, reason=reason)
        return True

    def close(self) -> None:
        """Let all sub-networks go."""
        with self._swapping:
            self._closed, coming, self._coming = True, self._coming, None
        for held in (self._now, self._proven, self._again):
            if held is not None:
                held.sessions.close()
        if coming is not None:
            coming[0].sessions.close()
            self.offers.settle(coming[1], Outcome.REFUSED, reason="the run ended before a window came")

    def _give_back(self, coming: tuple[InForce, Offer], reason: str) -> None:
        """An accepted bundle that cannot be built for the sensors that are there now."""
        with self._swapping:
            if self._coming is not coming:
                return
            self._coming = None
        made, offer = coming
        self.offers.settle(offer, Outcome.REFUSED, reason=reason)
        self.events.tell("bundle_refused", reason=reason, digest=offer.digest)
        made.let_go()

    def _tell(self, kind: str, before: Bundle, window_id: int, **facts: Any) -> None:
        """One event that names both bundles; every line from now on has the new one's digest."""
        digest = self.events.stamp["bundle"] = self.bundle.digest[:DIGEST]
        self.events.tell(kind, digest=digest, before=before.digest[:DIGEST], window_id=window_id, **facts)

    def _checked(self, bundle: Bundle, present: tuple[str, ...]) -> InForce:
        """A bundle that can take the place of the one in force, and has answered a window of noise."""
        check_alike(self.bundle, bundle)
        person_of(bundle)
        made = self._made(self._as_run(bundle), present)
        try:
            check_answers(made.current, made.bundle)
        except BaseException:
            made.sessions.close()
            raise
        return made

    def _made(self, bundle: Bundle, present: tuple[str, ...]) -> InForce:
        return make(bundle, present, self.budget, self.profile, **self._options)

    def _as_run(self, bundle: Bundle) -> Bundle:
        return bundle if self.profile is None else bundle.with_break_even(self.profile.sparse_from)
