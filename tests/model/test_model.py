from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from sentryfuse.errors import ConfigError, NoSensorsError
from sentryfuse.model import backbone_type, list_models, register_model
from sentryfuse.model.call import Call
from sentryfuse.model.maestro import Maestro
from sentryfuse.model.pretrained import SentryModel, create_model
from sentryfuse.types import Modality
from tests.tiny import CASES, CLASSES, MAESTRO, MODALITIES, SENSOR_SETS, tiny_batch, tiny_model

CALL = Call(3, torch.device("cpu"))


def batch(n: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(x) for name, x in tiny_batch(n, seed=seed).items()}


def make(**changes) -> SentryModel:
    given = {"modalities": MODALITIES, "classes": CLASSES, "options": MAESTRO, **changes}
    return create_model("maestro", **given)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_windows_do_not_see_each_other(case):
    model = tiny_model(case)
    together = model(batch())
    for i in range(3):
        alone = model({name: x[i : i + 1] for name, x in batch().items()})
        torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_tokens_are_as_many_as_the_layout_says(case):
    model = tiny_model(case)
    for step in model.layout.steps:
        if step.window:
            tokens = model.backbone.get_submodule(step.name)(batch()[step.window], at=CALL)
            assert tokens.shape == (3, step.tokens, model.layout.d_model)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 15, 16, 17, 100, 129, 513])
@pytest.mark.parametrize("may_miss", [False, True])
@pytest.mark.parametrize("preset", ["small", "paper"])
@torch.no_grad()
def test_windows_of_any_length_become_finite_tokens(length, may_miss, preset):
    modality = Modality("x", 8.0, length, ("a", "b"), may_miss=may_miss)
    model = make(modalities=[modality], preset=preset).eval()
    step = model.layout.steps[0]
    x = torch.randn(2, length, 2)
    if may_miss:
        x[0] = torch.nan
        x[1, :, 0] = torch.nan
    tokens = model.backbone.get_submodule(step.name)(x, at=CALL)
    assert tokens.shape == (2, step.tokens, model.layout.d_model)
    assert torch.isfinite(tokens).all()
    assert torch.isfinite(model({"x": x})).all()


@torch.no_grad()
def test_a_gap_is_not_the_same_as_the_mean():
    model = tiny_model()
    windows = batch()
    mean, _ = model.statistics("temp")
    filled = torch.where(torch.isnan(windows["temp"]), torch.from_numpy(mean), windows["temp"])
    assert not torch.equal(model({**windows, "temp": filled}), model(windows))


@torch.no_grad()
def test_raw_units_do_not_matter_when_the_statistics_follow():
    one, other = tiny_model(), tiny_model()
    factor, offset = 250.0, 40.0
    mean = {n: one.statistics(n)[0] * factor + offset for n in one.names}
    std = {n: one.statistics(n)[1] * factor for n in one.names}
    other.set_statistics(mean, std)
    scaled = {n: x * factor + offset for n, x in batch().items()}
    torch.testing.assert_close(other(scaled), one(batch()), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_broken_sensor_cannot_blow_up_the_answer():
    model = tiny_model()
    wild = batch()
    wild["acc"][:, 5] = 1e30
    assert torch.isfinite(model(wild)).all()


def test_equal_seeds_give_equal_models():
    first, second, other = tiny_model(seed=1), tiny_model(seed=1), tiny_model(seed=2)
    assert all(torch.equal(t, second.tensors()[n]) for n, t in first.tensors().items())
    assert not all(torch.equal(t, other.tensors()[n]) for n, t in first.tensors().items())


def test_every_weight_has_a_part_in_the_answer():
    for case in CASES:
        model = tiny_model(case)
        for present in (SENSOR_SETS[0], *(("acc", "temp"), ("acc", "age"), ("temp", "age"))):
            model(batch(16), present).square().sum().backward()
        silent = [n for n, p in model.backbone.named_parameters() if p.grad is None or not p.grad.any()]
        # a bias of all keys is the same for all, a single token has nothing to choose from, and a
        # rectified budget may be off
        known = r"attn\.k\.bias|age\.\d\.attn\.[qk]\.|codes\.hidden\."
        idle = [n for n in silent if not re.search(known, n)]
        assert idle == [], case


def test_names_and_tensors_of_the_layout_are_those_of_the_modules():
    for case in CASES:
        model = tiny_model(case)
        tensors = model.tensors()
        for name, block in model.layout.blocks.items():
            own = [t.numel() for n, t in tensors.items() if n.startswith(f"{name}.")]
            shared = 0 if block.active else model.layout.d_model  # experts have a bias each
            assert sum(own) == block.params(model.layout.d_model) + shared
        prefixes = tuple(f"{s.name}." for s in model.layout.steps)
        assert all(n.startswith((*prefixes, "gate.")) for n in tensors)


def test_absent_and_unknown_sensors_are_refused():
    model = tiny_model()
    with pytest.raises(NoSensorsError):
        model(batch(), [])
    with pytest.raises(ConfigError, match="unknown sensor ecg"):
        model(batch(), ["acc", "ecg"])


@pytest.mark.parametrize(
    "name", ["values", "keys", "items", "type", "forward", "pop", "training", "_modules", "0", "größe"]
)
@torch.no_grad()
def test_a_sensor_may_have_any_name(name):
    modalities = (dataclasses.replace(MODALITIES[0], name=name), MODALITIES[2])
    model = make(modalities=modalities).eval()
    windows = {name: batch()["acc"], "age": batch()["age"]}
    assert model(windows, [name]).shape == (3, 3)
    model.set_statistics({name: np.zeros(3), "age": np.zeros(2)}, {name: np.ones(3), "age": np.ones(2)})


@pytest.mark.parametrize("backbone", ["maestro", "flexmoe", "mult"])
def test_dense_attention_has_a_key_value_head_per_query_head(backbone):
    def groups(**changes):
        model = create_model(backbone, modalities=MODALITIES, classes=CLASSES, **changes)
        return [b.groups for b in model.layout.blocks.values() if b.kind == "heads"]

    assert all(own == tuple(range(len(own))) for own in groups(attention="dense"))
    assert all(len(set(own)) == len(own) // 4 for own in groups())
    shared = {"n_kv_heads": 2} | ({"pair_kv_heads": 2} if backbone == "mult" else {})
    assert all(len(set(own)) == 2 for own in groups(attention="dense", options=shared))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {"heads": 3}}, "option heads.*n_heads"),
        ({"preset": "huge"}, "huge.*small, paper"),
        ({"attention": "flash"}, "sentry or dense"),
        ({"normalise": "none"}, "train or subject"),
        ({"classes": ["one"]}, "two classes"),
        ({"modalities": []}, "at least one modality"),
        ({"modalities": [MODALITIES[0], MODALITIES[0]]}, "must differ"),
        ({"options": {"n_heads": 6, "n_kv_heads": 4}}, "divides n_heads"),
        ({"options": {"d_ff": 20}}, "multiples of 8"),
        ({"options": {"d_model": 0}}, "d_model must be at least 1"),
        ({"options": {"fusion_layers": 0}}, "at least 1"),
        ({"options": {"tokeniser": "words"}}, "patch or sax"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        make(**changes)


def test_an_unknown_backbone_is_refused_and_those_there_are_listed():
    assert "maestro" in list_models()
    with pytest.raises(ConfigError, match=r"unheard.*maestro"):
        backbone_type("unheard")
    with pytest.raises(ConfigError, match="exists"):
        register_model("maestro")(Maestro)


def test_every_registered_backbone_is_under_the_laws():
    ours = {name for name in list_models() if backbone_type(name).__module__.startswith("sentryfuse.")}
    assert {backbone for backbone, *_ in CASES.values()} == ours


@pytest.mark.parametrize("name", list_models())
@torch.no_grad()
def test_every_registered_backbone_keeps_the_contract(name):
    for preset in backbone_type(name).presets:
        model = create_model(name, modalities=MODALITIES, classes=CLASSES, preset=preset).eval()
        for present in SENSOR_SETS:
            logits = model(batch(), present)
            assert logits.shape == (3, len(CLASSES))
            assert torch.isfinite(logits).all()
        assert model.layout.names == tuple(m.name for m in MODALITIES)
