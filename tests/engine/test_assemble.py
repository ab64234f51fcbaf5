"""The graph put together on the device: what is in it, and that it multiplies what the plan promised."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import onnx
import pytest

from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.engine.assemble import assemble
from sentryfuse.errors import ConfigError
from sentryfuse.planning.plan import largest_ratio
from sentryfuse.types import Budget, Plan
from tests.laws.hand_plans import any_plan, full_plan
from tests.runtime.counting import multiplied
from tests.tiny import GOLDEN, SENSOR_SETS, tiny_batch

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(GOLDEN / "tiny-v1.bundle")


@pytest.mark.parametrize("present", SENSOR_SETS, ids="+".join)
def test_the_graph_multiplies_what_the_plan_promised(bundle, present):
    for plan in (
        full_plan(bundle.layout, present),
        bundle.plan(present, Budget(ratio=0.4)),
        any_plan(bundle.layout, present, seed=1),
    ):
        macs = multiplied(assemble(bundle, plan, batch=1), tiny_batch(1))
        assert macs == pytest.approx(plan.cost.macs, rel=0.01)


@pytest.mark.parametrize("present", SENSOR_SETS, ids="+".join)
def test_the_graph_holds_the_weights_that_were_counted_and_no_more(bundle, present):
    for seed in range(3):
        plan = any_plan(bundle.layout, present, seed=seed)
        graph = assemble(bundle, plan).graph
        # not weights: statistics, and numbers that are in the templates of all models
        extra = ["normalise.mean", "normalise.std"]
        extra += [t.name for model in bundle.graphs.values() for t in model.graph.initializer]
        floats = [t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
        own = [t for t in floats if not t.name.endswith((*extra, ".pick.kept"))]
        own = [t for t in own if not t.name.startswith("constant/")]
        assert sum(math.prod(t.dims) for t in own) == plan.cost.params
        for name in set(SENSOR_SETS[0]) - set(present):
            assert not [t for t in graph.initializer if f".{name}." in t.name]


@pytest.mark.parametrize("present", SENSOR_SETS, ids="+".join)
def test_the_graph_is_valid_and_asks_for_the_present_sensors_only(bundle, present):
    for batch in (None, 2):
        model = assemble(bundle, bundle.plan(present), batch=batch)
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in model.graph.input] == [f"window.{name}" for name in present]
        assert [value.name for value in model.graph.output] == ["logits"]
        assert not model.functions
        first = model.graph.input[0].type.tensor_type.shape.dim[0]
        assert (first.dim_value or None) == batch


def test_equal_plans_give_equal_graphs(bundle):
    plan = bundle.plan(None, Budget(ratio=0.3))
    again = Plan.from_json(plan.to_json())
    texts = [assemble(bundle, each).SerializeToString(deterministic=True) for each in (plan, again)]
    assert texts[0] == texts[1]


def test_assembling_changes_nothing_in_the_bundle(bundle):
    before = {name: t.copy() for name, t in bundle.weights.items()}
    graphs = {key: g.SerializeToString(deterministic=True) for key, g in bundle.graphs.items()}
    assemble(bundle, bundle.plan(None, Budget(ratio=largest_ratio(bundle.layout))))
    assert all(np.array_equal(t, bundle.weights[name]) for name, t in before.items())
    for key, graph in bundle.graphs.items():
        assert graph.SerializeToString(deterministic=True) == graphs[key]


def test_a_plan_of_another_model_is_refused(bundle):
    plan = bundle.plan()
    for kept in ({}, {**plan.kept, "other.attn": (0,)}, {**plan.kept, "fusion.0.ffn": (-1, 3)}):
        with pytest.raises(ConfigError, match="plan this model again"):
            assemble(bundle, dataclasses.replace(plan, kept=kept))
    with pytest.raises(ConfigError, match="unknown sensor ecg"):
        assemble(bundle, dataclasses.replace(plan, present=("ecg",)))
