from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.data import (
    Curriculum,
    batches,
    fixed_masks,
    group_by_presence,
    leave_one_out,
    make_windows,
)
from sentryfuse.errors import ConfigError, NoSensorsError
from sentryfuse.types import Modality

NAMES = ("a", "b", "c")


def test_the_rate_rises_in_a_straight_line_and_then_stays():
    plan = Curriculum(max_rate=0.6, rise=0.5)
    assert [plan.rate(p) for p in (-1, 0, 0.25, 0.5, 1, 2)] == pytest.approx([0, 0, 0.3, 0.6, 0.6, 0.6])
    assert Curriculum(max_rate=0.4, rise=0).rate(0) == 0.4


@given(st.integers(0, 1000), st.floats(0, 0.95), st.integers(1, 6))
def test_a_draw_keeps_the_order_and_never_leaves_nothing(seed, rate, m):
    names = tuple("abcdef"[:m])
    drawn = Curriculum().draw(names, rate, np.random.default_rng(seed))
    assert drawn
    assert list(drawn) == sorted(drawn)
    assert set(drawn) <= set(names)


def test_at_rate_zero_everything_is_on_and_each_sensor_is_off_as_often_as_the_rate_says():
    rng = np.random.default_rng(0)
    assert Curriculum().draw(NAMES, 0.0, rng) == NAMES
    many = Counter(n for _ in range(3000) for n in Curriculum().draw(NAMES, 0.3, rng))
    expected = 3000 * 0.7 / (1 - 0.3**3)
    for name in NAMES:
        assert many[name] == pytest.approx(expected, rel=0.05)


def test_impossible_draws_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(NoSensorsError):
        Curriculum().draw((), 0.5, rng)
    with pytest.raises(ConfigError, match="rate"):
        Curriculum().draw(NAMES, 1.0, rng)
    with pytest.raises(ConfigError, match="rate"):
        Curriculum(max_rate=1.0)


@given(st.integers(1, 40), st.integers(1, 7), st.floats(0, 0.99), st.integers(0, 99))
def test_fixed_masks_miss_the_same_number_everywhere_and_repeat(n, m, rate, seed):
    mask = fixed_masks(n, m, rate=rate, seed=seed)
    assert mask.shape == (n, m)
    assert set((~mask).sum(axis=1)) == {min(round(rate * m), m - 1)}
    np.testing.assert_array_equal(mask, fixed_masks(n, m, rate=rate, seed=seed))


def test_fixed_masks_choose_every_set_equally_often():
    mask = fixed_masks(6000, 4, rate=0.5, seed=3)
    counts = Counter(map(tuple, mask))
    assert len(counts) == 6
    assert min(counts.values()) > 850


def holes(n=40, seed=0):
    """Windows with natural absence in every modality; some have nothing at all."""
    rng = np.random.default_rng(seed)
    raw = {}
    for name in NAMES:
        x = np.ones((n, 2, 1), np.float16)
        x[rng.random(n) < 0.4] = np.nan
        raw[name] = x
    return make_windows(
        "holes",
        tuple(Modality(name, 1.0, 2, ("v",), may_miss=True) for name in NAMES),
        raw=raw,
        y=np.arange(n) % 2,
        classes=("p", "q"),
        subject=np.arange(n),
        split=np.zeros(n, int),
    )


@given(st.integers(1, 9), st.one_of(st.none(), st.integers(0, 99)), st.booleans())
def test_batches_hold_every_answerable_window_once_with_exactly_its_sensors(size, seed, masked):
    windows = holes()
    asked = np.arange(3, 38)
    mask = fixed_masks(len(asked), 3, rate=0.34, seed=5) if masked else None
    on = windows.present[asked] & (True if mask is None else mask)
    rng = None if seed is None else np.random.default_rng(seed)
    seen = []
    for names, members in batches(windows, asked, batch_size=size, present=mask, rng=rng):
        assert 1 <= len(members) <= size
        for index in members:
            assert names == tuple(np.array(NAMES)[on[index - 3]])
        seen += list(members)
    assert sorted(seen) == list(asked[on.any(axis=1)])


def test_batches_are_stable_without_and_shuffled_with_chance():
    windows = holes()
    everything = windows.indices("all")

    def order(seed):
        rng = None if seed is None else np.random.default_rng(seed)
        made = batches(windows, everything, batch_size=4, rng=rng)
        return [int(i) for _, members in made for i in members]

    assert order(None) == order(None)
    assert order(1) == order(1)
    assert len({tuple(order(s)) for s in (None, 1, 2)}) == 3


def test_windows_in_which_nothing_is_present_are_named():
    present = np.array([[1, 0], [0, 0], [1, 1], [1, 0]], bool)
    found = group_by_presence(present, np.array([7, 5, 3, 1]))
    assert [(on, list(rows)) for on, rows in found.groups] == [((0, 1), [3]), ((0,), [7, 1])]
    assert list(found.empty) == [5]


def test_masks_that_do_not_belong_are_refused():
    windows = holes()
    with pytest.raises(ConfigError, match="one row for each window"):
        list(batches(windows, np.arange(4), batch_size=2, present=np.ones((3, 3), bool)))
    with pytest.raises(ConfigError, match="batch_size"):
        list(batches(windows, np.arange(4), batch_size=0))
    with pytest.raises(ConfigError, match="one row for each window"):
        group_by_presence(np.ones((3, 2), bool), np.arange(4))


def test_leaving_one_out_misses_each_sensor_once():
    assert leave_one_out(NAMES) == [("b", "c"), ("a", "c"), ("a", "b")]
    assert leave_one_out(("a",)) == []
