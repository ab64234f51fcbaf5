"""What is exported answers as torch does: every backbone, any widths, sensors and attention rule."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import sentryfuse.export as export
from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.engine import Session
from sentryfuse.engine.parts import whole
from sentryfuse.errors import BundleError
from sentryfuse.export import export_bundle
from sentryfuse.graph.write import Writer
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.layout import AttentionRule
from sentryfuse.pruning.cut import prune
from sentryfuse.pruning.evaluation import evaluate, torch_answer
from sentryfuse.pruning.scorers import make_plan
from sentryfuse.runtime import score
from sentryfuse.types import Budget, Modality
from tests.laws.hand_plans import any_plan
from tests.runtime.counting import multiplied
from tests.tiny import (
    BACKBONES,
    CASES,
    FEW_SETS,
    SENSOR_SETS,
    tiny_batch,
    tiny_model,
    tiny_windows,
    uneven_widths,
)

RULES = {
    "sparse from 2 tokens": AttentionRule(factor=1, sparse_from=2),
    "always dense": AttentionRule("dense"),
}
# three that are cut alike, one of them with another number of channels
ALIKE = (*(Modality(f"s{i}", 8.0, 61, ("x", "y")) for i in range(3)), Modality("s3", 8.0, 61, ("x",)))


def bundle_of(model: SentryModel, folder) -> Bundle:
    checked = export_bundle(model, folder / "model.bundle")
    assert checked["plans"] >= 3
    assert checked["max_difference"] < 1e-4
    bundle = load_bundle(folder / "model.bundle")
    assert bundle.layout == model.layout
    return bundle


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Callable[..., tuple[SentryModel, Bundle]]:
    """A case with its bundle, of even or of uneven widths, exported once."""

    @cache
    def made(case: str, uneven: bool) -> tuple[SentryModel, Bundle]:
        model = tiny_model(case, widths=uneven_widths(case) if uneven else None)
        return model, bundle_of(model, tmp_path_factory.mktemp(case))

    return made


def agree(model: SentryModel, bundle: Bundle, sets, batch) -> None:
    """Law 7: for the whole, the smallest and some plan, one window, several, or any number of them.

    How many windows a graph takes has to do with its steps, which every set of one model shares: the first
    set tells both forms of every plan, the others one form of each plan, in turn.
    """
    answer = torch_answer(model)
    sizes = (None, len(next(iter(batch.values()))))
    for seed, present in enumerate(sets):
        plans = (
            bundle.plan(present),
            bundle.plan(present, Budget(ratio=0.97)),
            bundle.plan(present, Budget(ratio=1)),
            any_plan(bundle.layout, present, seed=seed),
            any_plan(bundle.layout, present, seed=seed, vanish=True),
        )
        for at, plan in enumerate(plans):
            wanted = answer(batch, plan)
            for size in sizes if seed == 0 else sizes[(seed + at) % 2 :][:1]:
                got = Session(bundle, plan, batch=size).run(batch)
                np.testing.assert_allclose(got, wanted, atol=1e-5)
                assert np.isfinite(got).all()


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
@pytest.mark.parametrize("case", CASES)
def test_the_session_answers_as_torch(case, uneven, exported):
    model, bundle = exported(case, uneven)
    every = not uneven and case in BACKBONES  # which graphs a set joins is the backbone's, not the case's
    agree(model, bundle, SENSOR_SETS if every else FEW_SETS, tiny_batch())
    agree(model, bundle, FEW_SETS[:1], tiny_batch(1))


@pytest.mark.parametrize("rule", RULES)
def test_any_attention_rule(rule, tmp_path):
    model = tiny_model("sparse")
    bare = SentryModel(replace(model.config, attention=RULES[rule]))
    bare.load_tensors(model.tensors())
    agree(bare.eval(), bundle_of(bare, tmp_path), FEW_SETS, tiny_batch())


@pytest.mark.parametrize("n", [1, 3])
def test_sensors_that_are_cut_alike_are_described_together(n, tmp_path):
    model = tiny_model("small", modalities=ALIKE)
    sets = (model.names, ("s0", "s2"), ("s1",), ("s2", "s3"))
    agree(model, bundle_of(model, tmp_path), sets, tiny_batch(n, modalities=ALIKE))


@pytest.mark.parametrize("case", CASES)
def test_the_graph_multiplies_what_is_counted(case, exported):
    _, bundle = exported(case, True)
    for seed, present in enumerate(SENSOR_SETS):
        plan = any_plan(bundle.layout, present, seed=seed)
        plain = bundle.writer.write(plan, whole(bundle.layout, present), batch=1, fused=False)
        macs = multiplied(onnx.load_from_string(plain), tiny_batch(1))
        assert macs == pytest.approx(plan.cost.macs, rel=0.01)


@pytest.mark.parametrize("name", ["normalise.std", "within", "summary_std"])
def test_a_measured_size_that_cannot_be_divided_by_is_refused(name):
    model = tiny_model()
    weights = {n: t.numpy() for n, t in model.tensors().items() if not n.startswith("gate.")}
    writer = Writer(model.layout, weights, len(model.config.classes))
    writer.check_steps()
    weights[f"embed.acc.{name}"][-1] = 0
    with pytest.raises(BundleError, match=f"not positive.*acc.{name}"):
        Writer(model.layout, weights, len(model.config.classes)).check_steps()


def test_plain_graphs_pass_the_checks_of_the_onnx_package(exported):
    for case in CASES:
        _, bundle = exported(case, False)
        for batch in (None, 1):
            part = whole(bundle.layout, bundle.names)
            plain = bundle.writer.write(bundle.plan(), part, batch=batch, fused=False)
            onnx.checker.check_model(plain, full_check=True)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed here")
@pytest.mark.parametrize("batch", [1, None])
@pytest.mark.parametrize("case", ["sparse", "experts", "taken", "mult"])
def test_an_exported_bundle_runs_in_openvino(case, batch, exported):
    _, bundle = exported(case, False)
    windows = tiny_batch(1)
    for seed, present in enumerate(FEW_SETS):
        for plan in (bundle.plan(present), any_plan(bundle.layout, present, seed=seed)):
            got = Session(bundle, plan, batch=batch, engine="openvino").run(windows)
            np.testing.assert_allclose(got, Session(bundle, plan, batch=batch).run(windows), atol=1e-4)


def test_a_pruned_model_is_exported_like_any_other(exported, tmp_path):
    big, whole_one = exported("sparse", False)
    for ratio in (0.5, 0.8, 0.9):
        small = prune(big, whole_one.plan(None, Budget(ratio=ratio)))
        bundle = bundle_of(small, tmp_path)
        agree(small, bundle, FEW_SETS, tiny_batch(2))


def test_the_bundle_plans_as_the_model_does(exported):
    model, bundle = exported("small", False)
    for present in SENSOR_SETS:
        for ratio in (0.0, 0.3, 0.5):
            assert bundle.plan(present, Budget(ratio=ratio)) == make_plan(model, present, Budget(ratio=ratio))


def test_the_bundle_scores_as_the_model_does(exported):
    (model, bundle), windows = exported("flexmoe", False), tiny_windows()
    asked: dict[str, Any] = {"present": [None, ["acc"]], "missing_rates": [None, 0.4]}
    there = evaluate(model, windows, ratios=[0.0, 0.4], **asked)
    here = score(bundle, windows, budgets=[Budget(ratio=0.0), Budget(ratio=0.4)], **asked)
    for mine, theirs in zip(here, there, strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            assert value == theirs[key] or value == pytest.approx(theirs[key], abs=1e-3), key


def test_facts_for_the_device_travel_along(tmp_path):
    model = tiny_model().with_about({"dataset": "tiny"})
    model.config = replace(model.config, normalise="subject", subject_floor={"temp": (0.5,)})
    bundle = bundle_of(model, tmp_path)
    assert bundle.normalise == "subject"
    assert bundle.subject_floor == {"temp": (0.5,)}
    assert bundle.about == {"dataset": "tiny", "backbone": "maestro", "preset": "small"}
    assert bundle.classes == model.config.classes


def test_equal_models_give_equal_files(tmp_path):
    for name in ("a", "b"):
        export_bundle(tiny_model(seed=7), tmp_path / name)
    export_bundle(tiny_model(seed=8), tmp_path / "c")
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_exporting_leaves_the_model_as_it_was(tmp_path):
    model = tiny_model()
    before = {name: t.clone() for name, t in model.tensors().items()}
    export_bundle(model, tmp_path / "model.bundle")
    assert all(torch.equal(t, model.tensors()[name]) for name, t in before.items())


@pytest.mark.parametrize("difference", [1e-3, float("nan")])
def test_a_bundle_that_disagrees_with_torch_is_never_written(difference, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "check_against_torch", lambda *_: {"plans": 1, "max_difference": difference})
    (tmp_path / "model.bundle").write_bytes(b"old")
    with pytest.raises(BundleError, match="nothing was written"):
        export_bundle(tiny_model(), tmp_path / "model.bundle")
    assert (tmp_path / "model.bundle").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.bundle"]


def test_the_check_notices_a_writer_that_computes_something_else(tmp_path, monkeypatch):
    from sentryfuse.graph.writer import Graph

    right = Graph.norm
    monkeypatch.setattr(Graph, "norm", lambda self, x, weight, bias: right(self, x, weight * 1.1, bias))
    with pytest.raises(BundleError, match="differ from torch"):
        export_bundle(tiny_model(), tmp_path / "model.bundle")
    assert not list(tmp_path.iterdir())
