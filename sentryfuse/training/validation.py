"""The score that chooses an epoch: full with all sensors, and pruned with some missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentryfuse.data import Windows
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.pruning.evaluation import evaluate
from sentryfuse.training.elastic import STATIC
from sentryfuse.training.settings import TrainSettings

RATIO, MISSING = 0.7, 0.3


class Evaluator:
    """Scores models on the validation windows of one training.

    Args:
        windows: the recording, prepared for the model.
        settings: of the training; without elastic steps nothing is pruned for the score.
        device: what computes.
    """

    def __init__(self, windows: Windows, settings: TrainSettings, *, device: torch.device) -> None:
        self.windows, self.settings, self.device = windows, settings, device
        classes = windows.target.of_classes
        self.uneven = settings.balance or (classes and is_uneven(windows.y[windows.split == 0]))
        self.ratio = 0.0 if settings.elastic == "none" else RATIO

    def score(self, model: SentryModel) -> float:
        """Mean of the headline scores with all sensors and with some missing, at most 1."""
        found = []
        for rate, ratio in ((None, 0.0), (MISSING, self.ratio)):
            found += evaluate(
                model,
                self.windows,
                split="validation",
                missing_rates=(rate,),
                ratios=(ratio,),
                scorers=(STATIC.get(self.settings.elastic, "gate"),) if ratio else ("gate",),
                seed=self.settings.seed,
                device=self.device,
            )
        return float(np.mean([headline(row, uneven=self.uneven) for row in found]))


def headline(row: Mapping[str, Any], *, uneven: bool = False) -> float:
    """The score that chooses an epoch: AUROC for two classes, else the mean of accuracy and macro F1.

    Of numbers R2 (minus the mean absolute error where all are the same), of labels mean average precision.

    Args:
        row: of `evaluate`.
        uneven: some classes are rare: macro F1 alone, in which each counts as much as another.
    """
    if "mae" in row:
        return float(-row["mae"] if row["r2"] is None else row["r2"])
    if row.get("map") is not None:
        return float(row["map"])
    if row["auroc"] is not None:
        return float(row["auroc"])
    if uneven:
        return float(row["macro_f1"])
    return float(0.5 * (row["accuracy"] + row["macro_f1"]))


def is_uneven(y: NDArray[np.integer[Any]]) -> bool:
    """Whether the rarest class there has less than half of an even share."""
    count = np.bincount(y)
    count = count[count > 0]
    return len(count) > 1 and bool(count.min() < 0.5 * len(y) / len(count))
