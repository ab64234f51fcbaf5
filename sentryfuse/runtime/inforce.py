"""One bundle that can answer: its warm sub-networks, and which of them for the sensors and the budget."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Any, NamedTuple

from sentryfuse.bundle import Bundle
from sentryfuse.bundle.memory import BundleMemory
from sentryfuse.engine.session import Session
from sentryfuse.engine.sessions import Sessions
from sentryfuse.errors import BudgetError, BundleError
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.types import Budget, Plan

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


@dataclass(slots=True, eq=False)
class InForce:
    """One bundle with its warm sub-networks; the one in force, the one before it, or the one to come.

    Attributes:
        bundle: what it is made of.
        sessions: its sub-networks.
        profile: times measured on this device.
        current: the sub-network that answered last.
        plan_id: of its plan.
        faulty: it failed and must be built anew.
        step: how far below the budget it stays, so that the machine keeps up.
        over: the latest choice that is over the budget.
        memory: goes round the bundle's memory; `None` = nobody looks.
        right_s, noticed_s: when what has changed in the bundle's memory was last found right, and when it was
            noticed, on `time.monotonic` [s]; endless as long as nothing has.
        lost: why the bundle cannot be read again; empty as long as that is not known.
    """

    bundle: Bundle
    sessions: Sessions
    profile: DeviceProfile | None
    current: Session
    plan_id: str
    faulty: Session | None = None
    step: int = 0
    over: dict[tuple[tuple[str, ...], Budget], Choice] = field(default_factory=dict)
    memory: BundleMemory | None = None
    right_s: float = math.inf
    noticed_s: float = math.inf
    lost: str = ""

    def at_step(self, present: tuple[str, ...], budget: Budget, step: int) -> Plan:
        """The plan so many steps below a budget, or the smallest there is."""
        try:
            return self.sessions.plan(present, stepped(budget, step), self.profile)
        except BudgetError:
            return self.sessions.plan(present, SMALLEST)

    def choose(self, present: tuple[str, ...], budget: Budget) -> Choice:
        """The plan for these sensors, or the smallest there is, and why no other fits."""
        step = self.step
        found = self.over.get((present, budget))
        if found is not None:
            return found
        try:
            asked = self.sessions.plan(present, budget, self.profile)
            return Choice(self.at_step(present, budget, step) if step else asked, "")
        except BudgetError as error:
            found = Choice(self.sessions.plan(present, SMALLEST), str(error))
        self.over = {(present, budget): found}
        return found

    def is_ready(self, present: tuple[str, ...], budget: Budget) -> bool:
        """Whether these sensors can be answered at once; if not, it is made so on the worker thread.

        Raises:
            Exception: what went wrong when it was.
        """
        plan = self.choose(present, budget).plan
        if plan is self.current.plan and self.current is not self.faulty:
            return True
        if self.sessions.ready(plan) is not None:
            return True
        self.sessions.prepare(plan)
        return False

    @property
    def changed(self) -> str:
        """What has changed in the bundle's memory; empty as long as nothing has."""
        return self.sessions.damaged

    def condemn(self, right_s: float, said: str) -> None:
        """Take in what has changed in the bundle's memory: nothing more is built of it."""
        self.right_s, self.noticed_s, self.sessions.damaged = right_s, time.monotonic(), said

    def sound(self, plan: Plan) -> Session | None:
        """Of a bundle that has changed, a sub-network that was built before and has said the same since.

        Returns:
            `None` where there is none and the bundle may be read again.

        Raises:
            BundleError: there is none, and the bundle cannot be read again.
        """
        session: Session | None = self.current
        if plan is not self.current.plan or session is self.faulty:
            session = None
            with suppress(Exception):  # a build that was asked for before
                session = self.sessions.ready(plan)
        if session is not None and session.built_s <= self.right_s:
            if session.right_s >= self.noticed_s or not session.differs():
                return session
            self.sessions.drop(plan)
            self.faulty = session if session is self.current else self.faulty
        if self.lost:
            raise BundleError(self.lost)
        return None

    def rebuild(self, plan: Plan) -> None:
        """Have all sub-networks built anew, the one of a plan at once."""
        self.faulty = self.current
        self.sessions.renew()
        self.sessions.prepare(plan, needed=True)

    def let_go(self) -> None:
        """Close it on another thread: freeing sub-networks takes longer than a window may wait."""
        Thread(target=self.sessions.close, name="sentryfuse-closing", daemon=True).start()


def make(
    bundle: Bundle, present: tuple[str, ...], budget: Budget, profile: DeviceProfile | None, **options: Any
) -> InForce:
    """A bundle with the sub-network for these sensors built.

    Args:
        bundle: of `load_bundle`.
        present: sensors that are there now.
        budget: limits of one inference; one that nothing fits gets the smallest sub-network.
        profile: times measured on this device.
        options: of `Sessions`; with `probed` the bundle's memory is looked after as well.

    Raises:
        BundleError: a graph that the engine refuses.
    """
    sessions = Sessions(bundle, **options)
    try:
        try:
            plan = sessions.plan(present, budget, profile)
        except BudgetError:
            plan = sessions.plan(present, SMALLEST)
        session = sessions.get(plan)
        memory = BundleMemory(bundle) if options.get("probed") else None
    except BaseException:
        sessions.close()
        raise
    return InForce(bundle, sessions, profile, session, session.plan.plan_id, memory=memory)
