"""Gradients and activations of a model, window by window and without the room under test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sentryfuse.data import Windows
from sentryfuse.model import Selection
from sentryfuse.model.attention import SentryAttention
from sentryfuse.model.feedforward import Experts, FeedForward, activation
from sentryfuse.model.pretrained import SentryModel
from tests.tiny import NAMES

Array = NDArray[np.float64]


def single_windows(
    windows: Windows, present: tuple[str, ...] = NAMES
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor], Tensor]]:
    """Every training window alone: the sensors it has of those asked for, its values, its label."""
    for i in windows.indices("train"):
        there = zip(windows.names, windows.present[i], strict=True)
        on = tuple(name for name, is_there in there if is_there and name in present)
        if on:
            batch = windows.batch(np.array([i]), on)
            inputs = {name: torch.from_numpy(x) for name, x in batch.items()}
            yield on, inputs, torch.from_numpy(windows.y[[i]])


def unit_gradients(
    model: SentryModel, windows: Windows, present: tuple[str, ...] = NAMES
) -> dict[str, list[Array]]:
    """`dL / dxi` of every window, block name -> one `(units,)` per window in which the block ran."""
    found: dict[str, list[Array]] = {name: [] for name in model.layout.blocks}
    for on, inputs, label in single_windows(windows, present):
        live = [block for step in model.layout.route(on) for block in step.blocks]
        gates = {block.name: torch.ones(block.units, requires_grad=True) for block in live}
        F.cross_entropy(model(inputs, on, select=Selection(gates=gates)), label).backward()
        for name, xi in gates.items():
            assert xi.grad is not None
            found[name].append(xi.grad.double().numpy())
    model.zero_grad()
    return found


def weight_gradients(model: SentryModel, windows: Windows) -> dict[str, Array]:
    """Mean gradient of every weight over the windows in which it took part."""
    total: dict[str, Array] = {}
    times: dict[str, int] = {}
    for on, inputs, label in single_windows(windows):
        model.zero_grad()
        F.cross_entropy(model(inputs, on), label).backward()
        for name, parameter in model.backbone.named_parameters():
            if parameter.grad is not None:
                total[name] = total.get(name, 0) + parameter.grad.double().numpy()
                times[name] = times.get(name, 0) + 1
    model.zero_grad()
    return {name: value / times[name] for name, value in total.items()}


@torch.no_grad()
def last_inputs(model: SentryModel, windows: Windows) -> dict[str, list[Array]]:
    """What the last product of every block is given for each token, `(L, columns)` per window."""
    found: dict[str, list[Array]] = {name: [] for name in model.layout.blocks}

    def look(module: Any, args: Any) -> None:
        if isinstance(module, SentryAttention):
            into = module.heads(*args[:3])
        elif isinstance(module, FeedForward):
            into = F.gelu(module.up(args[0]))
        else:
            into = expert_inputs(module, args[0])
        found[module.block.name].append(into.double().numpy())

    kinds = (SentryAttention, FeedForward, Experts)
    modules = [module for module in model.backbone.modules() if isinstance(module, kinds)]
    handles = [module.register_forward_pre_hook(look) for module in modules]
    for on, inputs, _ in single_windows(windows):
        model(inputs, on)
    for handle in handles:
        handle.remove()
    return found


def expert_inputs(module: Experts, x: Tensor) -> Tensor:
    """One window's tokens through its experts, token by token: zero where an expert does not answer."""
    routing, n_experts = module.routing, module.bias.shape[0]
    logits = module.router(x)
    into = torch.zeros(len(x), module.block.units)
    places = module.block.places(len(x), n_experts) if routing.capacity else len(x)
    n_active = min(routing.active, n_experts)
    chosen = [set(row.argsort(descending=True)[:n_active].tolist()) for row in logits]
    for expert in range(n_experts):
        asking = [token for token in range(len(x)) if expert in chosen[token]]
        asking.sort(key=lambda token: -float(logits[token, expert]))
        own = [channel for channel, group in enumerate(module.block.groups) if group == expert]
        for token in asking[:places]:
            worth = logits[token, expert]
            if routing.weighting == "softmax":
                rivals = logits[token, sorted(chosen[token])]
                worth = worth.exp() / rivals.exp().sum()
            hidden = activation(routing.activation)(module.up(x[token]))
            into[token, own] = hidden[own] * worth
    return into
