"""A model with a readout, from training to stream: the same answers everywhere; ratio 1 has no layer."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

import sentryfuse as sf
from sentryfuse.cli.plans import plan_json
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.engine.warm import memory_mb
from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.measure.bench import random_windows
from sentryfuse.planning.profile import DeviceProfile, features
from sentryfuse.readout.recording import OnRecording
from sentryfuse.runtime import Change, Events, replay
from sentryfuse.runtime.ahead import SMALLEST, Ahead
from sentryfuse.runtime.offers import check_answers
from sentryfuse.runtime.serving import Serving
from tests.few_trees import few_trees
from tests.tiny import tiny_model, tiny_windows

RATIOS = (0.0, 0.3, 1.0)
SETS = (None, ["acc"], ["temp", "age"])


def levels(windows):
    """The same recording, every sensor of every person on a level of their own."""
    rng, raw = np.random.default_rng(1), dict(windows.raw)
    for m in windows.modalities:
        if m.length > 1:
            level = rng.normal(0, 20, (10, 1, m.n_channels))
            raw[m.name] = (raw[m.name] + level[windows.subject]).astype(np.float32)
    return replace(windows, raw=raw)


@pytest.fixture(scope="module", params=["population", "person", "signals"])
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("readout")
    windows, model = tiny_windows(144), tiny_model()
    if request.param == "signals":  # the folds choose windows standardised by person
        windows = levels(windows)
    kind = "population" if request.param == "population" else "person"
    with few_trees():
        sf.train(model, windows, settings=sf.TrainSettings(epochs=2, batch_size=16, readout=kind))
    assert model.mixture is not None
    assert model.mixture.readout.own_signals == (request.param == "signals")
    model.save_pretrained(folder / "run")
    sf.export_bundle(model, folder / "model.bundle")
    return windows, sf.from_pretrained(folder / "run"), sf.load_bundle(folder / "model.bundle")


def test_torch_and_the_device_answer_alike(made):
    windows, model, bundle = made
    there = sf.evaluate(model, windows, present=SETS, ratios=RATIOS)
    here = sf.score(bundle, windows, present=SETS, budgets=[sf.Budget(ratio=r) for r in RATIOS])
    for mine, theirs in zip(here, there, strict=True):
        assert mine["macs"] == theirs["macs"]
        for key in ("accuracy", "macro_f1"):
            assert mine[key] == pytest.approx(theirs[key], abs=1e-6)


def test_it_learns_what_the_recording_holds(made):
    windows, model, _ = made
    rows = sf.evaluate(model, windows, ratios=RATIOS)
    assert all(row["accuracy"] > 0.9 for row in rows)


def test_the_readout_alone_runs_no_layer_and_costs_next_to_nothing(made):
    windows, _, bundle = made
    whole, alone = bundle.plan(), bundle.plan(None, sf.Budget(ratio=1.0))
    assert alone.readout_alone
    assert not whole.readout_alone
    assert alone.cost.macs < whole.cost.macs / 5
    assert alone.is_nested_in(whole)
    session = sf.Session(bundle, alone, batch=1)
    assert session.graph_bytes == 0
    index = windows.indices("test")
    index = index[windows.present[index].all(1)][:1]
    if bundle.mixture.readout.person_weight is None:
        beside = OnRecording(bundle.mixture, windows, index)
        want = np.exp(beside.log_readout(index, bundle.names))
        np.testing.assert_allclose(session.run(windows.batch(index)), want, atol=1e-5)


def test_a_budget_below_the_smallest_sub_network_is_met_by_the_readout(made):
    _, _, bundle = made
    least = bundle.plan(None, sf.Budget(ratio=1.0)).cost
    plan = bundle.plan(None, sf.Budget(macs=least.macs))
    assert plan.readout_alone
    assert plan.cost.macs <= least.macs
    for limits in ({"macs": least.macs - 1}, {"ratio": 1.0, "macs": least.macs - 1}):
        with pytest.raises(BudgetError, match=f"the readout alone needs {least.macs}"):
            bundle.plan(None, sf.Budget(**limits))
    with pytest.raises(BudgetError, match="the readout alone needs"):
        bundle.plan(None, sf.Budget(memory_mb=0.9 * least.weights_mb))


def test_a_readout_that_a_bundle_does_not_have_is_asked_for_in_vain(made):
    _, _, bundle = made
    alone = bundle.plan(None, sf.Budget(ratio=1.0))
    with pytest.raises(ConfigError, match="this bundle has none"):
        sf.Session(replace(bundle, mixture=None), alone)


def test_a_plan_without_layers_holds_milliseconds_as_long_as_embeddings_and_head_would(made):
    _, _, bundle = made
    names = features(bundle.layout, None)
    device = DeviceProfile(
        "onnxruntime", 1, dict.fromkeys(names, 0.1), 1.2, 1.5, 1.0, 80.0, None, 2.0, {}, {}
    )
    gone = dict.fromkeys(bundle.layout.blocks, ())
    most = device.safe_factor * device.median_ms(bundle.layout, None, gone)
    plan = bundle.plan(None, sf.Budget(latency_ms=1.001 * most), device)
    assert plan.readout_alone
    shown = plan_json(plan, bundle.layout, device)
    assert shown["got"]["latency_ms"] == device.p95_ms(bundle.layout, None, gone)
    assert shown["slack"]["latency_ms"] > 0


def test_without_a_layer_a_model_without_a_readout_answers_by_what_embeds_and_the_head(made):
    windows, _, _ = made
    plan = sf.plan(tiny_model(), None, sf.Budget(ratio=1.0))
    assert not plan.readout_alone
    assert not any(plan.kept.values())
    (row,) = sf.evaluate(tiny_model(), windows, ratios=[1.0])
    assert 0 < row["macs"] <= plan.cost.macs < plan.dense.macs - plan.dense.prunable_macs / 2
    assert 0 <= row["accuracy"] <= 1


def test_a_pruned_model_keeps_its_readout(made):
    windows, model, _ = made
    small = sf.prune(model, sf.plan(model, None, sf.Budget(ratio=0.3)))
    (pruned,) = sf.evaluate(small, windows)
    (planned,) = sf.evaluate(model, windows, ratios=[0.3])
    assert pruned["accuracy"] == planned["accuracy"]
    with pytest.raises(ConfigError, match="no model to prune"):
        sf.prune(model, sf.plan(model, None, sf.Budget(ratio=1.0)))


def test_a_stream_gets_better_or_equal_answers_than_chance(made):
    windows, _, bundle = made
    index = windows.indices("test")
    schedule = [Change(0, None, 0.0), Change(len(index) // 2, ("acc",), 1.0)]
    rows = replay(bundle, windows, indices=index, schedule=schedule)
    answered = [row["correct"] for row in rows if row["correct"] is not None]
    assert np.mean(answered) > 0.7


def test_few_readouts_are_kept_ready_and_one_serves_all_plans_of_its_sensors(made):
    from sentryfuse.engine import beside

    _, _, bundle = made
    dense = sf.Session(bundle, bundle.plan(None, sf.Budget(ratio=0.0)), batch=1)
    for batch in range(1, beside.KEPT + 3):
        sf.Session(bundle, bundle.plan(("age",), sf.Budget(ratio=1.0)), batch=batch)
    assert len(beside._READY[bundle].latest) == beside.KEPT
    smaller = sf.Session(bundle, bundle.plan(None, sf.Budget(ratio=0.3)), batch=1)
    assert smaller._readout is dense._readout  # not among the latest any more, but used


class OneByOne(OnnxRuntime):
    """Counts builds that are under way at once, and refuses the graphs of sub-networks when it is told to."""

    def __init__(self):
        self.now = self.most = self.built = 0
        self.error: Exception | None = None

    def build(self, model, *, threads, batch):
        self.now += 1
        self.most, self.built = max(self.most, self.now), self.built + 1
        try:
            time.sleep(0.02)  # the readout is written in less
            if self.error is not None and b"window" in model and b"logits" in model:
                raise self.error
            return super().build(model, threads=threads, batch=batch)
        finally:
            self.now -= 1


def test_a_readout_is_written_while_its_sub_network_is_built_and_built_after_it(made):
    _, _, bundle = made
    engine = OneByOne()
    plan = bundle.plan(["acc", "temp"], sf.Budget(ratio=0.3))
    session = sf.Session(bundle, plan, batch=1, engine=engine)
    assert (engine.built, engine.most) == (2, 1)
    there = sf.Session(bundle, plan, batch=1)
    for window in random_windows(bundle)[:2]:
        assert np.array_equal(session.run(window), there.run(window))


def test_a_build_that_fails_leaves_nothing_behind_and_the_next_one_goes_well(made):
    _, _, bundle = made
    engine = OneByOne()
    engine.error = MemoryError("no memory")
    plan = bundle.plan(["temp"], sf.Budget(ratio=0.0))
    with pytest.raises(MemoryError, match="no memory"):
        sf.Session(bundle, plan, batch=1, engine=engine)
    assert (engine.built, engine.now) == (1, 0)
    engine.error = None
    sf.Session(bundle, plan, batch=1, engine=engine)
    assert (engine.built, engine.most) == (3, 1)


def test_readouts_of_one_sensor_less_are_built_ahead_first_in_half_of_the_memory(made):
    _, _, bundle = made
    engine = OneByOne()
    options: dict[str, Any] = {"profile": None, "threads": 1, "kept": 4, "apart": (), "events": Events()}
    serving = Serving(bundle, budget=sf.Budget(ratio=0.2), engine=engine, **options)
    fewer = [bundle.plan([n for n in bundle.names if n != lost], SMALLEST) for lost in bundle.names]
    room = 2 * max(map(memory_mb, fewer)) + 1e-6
    for most_mb, there in ((room, 1), (100.0, len(fewer))):
        at_s = [0.0]
        ahead = Ahead(serving, most_mb=most_mb, clock=partial(at_s.__getitem__, 0))
        for _ in range(3):
            at_s[0] += 10.0
            ahead.cut()
            ahead.rest(bundle.names)
            assert serving.sessions.wait(30)
        assert sum(serving.sessions.look(plan) is not None for plan in fewer) == there
    built = engine.built
    sf.Session(bundle, bundle.plan(fewer[0].present, sf.Budget(ratio=0.7)), batch=1, engine=engine)
    assert engine.built == built + 1  # without its readout
    serving.close()


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_good_bundle_passes_its_self_check(made, ratio):
    _, _, bundle = made
    session = sf.Session(bundle, bundle.plan(None, sf.Budget(ratio=ratio)), batch=1)
    check_answers(session, bundle)
