"""A pruned model -> the same model trained a little more: the reference for pruning without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from sentryfuse.data import Windows
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.training.loop import run_epochs
from sentryfuse.training.settings import TrainSettings

FINE_TUNING = 0.1  # of the learning rate


def fine_tune(
    model: SentryModel,
    windows: Windows,
    *,
    epochs: int = 5,
    settings: TrainSettings | None = None,
    device: str | torch.device = "cpu",
) -> list[dict[str, Any]]:
    """Train a trained, usually pruned model a little more: the reference for pruning without it.

    Plain training at a tenth of the learning rate: task loss, the same sensor dropout and augmentation, no
    gate and no sub-networks. The model keeps its own statistics for normalisation.

    Args:
        model: changed in place; ends with the best weights by validation score, which may be those it had.
        windows: the recording; with the model's sensors.
        epochs: passes over the training windows.
        settings: of the model's training.
        device: what computes.

    Returns:
        As from `train`; what it cost is the sum of "cpu_seconds".

    Raises:
        ConfigError: as from `train`.
    """
    settings = settings or TrainSettings()
    settings = replace(
        settings,
        epochs=epochs,
        elastic="none",
        keep_after=0.0,
        readout="none",
        learning_rate=FINE_TUNING * settings.learning_rate,
    )
    return run_epochs(model, windows, settings, None, device, fresh=False)
