"""Graphs exported once per test run: one export takes seconds, and graphs hold no weights and no widths."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from onnx import ModelProto

from sentryfuse.export_templates import export_templates
from sentryfuse.model.pretrained import SentryModel, create_model
from sentryfuse.planning.layout import AttentionRule
from sentryfuse.types import Modality
from tests.tiny import CLASSES, MAESTRO

# Two of a kind, so that one graph embeds both; 40 tokens each, so that the dense core runs for one
# sensor and the sparse one for both.
MODALITIES = (
    Modality("temp", 1.0, 39, ("skin",), may_miss=True),
    Modality("gas", 1.0, 39, ("co2",), may_miss=True),
)
SENSOR_SETS = (("temp", "gas"), ("temp",), ("gas",))


def two_sensor_model(
    *,
    seed: int = 0,
    widths: Mapping[str, int | Sequence[int]] | None = None,
    rule: AttentionRule | None = None,
) -> SentryModel:
    """A model whose steps all have graphs in `templates`."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    options = {**MAESTRO, "tokens": 128, "fusion_layers": 2}
    model = create_model("maestro", modalities=MODALITIES, classes=CLASSES, options=options, widths=widths)
    if rule:
        model = SentryModel(replace(model.config, attention=rule))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1 or not parameter.any():
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.set_statistics({"temp": [0.1], "gas": [0.4]}, {"temp": [2.0], "gas": [0.5]})
    return model.eval()


@functools.cache
def templates() -> tuple[dict[str, ModelProto], dict[str, dict[str, str]]]:
    """What `export_templates` makes of the model above."""
    return export_templates(two_sensor_model().backbone)
