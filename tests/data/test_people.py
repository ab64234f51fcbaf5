"""Windows standardised by each person's own statistics, drawn to what is supposed of people."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.data import by_subject, make_windows, subject_floor, subject_prior
from sentryfuse.data.people import ALWAYS, FEW_PEOPLE, WEIGHTS, shrunk
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.types import Modality


def recording(x, subject=None, y=None, rate_hz=1.0):
    n, length, channels = x.shape
    return make_windows(
        "r",
        (Modality("a", rate_hz, length, tuple(f"c{i}" for i in range(channels)), may_miss=True),),
        raw={"a": x.astype(np.float32)},
        y=np.arange(n) % 2 if y is None else y,
        classes=("p", "q"),
        subject=np.zeros(n, int) if subject is None else subject,
        split=np.zeros(n, int),
    )


def personal(seed=0):
    """Six people with their own offset and spread; the last hardly moves."""
    rng = np.random.default_rng(seed)
    subject = np.repeat([1, 2, 3, 4, 5, 9], 20)
    offset = rng.normal(0, 50, 10)[subject][:, None, None]
    spread = np.array([0, 1, 2, 3, 4, 5, 0, 0, 0, 1e-4])[subject][:, None, None]
    return offset + spread * rng.normal(size=(120, 10, 1)), subject


def test_by_subject_everybody_looks_alike_but_the_still_one_stays_still():
    x, subject = personal()
    windows = recording(x, subject)
    floor = subject_floor(windows, np.flatnonzero(subject < 4))
    got = by_subject(windows, floor).batch(np.arange(120))["a"]
    assert floor["a"][0] == pytest.approx(0.05 * 2, rel=0.1)
    for who in (1, 2, 3, 4, 5):
        mine = got[subject == who]
        assert abs(mine.mean()) < 1e-3
        assert mine.std() == pytest.approx(1, abs=1e-3)
    assert 0 < got[subject == 9].std() < 0.01


def test_by_subject_never_looks_at_labels_or_split():
    x, subject = personal()
    first = recording(x, subject, y=np.arange(120) % 2)
    second = recording(x, subject, y=1 - np.arange(120) % 2).with_split(subject % 3)
    floor = subject_floor(first, np.arange(60))
    np.testing.assert_array_equal(
        by_subject(first, floor).batch(np.arange(120))["a"],
        by_subject(second, floor).batch(np.arange(120))["a"],
    )


def test_by_subject_undoes_how_each_person_wears_the_sensor():
    x, subject = personal()
    gain = np.linspace(1, 3, 10)[subject][:, None, None]
    floor = {"a": np.array([1e-6])}
    busy = subject < 9
    plain = by_subject(recording(x, subject), floor).batch(np.arange(120))["a"]
    worn = by_subject(recording(gain * x + 7 * gain, subject), floor).batch(np.arange(120))["a"]
    np.testing.assert_allclose(worn[busy], plain[busy], atol=2e-3)


def test_missing_values_stay_missing_and_do_not_move_the_others():
    x, subject = personal()
    holes = x.copy()
    holes[::3, 2] = np.nan
    windows = by_subject(recording(holes, subject), {"a": np.array([0.1])})
    got = windows.batch(np.arange(120))["a"]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(holes))
    assert abs(np.nanmean(got[subject == 3])) < 1e-3


def test_the_floor_falls_back_to_the_training_spread_and_then_to_one():
    subject = np.repeat([1, 2, 3], 4)
    still = np.broadcast_to(subject[:, None, None], (12, 3, 1))  # people differ, nobody moves
    floor = subject_floor(recording(np.array(still, float), subject), np.arange(12))
    assert floor["a"][0] == pytest.approx(np.std([1, 2, 3]))
    floor = subject_floor(recording(np.full((12, 3, 1), 4.0), subject), np.arange(12))
    assert floor["a"][0] == 1


def test_a_floor_that_does_not_fit_is_refused():
    windows = recording(np.ones((4, 3, 2)))
    for floor in ({}, {"a": np.ones(3)}, {"a": np.zeros(2)}):
        with pytest.raises(ConfigError, match="positive floor"):
            by_subject(windows, floor)


def worn(people, each, offset, drift, seed=0):
    """Windows of 8 steps: an offset of each person, and what changes from window to window."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(people), each)
    level = offset * rng.normal(size=people)[subject] + drift * rng.normal(size=people * each)
    return level[:, None, None] + rng.normal(size=(people * each, 8, 1)), subject


@given(st.floats(0, 1e4), st.floats(-1e3, 1e3), st.floats(0.01, 1e3), st.sampled_from(WEIGHTS))
def test_a_person_moves_from_what_is_supposed_to_what_was_seen(count, mean, std, weight):
    prior = np.array([[5.0], [2.0], [weight], [9.0]])
    got, spread = shrunk(prior, np.array([count]), np.array([mean]), np.array([std]))
    assert min(5, mean) - 1e-9 <= got[0] <= max(5, mean) + 1e-9
    assert min(2, std) - 1e-9 <= spread[0] <= max(2, std) + 1e-9
    nothing, _ = shrunk(prior, np.zeros(1), np.array([mean]), np.array([std]))
    everything, _ = shrunk(prior, np.array([1e12]), np.array([mean]), np.array([std]))
    assert nothing[0] == 5
    assert everything[0] == pytest.approx(mean, abs=1e-4)
    same = shrunk(None, np.zeros(1), np.array([mean]), np.array([std]))
    assert (same[0][0], same[1][0]) == (mean, std)


def test_people_who_differ_are_believed_soon_and_people_who_do_not_late():
    apart, subject = worn(12, 80, offset=50.0, drift=1.0)
    alike, _ = worn(12, 80, offset=0.05, drift=20.0)
    soon = subject_prior(recording(apart, subject), np.arange(len(subject)))["a"]
    late = subject_prior(recording(alike, subject), np.arange(len(subject)))["a"]
    assert soon[2, 0] == WEIGHTS[0]
    assert late[2, 0] == WEIGHTS[-1]
    assert soon[1, 0] == pytest.approx(2**0.5, rel=0.1), "what varies of one person"
    assert soon[3, 0] > 20, "what varies over all of them"


def test_what_is_supposed_comes_from_the_windows_asked_for_alone():
    x, subject = worn(6, 20, offset=5.0, drift=1.0)
    other = x.copy()
    other[subject == 5] += 1e6
    some = np.flatnonzero(subject < 5)
    first, second = (subject_prior(recording(v, subject), some)["a"] for v in (x, other))
    np.testing.assert_array_equal(first, second)
    with pytest.raises(DataError, match="no window"):
        subject_prior(recording(x, subject), np.array([], int))


def test_one_window_of_a_stranger_is_read_as_a_typical_persons():
    x, subject = worn(12, 80, offset=0.05, drift=20.0)
    windows = recording(x, subject)
    floor, prior = (f(windows, np.arange(len(x))) for f in (subject_floor, subject_prior))
    high = recording(np.full((1, 8, 1), 60.0))
    alone = by_subject(high, floor).batch(np.array([0]))["a"]
    drawn = by_subject(high, floor, prior).batch(np.array([0]))["a"]
    assert np.abs(alone).max() == 0, "by itself it is nothing special"
    assert drawn.mean() > 2


def test_a_value_that_a_person_has_once_for_all_is_not_taken_away():
    age = np.array([20.0, 30, 40, 50, 60, 70])
    x = np.repeat(age, 5)[:, None, None]
    windows = recording(x, np.repeat(np.arange(6), 5), rate_hz=0.0)
    floor, prior = (f(windows, np.arange(30)) for f in (subject_floor, subject_prior))
    assert prior["a"][2, 0] == np.float32(ALWAYS)
    got = by_subject(windows, floor, prior).batch(np.arange(30))["a"][:, 0, 0]
    np.testing.assert_allclose(got, (x[:, 0, 0] - age.mean()) / age.std(), atol=1e-3)


def test_two_people_cannot_tell_how_firmly_a_third_is_known():
    x, subject = worn(2, 10, offset=1.0, drift=1.0)
    prior = subject_prior(recording(x, subject), np.arange(20))["a"]
    assert prior[2, 0] == FEW_PEOPLE
    assert (prior[[1, 3]] > 0).all()


@pytest.mark.parametrize("value", [np.nan, 0.0, 1e6])
def test_channels_without_a_spread_have_one_that_can_be_divided_by(value):
    x = np.full((12, 8, 1), value)
    prior = subject_prior(recording(x, np.repeat(np.arange(4), 3)), np.arange(12))["a"]
    assert np.isfinite(prior).all()
    assert (prior[1:] > 0).all()
