"""Laws of the masks: exact counts, never empty, what is absent stays absent, equal seeds equal masks."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from sentryfuse.errors import ConfigError
from sentryfuse.study.masks import draw_windows, exact_masks
from tests.tiny import tiny_windows

RATES = st.integers(0, 99).map(lambda hundredths: hundredths / 100)


@st.composite
def presences(draw):
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 6)))
    there = draw(hn.arrays(bool, shape))
    there[
        np.arange(len(there)), draw(hn.arrays(np.int8, len(there), elements=st.integers(0, shape[1] - 1)))
    ] = 1
    return there


@given(presences(), RATES, st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_the_share_is_exact_and_no_window_is_empty(there, rate, seed):
    mask = exact_masks(there, rate=rate, seed=seed)
    assert not (mask & ~there).any()
    assert mask.any(axis=1).all()
    due = floor(Fraction(str(rate)) * int(there.sum()) + Fraction(1, 2))
    assert there.sum() - mask.sum() == min(due, int((there.sum(axis=1) - 1).sum()))
    assert np.array_equal(mask, exact_masks(there, rate=rate, seed=seed))


@given(st.integers(1, 60), st.integers(2, 6), RATES, st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_a_window_loses_its_share_rounded_down_or_up(n, m, rate, seed):
    if rate * m > m - 1:
        return  # then one sensor has to stay
    lost = m - exact_masks(np.ones((n, m), bool), rate=rate, seed=seed).sum(axis=1)
    share = Fraction(str(rate)) * m
    assert {*lost.tolist()} <= {floor(share), -floor(-share)}


def test_four_sensors_at_040_and_060_are_not_the_same():
    there = np.ones((1000, 4), bool)
    shares = [1 - exact_masks(there, rate=rate, seed=0).mean() for rate in (0.0, 0.2, 0.4, 0.6)]
    assert shares == pytest.approx([0, 0.2, 0.4, 0.6], abs=1e-12)


def test_every_sensor_is_lost_about_as_often():
    mask = exact_masks(np.ones((4000, 5), bool), rate=0.4, seed=3)
    assert mask.mean(axis=0) == pytest.approx([0.6] * 5, abs=0.03)


def test_masks_of_two_rates_share_the_order_of_loss():
    there = np.ones((500, 5), bool)
    some, more = (exact_masks(there, rate=rate, seed=1) for rate in (0.2, 0.6))
    assert not (more & ~some).any()


def test_seeds_differ():
    there = np.ones((50, 5), bool)
    one, other = (exact_masks(there, rate=0.4, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ConfigError, match="missing rate"):
        exact_masks(np.ones((2, 2), bool), rate=rate, seed=0)


def test_a_window_without_sensors_is_refused():
    with pytest.raises(ConfigError, match="without any sensor"):
        exact_masks(np.array([[True, False], [False, False]]), rate=0.2, seed=0)


@given(st.integers(1, 40), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_windows_are_drawn_without_replacement_from_the_split(n, seed):
    windows = tiny_windows()
    drawn = draw_windows(windows, "test", n, seed=seed)
    pool = windows.indices("test")
    assert len(drawn) == len({*drawn.tolist()}) == min(n, len(pool))
    assert {*drawn.tolist()} <= {*pool.tolist()}
    assert np.array_equal(drawn, draw_windows(windows, "test", n, seed=seed))
