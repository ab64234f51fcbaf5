"""A kind of step of one's own: a torch module, a function that writes it, a backbone; nothing else."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn

import sentryfuse as sf
from sentryfuse.engine import Session
from sentryfuse.graph import Graph, Site, Tokens, emits
from sentryfuse.model import Backbone, register_model
from sentryfuse.model.heads import MeanHead
from sentryfuse.model.joins import Concat
from sentryfuse.model.maestro import MaestroShape
from sentryfuse.model.shape import LayerMaker
from sentryfuse.model.tokens import Normalise
from sentryfuse.planning.layout import Layout, Step
from tests.tiny import tiny_windows

WIDTH = 5  # samples a token sees, and the stride


class ConvTokens(nn.Module):
    """One token for every five samples, `(B, T, C)` -> `(B, L, D)`, by a 1-D convolution."""

    def __init__(self, name, modality, d_model):
        super().__init__()
        self.name, self.modality, self.d_model = name, modality, d_model
        self.normalise = Normalise(modality)
        self.conv = nn.Conv1d(modality.n_channels, d_model, WIDTH, WIDTH, padding=WIDTH - 1)

    def forward(self, x, *, at):
        return torch.relu(self.conv(self.normalise(x)[0])).transpose(1, 2)

    def step(self):
        m, tokens = self.modality, (self.modality.length + WIDTH - 2) // WIDTH + 1
        macs = tokens * self.conv.weight.numel()
        params = sum(p.numel() for p in self.parameters())
        return Step(self.name, "conv tokens", (f"window.{m.name}",), f"tokens.{m.name}", needs=(m.name,),
                    tokens=tokens, macs_fixed=macs, params_fixed=params)  # fmt: skip


@emits("conv tokens")
def conv_tokens(graph: Graph, site: Site, x: str) -> Tokens:
    m, d = site.modality, site.d_model
    assert m is not None
    site.multiplies(fixed=site.step.tokens * d * m.n_channels * WIDTH)
    mean, std = (site.measured(f"normalise.{leaf}", m.n_channels)[:, None] for leaf in ("mean", "std"))
    x = graph.turn(x, 0, 2, 1)
    z = graph.op("Clip", graph.op("Div", graph.op("Sub", x, graph.hold(mean)), graph.hold(std)),
                 graph.hold(-10.0), graph.hold(10.0))  # fmt: skip
    z = graph.op("Where", graph.op("IsNaN", x), graph.hold(0.0), z)
    weight, bias = site.weight("conv.weight", d, m.n_channels, WIDTH), site.weight("conv.bias", d)
    y = graph.op("Conv", z, graph.hold(weight), graph.hold(bias), strides=[WIDTH], pads=[WIDTH - 1] * 2)
    return Tokens(site.step.tokens, full=graph.turn(graph.op("Relu", y), 0, 2, 1))


@register_model("conv-fusion")
class ConvFusion(Backbone):
    shape_type = MaestroShape
    presets = {"small": MaestroShape(d_model=16, n_heads=4, head_dim=4, d_ff=32)}  # noqa: RUF012

    def __init__(self, modalities, n_classes, *, shape, rule, widths, slots):
        super().__init__()
        self.modalities, self.rule = tuple(modalities), rule
        self.embed = nn.ModuleDict(
            {m.name: ConvTokens(f"embed.{m.name}", m, shape.d_model) for m in modalities}
        )
        self.join, self.fusion = Concat(), LayerMaker(shape, rule, widths).layer("fusion")
        self.head = MeanHead("head", shape.d_model, n_classes)

    def build_layout(self):
        steps = [cast(ConvTokens, embed).step() for embed in self.embed.values()]
        steps.append(self.join.step("join", tuple(s.writes for s in steps), "joined"))
        steps.append(self.fusion.step(("joined",), "fused", ()))
        steps.append(self.head.step("fused"))
        return Layout(self.head.d_model, self.modalities, self.rule, tuple(steps))


def test_it_trains_plans_prunes_exports_and_predicts(tmp_path):
    windows = tiny_windows()
    model = sf.create_model("conv-fusion", modalities=windows.modalities, classes=windows.classes)
    sf.train(model, windows, settings=sf.TrainSettings(epochs=2, readout="none"))
    plan = sf.plan(model, ("acc", "temp"), sf.Budget(ratio=0.6))
    assert plan.cost.macs < plan.dense.macs
    sf.export_bundle(model, tmp_path / "own.bundle")
    bundle = sf.load_bundle(tmp_path / "own.bundle")
    (row,) = sf.score(bundle, windows, budgets=[sf.Budget(ratio=0.6)])
    assert 0 <= row["accuracy"] <= 1
    small = sf.prune(model, plan)
    batch = windows.batch(np.arange(4))
    with torch.no_grad():
        want = small({n: torch.from_numpy(batch[n]) for n in small.names}).softmax(1).numpy()
    np.testing.assert_allclose(
        Session(bundle, bundle.plan(("acc", "temp"), plan.budget)).run(batch), want, atol=1e-4
    )


def test_an_encoder_of_ones_own_takes_the_place_of_ones_own_kind(tmp_path):
    windows = tiny_windows()
    model = sf.create_model(
        "conv-fusion", modalities=windows.modalities, classes=windows.classes,
        encoders={"acc": nn.Linear(3, 16)},
    )  # fmt: skip
    kinds = {step.window: step.op for step in model.layout.steps if step.window}
    assert kinds == {"acc": "encoder", "temp": "conv tokens", "age": "conv tokens"}
    assert sf.export_bundle(model, tmp_path / "own.bundle")["max_difference"] < 1e-4
