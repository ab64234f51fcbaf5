from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.stream.grid import Scale, filled, judge, longest_run, on_grid, rate_ratio
from sentryfuse.stream.health import HealthRules, Verdict
from sentryfuse.types import Modality

pytestmark = pytest.mark.device

T = 120
KNOWN = Modality("acc", 50.0, T, ("x", "y"))
MISSING = Modality("temp", 50.0, T, ("x", "y"), may_miss=True)
RULES = HealthRules()


def noise(n, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (n, 2)).astype(np.float32)


def sampled(keep=None, *, values=None):
    """A window of which some samples came."""
    u = np.arange(-1.0, T + 1)
    x = noise(T + 2) if values is None else np.vstack([values[:1], values, values[-1:]])
    on = np.ones(T + 2, bool)
    if keep is not None:
        on[1:-1] = keep
    return on_grid(u[on], x[on], T), x[1:-1]


@given(st.floats(-0.2, 0.7), st.floats(0, 0.24), st.integers(0, 99))
def test_every_step_gets_its_sample_at_any_phase_and_jitter(phase, jitter, seed):
    rng = np.random.default_rng(seed)
    u = np.arange(-1, T + 1) + phase + rng.uniform(-jitter, jitter, T + 2)
    values = noise(T + 2)
    steps = on_grid(u, values, T)
    assert steps.slots.tolist() == list(range(T))
    assert np.array_equal(steps.rows, values[1:-1])


def test_two_samples_of_a_step_give_the_first():
    u = np.sort(np.concatenate([np.arange(T), [7.1]]))
    values = noise(T + 1)
    steps = on_grid(u, values, T)
    assert len(steps.slots) == T
    assert np.array_equal(steps.rows[7], values[7])
    assert len(steps.seen) == T + 1


def test_nothing_at_all_is_a_gap():
    steps = on_grid(np.empty(0), np.empty((0, 2), np.float32), T)
    assert judge(steps, KNOWN, RULES, None) == (Verdict.GAP, None)


def test_holes_are_filled_from_their_neighbours():
    keep = np.ones(T, bool)
    keep[[0, 10, 11, T - 1]] = False
    steps, x = sampled(keep)
    window = filled(steps, T, may_miss=False)
    assert np.array_equal(window[keep], x[keep])
    assert np.allclose(window[10], x[9] + (x[12] - x[9]) / 3)
    assert np.array_equal(window[0], x[1])
    assert np.array_equal(window[-1], x[-2])
    assert np.isnan(filled(steps, T, may_miss=True)[~keep]).all()


@pytest.mark.parametrize(("share", "verdict"), [(0.1, "ok"), (0.19, "ok"), (0.3, "gap"), (0.9, "gap")])
@pytest.mark.parametrize("modality", [KNOWN, MISSING])
def test_a_window_that_lacks_too_much_is_not_used(share, verdict, modality):
    keep = np.ones(T, bool)
    keep[5 : 5 + round(share * T)] = False
    given, window = judge(sampled(keep)[0], modality, RULES, None)
    assert given == verdict
    assert (window is not None) == (verdict == "ok")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_makes_a_sensor_absent_unless_it_may_miss_it(bad):
    values = noise(T)
    values[17, 1] = bad
    steps, _ = sampled(values=values)
    assert judge(steps, KNOWN, RULES, None) == (Verdict.NAN, None)
    verdict, window = judge(steps, MISSING, RULES, None)
    assert verdict == ("ok" if np.isnan(bad) else "nan")
    if window is not None:
        assert np.array_equal(window, values, equal_nan=True)


def test_a_window_in_which_nothing_was_measured_is_absent():
    steps, _ = sampled(values=np.full((T, 2), np.nan, np.float32))
    assert judge(steps, MISSING, RULES, None) == (Verdict.NAN, None)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-42, 3.4e38])
def test_numbers_at_the_edge_are_numbers(value):
    values = noise(T)
    values[3] = value
    verdict, window = judge(sampled(values=values)[0], KNOWN, RULES, None)
    assert verdict is Verdict.OK
    assert window is not None
    assert np.array_equal(window.view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize(("equal", "verdict"), [(20, "ok"), (99, "ok"), (100, "stuck"), (T, "stuck")])
def test_equal_samples_in_a_row_are_stuck(equal, verdict):
    values = noise(T)
    values[10 : 10 + equal] = values[10]
    if equal == T:
        values[:] = 0
    assert judge(sampled(values=values)[0], KNOWN, RULES, None)[0] == verdict


def test_one_channel_that_moves_is_not_stuck_and_the_number_can_be_set():
    values = noise(T)
    values[:, 0] = 1
    steps, _ = sampled(values=values)
    assert judge(steps, KNOWN, RULES, None)[0] is Verdict.OK
    values[5:15] = 2
    steps, _ = sampled(values=values)
    assert judge(steps, KNOWN, HealthRules(stuck_samples_of={"acc": 10}), None)[0] is Verdict.STUCK
    values[:] = 2
    steps, _ = sampled(values=values)
    assert judge(steps, KNOWN, HealthRules(stuck_samples_of={"acc": 0}), None)[0] is Verdict.OK
    assert judge(steps, KNOWN, HealthRules(slow_hz=50.0), None)[0] is Verdict.OK


@given(st.lists(st.integers(0, 2), max_size=40))
def test_the_longest_run_is_that_of_a_loop(numbers):
    best = run = 0
    for k, number in enumerate(numbers):
        run = run + 1 if k and numbers[k - 1] == number else 1
        best = max(best, run)
    values = np.array(numbers, np.float32).reshape(-1, 1).repeat(2, axis=1)
    assert longest_run(values) == best


def test_nan_is_equal_to_nothing():
    assert longest_run(np.full((9, 2), np.nan, np.float32)) == 1


@pytest.mark.parametrize(("n", "verdict"), [(1, "ok"), (12, "ok"), (13, "range"), (150, "range")])
def test_values_out_of_range_are_clipped_up_to_a_share(n, verdict):
    values = noise(T)
    values.reshape(-1)[:n] = 1e6 * np.where(np.arange(n) % 2, 1, -1)
    scale = Scale(np.ones(2, np.float32), np.full(2, 0.5, np.float32))
    given, window = judge(sampled(values=values)[0], KNOWN, RULES, scale)
    assert given == verdict
    if window is not None:
        assert np.array_equal(window.reshape(-1)[n:], values.reshape(-1)[n:])
        assert set(np.unique(window.reshape(-1)[:n])) <= {-9.0, 11.0}


@pytest.mark.parametrize(
    ("rate", "verdict"),
    [(0.5, "gap"), (0.85, "rate"), (0.93, "ok"), (1.08, "ok"), (1.2, "rate"), (2, "rate")],
)
def test_a_wrong_rate_is_absorbed_up_to_a_share(rate, verdict):
    u = np.arange(0, T + 1, 1 / rate)
    assert judge(on_grid(u, noise(len(u)), T), KNOWN, RULES, None)[0] == verdict


@pytest.mark.parametrize("seed", range(5))
def test_lost_samples_and_jitter_are_no_wrong_rate(seed):
    rng = np.random.default_rng(seed)
    u = np.arange(T) + rng.uniform(-0.3, 0.3, T)
    assert rate_ratio(u) == pytest.approx(1, abs=0.05)
    assert rate_ratio(u[rng.random(T) > 0.2]) == pytest.approx(1, abs=0.1)
    assert rate_ratio(u[:3]) == 1.0
