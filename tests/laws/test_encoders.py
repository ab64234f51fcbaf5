"""An encoder of one's own: the same answers as a module, as a program and on the device; counts are true."""

from __future__ import annotations

import copy
import math
from functools import cache

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session
from sentryfuse.export import export_bundle
from sentryfuse.graph import Part, Writer
from sentryfuse.model.encoder import Encoder, EncoderTokens
from sentryfuse.model.pretrained import SentryModel, from_pretrained
from sentryfuse.model.tracing import trace
from sentryfuse.planning.cost import count
from sentryfuse.planning.operators import OPERATORS
from sentryfuse.pruning.cut import prune
from sentryfuse.pruning.scorers import make_plan
from sentryfuse.types import Budget, Modality
from tests.laws.hand_plans import full_plan
from tests.laws.test_counts import Multiplications
from tests.model.encoders import ENCODERS, D, Turn, encoder
from tests.tiny import BACKBONES, FEW_SETS, NAMES, SENSOR_SETS, tiny_batch, tiny_model

ORDINARY = "ignore:Using padding='same' with even kernel:UserWarning"  # torch, about one of the encoders
pytestmark = pytest.mark.filterwarnings(ORDINARY)


@cache
def model_with(name: str, case: str = "small", *, sensor: str = "acc", physical: bool = False) -> SentryModel:
    model = tiny_model(case)
    mean, std = model.statistics(sensor)
    modality = next(m for m in model.config.modalities if m.name == sensor)
    own = encoder(name, modality.length, modality.n_channels)
    model.with_encoders({sensor: Encoder(own, physical)})
    rest = {n: model.statistics(n) for n in model.names} | {sensor: (mean, std)}
    model.set_statistics({n: m for n, (m, _) in rest.items()}, {n: s for n, (_, s) in rest.items()})
    return model.eval()


def tensors_of(model: SentryModel) -> dict[str, np.ndarray]:
    return {n: t.numpy() for n, t in model.tensors().items() if not n.startswith("gate.")}


def on_the_device(model: SentryModel, sensor: str, x: np.ndarray, *, batch: int | None, fused: bool):
    """Tokens of one sensor, by the graph of its step alone."""
    layout = model.layout
    step = next(s for s in layout.steps if s.window == sensor)
    writer = Writer(layout, tensors_of(model), len(model.config.classes))
    writer.check_steps()
    part = Part((step,), (sensor,), (), step.writes)
    graph = writer.write(full_plan(layout, (sensor,)), part, batch=batch, fused=fused)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, {f"window.{sensor}": x})[0]


@pytest.mark.parametrize("name", ENCODERS)
def test_module_program_and_device_give_the_same_tokens(name):
    model = model_with(name)
    x = tiny_batch(3)["acc"]
    embed = model.backbone.embedding_of("acc")
    assert isinstance(embed, EncoderTokens)
    z = ((torch.from_numpy(x) - embed.normalise.mean) / embed.normalise.std).clamp(-10, 10)
    with torch.no_grad():
        want = encoder(name, 64, 3)(z) + embed.position
        got = embed(torch.from_numpy(x), at=None)
    scale = float(want.abs().max())
    torch.testing.assert_close(got, want, atol=1e-5 * scale, rtol=1e-4)
    for batch, fused in ((3, True), (None, False)):
        device = on_the_device(model, "acc", x, batch=batch, fused=fused)
        np.testing.assert_allclose(device, want.numpy(), atol=1e-5 * scale, rtol=1e-4)


def test_the_encoders_of_the_tests_use_every_operator():
    used = set()
    for name in ENCODERS:
        used |= {node.op for node in model_with(name).config.encoders["acc"].program.nodes}
    assert used == OPERATORS.keys()


@pytest.mark.parametrize("physical", [False, True], ids=["normalised", "physical"])
def test_what_was_not_measured_is_the_training_mean(physical):
    model = model_with("cnn", sensor="temp", physical=physical)
    x = tiny_batch(3)["temp"]
    assert np.isnan(x).any()
    mean, std = model.statistics("temp")
    filled = np.where(np.isnan(x), mean, x)
    if not physical:
        filled = ((filled - mean) / std).clip(-10, 10)
    embed = model.backbone.embedding_of("temp")
    with torch.no_grad():
        want = (encoder("cnn", 13, 1)(torch.from_numpy(filled)) + embed.position).numpy()
    for batch, fused in ((3, True), (None, False)):
        device = on_the_device(model, "temp", x, batch=batch, fused=fused)
        np.testing.assert_allclose(device, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", BACKBONES)
def test_every_backbone_exports_prunes_and_answers_as_in_torch(case, tmp_path):
    model = model_with("attends", case)
    checked = export_bundle(model, tmp_path / "own.bundle")
    assert checked["max_difference"] < 1e-4
    bundle = load_bundle(tmp_path / "own.bundle")
    assert bundle.layout == model.layout
    batch = tiny_batch(4)
    for present in FEW_SETS:
        plan = make_plan(model, present, Budget(ratio=0.5))
        small = prune(model, plan)
        assert set(small.config.encoders) == {"acc"} & set(present)
        inputs = {n: torch.from_numpy(batch[n]) for n in small.names}
        with torch.no_grad():
            want = small(inputs).softmax(1).numpy()
        got = Session(bundle, bundle.plan(present, plan.budget)).transformer(batch)
        np.testing.assert_allclose(got, want, atol=1e-4)
        one = {n: x[:1] for n, x in batch.items()}
        apart = Session(bundle, bundle.plan(present, plan.budget), batch=1, apart=NAMES)
        np.testing.assert_allclose(apart.transformer(one), want[:1], atol=1e-4)
        small.save_pretrained(tmp_path / "+".join(present))
        again = from_pretrained(tmp_path / "+".join(present))
        with torch.no_grad():
            assert torch.equal(again(inputs), small(inputs))


@pytest.mark.parametrize("case", BACKBONES)
def test_an_absent_sensors_encoder_does_not_run(case):
    model = copy.deepcopy(model_with("whole", case))
    embed, ran = model.backbone.embedding_of("acc"), []
    embed.register_forward_hook(lambda *_: ran.append(1))  # the model is this test's alone
    batch = {n: torch.from_numpy(x) for n, x in tiny_batch(2).items()}
    gone = {**batch, "acc": torch.full_like(batch["acc"], torch.nan)}
    with torch.no_grad():
        for present in SENSOR_SETS:
            ran.clear()
            answer = model(gone if "acc" not in present else batch, present)
            assert torch.isfinite(answer).all()
            assert bool(ran) == ("acc" in present)
            own = count(model.layout, present)
            without = count(tiny_model(case).layout, present)
            assert (own == without) == ("acc" not in present)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_counter_says_what_torch_multiplies_and_holds(name):
    model = model_with(name)
    embed = model.backbone.embedding_of("acc")
    assert isinstance(embed, EncoderTokens)
    x = torch.from_numpy(tiny_batch(1)["acc"])
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), Multiplications() as counter:
        embed(x, at=None)
    step = next(s for s in model.layout.steps if s.window == "acc")
    assert step.macs_fixed == counter.macs
    module = encoder(name, 64, 3)
    own = sum(p.numel() for p in module.parameters()) + embed.position.numel()
    assert step.params_fixed == own
    cost = count(model.layout, ("acc",))
    assert (
        cost.params - count(tiny_model().layout, ("acc",)).params
        == step.params_fixed - next(s for s in tiny_model().layout.steps if s.window == "acc").params_fixed
    )


def test_hooks_of_convolutions_and_linear_layers_count_the_same():
    module, macs = encoder("cnn", 64, 3), []
    for part in module.modules():
        if isinstance(part, torch.nn.Conv1d | torch.nn.Linear):
            part.register_forward_hook(
                lambda m, _, y: macs.append(math.prod(y.shape) * math.prod(m.weight.shape[1:]))
            )
    with torch.no_grad():
        module(torch.zeros(1, 64, 3))
    model = model_with("cnn")
    step = next(s for s in model.layout.steps if s.window == "acc")
    assert step.macs_fixed == sum(macs)


def test_the_module_that_was_given_is_neither_kept_nor_changed():
    module = encoder("cnn", 64, 3).train()
    before = copy.deepcopy(module.state_dict())
    model = tiny_model().with_encoders({"acc": module})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert set(NAMES) == set(model.names)


@st.composite
def convolutional(draw):
    """A chain of layers on `(B, C, T)` whose sizes are drawn, and the window it is for."""
    steps, channels = draw(st.integers(1, 40)), draw(st.integers(1, 4))
    length, width, layers = steps, channels, []
    for _ in range(draw(st.integers(1, 4))):
        kernel, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 2))
        padding = draw(st.integers(0, kernel // 2))
        reach = dilation * (kernel - 1) + 1
        if length + 2 * padding < reach:
            continue
        stride, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, width]))
        kind = draw(st.sampled_from(["conv", "max", "mean"]))
        if kind == "mean":
            dilation, reach = 1, kernel
        sizes = {"stride": stride, "padding": padding}
        out = groups * draw(st.integers(1, 3)) if kind == "conv" else width
        layers.append(
            nn.Conv1d(width, out, kernel, dilation=dilation, groups=groups, **sizes)
            if kind == "conv"
            else nn.MaxPool1d(kernel, dilation=dilation, **sizes)
            if kind == "max"
            else nn.AvgPool1d(kernel, count_include_pad=draw(st.booleans()), **sizes)
        )
        length, width = (length + 2 * padding - reach) // stride + 1, out
    layers.append(nn.Conv1d(width, D, 1))
    return steps, channels, nn.Sequential(Turn(), *layers, Turn())


@settings(max_examples=12, deadline=None)
@given(convolutional())
def test_chains_of_any_sizes_give_the_same_on_the_device(drawn):
    steps, channels, module = drawn
    modality = Modality("acc", 16.0, steps, tuple("xyzw"[:channels]))
    traced, own = trace(module, modality, D)
    model = tiny_model(modalities=(modality,)).with_encoders({"acc": Encoder(module, physical=True)})
    x = tiny_batch(2, modalities=(modality,))["acc"]
    embed = model.backbone.embedding_of("acc")
    with torch.no_grad():
        want = (module.eval()(torch.from_numpy(x)) + embed.position).numpy()
    assert traced.program.tokens(steps, channels, D) == want.shape[1]
    assert sum(p.numel() for p in own.parameters()) == sum(p.numel() for p in module.parameters())
    for batch, fused in ((2, True), (None, False)):
        device = on_the_device(model, "acc", x, batch=batch, fused=fused)
        np.testing.assert_allclose(device, want, atol=1e-5 * max(1, np.abs(want).max()), rtol=1e-4)
