from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from sentryfuse.errors import ConfigError
from sentryfuse.pruning import make_plan
from sentryfuse.pruning.calibration import Calibration
from sentryfuse.pruning.gradients import taylor_importance
from sentryfuse.pruning.scorers import GateScorer
from sentryfuse.pruning.weights import magnitude_importance
from sentryfuse.training.elastic import GateRule, StaticRule, draw_subnetwork, make_rule
from sentryfuse.types import Budget
from tests.tiny import CASES, SENSOR_SETS, tiny_model, tiny_windows, uneven_widths


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.97])
def test_a_drawn_subnetwork_says_what_stays_in_every_live_block(case, ratio):
    model = tiny_model(case, widths=uneven_widths(case))
    for present in SENSOR_SETS:
        live = {b.name: b for step in model.layout.route(present) for b in step.blocks}
        kept = draw_subnetwork(
            model.layout, GateRule(model).importance(present), present=present, ratio=ratio
        )
        assert kept.keys() == live.keys()
        for name, units in kept.items():
            assert list(units) == sorted(set(units))
            assert set(units) <= set(range(live[name].units))
        if ratio == 0.97:
            assert not all(kept.values()), "whole blocks are gone"


@pytest.mark.usefixtures("units_go_one_by_one")
def test_the_best_units_are_the_ones_that_stay():
    model = tiny_model()
    scores = {n: np.arange(b.units, dtype=np.float32) for n, b in model.layout.blocks.items()}
    kept = draw_subnetwork(model.layout, scores, present=SENSOR_SETS[0], ratio=0.5)
    for name, units in kept.items():
        assert len(units) > 0
        assert units == tuple(range(model.layout.blocks[name].units))[-len(units) :]


@pytest.mark.parametrize("case", CASES)
def test_importance_is_that_of_the_gate_times_size_divided_by_its_mean_in_the_block(case):
    model = tiny_model(case)
    rule = GateRule(model)
    rule.new_epoch(frozen=False)
    sizes = magnitude_importance(model)
    for present in SENSOR_SETS:
        weighed, asked = rule.importance(present), GateScorer(model).importance(present)
        for name, said in model.gate.importance(present).items():
            for found, values in ((weighed, said.numpy() * sizes[name]), (asked, said.numpy())):
                assert np.array_equal(found[name], values / np.maximum(values.mean(), 1e-30))


@pytest.mark.parametrize("case", CASES)
def test_once_the_gate_is_frozen_training_and_deployment_choose_the_same_units(case):
    model = tiny_model(case)
    with torch.no_grad():
        model.gate.units.weight.normal_()
    rule = GateRule(model)
    rule.new_epoch(frozen=False)
    rule.freeze()
    for present in SENSOR_SETS:
        for ratio in (0.5, 0.97):
            drawn = draw_subnetwork(model.layout, rule.importance(present), present=present, ratio=ratio)
            assert drawn == make_plan(model, present, Budget(ratio=ratio)).kept


def test_while_the_gate_learns_sizes_are_those_at_the_start_of_the_epoch():
    model = tiny_model()
    rule = GateRule(model)
    rule.new_epoch(frozen=False)
    with torch.no_grad():
        model.tensors()["fusion.0.ffn.up.weight"][3] *= 100
    before = rule.importance(("acc",))["fusion.0.ffn"]
    rule.new_epoch(frozen=False)
    assert before.argmax() != 3
    assert rule.importance(("acc",))["fusion.0.ffn"].argmax() == 3


def test_the_static_rule_is_blind_to_sensors_and_measures_weights_again():
    model = tiny_model()
    rule = StaticRule("static", partial(magnitude_importance, model))
    before = rule.importance(("acc",))
    assert rule.importance(("temp", "age")) is before
    with torch.no_grad():
        model.tensors()["fusion.0.ffn.up.weight"][3] *= 10
    assert rule.importance(("acc",)) is before
    rule.new_epoch(frozen=True)
    assert rule.importance(("acc",))["fusion.0.ffn"].argmax() == 3


def test_rules_have_names():
    model = tiny_model()
    windows = tiny_windows()
    assert isinstance(make_rule("gate", model, windows), GateRule)
    assert make_rule("none", model, windows) is None
    measured = {
        "static": magnitude_importance(model),
        "taylor": taylor_importance(Calibration(model, windows)),
    }
    for name, scores in measured.items():
        rule = make_rule(name, model, windows)
        assert rule is not None
        assert all(np.array_equal(found, scores[block]) for block, found in rule.importance(("acc",)).items())
    with pytest.raises(ConfigError, match="gate, static, taylor, none"):
        make_rule("magnitude", model, windows)
