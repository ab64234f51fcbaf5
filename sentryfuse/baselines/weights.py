"""Rankings read off the weights alone."""

from __future__ import annotations

import numpy as np
import torch

from sentryfuse.checkpoint import SentryModel
from sentryfuse.pruning.scorers import Scores


def magnitude_scores(model: SentryModel) -> Scores:
    """Product of the norms of what enters and leaves a unit, divided by its mean in the block.

    Source:
        Magnitude pruning of coupled weights; head: value rows and output columns (K/V of a group count for
        each of its heads), channel: up row and down column. Mean-normalised per block as in Torch-Pruning,
        so that no layer is emptied because its weights are small.
    """
    found = {}
    tensors = model.tensors()
    for name, block in model.layout.blocks.items():
        if block.kind == "ffn":
            into = tensors[f"{name}.up.weight"].norm(dim=1)
            out = tensors[f"{name}.down.weight"].norm(dim=0)
        else:
            groups = torch.tensor(block.groups)
            value = tensors[f"{name}.v.weight"].unflatten(0, (-1, block.head_dim))
            into = value.norm(dim=(1, 2))[groups]
            out = tensors[f"{name}.o.weight"].unflatten(1, (-1, block.head_dim)).norm(dim=(0, 2))
        score = into * out
        found[name] = (score / score.mean().clamp(min=1e-12)).cpu().numpy()
    return found


def random_scores(model: SentryModel, *, seed: int = 0) -> Scores:
    """Uniform random importance, the floor of every comparison."""
    rng = np.random.default_rng(seed)
    return {n: rng.random(b.units, dtype=np.float32) for n, b in model.layout.blocks.items()}
