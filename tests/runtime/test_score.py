from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest

from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.data.metrics import scores
from sentryfuse.engine import Session
from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.runtime import score
from sentryfuse.runtime.score import BundleAnswer
from sentryfuse.types import Budget
from tests.tiny import GOLDEN, NAMES, tiny_windows

pytestmark = pytest.mark.device

WINDOWS = tiny_windows()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(GOLDEN / "tiny-v3.bundle")


def test_one_row_for_each_combination_in_order(bundle):
    rows = score(
        bundle,
        WINDOWS,
        present=[None, ["acc", "age"]],
        missing_rates=[None, 0.4],
        budgets=[Budget(ratio=0.0), Budget(ratio=0.3, protocol="full")],
    )
    got = [(len(r["present"]), r["missing_rate"], r["ratio"], r["protocol"]) for r in rows]
    assert got == [
        (n, rate, ratio, protocol)
        for n in (3, 2)
        for rate in (None, 0.4)
        for ratio, protocol in ((0.0, "present"), (0.3, "full"))
    ]
    assert all(r["scorer"] == "gate" for r in rows)
    json.dumps(rows, allow_nan=False)


def test_a_row_is_what_a_session_answers(bundle):
    (row,) = score(bundle, WINDOWS, present=[["age"]], budgets=[Budget(ratio=0.3)])
    indices = WINDOWS.indices("test")
    plan = bundle.plan(["age"], Budget(ratio=0.3))
    answer = Session(bundle, plan).run(WINDOWS.batch(indices, ["age"]))
    for key, value in scores(WINDOWS.y[indices], answer).items():
        assert row[key] == pytest.approx(value)
    assert row["macs"] == plan.cost.macs
    assert row["params"] == plan.cost.params
    assert row["n_windows"] == len(indices)


def test_sensors_that_are_naturally_absent_cost_nothing(bundle):
    (row,) = score(bundle, WINDOWS, split="all")
    on = WINDOWS.present
    assert not on.all()
    costs = [bundle.plan([n for n, there in zip(NAMES, mask, strict=True) if there]).cost.macs for mask in on]
    assert row["macs"] == round(np.mean(costs))


def test_equal_seeds_give_equal_rows_and_other_seeds_other_masks(bundle):
    one, same, other = (
        score(bundle, WINDOWS, split="all", missing_rates=[0.5], seed=seed) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_a_session_is_built_once_for_each_subnetwork(bundle, monkeypatch):
    built = []

    class Counted(Session):
        def __init__(self, *args, **options):
            built.append(1)
            super().__init__(*args, **options)

    monkeypatch.setattr(sys.modules["sentryfuse.runtime.score"], "Session", Counted)
    answer = BundleAnswer(bundle, threads=1)
    batch = WINDOWS.batch(np.arange(3))
    first, second = bundle.plan(["acc"]), bundle.plan(["acc", "age"])
    for plan in (first, second, first, dataclasses.replace(first, scorer="other")):
        answer(batch, plan)
    assert len(built) == 2


def test_a_recording_or_a_budget_that_does_not_fit_is_refused(bundle):
    other = dataclasses.replace(WINDOWS, classes=("a", "b", "c"))
    with pytest.raises(ConfigError, match="use its own data"):
        score(bundle, other)
    with pytest.raises(ConfigError, match="unknown sensor ecg"):
        score(bundle, WINDOWS, present=[["ecg"]])
    with pytest.raises(BudgetError, match="the smallest needs"):
        score(bundle, WINDOWS, budgets=[Budget(macs=5)])
    with pytest.raises(ConfigError, match="split"):
        score(bundle, WINDOWS, split="holdout")
