"""How a method makes a model smaller: where ranking, allocation and repair meet; needs torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from sentryfuse.baselines import SCORERS, make_scorer
from sentryfuse.checkpoint import SentryModel
from sentryfuse.data import Windows
from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.model import Selection
from sentryfuse.pruning.cost import count
from sentryfuse.pruning.cut import selection
from sentryfuse.pruning.plan import largest_ratio
from sentryfuse.pruning.scorers import make_plan
from sentryfuse.scoring import Planner
from sentryfuse.study.design import Method
from sentryfuse.types import Budget, Plan


def check_methods(methods: Iterable[Method]) -> None:
    """Refuse methods that cannot be run.

    Raises:
        ConfigError: an unknown scorer, or an allocation or repair that is not there.
    """
    for method in methods:
        if method.scorer not in SCORERS:
            raise ConfigError(
                f"scorer {method.scorer!r} of method {method.name} is unknown; there is {', '.join(SCORERS)}"
            )
        for what, value, known in (
            ("allocation", method.allocation, ("global",)),
            ("repair", method.repair, ("none",)),
        ):
            if value not in known:
                raise ConfigError(
                    f"{what} {value!r} of method {method.name} is not there yet; use {', '.join(known)}"
                )


def calibration(windows: Windows, n: int, *, seed: int) -> Windows:
    """The recording with only so many training windows left, the same ones for every method.

    Args:
        windows: the recording.
        n: training windows to keep; the rest are in no split.
        seed: equal seeds give equal windows.
    """
    pool = windows.indices("train")
    if n >= len(pool):
        return windows
    kept = np.random.default_rng(seed).choice(pool, n, replace=False)
    split = windows.split.copy()
    split[np.setdiff1d(pool, kept)] = -1
    return replace(windows, split=split)


class Cutter:
    """One method on one model: plans, and what runs of the model for each.

    Args:
        model: trained.
        method: how to make it smaller; `None` = not at all.
        windows: what the method may look at, prepared for the model.
        seed: of whatever the method draws.

    Raises:
        ConfigError: no such scorer.
    """

    def __init__(self, model: SentryModel, method: Method | None, windows: Windows, *, seed: int) -> None:
        self.model, self.method = model, method
        self.scorer = make_scorer(method.scorer, model, windows) if method else None

    def planner(self, ratio: float, protocol: str | None) -> Planner:
        """Who decides what stays: present names -> plan.

        With sensors whose smallest sub-network is larger than the ratio leaves, that one is planned.
        """
        budget = Budget(ratio=ratio, protocol=protocol or "present")
        usual = self._planner(budget)

        def plan_for(names: tuple[str, ...]) -> Plan:
            try:
                return usual(names)
            except BudgetError:
                least = largest_ratio(self.model.layout, names, protocol=budget.protocol)
                return self._planner(replace(budget, ratio=least))(names)

        return plan_for

    def _planner(self, budget: Budget) -> Planner:
        whole = partial(make_plan, self.model, budget=budget, scorer=self.scorer)
        if self.method is None or self.method.sensors == "aware":
            return whole
        plan = whole(None)
        return partial(part_of, self.model, plan)

    def small(self, plan: Plan) -> tuple[SentryModel, Selection | None]:
        """What runs for a plan that cuts: a model, and which of its units if not all."""
        return self.model, selection(plan)


def part_of(model: SentryModel, plan: Plan, present: tuple[str, ...]) -> Plan:
    """What runs of a plan made for all sensors when only some are present."""
    live = {block.name for step in model.layout.route(present) for block in step.blocks}
    kept = {name: units for name, units in plan.kept.items() if name in live}
    return replace(
        plan,
        present=present,
        kept=kept,
        cost=count(model.layout, present, kept=kept),
        dense=count(model.layout, present),
    )
