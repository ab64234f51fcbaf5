"""What is exported answers as torch does: for any widths, sensors, weights and attention rule."""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto
from sentryfuse.engine.assemble import assemble, assemble_bytes
from sentryfuse.export_templates import export_templates

import sentryfuse.export as pack
from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.engine import Session
from sentryfuse.errors import BundleError
from sentryfuse.export import export_bundle
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.layout import AttentionRule
from sentryfuse.planning.plan import largest_ratio
from sentryfuse.pruning.cut import prune
from sentryfuse.pruning.evaluation import evaluate, torch_answer
from sentryfuse.runtime import predict
from sentryfuse.types import Budget
from tests.export.exported import MODALITIES, SENSOR_SETS, templates, two_sensor_model
from tests.laws.hand_plans import any_plan
from tests.runtime.counting import multiplied
from tests.tiny import SENSOR_SETS as ALL_SETS
from tests.tiny import tiny_batch, tiny_model, tiny_windows, uneven_widths

ATTENTIONS = ("fusion.0.attn", "fusion.1.attn", "encoder.temp.0.attn", "encoder.gas.0.attn")
SHAPES: dict[str, dict[str, Any]] = {
    "as exported": {},
    "other widths": {
        "widths": {
            "fusion.0.attn": (0, 1, 1, 2, 2),
            "fusion.0.ffn": 40,
            "encoder.temp.0.attn": (0, 0, 0),
            "encoder.temp.0.ffn": 8,
        }
    },
    "one head each": {"widths": dict.fromkeys(ATTENTIONS, (0,))},
    "sparse from 2 tokens": {"rule": AttentionRule(factor=1, sparse_from=2)},
    "always dense": {"rule": AttentionRule("dense")},
}


@pytest.fixture
def quick(monkeypatch):
    """`export_bundle` with graphs that have been exported before."""
    monkeypatch.setattr(pack, "export_templates", lambda backbone: templates())


def agree(model: SentryModel, bundle: Bundle, sets, batch) -> None:
    answer = torch_answer(model)
    for seed, present in enumerate(sets):
        for plan in (
            bundle.plan(present),
            bundle.plan(present, Budget(ratio=largest_ratio(bundle.layout, present))),
            any_plan(bundle.layout, present, seed=seed),
        ):
            for size in (None, len(next(iter(batch.values())))):
                got = Session(bundle, plan, batch=size).run(batch)
                np.testing.assert_allclose(got, answer(batch, plan), atol=1e-5)
                assert np.isfinite(got).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_export_agrees_with_torch(shape, quick, tmp_path):
    model = two_sensor_model(seed=4, **SHAPES[shape])
    checked = export_bundle(model, tmp_path / "model.bundle")
    assert checked["plans"] >= 3
    assert checked["max_difference"] < 1e-4
    bundle = load_bundle(tmp_path / "model.bundle")
    assert bundle.layout == model.layout
    agree(model, bundle, SENSOR_SETS, tiny_batch(3, modalities=MODALITIES))


def test_graphs_are_fused_for_the_default_engine(quick, tmp_path):
    export_bundle(two_sensor_model(), tmp_path / "model.bundle")
    bundle = load_bundle(tmp_path / "model.bundle")
    plan = bundle.plan()
    plain = assemble(bundle, plan, batch=1).graph.node
    fused = ModelProto.FromString(assemble_bytes(bundle, plan, batch=1, fused=True)).graph.node
    ops = Counter(node.op_type for node in fused)
    assert len(fused) < 0.95 * len(plain)
    assert ops["Attention"] == sum(block.kind == "heads" for block in bundle.layout.blocks.values())
    assert ops["Softmax"] == 0


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed here")
@pytest.mark.parametrize("batch", [1, None])
def test_an_exported_bundle_runs_in_openvino(batch, quick, tmp_path):
    export_bundle(two_sensor_model(seed=4), tmp_path / "model.bundle")
    bundle = load_bundle(tmp_path / "model.bundle")
    windows = tiny_batch(1, modalities=MODALITIES)
    for seed, present in enumerate(SENSOR_SETS):
        for plan in (bundle.plan(present), any_plan(bundle.layout, present, seed=seed)):
            got = Session(bundle, plan, batch=batch, engine="openvino").run(windows)
            np.testing.assert_allclose(got, Session(bundle, plan, batch=batch).run(windows), atol=1e-4)


def test_a_pruned_model_is_exported_like_any_other(quick, tmp_path):
    big = two_sensor_model()
    least = Budget(ratio=largest_ratio(big.layout))
    export_bundle(big, tmp_path / "big.bundle")
    small = prune(big, load_bundle(tmp_path / "big.bundle").plan(None, least))
    export_bundle(small, tmp_path / "small.bundle")
    bundle = load_bundle(tmp_path / "small.bundle")
    assert largest_ratio(bundle.layout) == 0
    agree(small, bundle, SENSOR_SETS, tiny_batch(2, modalities=MODALITIES))


def test_the_bundle_plans_as_the_model_does(quick, tmp_path):
    from sentryfuse.pruning.scorers import make_plan

    model = two_sensor_model()
    export_bundle(model, tmp_path / "model.bundle")
    bundle = load_bundle(tmp_path / "model.bundle")
    for present in SENSOR_SETS:
        for ratio in (0.0, 0.3, 0.5):
            assert bundle.plan(present, Budget(ratio=ratio)) == make_plan(model, present, Budget(ratio=ratio))


def test_facts_for_the_device_travel_along(quick, tmp_path):
    model = two_sensor_model().with_about({"dataset": "tiny"})
    model.config = replace(model.config, normalise="subject", subject_floor={"temp": [0.5]})
    export_bundle(model, tmp_path / "model.bundle")
    bundle = load_bundle(tmp_path / "model.bundle")
    assert bundle.normalise == "subject"
    assert bundle.subject_floor == {"temp": [0.5]}
    assert bundle.about == {"dataset": "tiny", "backbone": "maestro", "preset": "small"}
    assert bundle.classes == model.config.classes


def test_equal_models_give_equal_files(quick, tmp_path):
    for name in ("a", "b"):
        export_bundle(two_sensor_model(seed=7), tmp_path / name)
    export_bundle(two_sensor_model(seed=8), tmp_path / "c")
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_exporting_leaves_the_model_as_it_was(quick, tmp_path):
    model = two_sensor_model()
    before = {name: t.clone() for name, t in model.tensors().items()}
    export_bundle(model, tmp_path / "model.bundle")
    assert all(torch.equal(t, model.tensors()[name]) for name, t in before.items())


@pytest.mark.parametrize("difference", [1e-3, float("nan")])
def test_a_bundle_that_disagrees_with_torch_is_never_written(difference, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "check_against_torch", lambda *_: {"plans": 1, "max_difference": difference})
    (tmp_path / "model.bundle").write_bytes(b"old")
    with pytest.raises(BundleError, match="nothing was written"):
        export_bundle(two_sensor_model(), tmp_path / "model.bundle")
    assert (tmp_path / "model.bundle").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.bundle"]


def test_the_check_notices_graphs_that_compute_something_else(tmp_path, monkeypatch):
    graphs, steps = templates()
    wrong = {key: type(graph).FromString(graph.SerializeToString()) for key, graph in graphs.items()}
    head = next(key for key in wrong if "head" in key)
    for node in wrong[head].graph.node:
        if node.op_type == "LayerNormalization":
            for attribute in node.attribute:
                if attribute.name == "epsilon":
                    attribute.f = 0.5
    monkeypatch.setattr(pack, "export_templates", lambda backbone: (wrong, steps))
    with pytest.raises(BundleError, match="differ from torch"):
        export_bundle(two_sensor_model(), tmp_path / "model.bundle")
    assert not list(tmp_path.iterdir())


def test_steps_of_the_same_shape_share_a_graph():
    graphs, steps = templates()
    assert steps["fusion.0"] == steps["fusion.1"] == steps["encoder.temp.0"]
    assert steps["embed.temp"] == steps["embed.gas"]
    assert set(steps["fusion.0"]) == {"dense", "sparse"}
    assert {key for each in steps.values() for key in each.values()} == set(graphs)
    assert len(graphs) == 4


def test_no_graph_holds_a_weight():
    for key, graph in templates()[0].items():
        constants = sum(int(np.prod(t.dims)) for t in graph.graph.initializer)
        assert constants < 600, f"{key} holds {constants} numbers of its own"


@pytest.mark.slow
@pytest.mark.parametrize("case", ["small", "experts", "flexmoe", "taken", "mult"])
def test_a_whole_export_agrees_with_torch(case, tmp_path):
    model = tiny_model(case, widths=uneven_widths(case))
    export_bundle(model, tmp_path / "model.bundle")
    bundle = load_bundle(tmp_path / "model.bundle")
    agree(model, bundle, ALL_SETS, tiny_batch())
    for seed, present in enumerate(ALL_SETS):
        plan = any_plan(bundle.layout, present, seed=seed)
        macs = multiplied(assemble(bundle, plan, batch=1), tiny_batch(1))
        assert macs == pytest.approx(plan.cost.macs, rel=0.01)

    windows = tiny_windows()
    asked: dict[str, Any] = {"present": [None, ["acc"]], "missing_rates": [None, 0.4]}
    there = evaluate(model, windows, ratios=[0.0, 0.4], **asked)
    here = predict(bundle, windows, budgets=[Budget(ratio=0.0), Budget(ratio=0.4)], **asked)
    for mine, theirs in zip(here, there, strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            assert value == theirs[key] or value == pytest.approx(theirs[key], abs=1e-3), key


@pytest.mark.slow
def test_graphs_do_not_depend_on_the_widths_of_the_model_they_came_from():
    graphs, steps = export_templates(two_sensor_model(**SHAPES["one head each"]).backbone)
    assert steps == templates()[1]
    for key, graph in graphs.items():
        assert graph.SerializeToString(deterministic=True) == templates()[0][key].SerializeToString(
            deterministic=True
        ), key
