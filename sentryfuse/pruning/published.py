"""Every way of ranking units, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sentryfuse.data import Windows
from sentryfuse.errors import ConfigError
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
from sentryfuse.pruning.scorers import GateScorer, Scorer, Scores
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
SCORERS = (
    "gate",
    *WEIGHTS,
    *(f"{name}{variant}" for name in CALIBRATED for variant in VARIANTS),
    "random",
)


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
        name: a name of `CALIBRATED`, with "-mix" or "-oracle" for other sensors than all.
        calibrator: shared with others.
    """

    def __init__(self, name: str, calibrator: Calibrator) -> None:
        self.name = name
        self._method, self._variant = name, ""
        for ending in VARIANTS[1:]:
            if name.endswith(ending):
                self._method, self._variant = name.removesuffix(ending), ending
        self._calibrator = calibrator
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


def check_scorer(name: str) -> None:
    """Refuse an unknown name.

    Raises:
        ConfigError: no such scorer; the message lists those there are.
    """
    if name not in SCORERS:
        raise ConfigError(f"scorer {name!r} is unknown; there is {', '.join(SCORERS)}")


def make_scorer(
    name: str,
    model: SentryModel,
    windows: Windows,
    *,
    seed: int = 0,
    calibrator: Calibrator | None = None,
) -> Scorer:
    """A scorer by name.

    Args:
        name: one of `SCORERS`.
        model: whose units are ranked.
        windows: where its training windows are, for those that calibrate.
        seed: of "random", and of the draw of windows.
        calibrator: of this model and these windows, to share its passes between scorers; `None` makes one.

    Raises:
        ConfigError: no such scorer; the message lists those there are.
    """
    check_scorer(name)
    if name == "gate":
        return GateScorer(model)
    if name == "random":
        return StaticScorer(name, random_scores(model, seed=seed))
    if name in WEIGHTS:
        return StaticScorer(name, WEIGHTS[name](model))
    return CalibratedScorer(name, calibrator or Calibrator(model, windows, seed=seed))
