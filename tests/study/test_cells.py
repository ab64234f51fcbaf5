"""The fast evaluation gives what the plain one gives, and equal answers where they must be equal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sentryfuse.data.metrics import scores
from sentryfuse.data.scoring import answer_all
from sentryfuse.errors import ConfigError
from sentryfuse.pruning.calibration import Calibrator
from sentryfuse.pruning.evaluation import torch_answer
from sentryfuse.pruning.scorers import make_plan, make_scorer
from sentryfuse.study.cells import make_sample, score
from sentryfuse.study.design import Method, StudyDesign
from sentryfuse.study.jobs import evaluations, trainings
from sentryfuse.study.masks import exact_masks
from sentryfuse.study.methods import Pruner, Subject, calibration, check_methods
from sentryfuse.types import Budget
from tests.study.test_jobs import DESIGN
from tests.tiny import BACKBONES, tiny_model, tiny_windows

RATES = (0.0, 0.4)
METHODS = [
    {"scorer": "gate"},
    {"scorer": "magnitude"},
    {"scorer": "magnitude", "sensors": "blind"},
    {"scorer": "kwon", "allocation": "uniform"},
]
STUDY = StudyDesign.from_json({**DESIGN, "ratios": [0.2, 0.5], "methods": METHODS})
JOBS = {job.method_name: job for job in evaluations(STUDY, trainings(STUDY, {})[0])}


@pytest.fixture(scope="module", params=BACKBONES)
def place(request):
    """A model, a recording and the windows that are scored."""
    windows = tiny_windows(240)
    return tiny_model(request.param), windows, make_sample(windows, 30, missing_rates=RATES, seed=1)


def run(place, name):
    model, windows, sample = place
    job = JOBS[name]
    return score(Pruner(Subject(model, windows, 1024, seed=0), job.method), job, sample, job.places)


@pytest.mark.parametrize("name", ["dense", "gate/aware", "magnitude/aware"])
def test_lines_are_what_one_window_set_after_another_gives(place, name):
    model, windows, sample = place
    masks = {rate: exact_masks(windows.present[sample.indices], rate=rate, seed=1) for rate in RATES}
    for line in run(place, name).lines:
        scorer = make_scorer(line["scorer"], Calibrator(model, windows)) if line["scorer"] else None

        def plan_for(names, line=line, scorer=scorer):
            protocol = line["protocol"] or "present"
            budget = Budget(ratio=line["ratio"], protocol=protocol)
            return make_plan(model, names, budget, scorer=scorer)

        answered, probabilities, cost, refused = answer_all(
            windows,
            sample.indices,
            present=masks[line["missing_rate"]],
            plan_for=plan_for,
            answer=torch_answer(model),
        )
        assert refused == 0
        expected = scores(windows.y[answered], probabilities)
        assert line["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-9)
        assert line["macro_f1"] == pytest.approx(expected["macro_f1"], abs=1e-9)
        assert (line["macs"], line["params"]) == (round(cost["macs"]), round(cost["params"]))
        assert line["n_windows"] == len(sample.indices)


def test_lines_are_the_scores_of_the_answers_that_are_kept(place):
    scored = run(place, "gate/aware")
    assert scored.answers.keys() == {line["key"] for line in scored.lines}
    for line in scored.lines:
        table = scored.answers[line["key"]]
        assert table.dtype == np.float16
        assert scores(scored.y, table)["accuracy"] == line["accuracy"]


def test_a_blind_plan_is_the_same_under_both_protocols_and_an_aware_one_is_not(place):
    def by_protocol(name):
        scored = run(place, name)
        found: dict[str, dict[tuple[float, float], tuple[int, bytes]]] = {"present": {}, "full": {}}
        for line in scored.lines:
            table = scored.answers[line["key"]]
            found[line["protocol"]][line["ratio"], line["missing_rate"]] = (line["macs"], table.tobytes())
        return found["present"], found["full"]

    present, full = by_protocol("magnitude/blind")
    assert present == full
    present, full = by_protocol("magnitude/aware")
    assert present[0.5, 0.4][0] < full[0.5, 0.4][0]


def test_a_uniform_plan_is_another_one_and_holds_the_ratio(place):
    scored = run(place, "kwon-uniform/aware")
    dense = {line["missing_rate"]: line["macs"] for line in run(place, "dense").lines}
    assert all(line["macs"] < dense[line["missing_rate"]] for line in scored.lines if line["ratio"] == 0.5)


def test_a_few_cells_give_the_same_as_all_of_them(place):
    model, windows, sample = place
    job = JOBS["gate/aware"]
    some = score(Pruner(Subject(model, windows, 1024, seed=0), job.method), job, sample, job.places[3:5])
    assert some.lines == run(place, "gate/aware").lines[3:5]


def test_decisions_are_timed_and_doing_nothing_is_none(place):
    _, _, sample = place
    assert len(run(place, "gate/aware").decision_ms) == 4 * len(sample.groups)
    assert run(place, "dense").decision_ms == []


def test_calibration_is_a_part_of_the_training_windows(place):
    _, windows, _ = place
    part = calibration(windows, 10, seed=0)
    assert len(part.indices("train")) == 10
    assert {*part.indices("train").tolist()} <= {*windows.indices("train").tolist()}
    assert np.array_equal(part.indices("test"), windows.indices("test"))
    assert calibration(windows, 10**6, seed=0) is windows


@pytest.mark.usefixtures("units_go_one_by_one")
@pytest.mark.parametrize("repair", ["bias", "scale", "ridge"])
def test_a_repair_changes_answers_and_not_costs(place, repair):
    model, windows, sample = place
    subject = Subject(model, windows, 64, seed=0)
    plain = JOBS["gate/aware"]
    mended = replace(plain, method=Method(scorer="gate", repair=repair))
    places = plain.places[:4]
    one, other = (score(Pruner(subject, job.method), job, sample, places) for job in (plain, mended))
    assert [(line["macs"], line["params"]) for line in one.lines] == [
        (line["macs"], line["params"]) for line in other.lines
    ]
    for a, b in zip(one.answers.values(), other.answers.values(), strict=True):
        assert not np.array_equal(a, b)


def test_an_unknown_scorer_is_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="magnitude"):
        check_methods([Method(scorer="luck")])


def test_a_ratio_out_of_reach_runs_the_smallest_sub_network_blind_or_aware(place):
    model, windows, _ = place
    subject = Subject(model, windows, 60, seed=0)
    for sensors in ("aware", "blind"):
        planner = Pruner(subject, Method(scorer="magnitude", sensors=sensors)).planner(0.99, "present")
        for present in (model.names, model.names[:1]):
            plan = planner(present)
            assert plan.present == present
            assert plan.cost.macs < plan.dense.macs
