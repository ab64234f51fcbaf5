"""How a method makes a model smaller: ranking, allocation and repair together; needs torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property

import numpy as np

from sentryfuse.data import Windows
from sentryfuse.data.scoring import Planner
from sentryfuse.model import Selection
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.pruning import make_plan
from sentryfuse.pruning.calibration import Calibrator
from sentryfuse.pruning.cut import selection
from sentryfuse.pruning.planner import make_planner
from sentryfuse.pruning.scorers import check_scorer, make_scorer
from sentryfuse.study.design import Method
from sentryfuse.study.repair import ConditionalMoments, collect_conditional, compensate
from sentryfuse.types import Budget, Plan


def check_methods(methods: Iterable[Method]) -> None:
    """Refuse unknown scorers.

    Raises:
        ConfigError: one is unknown.
    """
    for method in methods:
        check_scorer(method.scorer)


class Subject:
    """A trained model and the training windows that methods may use; what they share is computed once.

    Args:
        model: trained.
        windows: the recording, prepared for the model.
        n: training windows that methods may look at, the same ones for all.
        seed: of the draws.
    """

    def __init__(self, model: SentryModel, windows: Windows, n: int, *, seed: int) -> None:
        self.model, self.seed = model, seed
        self.windows = calibration(windows, n, seed=seed)
        self._n = n

    @cached_property
    def calibrator(self) -> Calibrator:
        """Gradients and activations that rankings share."""
        return Calibrator(self.model, self.windows, seed=self.seed)

    @cached_property
    def moments(self) -> ConditionalMoments:
        """What repairs need, for any set of sensors."""
        return collect_conditional(self.model, self.windows, n_windows=self._n, seed=self.seed)


def calibration(windows: Windows, n: int, *, seed: int) -> Windows:
    """The recording with only so many training windows left.

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


class Pruner:
    """One method on one model: plans, and what runs of the model for each.

    Args:
        subject: the model, and what may be known.
        method: how to make it smaller; `None` = not at all.

    Raises:
        ConfigError: no such scorer.
    """

    def __init__(self, subject: Subject, method: Method | None) -> None:
        self.subject, self.method, self.model = subject, method, subject.model
        if method is not None:
            self.scorer = make_scorer(method.scorer, subject.calibrator)

    def planner(self, ratio: float, protocol: str | None) -> Planner:
        """Present names -> plan."""
        budget, method = Budget(ratio=ratio, protocol=protocol or "present"), self.method
        if method is None:
            return lambda names: make_plan(self.model, names, budget)
        return make_planner(
            self.model, self.scorer, budget, sensors=method.sensors, allocation=method.allocation
        )

    def small(self, plan: Plan) -> tuple[SentryModel, Selection | None]:
        """What runs for a plan that cuts: a model, and which of its units if not all.

        A repair is conditioned on the sensors that are present if the plan is; a blind one is made once, for
        all sensors.
        """
        method = self.method
        if method is None or method.repair == "none" or not any(plan.kept.values()):
            return self.model, selection(plan)
        moments = self.subject.moments.moments_for(plan.present if method.sensors == "aware" else None)
        return compensate(self.model, plan, moments, method.repair), None
