"""Closed-form repair of the last product of every block after units have gone.

Notation: D d_model · C columns of a product · P those that stay · R those that go.

A product `y = W x + b` loses the columns R. What they would have said is guessed from the moments of `x`:

| repair | what changes | guess of `W_R x_R` |
| --- | --- | --- |
| none | nothing | 0 |
| bias | b | its mean |
| scale | one factor for each unit in W_P | what growing the units that stay can give |
| ridge | W_P and b | an affine function of `x_P` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.layout import Block
from sentryfuse.pruning.cut import prune
from sentryfuse.study.repair.moments import Array, ColumnMoments, Moments, group_columns
from sentryfuse.types import Plan

DAMPING = 1e-2
LARGEST_SCALE = 10.0  # beyond, the least squares have gone astray

Weights = Mapping[str, NDArray[np.float32]]


def compensate(
    model: SentryModel, plan: Plan, moments: Moments, repair: str, *, damping: float = DAMPING
) -> SentryModel:
    """Cut a trained model down to a plan and let the units that stay make up for those that go.

    Moments are of the whole model, so every block is repaired by itself, as if those before it were whole.
    An expert that goes with all its channels is not made up for; nor is a block the moments never saw.

    Args:
        model: the big model; not changed.
        plan: which units stay.
        moments: of this model, for the sensors of the plan.
        repair: one of `REPAIRS`.
        damping: what keeps "scale" and "ridge" small, as a share of the mean diagonal of their equations,
            > 0.

    Returns:
        An ordinary smaller model, exactly as large as a plainly pruned one.

    Raises:
        ConfigError: an unknown repair, or a plan or moments of another model.
    """
    if repair not in REPAIRS:
        raise ConfigError(f"repair {repair!r} is unknown; choose one of {', '.join(REPAIRS)}")
    if not damping > 0:
        raise ConfigError(f"damping must be a positive number, got {damping}")
    small = prune(model, plan)
    if repair == "none":
        return small
    tensors = {name: t.numpy() for name, t in model.tensors().items()}
    changed = small.tensors()
    for name, kept in plan.kept.items():
        block = model.layout.blocks[name]
        if 0 < len(kept) < block.units:
            made = repair_block(block, kept, tensors, moments, repair, damping=damping)
            changed |= {key: torch.from_numpy(value) for key, value in made.items()}
    small.load_tensors(changed)
    return small


def repair_block(
    block: Block,
    kept: tuple[int, ...],
    tensors: Weights,
    moments: Moments,
    repair: str,
    *,
    damping: float = DAMPING,
) -> dict[str, NDArray[np.float32]]:
    """Last product of one sliced block, repaired.

    Args:
        block: the block before it is cut.
        kept: indices of the units that stay, ascending.
        tensors: weights of the whole model by name; only this block's are read.
        moments: of the whole model.
        repair: one of `REPAIRS`, not "none".
        damping: as in `compensate`.

    Returns:
        The product's weight and bias in the sliced model, by name.

    Raises:
        ConfigError: moments of another model.
    """
    weight_name = f"{block.name}.{'down' if block.kind == 'ffn' else 'o'}.weight"
    bias_name = f"{block.name}.bias" if block.active else weight_name.replace("weight", "bias")
    width = block.head_dim or 1
    stays = np.repeat(np.isin(np.arange(block.units), kept), width)  # (C,)
    weight = tensors[weight_name].astype(np.float64)
    bias = np.atleast_2d(tensors[bias_name].astype(np.float64))  # a row per expert
    columns = group_columns(block)
    parts = moments.parts.get(block.name, ())
    if [len(part.mean) for part in parts] != [len(each) for each in columns]:
        raise ConfigError(
            f"these moments do not belong to block {block.name}; collect them from the model that is pruned"
        )
    for expert, (own, part) in enumerate(zip(columns, parts, strict=True)):
        left = stays[own]
        if part.weight and left.any() and not left.all():
            loss = Loss(weight[:, own], part, left, width)
            weight[:, own[left]], more = REPAIRS[repair](loss, damping)
            bias[expert] += more
    bias = bias[block.groups_of(kept)] if block.active else bias[0]
    return {
        weight_name: weight[:, stays].astype(np.float32),
        bias_name: bias.astype(np.float32),
    }


class Loss:
    """What one product loses, and what is known about it.

    Args:
        weight: the whole matrix `W`, `(D, C)`.
        part: moments of its input.
        left: which columns stay, `(C,)`.
        width: columns of a unit.
    """

    def __init__(self, weight: Array, part: ColumnMoments, left: NDArray[np.bool_], width: int) -> None:
        self.kept, self.gone = np.flatnonzero(left), np.flatnonzero(~left)
        self.w_kept, self.w_gone = weight[:, self.kept], weight[:, self.gone]
        self.mean_kept, self.mean_gone = part.mean[self.kept], part.mean[self.gone]
        self.cov_kept = part.covariance[np.ix_(self.kept, self.kept)]
        self.cov_cross = part.covariance[np.ix_(self.kept, self.gone)]  # (P, R)
        self.width = width


Repair = Callable[[Loss, float], tuple[Array, Array]]


def leave(loss: Loss, damping: float) -> tuple[Array, Array]:
    """Nothing: what went is gone."""
    return loss.w_kept, np.zeros(len(loss.w_kept))


def fill_mean(loss: Loss, damping: float) -> tuple[Array, Array]:
    """The mean of what went becomes part of the bias.

    Source:
        FLAP (AAAI 2024).
    """
    return loss.w_kept, loss.w_gone @ loss.mean_gone


def predict_gone(loss: Loss, damping: float) -> tuple[Array, Array]:
    """What went is predicted from what stays by an affine ridge regression, `B = S_RP (S_PP + l I)^-1`.

    Source:
        CORP (arXiv 2602.05243); here `l` is a share of the mean variance of what stays.
    """
    predict = np.linalg.solve(_damped(loss.cov_kept, damping), loss.cov_cross)  # (P, R), B transposed
    return (
        loss.w_kept + loss.w_gone @ predict.T,
        loss.w_gone @ (loss.mean_gone - loss.mean_kept @ predict),
    )


def grow_kept(loss: Loss, damping: float) -> tuple[Array, Array]:
    """Every unit that stays is scaled by one factor, so that the product's answer changes least.

    Minimises `E ||W_R x_R - W_P diag(s - 1) x_P||^2`, damped towards `s = 1`; gives up (nothing changes)
    where a factor goes beyond 10.

    Source:
        Mask tuning of Kwon et al., NeurIPS 2022, with these deviations: all blocks at once from the moments
        of the whole model, instead of one after another on the outputs of a pruned model with LSMR on
        samples; the goal is the whole model's answer, not that of one pruned to the root of the budget;
        damping is relative to the equations; a block that gives up does not stop later ones; the first
        attention is not skipped.
    """
    second_kept = loss.cov_kept + np.outer(loss.mean_kept, loss.mean_kept)
    second_cross = loss.cov_cross + np.outer(loss.mean_kept, loss.mean_gone)
    starts = np.arange(0, len(loss.kept), loss.width)
    among = loss.w_kept.T @ loss.w_kept * second_kept  # (P, P), columns times columns
    among = np.add.reduceat(np.add.reduceat(among, starts, 0), starts, 1)  # units times units
    asked = np.add.reduceat((loss.w_kept.T @ loss.w_gone * second_cross).sum(1), starts)
    scale = 1 + np.linalg.solve(_damped(among, damping), asked)
    if np.abs(scale).max() > LARGEST_SCALE:
        return leave(loss, damping)
    return loss.w_kept * np.repeat(scale, loss.width), np.zeros(len(loss.w_kept))


def _damped(matrix: Array, damping: float) -> Array:
    """Add a share of the mean diagonal to the diagonal; empty equations then have the solution 0."""
    more = max(damping * float(np.trace(matrix)) / len(matrix), 1e-30)
    damped: Array = matrix + more * np.eye(len(matrix))
    return damped


REPAIRS: dict[str, Repair] = {
    "none": leave,
    "bias": fill_mean,
    "scale": grow_kept,
    "ridge": predict_gone,
}
