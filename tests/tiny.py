"""Models and recordings made in milliseconds; torch loads only when a model is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data import Windows
from sentryfuse.data.windows import make_windows
from sentryfuse.planning.layout import AttentionRule
from sentryfuse.types import Modality

if TYPE_CHECKING:
    from sentryfuse.model.pretrained import SentryModel

GOLDEN = Path(__file__).resolve().parent / "golden"
CLASSES = ("rest", "walk", "run")
MODALITIES = (
    Modality("acc", 16.0, 64, ("x", "y", "z")),
    Modality("temp", 4.0, 13, ("skin",), may_miss=True),
    Modality("age", 0.0, 1, ("years", "weight")),
)
NAMES = tuple(m.name for m in MODALITIES)
SENSOR_SETS = (
    NAMES,
    ("acc", "temp"),
    ("acc", "age"),
    ("temp", "age"),
    ("acc",),
    ("temp",),
    ("age",),
)
FEW_SETS = (NAMES, ("acc", "age"), ("temp",))

SIZES: Mapping[str, Any] = {
    "d_model": 16,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 4,
    "d_ff": 24,
    "tokens": 2,
}
# small: dense attention everywhere. long: 79 joint tokens, so the sparse core runs as it does by
# default. sparse: a sparse core from 6 tokens on, in every layer that has them, two joint layers.
# experts: the paper's layers (SAX, post-norm, halving, experts) with a sparse core before halving.
# flexmoe, mult: as they are, but a short break-even, so that both cores run. taken: experts that take
# fewer tokens than choose them.
MAESTRO: Mapping[str, Any] = {**SIZES, "encoder_layers": 1, "fusion_layers": 1}
CASES: Mapping[str, tuple[str, str, Mapping[str, Any], AttentionRule]] = {
    "small": ("maestro", "small", MAESTRO, AttentionRule()),
    "long": ("maestro", "small", {**MAESTRO, "tokens": 64}, AttentionRule()),
    "sparse": (
        "maestro",
        "small",
        {**MAESTRO, "tokens": 8, "fusion_layers": 2},
        AttentionRule(factor=1, sparse_from=6),
    ),
    "experts": (
        "maestro",
        "paper",
        {**MAESTRO, "tokens": 16, "fusion_layers": 2, "experts": 3, "d_expert": 16},
        AttentionRule(factor=2, sparse_from=12),
    ),
    "flexmoe": (
        "flexmoe",
        "small",
        {**SIZES, "tokens": 8, "d_expert": 8, "layers": 2, "bank_tokens": 2},
        AttentionRule(factor=1, sparse_from=6),
    ),
    "taken": (
        "flexmoe",
        "small",
        {**SIZES, "tokens": 8, "d_expert": 16, "layers": 2, "capacity": 0.75},
        AttentionRule(factor=1, sparse_from=6),
    ),
    "mult": (
        "mult",
        "small",
        {**SIZES, "tokens": 8, "pair_ff": 16, "pair_layers": 2},
        AttentionRule(factor=1, sparse_from=6),
    ),
}
BACKBONES = ("small", "flexmoe", "mult")  # one case of each


def uneven_widths(case: str) -> Mapping[str, int | Sequence[int]]:
    """One head alone in its group, one group with three heads, other widths; experts of 1, 8 and 31."""
    if case in ("flexmoe", "taken"):
        return {
            "layers.0.attn": (0, 1, 1, 1),
            "layers.0.ffn": (2, *[0] * 8, *[1] * 31),
            "layers.1.attn": (0, 1, 2, 2, 2),
            "layers.1.ffn": 8,
        }
    if case == "mult":
        return {
            "pair.acc.temp.0.attn": (0, 1, 1, 1),
            "pair.temp.acc.1.attn": (0, 0),
            "pair.age.acc.0.ffn": 8,
            "memory.acc.0.attn": (0, 1, 2, 2, 2),
        }
    widths: dict[str, int | Sequence[int]] = {
        "encoder.acc.0.attn": (0, 1, 1, 1),
        "encoder.temp.0.attn": (0, 0),
        "encoder.temp.0.ffn": 8,
        "fusion.0.attn": (0, 1, 2, 2, 2),
    }
    if case == "experts":
        widths["fusion.0.ffn"] = (2, *[0] * 8, *[1] * 31)
    return widths


def tiny_model(
    case: str = "small",
    *,
    seed: int = 0,
    modalities: Sequence[Modality] = MODALITIES,
    widths: Mapping[str, int | Sequence[int]] | None = None,
) -> SentryModel:
    """A random model in eval mode, with a gate and statistics that are not the trivial ones."""
    import torch

    from sentryfuse.model.pretrained import SentryModel, create_model

    torch.set_num_threads(1)  # on so few numbers, two threads only wait for each other
    backbone, preset, options, rule = CASES[case]
    torch.manual_seed(seed)
    model = create_model(
        backbone,
        modalities=modalities,
        classes=CLASSES,
        preset=preset,
        options=options,
        widths=widths,
    )
    if rule != model.config.attention:
        model = SentryModel(replace(model.config, attention=rule))
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in model.gate.units.parameters():
            parameter.normal_(0.0, 0.5)
        for parameter in model.backbone.parameters():
            if parameter.ndim == 1:  # biases of 0 and norms of 1 would hide mistakes
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.set_statistics(
        {m.name: rng.normal(0, 1, m.n_channels) for m in modalities},
        {m.name: rng.uniform(0.5, 2, m.n_channels) for m in modalities},
    )
    windows = tiny_batch(32, seed=seed, modalities=modalities)
    model.set_features({m.name: rng.uniform(0.2, 2, m.n_channels) for m in modalities}, windows)
    return model.eval()


def tiny_batch(
    n: int = 3, *, seed: int = 0, modalities: Sequence[Modality] = MODALITIES
) -> dict[str, NDArray[np.float32]]:
    """Random raw windows of every sensor, `(n, T, C)` each, with gaps where values may miss."""
    rng = np.random.default_rng(seed)
    made = {}
    for m in modalities:
        x = rng.normal(0.5, 1.5, (n, m.length, m.n_channels)).astype(np.float32)
        if m.may_miss:
            x[rng.random(x.shape) < 0.3] = np.nan
        made[m.name] = x
    return made


def tiny_windows(n: int = 96, *, seed: int = 0) -> Windows:
    """A labelled recording that can be learned: each class shifts the sensors; six subjects, three splits."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(CLASSES), n)
    raw = {}
    for m in MODALITIES:
        x = rng.normal(0, 1, (n, m.length, m.n_channels)) + y[:, None, None]
        if m.may_miss:
            x[rng.random(x.shape) < 0.2] = np.nan
            x[rng.random(n) < 0.2] = np.nan  # the whole sensor is off
        raw[m.name] = x.astype(np.float32)
    subject = np.arange(n) % 6
    return make_windows(
        "tiny",
        MODALITIES,
        raw=raw,
        y=y,
        classes=CLASSES,
        subject=subject,
        split=np.array([0, 0, 0, 0, 1, 2])[subject],
    )
