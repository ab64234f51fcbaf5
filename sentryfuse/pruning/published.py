"""The gate, random and the published rankings, registered by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.importance import Importance
from sentryfuse.pruning.activations import (
    energy_importance,
    flap_importance,
    minitron_importance,
    wanda_sp_importance,
)
from sentryfuse.pruning.calibration import Calibration, Calibrator
from sentryfuse.pruning.gradients import (
    fisher_importance,
    group_taylor_importance,
    llm_pruner_importance,
    taylor_importance,
)
from sentryfuse.pruning.rearrangement import rearrange
from sentryfuse.pruning.scorers import GateScorer, Scorer, register_scorer
from sentryfuse.pruning.weights import (
    group_magnitude_importance,
    magnitude_importance,
    magnitude_l1_importance,
    magnitude_l2_importance,
    magnitude_sp_importance,
    random_importance,
)
from sentryfuse.types import Plan

WEIGHTS: Mapping[str, Callable[[SentryModel], Importance]] = {
    "magnitude": magnitude_importance,
    "magnitude-l1": magnitude_l1_importance,
    "magnitude-l2": magnitude_l2_importance,
    "magnitude-sp": magnitude_sp_importance,
    "tp-magnitude": group_magnitude_importance,
}
CALIBRATED: Mapping[str, Callable[[Calibration], Importance]] = {
    "taylor": taylor_importance,
    "fisher": fisher_importance,
    "kwon": fisher_importance,
    "llm-pruner": llm_pruner_importance,
    "tp-taylor": group_taylor_importance,
    "wanda-sp": wanda_sp_importance,
    "flap": flap_importance,
    "minitron": minitron_importance,
    "corp": energy_importance,
}
REFINED = ("kwon",)
VARIANTS = ("", "-mix", "-oracle")  # what a calibration sees: all, the training mixture, those present


class StaticScorer(Scorer):
    """One fixed ranking, whatever is present."""

    def __init__(self, name: str, importance: Importance) -> None:
        self.name = name
        self._importance = importance

    def importance(self, present: tuple[str, ...]) -> Importance:
        """The same for every set of sensors."""
        return self._importance


class CalibratedScorer(Scorer):
    """A ranking from training windows: of all sensors, of the mixture, or of the sensors present.

    Args:
        method: a name of `CALIBRATED`.
        variant: which sensors are on, one of `VARIANTS`.
        calibrator: shared with others.
    """

    def __init__(self, method: str, variant: str, calibrator: Calibrator) -> None:
        self.name = method + variant
        self._method, self._variant, self._calibrator = method, variant, calibrator
        self._importance: dict[Calibration, Importance] = {}

    def importance(self, present: tuple[str, ...]) -> Importance:
        """Computed when first asked for, then kept."""
        calibration = self._calibration(present)
        if calibration not in self._importance:
            self._importance[calibration] = CALIBRATED[self._method](calibration)
        return self._importance[calibration]

    def refine(self, plan: Plan) -> Plan:
        """Rearranged where the method does that."""
        if self._method not in REFINED:
            return plan
        calibration = self._calibration(plan.present)
        return rearrange(calibration.model.layout, plan, calibration.gradients.units)

    def _calibration(self, present: tuple[str, ...]) -> Calibration:
        if self._variant == "-oracle":
            return self._calibrator.on(present)
        return self._calibrator.on("mixture" if self._variant else None)


def _by_weights(method: str, calibrator: Calibrator) -> Scorer:
    return StaticScorer(method, WEIGHTS[method](calibrator.model))


@register_scorer("gate")
def _gate(calibrator: Calibrator) -> Scorer:
    return GateScorer(calibrator.model)


for _method in WEIGHTS:
    register_scorer(_method)(partial(_by_weights, _method))
for _method in CALIBRATED:
    for _variant in VARIANTS:
        register_scorer(_method + _variant)(partial(CalibratedScorer, _method, _variant))


@register_scorer("random")
def _random(calibrator: Calibrator) -> Scorer:
    return StaticScorer("random", random_importance(calibrator.model, seed=calibrator.seed))
