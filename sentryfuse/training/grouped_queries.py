"""A trained multi-head model -> grouped queries, without a training step; needs torch.

Notation: N tokens · K head_dim · D d_model. A "kind" is a key/value head of the old model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sentryfuse.data import Windows, batches
from sentryfuse.data.matching import matched
from sentryfuse.data.scoring import prepared
from sentryfuse.errors import ConfigError
from sentryfuse.model.attention import SentryAttention
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.pruning.evaluation import evaluate

METHODS = ("aligned", "mean")
CALIBRATION_WINDOWS, BATCH = 256, 64
MOST_TOKENS = 8192  # per attention; more say nothing new
ROUNDS = 5  # of the alignment
RIDGE = 1e-3  # of the mean diagonal


@dataclass(frozen=True)
class Conversion:
    """What `convert_to_gqa` made.

    Attributes:
        model: the converted model.
        method: how.
        n_kv_heads: key/value heads of every attention, before and after.
        validation: scores on validation windows, before and after; empty without windows.
    """

    model: SentryModel
    method: str
    n_kv_heads: tuple[int, int]
    validation: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class _Inputs:
    """Inputs of one attention during calibration: flat tokens, lengths, and the source of keys and values."""

    x: Tensor
    length: int
    source: Tensor | None
    source_length: int


def convert_to_gqa(
    model: SentryModel, n_kv_heads: int, *, windows: Windows | None = None, method: str = "aligned"
) -> Conversion:
    """Let query heads share key/value heads, in closed form.

    "mean" averages the key and value weights of neighbouring heads. "aligned" first finds which heads are
    alike, turns their keys and values on top of each other, then fits queries and the output to what the
    model computed before, on training windows without their labels; attentions that none of those windows
    reaches, because their sensor is never there, are averaged as by "mean".

    Args:
        model: a trained model with more than `n_kv_heads` key/value heads; not changed.
        n_kv_heads: key/value heads of every attention afterwards.
        windows: the recording; needed for "aligned", and for the change of the scores.
        method: "aligned" or "mean".

    Returns:
        The converted model and what it lost.

    Raises:
        ConfigError: an unknown method, "aligned" without windows, or a number of heads that cannot be.

    Source:
        Mean pooling: Ainslie et al. 2023 (GQA). Alignment of heads before merging: generalised Procrustes, as
        in "Align Attention Heads Before Merging Them" (2024); refits by ridge regression are our choice.
    """
    if method not in METHODS:
        raise ConfigError(f"method {method!r} is unknown; choose {' or '.join(METHODS)}")
    heads = [block for block in model.layout.blocks.values() if block.kind == "heads"]
    if not heads:
        raise ConfigError("the model has no heads left to convert; convert it before it is pruned")
    before = max(max(block.groups) + 1 for block in heads)
    if not 1 <= n_kv_heads < before:
        raise ConfigError(
            f"the model has {before} key/value heads, {n_kv_heads} were asked for; choose 1 to {before - 1}"
        )
    if method == "aligned" and windows is None:
        raise ConfigError("method aligned needs windows to align heads on; give them, or choose mean")
    model.eval()
    seen: dict[str, list[_Inputs]] = {}
    if windows is not None:
        windows = matched(model.layout.modalities, model.config.classes, windows, target=model.config.target)
        if method == "aligned":
            seen = _calibrate(model, windows)
    widths: dict[str, Any] = dict(model.config.widths)
    tensors = {name: t.clone() for name, t in model.tensors().items()}
    for name, module in model.backbone.named_modules():
        if not isinstance(module, SentryAttention) or max(module.block.groups) + 1 <= n_kv_heads:
            continue
        inputs = seen.get(name)
        made = _merge_aligned(module, n_kv_heads, inputs) if inputs else _merge_mean(module, n_kv_heads)
        widths[name] = made.pop("groups")
        tensors |= {f"{name}.{leaf}": value for leaf, value in made.items()}
    converted = SentryModel(replace(model.config, widths=widths))
    converted.load_tensors(tensors)
    converted.eval()
    scores: tuple[dict[str, Any], ...] = ()
    if windows is not None:
        scores = tuple(evaluate(m, windows, split="validation")[0] for m in (model, converted))
    return Conversion(converted, method, (before, n_kv_heads), scores)


def _merge_mean(attention: SentryAttention, n_kv_heads: int) -> dict[str, Any]:
    """Neighbouring kinds share the mean of their weights."""
    kinds = max(attention.block.groups) + 1
    member = torch.arange(kinds) * n_kv_heads // kinds
    made: dict[str, Any] = {"groups": tuple(int(member[g]) for g in attention.block.groups)}
    for leaf, linear in (("k", attention.k), ("v", attention.v)):
        weight, bias = _per_head(linear, attention.head_dim)
        made[f"{leaf}.weight"] = torch.cat([weight[member == g].mean(0) for g in range(n_kv_heads)]).detach()
        made[f"{leaf}.bias"] = torch.cat([bias[member == g].mean(0) for g in range(n_kv_heads)]).detach()
    return made


@torch.no_grad()
def _merge_aligned(attention: SentryAttention, n_kv_heads: int, inputs: Sequence[_Inputs]) -> dict[str, Any]:
    """Alike kinds share keys and values turned on top of each other; queries and output are refitted."""
    size = attention.head_dim
    x = torch.cat([i.x if i.source is None else i.source for i in inputs])[:MOST_TOKENS]
    old = {leaf: _per_head(linear, size) for leaf, linear in (("k", attention.k), ("v", attention.v))}
    values = {leaf: torch.einsum("nd,gkd->gnk", x, w) + b[:, None] for leaf, (w, b) in old.items()}
    member = _cluster(values["k"], values["v"], n_kv_heads)
    made: dict[str, Any] = {"groups": tuple(int(member[g]) for g in attention.block.groups)}
    turns = {}
    for leaf, (weight, bias) in old.items():
        turn = _align(values[leaf], member, n_kv_heads)
        turned_weight = torch.einsum("gkd,gkj->gjd", weight, turn)
        turned_bias = torch.einsum("gk,gkj->gj", bias, turn)
        made[f"{leaf}.weight"] = torch.cat([turned_weight[member == g].mean(0) for g in range(n_kv_heads)])
        made[f"{leaf}.bias"] = torch.cat([turned_bias[member == g].mean(0) for g in range(n_kv_heads)])
        turned = torch.einsum("gnk,gkj->gnj", values[leaf], turn)
        shared = torch.stack([turned[member == g].mean(0) for g in range(n_kv_heads)])
        turns[leaf] = (turn, shared)
    # queries: the least-squares map that gives the old logits on the shared keys
    shared = turns["k"][1] - turns["k"][1].mean(1, keepdim=True)  # an offset of all keys changes nothing
    centred = values["k"] - values["k"].mean(1, keepdim=True)
    weight, bias = _per_head(attention.q, size)
    new_weight, new_bias = weight.clone(), bias.clone()
    for head, kind in enumerate(attention.block.groups):
        key = shared[member[kind]]
        fit = torch.linalg.solve(_ridged(key.T @ key), key.T @ centred[kind])  # (K new, K old)
        new_weight[head], new_bias[head] = fit @ weight[head], fit @ bias[head]
    made["q.weight"], made["q.bias"] = new_weight.flatten(0, 1), new_bias.flatten()
    # output: what it gave before, from what the merged heads give now
    merged = SentryAttention(
        attention.block.name,
        attention.o.out_features,
        groups=made["groups"],
        head_dim=size,
        rule=attention.rule,
    )
    weights = {leaf: t for leaf, t in made.items() if leaf != "groups"}
    merged.load_state_dict(weights | {"o.weight": attention.o.weight, "o.bias": attention.o.bias})
    gram, cross = torch.zeros(()), torch.zeros(())
    for part in inputs:
        asked = None if part.source is None else (part.source, part.source_length)
        shape = (len(part.x) // part.length, part.length)
        heads = _with_one(merged.heads(part.x, shape, asked))
        gram = gram + heads.T @ heads
        cross = cross + heads.T @ attention(part.x, shape, asked)
    # shrink towards the weights there are, turned like the values, not towards zero
    turn = turns["v"][0]
    start = torch.einsum("dhk,hkj->dhj", attention.o.weight.unflatten(1, (-1, size)),
                         turn[torch.tensor(attention.block.groups)]).flatten(1)  # fmt: skip
    first = torch.cat([start.T, attention.o.bias[None]])
    strength = RIDGE * gram.diagonal().mean()
    fit = first + torch.linalg.solve(gram + strength * torch.eye(len(gram)), cross - gram @ first)
    return made | {"o.weight": fit[:-1].T.contiguous(), "o.bias": fit[-1].clone()}


def _per_head(linear: torch.nn.Linear, size: int) -> tuple[Tensor, Tensor]:
    """Weights `(heads, K, D)` and biases `(heads, K)`."""
    return linear.weight.detach().unflatten(0, (-1, size)), linear.bias.detach().unflatten(0, (-1, size))


def _cluster(keys: Tensor, values: Tensor, n: int) -> Tensor:
    """Group of every kind: greedily, each next group gathers those nearest to a kind that is left."""
    likeness = _similarity(keys) + _similarity(values)
    kinds = len(likeness)
    member = torch.full((kinds,), -1)
    for group in range(n):
        left = (member < 0).nonzero().flatten()
        share = -(-len(left) // (n - group))
        near = likeness[left][:, left].topk(share, -1)
        centre = int(near.values.sum(-1).argmax())
        member[left[near.indices[centre]]] = group
    return member


def _similarity(values: Tensor) -> Tensor:
    """How much of two kinds is the same after the best rotation, 0..1, `(G, G)`."""
    cross = torch.einsum("gnk,hnj->ghkj", values, values)
    norms = values.flatten(1).norm(dim=1)
    likeness: Tensor = torch.linalg.svdvals(cross).sum(-1) / (norms[:, None] * norms).clamp(min=1e-12)
    return likeness


def _align(values: Tensor, member: Tensor, n: int) -> Tensor:
    """Rotation of every kind onto the mean of its group (generalised Procrustes), `(G, K, K)`."""
    turn = torch.eye(values.shape[-1]).repeat(len(values), 1, 1)
    for group in range(n):
        own = (member == group).nonzero().flatten()
        target = values[own[0]]
        for _ in range(ROUNDS):
            for kind in own.tolist():
                left, _, right = torch.linalg.svd(values[kind].T @ target)
                turn[kind] = left @ right
            target = torch.einsum("gnk,gkj->gnj", values[own], turn[own]).mean(0)
    return turn


def _ridged(gram: Tensor) -> Tensor:
    return gram + RIDGE * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram))


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1)], 1)


def _calibrate(model: SentryModel, windows: Windows) -> dict[str, list[_Inputs]]:
    """Inputs of every attention on training windows with all the sensors they have."""
    windows = prepared(windows, model.config)
    pool = windows.indices("train")
    if not len(pool):
        raise ConfigError(
            f"{windows.name} has no train windows to align heads on; give a recording with some"
        )
    pool = np.random.default_rng(0).choice(pool, min(CALIBRATION_WINDOWS, len(pool)), replace=False)
    seen: dict[str, list[_Inputs]] = {}
    with _recording(model, seen), torch.no_grad():
        for on, chosen in batches(windows, pool, batch_size=BATCH):
            model({name: torch.from_numpy(x) for name, x in windows.batch(chosen, on).items()}, on)
    return seen


@contextmanager
def _recording(model: SentryModel, seen: dict[str, list[_Inputs]]) -> Iterator[None]:
    """Record the inputs of every attention during a forward pass."""

    def note(name: str) -> Any:
        def hook(_: Any, given: tuple[Any, ...]) -> None:
            x, (_, length), source = given[0], given[1], given[2]
            flat, source_length = source if source is not None else (None, length)
            seen.setdefault(name, []).append(_Inputs(x, length, flat, source_length))

        return hook

    hooks = [
        module.register_forward_pre_hook(note(name))
        for name, module in model.backbone.named_modules()
        if isinstance(module, SentryAttention)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
