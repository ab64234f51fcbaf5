"""Plans that were asked for, remembered with their names; may be asked from any thread."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple

from sentryfuse.bundle import Bundle
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.types import Budget, Plan


class _Made(NamedTuple):
    """A plan with its name, which takes longer to compute than a switch may last."""

    plan: Plan
    plan_id: str
    profile: DeviceProfile | None  # held so that no other profile gets its identity


class Plans:
    """Plans of one bundle.

    Args:
        bundle: plans.
        most: plans remembered.
    """

    def __init__(self, bundle: Bundle, most: int) -> None:
        self.bundle, self.most = bundle, most
        self._lock = Lock()
        self._plans: OrderedDict[object, _Made] = OrderedDict()
        self._ids: OrderedDict[int, _Made] = OrderedDict()  # of plans by identity

    def plan(
        self, present: Iterable[str] | None, budget: Budget | None, profile: DeviceProfile | None
    ) -> Plan:
        """See `Sessions.plan`."""
        if present is not None and not isinstance(present, str):
            present = tuple(present)
        key = (present, budget, id(profile))
        with self._lock:
            made = self._plans.get(key)
            if made is not None:
                self._plans.move_to_end(key)
                return made.plan
        plan = self.bundle.plan(present, budget, profile)
        with self._lock:
            made = self._plans.setdefault(key, _Made(plan, plan.plan_id, profile))
            self._remember(made)
            if len(self._plans) > self.most:
                self._plans.popitem(last=False)
        return made.plan

    def name(self, plan: Plan) -> str:
        """The plan's id."""
        with self._lock:
            made = self._ids.get(id(plan))
            if made is None:
                made = _Made(plan, plan.plan_id, None)
                self._remember(made)
            return made.plan_id

    def _remember(self, made: _Made) -> None:
        self._ids[id(made.plan)] = made
        self._ids.move_to_end(id(made.plan))
        if len(self._ids) > self.most:
            self._ids.popitem(last=False)
