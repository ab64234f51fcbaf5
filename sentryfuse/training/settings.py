"""How a training runs; every number has a default that was chosen on validation data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sentryfuse.errors import ConfigError
from sentryfuse.training.elastic import RULES

READOUTS = ("auto", "population", "person", "none")
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 250, 8, 40


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of one training.

    Attributes:
        epochs: passes over the training windows; `None` means as many as make about `STEPS` steps, at
            least `FEWEST_EPOCHS` and at most `MOST_EPOCHS`: about two minutes of one thread for three
            thousand short windows.
        batch_size: windows per step.
        learning_rate: highest rate of the one-cycle schedule; the gate uses 2.5 times as much.
        weight_decay: of AdamW.
        seed: of everything random.
        elastic: what ranks the units on elastic steps: "gate"; "static" (magnitude) or "taylor", one
            order whatever is present; "none" trains the full model only.
        sensor_dropout: largest rate at which sensors are dropped, reached half-way through.
        all_present: share of the steps with every sensor that a window has.
        warm_up: share of the training before the first elastic step.
        gate_until: share of the training after which the gate is frozen, the size of the weights multiplied
            in, so that sub-networks are trained in one order of units, that of deployment but for the size
            of the final weights.
        keep_after: share of the training before which no epoch is kept. Few validation people often score
            best by chance long before the model, and above all its sub-networks, are at their best.
        ratios: pruning ratios of elastic steps: one drawn uniformly, and the highest, at which most blocks
            have lost all of their units.
        gate_weight: weight of the saliency loss.
        patience: epochs without a better validation score before stopping early.
        average: share of the training that the running mean of the weights reaches back; the mean is
            what is validated and kept. 0 = the weights of the last step.
        augment: deviation of the random gain on what happens inside a training window, and of the noise
            [deviations inside training windows]; 0 = none. The mean of a window is never moved.
        hide: largest share of the single values of a sensor that may miss some that are hidden in training,
            drawn anew per window and sensor; 0 = none. Without it, patches of partly observed sensors are
            learned by heart.
        readout: the readout beside the transformer, its features standardised by "population", by "person",
            or as folds of training people choose ("auto"); "none" leaves it out.
        label_smoothing: share of every label that is spread over all classes; answers that are less sure of
            themselves are weighed better against the readout's.
        mixup: `a` of Beta(a, a), from which the blend of two windows is drawn; 0 = none.
        balance: count every class alike, however rare: in the loss, in the readout's prior and in the weights
            of the two. Answers then favour no class; probabilities are those of a world in which classes are
            equally frequent.
    """

    epochs: int | None = None
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    seed: int = 0
    elastic: str = "gate"
    sensor_dropout: float = 0.5
    all_present: float = 0.25
    warm_up: float = 0.1
    gate_until: float = 0.35
    keep_after: float = 0.6
    ratios: tuple[float, float] = (0.3, 0.97)
    gate_weight: float = 1.0
    patience: int = 100
    average: float = 0.1
    augment: float = 0.15
    hide: float = 0.6
    label_smoothing: float = 0.1
    mixup: float = 0.0
    readout: str = "auto"
    balance: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if self.elastic not in RULES:
            raise ConfigError(f"elastic {self.elastic!r} is unknown; choose one of {', '.join(RULES)}")
        if (self.epochs is not None and self.epochs < 1) or self.batch_size < 2:
            raise ConfigError("epochs must be at least 1 and batch_size at least 2")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate}")
        low, high = self.ratios
        if not 0 <= low <= high < 1:
            raise ConfigError(f"ratios must rise within 0 <= ratio < 1, got {low} to {high}")
        if not 0 <= self.sensor_dropout < 1:
            raise ConfigError(f"sensor_dropout is a rate within 0 <= rate < 1, got {self.sensor_dropout}")
        for name in (
            "all_present",
            "warm_up",
            "gate_until",
            "keep_after",
            "average",
            "hide",
            "label_smoothing",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is a share within 0..1, got {getattr(self, name)}")
        if not 0 <= self.augment < math.inf:
            raise ConfigError(f"augment must be 0 or a positive number, got {self.augment}")
        if self.mixup < 0 or self.patience < 1:
            raise ConfigError("mixup must not be negative, patience must be at least 1")
        if self.readout not in READOUTS:
            raise ConfigError(f"readout {self.readout!r} is unknown; choose one of {', '.join(READOUTS)}")
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, got {self.seed}")

    def epochs_for(self, steps_per_epoch: int) -> int:
        """Passes over a recording of this size, so that small ones are seen as often as they need."""
        if self.epochs is not None:
            return self.epochs
        return min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(STEPS / max(1, steps_per_epoch))))
