"""How a method makes a model smaller: where ranking, allocation and repair meet; needs torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property

import numpy as np

from sentryfuse.baselines import make_planner, make_scorer
from sentryfuse.baselines.calibration import Calibrator
from sentryfuse.baselines.scorers import check_scorer
from sentryfuse.checkpoint import SentryModel
from sentryfuse.compensation import ConditionalMoments, collect_conditional, compensate
from sentryfuse.data import Windows
from sentryfuse.errors import BudgetError
from sentryfuse.model import Selection
from sentryfuse.pruning.cut import selection
from sentryfuse.pruning.plan import largest_ratio
from sentryfuse.scoring import Planner
from sentryfuse.study.design import Method
from sentryfuse.types import Budget, Plan


def check_methods(methods: Iterable[Method]) -> None:
    """Refuse methods that cannot be run.

    Raises:
        ConfigError: an unknown scorer.
    """
    for method in methods:
        check_scorer(method.scorer)


class Known:
    """What all methods may know of a model: statistics on the same training windows, each collected once.

    Args:
        model: trained.
        windows: the recording, prepared for the model.
        n: training windows that may be looked at.
        seed: equal seeds give equal windows.
    """

    def __init__(self, model: SentryModel, windows: Windows, n: int, *, seed: int) -> None:
        self.model, self.n, self.seed = model, n, seed
        self.windows = _fewer(windows, n, seed=seed)
        self.calibrator = Calibrator(model, self.windows, seed=seed)

    @cached_property
    def moments(self) -> ConditionalMoments:
        """Means and covariances for repairs."""
        return collect_conditional(self.model, self.windows, n_windows=self.n, seed=self.seed)


class Cutter:
    """One method on one model: plans, and what runs of the model for each.

    Args:
        model: trained.
        method: how to make it smaller; `None` = not at all.
        known: what the method may know of the model.

    Raises:
        ConfigError: no such scorer.
    """

    def __init__(self, model: SentryModel, method: Method | None, known: Known) -> None:
        self.model, self.method, self.known = model, method or Method(scorer="random"), known
        self.scorer = make_scorer(
            self.method.scorer, model, known.windows, seed=known.seed, calibrator=known.calibrator
        )

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
        method = self.method
        return make_planner(
            self.model, self.scorer, budget, sensors=method.sensors, allocation=method.allocation
        )

    def small(self, plan: Plan) -> tuple[SentryModel, Selection | None]:
        """What runs for a plan that cuts: a model, and which of its units if not all."""
        if self.method.repair == "none":
            return self.model, selection(plan)
        moments = self.known.moments.moments_for(plan.present)
        return compensate(self.model, plan, moments, self.method.repair), None


def _fewer(windows: Windows, n: int, *, seed: int) -> Windows:
    """The recording with only so many training windows left; the rest are in no split."""
    pool = windows.indices("train")
    if n >= len(pool):
        return windows
    kept = np.random.default_rng(seed).choice(pool, n, replace=False)
    split = windows.split.copy()
    split[np.setdiff1d(pool, kept)] = -1
    return replace(windows, split=split)
