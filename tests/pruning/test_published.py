from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.pruning.calibration import Calibrator
from sentryfuse.pruning.cut import selection
from sentryfuse.pruning.published import CALIBRATED, WEIGHTS
from sentryfuse.pruning.scorers import list_scorers, make_plan, make_scorer
from sentryfuse.types import Budget
from tests.tiny import CASES, FEW_SETS, NAMES, tiny_batch, tiny_model, tiny_windows, uneven_widths

WINDOWS = tiny_windows()


@pytest.fixture(scope="module", params=CASES)
def pruned(request):
    """A model with uneven widths, and what its scorers share."""
    model = tiny_model(request.param, widths=uneven_widths(request.param))
    return model, Calibrator(model, WINDOWS)


@pytest.mark.parametrize("name", list_scorers())
def test_every_scorer_ranks_every_unit_with_finite_positive_numbers(pruned, name):
    model, calibrator = pruned
    scorer = make_scorer(name, calibrator)
    assert scorer.name == name
    for present in FEW_SETS:
        scores = scorer.importance(present)
        assert scores.keys() == model.layout.blocks.keys()
        for block, values in scores.items():
            assert values.shape == (model.layout.blocks[block].units,)
            assert values.dtype == np.float32
            assert np.isfinite(values).all()
            assert (values >= 0).all()
        live = [block for step in model.layout.route(present) for block in step.blocks]
        assert all(scores[block.name].std() > 0 for block in live if block.kind == "ffn"), "a ranking"


@pytest.mark.parametrize("name", list_scorers())
def test_the_same_seed_gives_the_same_plan(name):
    plans = []
    for _ in range(2):
        model = tiny_model()
        scorer = make_scorer(name, Calibrator(model, WINDOWS, seed=3))
        plans.append(make_plan(model, ("acc", "age"), Budget(ratio=0.4), scorer=scorer))
    assert plans[0] == plans[1]
    assert plans[0].scorer == name


@pytest.mark.parametrize("name", list_scorers())
def test_only_the_gate_and_oracles_look_at_which_sensors_are_present(name):
    model = tiny_model()
    scorer = make_scorer(name, Calibrator(model, WINDOWS))
    one, other = scorer.importance(("acc",)), scorer.importance(NAMES)
    same = all(np.array_equal(one[block], other[block]) for block in one)
    assert same == (name != "gate" and not name.endswith("-oracle"))


def test_a_random_ranking_follows_its_seed():
    model = tiny_model()
    scorers = [make_scorer("random", Calibrator(model, WINDOWS, seed=seed)) for seed in (0, 0, 1)]
    first, again, other = (scorer.importance(NAMES) for scorer in scorers)
    assert all(np.array_equal(first[block], again[block]) for block in first)
    assert not any(np.array_equal(first[block], other[block]) for block in first)


def test_an_oracle_with_all_sensors_sees_what_the_static_ranking_sees():
    model = tiny_model()  # fewer training windows than either of them asks for
    calibrator = Calibrator(model, WINDOWS)
    for method in CALIBRATED:
        static, oracle = (make_scorer(name, calibrator) for name in (method, f"{method}-oracle"))
        for block, values in static.importance(NAMES).items():
            np.testing.assert_allclose(oracle.importance(NAMES)[block], values, rtol=1e-4, atol=1e-6)


def test_an_unknown_scorer_is_refused_and_those_there_are_listed():
    for name in ("luck", "magnitude-mix", "taylor-", "-oracle"):
        with pytest.raises(ConfigError, match=f"{name}' is unknown") as caught:
            make_scorer(name, Calibrator(tiny_model(), WINDOWS))
        assert ", ".join(list_scorers()) in str(caught.value)


def test_the_docs_have_a_row_for_every_method():
    text = (Path(__file__).parents[2] / "docs" / "baselines.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(["gate", "random", *WEIGHTS, *CALIBRATED])


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
    with pytest.raises(BudgetError, match="the smallest needs"):
        make_plan(tiny_model(), budget=Budget(macs=5))
