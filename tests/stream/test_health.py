from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.errors import ConfigError
from sentryfuse.stream.health import HealthRules, SensorState, Verdict, read_rules

pytestmark = pytest.mark.device

BAD = Verdict.GAP


def told(rules, text):
    """Verdicts for windows given as `+` and `-`."""
    state = SensorState(rules)
    return state, [state.after(k, Verdict.OK if c == "+" else BAD) for k, c in enumerate(text)]


def used(answers):
    return "".join("+" if v is Verdict.OK else "r" if v is Verdict.RECOVERING else "-" for v in answers)


def test_the_first_good_window_counts_at_once():
    assert used(told(HealthRules(), "++++")[1]) == "++++"
    assert used(told(HealthRules(), "--++")[1]) == "--++"


def test_a_lost_sensor_comes_back_after_several_good_windows_in_a_row():
    state, answers = told(HealthRules(hold_off_windows=0), "++-++-+++++")
    assert used(answers) == "++-rr-rr+++"
    assert (state.lost, state.back) == (1, 1)
    assert state.absent == {"gap": 2, "recovering": 4}


def test_returns_are_held_apart():
    state, answers = told(HealthRules(good_windows=1, hold_off_windows=10), "+-" * 20)
    assert [k for k, v in enumerate(answers) if v is Verdict.OK] == [0, 2, 12, 22, 32]
    assert state.back == 4


@given(st.text("+-", max_size=80), st.integers(1, 5), st.integers(0, 12))
def test_laws_of_coming_and_going(text, good, hold_off):
    state, answers = told(HealthRules(good_windows=good, hold_off_windows=hold_off), text)
    returns, present, ever = [], False, False
    for k, verdict in enumerate(answers):
        ok = verdict is Verdict.OK
        assert not ok or text[k] == "+"  # a bad window is never used
        assert ok or verdict is BAD or not present  # a sensor in use is not held back
        if ok and not present:
            if ever:
                assert "-" not in text[k - good + 1 : k + 1]
                returns.append(k)
            ever = True
        present = ok
    assert all(b - a >= hold_off for a, b in pairwise(returns))
    assert state.back == len(returns)
    assert sum(state.absent.values()) == sum(v is not Verdict.OK for v in answers)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stuck_samples_of=5", "belongs to a sensor"),
        ("good_windows=1,good_windows.acc=2", "for all and for acc"),
        ("stuck_samples_of.acc=3,stuck_samples_of=5", "belongs to a sensor"),
        ("good_windows.acc=2", "must be a number"),
    ],
)
def test_a_rule_for_all_is_not_one_for_a_sensor(text, said):
    with pytest.raises(ConfigError, match=said):
        read_rules(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_gap": 1.0},
        {"max_gap": -0.1},
        {"silent_s": float("nan")},
        {"stuck_samples": 1},
        {"good_windows": 0},
        {"range_stds": float("inf")},
        {"rate_tolerance": 1.5},
        {"stuck_samples_of": {"acc": 1}},
    ],
)
def test_rules_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        HealthRules(**wrong)


@pytest.mark.parametrize(
    ("rate_hz", "length", "expected"),
    [(25.0, 125, 100), (4.0, 16, 16), (32.0, 1920, 384), (1 / 30, 32, 0), (0.0, 1, 0)],
)
def test_how_many_equal_samples_are_stuck(rate_hz, length, expected):
    assert HealthRules().stuck_after("a", rate_hz, length) == expected
