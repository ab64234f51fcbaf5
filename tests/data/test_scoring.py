from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sentryfuse.data import by_subject
from sentryfuse.data.scoring import answer_all, prepared, presence_mask, score_row
from sentryfuse.errors import NoSensorsError
from sentryfuse.types import Budget, Cost, Plan
from tests.tiny import CLASSES, NAMES, tiny_windows

pytestmark = pytest.mark.device

WINDOWS = tiny_windows()


def plan_for(on: tuple[str, ...]) -> Plan:
    """A plan that costs 100 MAC per sensor."""
    cost = Cost(macs=100 * len(on), prunable_macs=0, params=10 * len(on), weights_mb=0.0)
    return Plan(present=on, kept={}, budget=Budget(), scorer="hand", cost=cost, dense=cost)


def oracle(batch, plan):
    """Knows the class from the mean of the static sensor, else says the first class."""
    n = len(next(iter(batch.values())))
    assert set(batch) == set(plan.present)
    found = np.zeros((n, len(CLASSES)), np.float32)
    level = batch["age"].mean((1, 2)) if "age" in batch else np.zeros(n)
    found[np.arange(n), np.clip(np.round(level), 0, 2).astype(int)] = 1
    return found


def test_a_mask_with_nothing_missing_is_the_named_set():
    mask = presence_mask(NAMES, 5, present=["age", "acc"], missing_rate=None, seed=0)
    assert mask.tolist() == [[True, False, True]] * 5
    assert presence_mask(NAMES, 5, present=None, missing_rate=0.0, seed=0).all()


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.9])
def test_missing_sensors_are_drawn_from_the_named_set_and_never_all(rate):
    mask = presence_mask(NAMES, 200, present=["acc", "temp"], missing_rate=rate, seed=1)
    assert not mask[:, 2].any()
    assert (mask.sum(1) == max(1, 2 - round(rate * 2))).all()
    again = presence_mask(NAMES, 200, present=["acc", "temp"], missing_rate=rate, seed=1)
    assert np.array_equal(mask, again)


def test_every_window_is_answered_once_with_the_sensors_it_has():
    indices = WINDOWS.indices("all")
    asked = []

    def remember(on):
        asked.append(on)
        return plan_for(on)

    mask = presence_mask(NAMES, len(indices), present=None, missing_rate=0.4, seed=0)
    answered, probabilities, cost, refused = answer_all(
        WINDOWS, indices, present=mask, plan_for=remember, answer=oracle
    )
    assert sorted(answered) == sorted(set(answered))
    assert len(answered) + refused == len(indices)
    assert len(asked) == len(set(asked)), "one plan for each set of sensors"
    on = (mask & WINDOWS.present)[answered]
    assert cost["macs"] == pytest.approx(100 * on.sum(1).mean())
    assert cost["params"] == pytest.approx(10 * on.sum(1).mean())
    blind = ~on[:, NAMES.index("age")]
    assert (probabilities[blind].argmax(1) == 0).all()


def test_windows_without_any_sensor_are_refused_and_counted():
    indices = WINDOWS.indices("all")
    mask = presence_mask(NAMES, len(indices), present=["temp"], missing_rate=None, seed=0)
    row = score_row(
        WINDOWS,
        indices,
        mask=mask,
        present=("temp",),
        missing_rate=None,
        budget=Budget(ratio=0.25),
        scorer="hand",
        plan_for=plan_for,
        answer=oracle,
    )
    gone = int((~WINDOWS.present[:, NAMES.index("temp")]).sum())
    assert gone > 0
    assert row["n_refused"] == gone
    assert row["n_windows"] == len(indices) - gone
    assert row["present"] == ["temp"]
    assert row["ratio"] == 0.25
    assert row["macs"] == 100
    assert row["scorer"] == "hand"


def test_a_row_has_the_keys_of_the_contract():
    indices = WINDOWS.indices("test")
    row = score_row(
        WINDOWS,
        indices,
        mask=presence_mask(NAMES, len(indices), present=None, missing_rate=None, seed=0),
        present=NAMES,
        missing_rate=None,
        budget=Budget(),
        scorer="gate",
        plan_for=plan_for,
        answer=oracle,
    )
    keys = {
        "present",
        "missing_rate",
        "ratio",
        "protocol",
        "scorer",
        "accuracy",
        "macro_f1",
        "auroc",
        "macs",
        "params",
        "n_windows",
    }
    assert keys <= row.keys()
    assert row["ratio"] == 0
    assert row["protocol"] == "present"
    assert row["accuracy"] > 0.5


def test_nothing_to_answer_is_an_error_and_not_an_empty_table():
    indices = np.flatnonzero(~WINDOWS.present[:, NAMES.index("temp")])
    mask = presence_mask(NAMES, len(indices), present=["temp"], missing_rate=None, seed=0)
    with pytest.raises(NoSensorsError, match="other sensors"):
        answer_all(WINDOWS, indices, present=mask, plan_for=plan_for, answer=oracle)


def asked(normalise, floor):
    return SimpleNamespace(normalise=normalise, subject_floor=floor, subject_prior={})


def test_windows_are_standardised_by_subject_only_when_the_model_wants_it():
    floor = {"acc": [0.1] * 3, "temp": [0.1], "age": [0.1] * 2}
    assert prepared(WINDOWS, asked("train", {})) is WINDOWS
    once = prepared(WINDOWS, asked("subject", floor))
    twice = prepared(once, asked("subject", floor))
    index = WINDOWS.indices("test")
    for name, x in by_subject(WINDOWS, floor).batch(index).items():
        assert np.array_equal(once.batch(index)[name], x, equal_nan=True)
        assert np.array_equal(twice.batch(index)[name], x, equal_nan=True), "once is enough"
