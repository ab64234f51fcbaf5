from __future__ import annotations

import dataclasses

import pytest
import torch

from sentryfuse.cli.plans import plan_json
from sentryfuse.errors import ConfigError
from sentryfuse.pruning.cut import prune
from sentryfuse.pruning.evaluation import evaluate
from sentryfuse.pruning.scorers import make_plan
from sentryfuse.training import TrainSettings, train
from sentryfuse.training.grouped_queries import convert_to_gqa
from sentryfuse.types import Budget
from tests.laws.hand_plans import any_plan, hand_plan
from tests.tiny import NAMES, tiny_batch, tiny_model, tiny_windows


def test_sensors_the_plan_does_not_name_are_gone_with_all_they_own():
    model = tiny_model()
    model.set_subject({"acc": [1.0, 1.0, 1.0], "temp": [1.0]}, {"acc": [[1.0] * 3] * 4, "temp": [[1.0]] * 4})
    small = prune(model, make_plan(model, ("temp", "age"), Budget(ratio=0.5)))
    assert small.names == ("temp", "age")
    assert not [name for name in small.tensors() if ".acc." in name]
    assert small.gate.hidden.weight.shape[1] == 2
    assert small.config.subject_floor == {"temp": [1.0]}
    assert small.config.subject_prior == {"temp": [[1.0]] * 4}
    with pytest.raises(ConfigError, match="unknown sensor acc"):
        small({"acc": torch.zeros(1, 64, 3)}, ["acc"])


def test_groups_of_a_pruned_model_are_numbered_without_holes():
    model = tiny_model(widths={"fusion.0.attn": (0, 0, 1, 2, 2)})
    kept = {n: tuple(range(b.units)) for n, b in model.layout.blocks.items()}
    small = prune(model, hand_plan(model.layout, NAMES, {**kept, "fusion.0.attn": (1, 3, 4)}))
    assert small.layout.blocks["fusion.0.attn"].groups == (0, 1, 1)
    assert small.backbone.get_submodule("fusion.0.attn.k").weight.shape == (2 * 4, 16)
    assert small.backbone.get_submodule("fusion.0.attn.q").weight.shape == (3 * 4, 16)


def test_a_pruned_model_holds_no_mask_and_no_hook():
    model = tiny_model("experts")
    small = prune(model, any_plan(model.layout, NAMES, seed=4))
    assert {type(m) for m in small.modules()} <= {type(m) for m in model.modules()}
    for module in small.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not small.training
    assert small.config.about["pruned"]["present"] == NAMES


def test_a_pruned_model_can_be_trained_further():
    model = tiny_model()
    small = prune(model, make_plan(model, budget=Budget(ratio=0.6)))
    small({n: torch.from_numpy(x) for n, x in tiny_batch().items()}).sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in small.parameters())


@pytest.mark.parametrize(
    "kept",
    [(3, 1), (1, 1), (-1, 2), (0, 24)],
    ids=["unordered", "twice", "negative", "too many"],
)
def test_a_plan_with_units_the_model_does_not_have_is_refused(kept):
    model = tiny_model()
    plan = make_plan(model)
    broken = dataclasses.replace(plan, kept={**plan.kept, "fusion.0.ffn": kept})
    with pytest.raises(ConfigError, match=r"fusion\.0\.ffn.*plan this model again"):
        prune(model, broken)


def test_a_plan_with_too_many_or_too_few_blocks_is_refused():
    model = tiny_model()
    plan = make_plan(model, ("acc",))
    for kept in ({**plan.kept, "fusion.9.ffn": (0,)}, {"fusion.0.ffn": (0,)}):
        with pytest.raises(ConfigError, match="disagree on block"):
            prune(model, dataclasses.replace(plan, kept=kept))


def test_sensors_may_be_left_without_any_block():
    model, windows = tiny_model(), tiny_windows(48)
    kept = dict.fromkeys(model.layout.blocks, ())
    small = prune(model, hand_plan(model.layout, NAMES, {**kept, "encoder.acc.0.ffn": tuple(range(8))}))
    train(small, windows, settings=TrainSettings(epochs=1, batch_size=8, readout="none"))
    rows = evaluate(small, windows, present=[["temp"]], ratios=[0.0, 0.5], scorers=["gate", "taylor"])
    assert len({row["macs"] for row in rows}) == 1
    plan = make_plan(small, ("temp",), Budget(ratio=0.5))
    assert plan_json(plan, small.layout)["got"] == {"ratio": 0.0}
    with pytest.raises(ConfigError, match="no heads left"):
        convert_to_gqa(small, n_kv_heads=1)
