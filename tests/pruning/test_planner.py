from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.planning.cost import count
from sentryfuse.planning.plan import check_plan
from sentryfuse.pruning.calibration import Calibrator
from sentryfuse.pruning.cut import prune
from sentryfuse.pruning.planner import make_planner
from sentryfuse.pruning.published import StaticScorer
from sentryfuse.pruning.scorers import make_plan, make_scorer
from sentryfuse.types import Budget
from tests.tiny import BACKBONES, CASES, NAMES, SENSOR_SETS, tiny_model, tiny_windows, uneven_widths

WINDOWS = tiny_windows(24)
WAYS = list(itertools.product(("aware", "blind"), ("global", "uniform")))


def model_and_scorer(case, name="magnitude"):
    model = tiny_model(case, widths=uneven_widths(case))
    return model, make_scorer(name, Calibrator(model, WINDOWS))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_an_aware_plan_holds_the_budget_for_every_set_of_sensors(case, allocation):
    model, scorer = model_and_scorer(case)
    for protocol in ("present", "full"):
        planner = make_planner(model, scorer, Budget(ratio=0.3, protocol=protocol), allocation=allocation)
        for present in SENSOR_SETS:
            try:
                plan = planner(present)
            except BudgetError:  # a sensor alone may cost more than its share of all
                assert protocol == "full"
                continue
            of = count(model.layout, present if protocol == "present" else None).prunable_macs
            assert plan.cost.prunable_macs <= Fraction(7, 10) * of
            assert plan.cost == count(model.layout, present, kept=plan.kept)
            check_plan(model.layout, plan)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_a_blind_plan_is_one_plan_of_which_the_live_blocks_run(case, allocation):
    model, scorer = model_and_scorer(case)
    planner = make_planner(model, scorer, Budget(ratio=0.3), sensors="blind", allocation=allocation)
    whole = planner(NAMES)
    assert whole == make_planner(model, scorer, Budget(ratio=0.3), allocation=allocation)(NAMES)
    assert whole.cost.prunable_macs <= Fraction(7, 10) * count(model.layout).prunable_macs
    for present in SENSOR_SETS:
        plan = planner(present)
        check_plan(model.layout, plan)
        assert plan.present == present
        assert all(plan.kept[name] == whole.kept[name] for name in plan.kept)
        assert plan.cost == count(model.layout, present, kept=plan.kept)
        assert plan.dense == count(model.layout, present)
        assert plan.scorer == "magnitude"


@pytest.mark.parametrize("case", BACKBONES)
def test_blind_plans_agree_on_every_block_that_two_sets_share(case):
    model = tiny_model(case)
    scorer = make_scorer("gate", Calibrator(model, WINDOWS))  # even where scores depend on the sensors
    for protocol in ("present", "full"):
        budget = Budget(ratio=0.4, protocol=protocol)
        planner = make_planner(model, scorer, budget, sensors="blind")
        for one, other in itertools.combinations(SENSOR_SETS, 2):
            shared = planner(one).kept.keys() & planner(other).kept.keys()
            assert all(planner(one).kept[name] == planner(other).kept[name] for name in shared)


def test_the_protocol_does_not_matter_to_a_blind_plan():
    model, scorer = model_and_scorer("small")
    plans = [
        make_planner(model, scorer, Budget(ratio=0.4, protocol=p), sensors="blind")(("acc",)).kept
        for p in ("present", "full")
    ]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("case", BACKBONES)
@pytest.mark.parametrize(("sensors", "allocation"), WAYS)
def test_every_plan_can_be_cut(case, sensors, allocation):
    model = tiny_model(case)
    scorer = make_scorer("kwon", Calibrator(model, WINDOWS))
    planner = make_planner(model, scorer, Budget(ratio=0.4), sensors=sensors, allocation=allocation)
    plan = planner(("acc", "temp"))
    small = prune(model, plan)
    assert count(small.layout).macs == plan.cost.macs
    assert count(small.layout).params == plan.cost.params


def test_an_aware_global_plan_is_what_make_plan_gives():
    model = tiny_model()
    calibrator = Calibrator(model, WINDOWS)
    for name in ("gate", "magnitude", "kwon-oracle"):
        scorer = make_scorer(name, calibrator)
        for present in (NAMES, ("acc", "age")):
            want = make_plan(model, present, Budget(ratio=0.4), scorer=scorer)
            assert make_planner(model, scorer, Budget(ratio=0.4))(present) == want


@pytest.mark.parametrize("sensors", ["aware", "blind"])
def test_scores_are_asked_for_once(sensors):
    model = tiny_model()
    asked = []

    class Asked(StaticScorer):
        def importance(self, present):
            asked.append(present)
            return super().importance(present)

    scorer = Asked("x", {n: np.arange(b.units, dtype=np.float32) for n, b in model.layout.blocks.items()})
    planner = make_planner(model, scorer, Budget(ratio=0.4), sensors=sensors)
    assert not asked, "an impossible budget is refused where it is used"
    for present in (*SENSOR_SETS, *SENSOR_SETS):
        planner(present)
    assert asked == (list(SENSOR_SETS) if sensors == "aware" else [NAMES])


def test_unknown_words_and_impossible_budgets_are_refused():
    model, scorer = model_and_scorer("small")
    with pytest.raises(ConfigError, match="choose one of aware, blind"):
        make_planner(model, scorer, Budget(ratio=0.4), sensors="deaf")
    with pytest.raises(ConfigError, match="choose one of global, uniform"):
        make_planner(model, scorer, Budget(ratio=0.4), allocation="fair")
    for sensors, allocation in WAYS:
        planner = make_planner(model, scorer, Budget(macs=5), sensors=sensors, allocation=allocation)
        with pytest.raises(BudgetError, match="the smallest needs"):
            planner(("acc",))
