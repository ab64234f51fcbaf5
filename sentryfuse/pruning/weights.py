"""Rankings read off the weights alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.importance import Importance, levelled
from sentryfuse.planning.layout import Block


def weight_names(block: Block) -> list[str]:
    """Names of the matrices whose rows or columns belong to the units of a block; biases are left out."""
    leaves = ("q", "k", "v", "o") if block.kind == "heads" else ("up", "down")
    return [f"{block.name}.{leaf}.weight" for leaf in leaves]


def coupled_sum(block: Block, values: Mapping[str, Tensor]) -> Tensor:
    """Sum over all weights a unit owns; what a KV group owns is shared evenly by its heads.

    Args:
        block: whose units.
        values: weight name -> a number for every weight, shaped like the weight.

    Returns:
        `(units,)`.

    Source:
        Groups of coupled weights as in Torch-Pruning and LLM-Pruner; the even share is our choice, since a
        KV group goes with its last head only.
    """
    each = [values[name] for name in weight_names(block)]
    if block.kind == "ffn":
        return each[0].sum(1) + each[1].sum(0)
    sides = (*each[:3], each[3].T)
    q, k, v, o = (side.reshape(-1, block.head_dim * side.shape[1]).sum(1) for side in sides)
    groups = torch.tensor(block.groups)
    return q + o + ((k + v) / groups.bincount())[groups]


def magnitude_importance(model: SentryModel) -> Importance:
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


def magnitude_l1_importance(model: SentryModel) -> Importance:
    """Sum of `|w|` over the rows of q, k, v and the columns of o, or the row of up and the column of down.

    Source:
        Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, for coupled weights.
    """
    tensors = model.tensors()
    return {
        name: coupled_sum(block, {at: tensors[at].abs() for at in weight_names(block)}).numpy()
        for name, block in model.layout.blocks.items()
    }


def magnitude_l2_importance(model: SentryModel) -> Importance:
    """As `magnitude_l1_importance`, of `w ** 2`.

    Source:
        The squared norm, as Torch-Pruning's group magnitude with p = 2 before it is normalised.
    """
    tensors = model.tensors()
    return {
        name: coupled_sum(block, {at: tensors[at].square() for at in weight_names(block)}).numpy()
        for name, block in model.layout.blocks.items()
    }


def magnitude_sp_importance(model: SentryModel) -> Importance:
    """Norm of every column of the last product, summed over the dimensions of a head.

    Source:
        "Magnitude-sp", the baseline in the code of FLAP (An et al., AAAI 2024).
    """
    tensors = model.tensors()
    return {
        name: tensors[weight_names(block)[-1]].norm(dim=0).reshape(block.units, -1).sum(1).numpy()
        for name, block in model.layout.blocks.items()
    }


def group_magnitude_importance(model: SentryModel) -> Importance:
    """Mean over the coupled matrices of the sum of `w ** 2`, divided by its mean in the block.

    Source:
        Group magnitude of Torch-Pruning 1.6.1 (Fang et al., "DepGraph", CVPR 2023), p = 2, reduction and
        normaliser "mean", heads by the mean of their dimensions. Both means are factors that cancel, so this
        is the squared norm levelled between blocks.
    """
    return levelled(magnitude_l2_importance(model))


def random_importance(model: SentryModel, *, seed: int = 0) -> Importance:
    """Uniform random importance, the floor of every comparison."""
    rng = np.random.default_rng(seed)
    return {n: rng.random(b.units, dtype=np.float32) for n, b in model.layout.blocks.items()}
