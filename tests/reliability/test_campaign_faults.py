"""The faults of the table, put into a stream of noise; and that a trial notices a runtime that does not."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.reliability import fault_machine, fault_memory, fault_samples, fault_times, faults
from benchmarks.reliability.fault_stage import Case, Stage
from sentryfuse.stream import HealthRules
from tests.reliability.stage import small_stage

QUICK = [*fault_samples.CASES, *fault_times.CASES]


@pytest.fixture(scope="module")
def stage() -> Stage:
    return small_stage()


def name_of(case: Case) -> str:
    return f"{case.fault} {case.what}"


@pytest.mark.campaign
@pytest.mark.parametrize("case", QUICK, ids=name_of)
def test_a_fault_is_noticed_in_time_or_does_no_harm(stage, case):
    row = faults.summary(case, stage, [case.trial(stage, np.random.default_rng((3, k))) for k in range(5)])
    assert row["wrong"] == 0
    assert not row["over the limit"]
    if case.limit_s is not None:
        assert row["noticed"] == row["to notice"] == 5


@pytest.mark.campaign
@pytest.mark.parametrize("case", [*fault_machine.CASES, *fault_memory.CASES], ids=name_of)
def test_a_fault_of_the_machine_ends_in_a_sentence_or_an_answer(stage, case):
    row = faults.summary(case, stage, [case.trial(stage, np.random.default_rng((3, k))) for k in range(2)])
    assert row["wrong"] == 0
    if case.limit_s is not None:  # seconds of the clock on the wall are no subject of a test
        assert row["noticed"] == 2


@pytest.mark.campaign
def test_rows_that_are_there_are_not_done_again(tmp_path, monkeypatch, stage):
    monkeypatch.setattr(faults, "CASES", QUICK[:2])
    first = faults.run(tmp_path / "faults.json", count=2, stage=stage)
    monkeypatch.setattr(faults, "CASES", [Case(c.fault, c.what, c.wanted, trial=never) for c in QUICK[:2]])
    assert faults.run(tmp_path / "faults.json", count=2, stage=stage)["rows"] == first["rows"]


def never(stage, rng):
    raise AssertionError("this row was there")


@pytest.mark.parametrize(
    ("case", "rules"),
    [
        (fault_samples.frozen(1000), HealthRules(stuck_samples_of={"acc": 0})),
        (fault_samples.gap(0.5, 0.9), HealthRules(max_gap=0.95)),
        (fault_samples.spikes(0.2, 50, absent=True), HealthRules(range_stds=1000)),
        (fault_times.another_rate((2.0,), absent=True), HealthRules(rate_tolerance=0.9, max_gap=0.95)),
        (fault_times.rejoin, HealthRules(good_windows=1)),
    ],
)
def test_a_trial_says_so_when_the_rules_let_a_fault_through(case, rules):
    stage = small_stage()
    stage.play_rules = rules
    assert case(stage, np.random.default_rng(1)).wrong > 0
