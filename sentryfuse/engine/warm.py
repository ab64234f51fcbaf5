"""Sub-networks that are ready: pinned, used of late, and others for which there is room. Holds no lock.

    pinned     stay
    used       the latest `kept`, as long as nobody drops them
    spare      built ahead, and those that fell out of the used; together within `spare_mb`

What was built ahead moves to the used when it answers; it never pushes out one of them before.
"""

from __future__ import annotations

from collections import OrderedDict

from sentryfuse.engine.session import Session
from sentryfuse.types import Plan

# Of the bytes of its weights: their copies as the engine prepares them, and memory for a window.
# Measured for two models of a million weights at ratios 0, 0.5 and 0.8: 1.3 to 3.2, in the middle 2.4.
MEMORY = 2.5
READOUT_MB = 1.0  # and what the steps of a readout take, which has few weights: of five sensors 1.6 in all


def memory_mb(plan: Plan) -> float:
    """What the session of a plan takes, about [MB]."""
    return MEMORY * plan.cost.weights_mb + (READOUT_MB if plan.readout_alone else 0.0)


class WarmSessions:
    """Sessions by the name of their plan.

    Freeing a session takes longer than others may wait for a lock, so what is let go is put into `gone`,
    for the caller to empty once its lock is free.

    Args:
        kept: used sessions kept beside the pinned ones.

    Attributes:
        spare_mb: most that the spare ones take together [MB].
        gone: let go and not freed yet.
    """

    def __init__(self, kept: int) -> None:
        self.kept, self.spare_mb = kept, 0.0
        self.gone: list[Session] = []
        self._pinned: dict[str, Session] = {}
        self._used: OrderedDict[str, Session] = OrderedDict()
        self._spare: OrderedDict[str, Session] = OrderedDict()

    def find(self, plan_id: str) -> Session | None:
        """A session that is about to answer."""
        session = self._pinned.get(plan_id)
        if session is not None:
            return session
        session = self._used.get(plan_id)
        if session is not None:
            self._used.move_to_end(plan_id)
            return session
        session = self._spare.pop(plan_id, None)
        if session is not None:
            self.make_room()
            self._used[plan_id] = session
        return session

    def peek(self, plan_id: str) -> Session | None:
        """A session, without that being any use of it."""
        kinds = (self._pinned, self._used, self._spare)
        return next((kind[plan_id] for kind in kinds if plan_id in kind), None)

    def look(self, plan_id: str) -> float | None:
        """What a session takes of the room for spare ones [MB]; 0 among the used, `None` = it is not there.

        A spare one becomes the last to be let go.
        """
        if plan_id in self._pinned or plan_id in self._used:
            return 0.0
        session = self._spare.get(plan_id)
        if session is None:
            return None
        self._spare.move_to_end(plan_id)
        return memory_mb(session.plan)

    def touch(self, plan_id: str) -> bool:
        """Whether a session is there; it is about to be used, and goes later than the others."""
        for kind in (self._used, self._spare):
            if plan_id in kind:
                kind.move_to_end(plan_id)
                return True
        return plan_id in self._pinned

    def every(self) -> list[Session]:
        """All sessions there are."""
        return [session for kind in (self._pinned, self._used, self._spare) for session in kind.values()]

    def make_room(self) -> None:
        """Let one more be used: the one used longest ago becomes a spare one."""
        while len(self._used) >= self.kept:
            self._keep(*self._used.popitem(last=False))

    def add(self, plan_id: str, session: Session) -> None:
        """A session that is used from now on."""
        self.make_room()  # again: a spare one may have been used since
        self._used[plan_id] = session

    def add_ahead(self, plan_id: str, session: Session) -> None:
        """A session that nobody has asked for yet."""
        self._keep(plan_id, session)

    def pin(self, plan_id: str, session: Session) -> None:
        """Keep a session whatever comes."""
        self._pinned[plan_id] = session
        self._used.pop(plan_id, None)

    def drop(self, plan_id: str) -> None:
        """Let a session go."""
        for kind in (self._pinned, self._used, self._spare):
            session = kind.pop(plan_id, None)
            if session is not None:
                self.gone.append(session)

    def clear(self) -> None:
        """Let all go."""
        for kind in (self._pinned, self._used, self._spare):
            self.gone += kind.values()
            kind.clear()

    def _keep(self, plan_id: str, session: Session) -> None:
        """One more spare session, and those that were touched longest ago go where there is no room."""
        self._spare[plan_id] = session
        taken = sum(memory_mb(each.plan) for each in self._spare.values())
        while self._spare and taken > self.spare_mb:
            _, oldest = self._spare.popitem(last=False)
            taken -= memory_mb(oldest.plan)
            self.gone.append(oldest)
