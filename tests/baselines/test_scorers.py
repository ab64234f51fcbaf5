from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sentryfuse.baselines import SCORERS, make_scorer
from sentryfuse.baselines.gradients import taylor_scores
from sentryfuse.baselines.weights import magnitude_scores
from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.gate.saliency import batch_saliency, unit_factors
from sentryfuse.model import Selection
from sentryfuse.pruning.cut import selection
from sentryfuse.pruning.scorers import make_plan
from sentryfuse.types import Budget
from tests.tiny import CASES, NAMES, SENSOR_SETS, tiny_batch, tiny_model, tiny_windows, uneven_widths

WINDOWS = tiny_windows()


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_ranks_every_unit_with_finite_positive_numbers(name):
    model = tiny_model(widths=uneven_widths("small"))
    scorer = make_scorer(name, model, WINDOWS)
    assert scorer.name == name
    for present in SENSOR_SETS:
        scores = scorer.scores(present)
        assert scores.keys() == model.layout.blocks.keys()
        for block, values in scores.items():
            assert values.shape == (model.layout.blocks[block].units,)
            assert np.isfinite(values).all()
            assert (values >= 0).all()


@pytest.mark.parametrize("name", SCORERS)
def test_the_same_seed_gives_the_same_plan(name):
    plans = []
    for _ in range(2):
        model = tiny_model()
        scorer = make_scorer(name, model, WINDOWS)
        plans.append(make_plan(model, ("acc", "age"), Budget(ratio=0.4), scorer=scorer))
    assert plans[0] == plans[1]
    assert plans[0].scorer == name


def test_only_the_gate_looks_at_which_sensors_are_present():
    model = tiny_model()
    for name in SCORERS:
        scorer = make_scorer(name, model, WINDOWS)
        one, other = scorer.scores(("acc",)), scorer.scores(NAMES)
        same = all(np.array_equal(one[block], other[block]) for block in one)
        assert same == (name != "gate")


def test_an_unknown_scorer_is_refused_and_those_there_are_listed():
    with pytest.raises(ConfigError, match="gate, magnitude"):
        make_scorer("luck", tiny_model(), WINDOWS)


def test_magnitude_sees_what_enters_and_what_leaves():
    model = tiny_model()
    with torch.no_grad():
        tensors = model.tensors()
        tensors["fusion.0.ffn.up.weight"][5] = 0
        tensors["fusion.0.ffn.down.weight"][:, 6] *= 100
        tensors["fusion.0.attn.v.weight"][4:8] = 0  # the second KV group: heads 2 and 3
        tensors["fusion.0.attn.o.weight"][:, 4:8] *= 100  # head 1
    scores = magnitude_scores(model)
    assert scores["fusion.0.ffn"][5] == 0
    assert scores["fusion.0.ffn"].argmax() == 6
    assert (scores["fusion.0.attn"][2:] == 0).all()
    assert scores["fusion.0.attn"].argmax() == 1
    assert scores["fusion.0.ffn"].mean() == pytest.approx(1)


def test_taylor_is_the_mean_saliency_of_the_training_windows():
    model = tiny_model()
    found = taylor_scores(model, WINDOWS, present=("age",))
    indices = WINDOWS.indices("train")
    live = [b for step in model.layout.route(("age",)) for b in step.blocks]
    factors = unit_factors(live, len(indices))
    batch = {"age": torch.from_numpy(WINDOWS.batch(indices, ("age",))["age"])}
    logits = model(batch, ("age",), select=Selection(gates=factors))
    F.cross_entropy(logits, torch.from_numpy(WINDOWS.y[indices])).backward()
    for name, saliency in batch_saliency(factors).items():
        want = (saliency / saliency.norm()).numpy()
        np.testing.assert_allclose(found[name], want, rtol=1e-3, atol=1e-5)
    assert (found["encoder.acc.0.ffn"] == 0).all(), "blocks that do not run have no saliency"


def test_taylor_leaves_no_gradient_behind():
    model = tiny_model()
    taylor_scores(model, WINDOWS)
    assert all(p.grad is None for p in model.parameters())


def test_without_a_budget_everything_stays():
    model = tiny_model()
    plan = make_plan(model)
    assert plan.present == NAMES
    assert plan.cost == plan.dense
    assert plan.scorer == "gate"
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch().items()}
    with torch.no_grad():
        assert torch.equal(model(batch, select=selection(plan)), model(batch))


@pytest.mark.parametrize("case", CASES)
def test_a_smaller_budget_keeps_a_subset(case):
    model = tiny_model(case)
    plans = [make_plan(model, ("acc", "temp"), Budget(ratio=r)) for r in (0.0, 0.2, 0.4, 0.5)]
    for larger, smaller in itertools.pairwise(plans):
        assert smaller.is_nested_in(larger)
        assert smaller.cost.macs < larger.cost.macs


def test_an_impossible_budget_is_refused():
    with pytest.raises(BudgetError, match=r"nearest possible ratio is 0\.6"):
        make_plan(tiny_model(), budget=Budget(ratio=0.99))
