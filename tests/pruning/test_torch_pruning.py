"""Torch-Pruning as an independent source, on a layer built like ours with as many KV heads as heads.

Its global mode for grouped queries cuts wrong heads in 1.6.1 (an offset of `id * num_kv_heads` instead of
`id * group size`), so only its importances are used, never its pruner.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import nn
from torch.nn import functional as F

from sentryfuse.pruning.calibration import Calibration
from sentryfuse.pruning.gradients import group_taylor_importance
from sentryfuse.pruning.weights import group_magnitude_importance
from tests.tiny import tiny_model, tiny_windows

WINDOWS = tiny_windows(24)
LAYER = "fusion.0"
MATRICES = ("attn.q", "attn.k", "attn.v", "attn.o", "ffn.up", "ffn.down")


class PlainLayer(nn.Module):
    """Attention and feed-forward of one of our layers as Torch-Pruning likes them."""

    def __init__(self, tensors, head_dim):
        super().__init__()
        self.head_dim = head_dim
        weights = [tensors[f"{LAYER}.{name}.weight"] for name in MATRICES]
        linears = [nn.Linear(weight.shape[1], weight.shape[0]) for weight in weights]
        for linear, weight in zip(linears, weights, strict=True):
            linear.weight.data.copy_(weight)
        self.q, self.k, self.v, self.o, self.up, self.down = linears

    def forward(self, x):
        q, k, v = (
            part(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        heads = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        x = x + self.o(heads.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(x)))


@pytest.fixture(scope="module")
def ours():
    widths = {f"{LAYER}.attn": (0, 1, 2, 3)}
    return tiny_model("small", widths=widths)


@pytest.fixture
def theirs(ours):
    return PlainLayer(ours.tensors(), ours.layout.blocks[f"{LAYER}.attn"].head_dim)


def importances(layer, importance):
    """Of every head and every FFN channel, by the graph of dependencies that the library finds itself."""
    d_model = layer.q.in_features
    graph = tp.DependencyGraph().build_dependency(layer, torch.zeros(1, 3, d_model))
    found = {}
    for name, root in (("attn", layer.o), ("ffn", layer.down)):
        units = list(range(root.in_features))
        found[name] = group = graph.get_pruning_group(root, tp.prune_linear_in_channels, idxs=units)
        members = {dep.target.module for dep, _ in group if isinstance(dep.target.module, nn.Linear)}
        expected = {layer.q, layer.k, layer.v, layer.o} if name == "attn" else {layer.up, layer.down}
        assert members == expected, "the library sees the same coupled weights"
    heads = importance(found["attn"]).view(-1, layer.head_dim).mean(1)
    return heads.numpy(), importance(found["ffn"]).numpy()


def test_group_magnitude_agrees(ours, theirs):
    heads, channels = importances(theirs, tp.importance.GroupMagnitudeImportance(p=2))
    scores = group_magnitude_importance(ours)
    np.testing.assert_allclose(scores[f"{LAYER}.attn"], heads, rtol=1e-5)
    np.testing.assert_allclose(scores[f"{LAYER}.ffn"], channels, rtol=1e-5)


def test_group_taylor_agrees(ours, theirs):
    calibration = Calibration(ours, WINDOWS)
    for name in MATRICES:
        weight = getattr(theirs, name.split(".")[1]).weight
        weight.grad = calibration.gradients.weights[f"{LAYER}.{name}.weight"].clone()
    heads, channels = importances(theirs, tp.importance.GroupTaylorImportance())
    scores = group_taylor_importance(calibration)
    np.testing.assert_allclose(scores[f"{LAYER}.attn"], heads, rtol=1e-4)
    np.testing.assert_allclose(scores[f"{LAYER}.ffn"], channels, rtol=1e-4)
