"""Saved and loaded, a model gives equal bits; anything that does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sentryfuse.errors import CheckpointError, ConfigError, InputError
from sentryfuse.model.config import ModelConfig
from sentryfuse.model.pretrained import from_pretrained
from sentryfuse.pruning.cut import prune
from sentryfuse.pruning.scorers import make_plan
from sentryfuse.types import Budget
from tests.laws.hand_plans import any_plan, hand_plan
from tests.tiny import CASES, FEW_SETS, SENSOR_SETS, tiny_batch, tiny_model, uneven_widths


def answer(model, present=None):
    with torch.no_grad():
        return model({n: torch.from_numpy(x) for n, x in tiny_batch().items()}, present)


@pytest.fixture
def saved(tmp_path) -> Path:
    tiny_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("case", CASES)
def test_a_saved_model_gives_equal_bits(case, tmp_path):
    model = tiny_model(case, widths=uneven_widths(case))
    model.save_pretrained(tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert again.tensors().keys() == model.tensors().keys()
    assert all(torch.equal(t, again.tensors()[n]) for n, t in model.tensors().items())
    for present in SENSOR_SETS:
        assert torch.equal(answer(again, present), answer(model, present))
    assert again.layout == model.layout
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("case", CASES)
def test_a_pruned_model_is_an_ordinary_model(case, tmp_path):
    model = tiny_model(case, widths=uneven_widths(case))
    for seed, present in enumerate(FEW_SETS):
        small = prune(model, any_plan(model.layout, present, seed=seed))
        assert type(small) is type(model)
        assert small.names == present
        small.save_pretrained(tmp_path / str(seed))
        again = from_pretrained(tmp_path / str(seed))
        assert torch.equal(answer(again), answer(small))
        assert again.layout == small.layout
        # its own widths are what a plan refers to; the big model is not needed any more
        least = make_plan(again, budget=Budget(ratio=0.7))
        smaller = prune(again, least)
        assert torch.isfinite(answer(smaller)).all()
        runs = tuple(f"{step.name}." for step in smaller.layout.route(present))
        own = {n: p.numel() for n, p in smaller.backbone.named_parameters() if n.startswith(runs)}
        assert sum(own.values()) == least.cost.params


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", CASES)
def test_pruning_twice_equals_pruning_once(case, seed):
    model = tiny_model(case)
    names = SENSOR_SETS[0]
    first = any_plan(model.layout, names, seed=seed, vanish=True)
    small = prune(model, first)
    few: tuple[str, ...] = ("acc", "age")
    present = few if any(step.blocks for step in small.layout.route(few)) else names
    second = any_plan(small.layout, present, seed=seed + 10, vanish=True)
    twice = prune(small, second)
    live = [block.name for step in model.layout.route(second.present) for block in step.blocks]
    both = {n: tuple(first.kept[n][unit] for unit in second.kept.get(n, ())) for n in live}
    once = prune(model, hand_plan(model.layout, second.present, both))
    assert torch.equal(answer(twice), answer(once))
    assert twice.layout == once.layout


def test_the_gate_of_a_pruned_model_ranks_what_is_left_as_before():
    model = tiny_model()
    plan = any_plan(model.layout, ("acc", "age"), seed=3)
    before = model.gate.importance(("acc", "age"))
    after = prune(model, plan).gate.importance(("acc", "age"))
    for name, kept in plan.kept.items():
        torch.testing.assert_close(after[name], before[name][list(kept)])


def test_pruning_does_not_touch_the_big_model():
    model = tiny_model()
    before = {name: t.clone() for name, t in model.tensors().items()}
    small = prune(model, any_plan(model.layout, SENSOR_SETS[0], seed=0))
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    assert all(torch.equal(t, model.tensors()[n]) for n, t in before.items())


def test_a_plan_of_another_model_is_refused():
    plan = any_plan(tiny_model().layout, SENSOR_SETS[0], seed=0)
    with pytest.raises(ConfigError, match="plan this model again"):
        prune(tiny_model("sparse"), plan)
    with pytest.raises(ConfigError, match="units"):
        prune(tiny_model(widths={"fusion.0.ffn": 8}), make_plan(tiny_model()))


def test_a_configuration_survives_json():
    config = tiny_model("experts", widths=uneven_widths("experts")).config
    again = ModelConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert again.to_json() == ModelConfig.from_json(json.loads(json.dumps(again.to_json()))).to_json()
    for name in ("backbone", "preset", "modalities", "classes", "attention", "normalise"):
        assert getattr(again, name) == getattr(config, name)
    assert json.dumps(again.to_json()) == json.dumps(config.to_json())


@pytest.mark.parametrize("damage", ["missing", "extra", "misshapen"])
@pytest.mark.parametrize("name", ["gate.units.weight", "fusion.0.attn.q.weight", "embed.acc.normalise.mean"])
def test_weights_that_do_not_fit_are_refused_by_name(saved, damage, name):
    tensors = load_file(saved / "model.safetensors")
    if damage == "missing":
        del tensors[name]
    elif damage == "extra":
        name += ".more"
        tensors[name] = torch.zeros(2)
    else:
        tensors[name] = torch.zeros(*tensors[name].shape, 2)
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        from_pretrained(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_its_files_is_refused(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        from_pretrained(saved)


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_truncated_weights_file_is_refused(saved, size):
    content = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(content[:size])
    with pytest.raises(CheckpointError, match="cannot be read"):
        from_pretrained(saved)


@pytest.mark.parametrize("key", ["backbone", "modalities", "classes", "shape", "attention", "widths"])
def test_a_configuration_that_lacks_a_key_is_refused(saved, key):
    config = json.loads((saved / "config.json").read_text())
    del config[key]
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=key):
        from_pretrained(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"shape": {"d_model": 16, "unheard_of": 1}},
        {"shape": {"d_model": 15.5}},
        {"modalities": [{"name": "acc"}]},
        {"modalities": 3},
        {"attention": {"kind": "dense"}},
        {"classes": None},
        {"widths": {"fusion.0.ffn": "wide"}},
        {"widths": {"fusion.0.attn": [0, 2]}},
        {"backbone": "unheard_of"},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_built_is_refused(saved, change):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError):
        from_pretrained(saved)


def test_a_configuration_that_is_no_dictionary_is_refused(saved):
    for text in ("[]", "3", "null", "{", ""):
        (saved / "config.json").write_text(text)
        with pytest.raises(InputError):
            from_pretrained(saved)


def test_a_folder_that_is_not_empty_is_kept_unless_told_otherwise(saved):
    with pytest.raises(ConfigError, match="not empty"):
        tiny_model(seed=1).save_pretrained(saved)
    tiny_model(seed=1).save_pretrained(saved, overwrite=True)
    assert torch.equal(answer(from_pretrained(saved)), answer(tiny_model(seed=1)))


def test_statistics_and_floors_travel_with_the_model(saved, tmp_path):
    model = from_pretrained(saved)
    for name in model.names:
        for mine, theirs in zip(model.statistics(name), tiny_model().statistics(name), strict=True):
            assert np.array_equal(mine, theirs)
    prior = {"acc": [[0.0] * 3, [1.0] * 3, [5.0] * 3, [2.0] * 3]}
    model.set_subject({"acc": [0.5, 0.25, 1.0]}, prior)
    model.save_pretrained(tmp_path / "again")
    config = from_pretrained(tmp_path / "again").config
    assert config.subject_floor == {"acc": [0.5, 0.25, 1.0]}
    assert config.subject_prior == prior
