from __future__ import annotations

import json

import pytest
import torch

from sentryfuse.errors import CheckpointError, ConfigError
from sentryfuse.model.card import model_card
from sentryfuse.model.config import ModelConfig
from tests.tiny import CASES, MODALITIES, tiny_model


def test_the_model_card_says_what_the_model_takes():
    card = model_card(tiny_model().with_about({"dataset": "tiny", "score": 0.5}))
    for word in ("maestro", "rest, walk, run", "safetensors", "tiny", *(m.name for m in MODALITIES)):
        assert word in card
    assert "| acc | 3 | 16 | 64 |" in card


def test_facts_add_up():
    model = tiny_model().with_about({"a": 1}).with_about({"b": 2})
    assert model.config.about == {"a": 1, "b": 2}


@pytest.mark.parametrize("case", CASES)
def test_tensors_are_the_whole_model_under_stable_names(case):
    model = tiny_model(case)
    tensors = model.tensors()
    assert sum(p.numel() for p in model.parameters()) <= sum(t.numel() for t in tensors.values())
    assert {n for n in tensors if n.startswith("gate.")} == {
        f"gate.{leaf}.{kind}" for leaf in ("hidden", "code", "units") for kind in ("weight", "bias")
    }
    other = tiny_model(case, seed=9)
    other.load_tensors(tensors)
    assert all(torch.equal(t, tensors[name]) for name, t in other.tensors().items())


def test_loading_refuses_and_names_the_first_tensor_that_does_not_fit():
    model = tiny_model()
    tensors = model.tensors()
    with pytest.raises(CheckpointError, match=r"lacks tensor head\.norm\.bias"):
        model.load_tensors({n: t for n, t in tensors.items() if n != "head.norm.bias"})
    with pytest.raises(CheckpointError, match=r"shape \(7,\)"):
        model.load_tensors({**tensors, "head.norm.bias": torch.zeros(7)})


def test_another_format_is_refused():
    data = tiny_model().config.to_json()
    with pytest.raises(CheckpointError, match="format 99, this version reads 4"):
        ModelConfig.from_json({**data, "format": 99})
    with pytest.raises(CheckpointError, match="lacks the key 'shape'"):
        ModelConfig.from_json({k: v for k, v in data.items() if k != "shape"})


def test_a_configuration_is_plain_json():
    for case in CASES:
        text = json.dumps(tiny_model(case).config.to_json(), allow_nan=False)
        again = ModelConfig.from_json(json.loads(text))
        assert json.dumps(again.to_json()) == text


def test_sensor_names_must_differ():
    with pytest.raises(ConfigError, match="must differ"):
        tiny_model(modalities=[MODALITIES[0], MODALITIES[0]])
