"""The gate, chance and the published rankings, registered by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from sentryfuse.model.pretrained import SentryModel
from sentryfuse.pruning.activations import (
    energy_scores,
    flap_scores,
    minitron_scores,
    wanda_sp_scores,
)
from sentryfuse.pruning.calibration import Calibration, Calibrator
from sentryfuse.pruning.gradients import (
    fisher_scores,
    group_taylor_scores,
    llm_pruner_scores,
    taylor_scores,
)
from sentryfuse.pruning.rearrangement import rearrange
from sentryfuse.pruning.scorers import GateScorer, Scorer, Scores, register_scorer
from sentryfuse.pruning.weights import (
    group_magnitude_scores,
    magnitude_l1_scores,
    magnitude_l2_scores,
    magnitude_scores,
    magnitude_sp_scores,
    random_scores,
)
from sentryfuse.types import Plan

WEIGHTS: Mapping[str, Callable[[SentryModel], Scores]] = {
    "magnitude": magnitude_scores,
    "magnitude-l1": magnitude_l1_scores,
    "magnitude-l2": magnitude_l2_scores,
    "magnitude-sp": magnitude_sp_scores,
    "tp-magnitude": group_magnitude_scores,
}
CALIBRATED: Mapping[str, Callable[[Calibration], Scores]] = {
    "taylor": taylor_scores,
    "fisher": fisher_scores,
    "kwon": fisher_scores,
    "llm-pruner": llm_pruner_scores,
    "tp-taylor": group_taylor_scores,
    "wanda-sp": wanda_sp_scores,
    "flap": flap_scores,
    "minitron": minitron_scores,
    "corp": energy_scores,
}
REFINED = ("kwon",)
VARIANTS = ("", "-mix", "-oracle")  # what a calibration sees: all, the training mixture, those present


class StaticScorer(Scorer):
    """One fixed ranking, whatever is present."""

    def __init__(self, name: str, scores: Scores) -> None:
        self.name = name
        self._scores = scores

    def scores(self, present: tuple[str, ...]) -> Scores:
        """The same for every set of sensors."""
        return self._scores


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
        self._scores: dict[Calibration, Scores] = {}

    def scores(self, present: tuple[str, ...]) -> Scores:
        """Computed when first asked for, then kept."""
        calibration = self._calibration(present)
        if calibration not in self._scores:
            self._scores[calibration] = CALIBRATED[self._method](calibration)
        return self._scores[calibration]

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
    return StaticScorer("random", random_scores(calibrator.model, seed=calibrator.seed))
