"""Statistics of the wearer: near those of the whole recording soon, and not spoilt by one bad sample."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from sentryfuse.data import by_subject, make_windows
from sentryfuse.errors import ConfigError
from sentryfuse.runtime.person import Person
from sentryfuse.types import Modality

pytestmark = pytest.mark.device

FLOOR = {"skin": np.array([0.1, 0.1], np.float32)}
RNG = np.random.default_rng(0)


def windows(n: int) -> list[dict[str, np.ndarray]]:
    x = RNG.normal([37.0, 5.0], [0.5, 2.0], (n, 1, 40, 2)).astype(np.float32)
    return [{"skin": each} for each in x]


def test_after_some_windows_it_standardises_as_the_whole_recording_would():
    person, last = Person(("skin",), FLOOR), None
    for window in windows(200):
        last = person.standardise(window)["skin"]
    assert last is not None
    assert last.dtype == np.float32
    np.testing.assert_allclose(last.mean((0, 1)), 0, atol=0.6)
    np.testing.assert_allclose(last.std((0, 1)), 1, atol=0.4)


@pytest.mark.parametrize("when", [0, 1, 5])
def test_one_spike_does_not_spoil_what_comes_after(when):
    person = Person(("skin",), FLOOR)
    for k, window in enumerate(windows(60)):
        if k == when:
            window["skin"][0, 3, 0] = 1e30
        last = person.standardise(window)["skin"]
    assert 0.3 < last[..., 0].std() < 3


def test_a_channel_that_is_measured_later_starts_then():
    person = Person(("skin",), FLOOR)
    first = windows(1)[0]
    first["skin"][..., 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(person.standardise(first)["skin"][..., 0]).all()
        for window in windows(3):
            later = person.standardise(window)["skin"]
    assert np.abs(later[..., 0]).mean() < 3


def test_a_sensor_without_a_floor_is_refused():
    with pytest.raises(ConfigError, match="acc"):
        Person(("skin", "acc"), FLOOR)


PRIOR = {"skin": np.array([[36.0, 4.0], [1.0, 2.0], [5.0, 20.0], [2.0, 3.0]])}


def test_a_person_whose_stream_ends_is_known_as_a_person_of_a_recording():
    person, seen = Person(("skin",), FLOOR, PRIOR), windows(30)
    for window in seen:
        last = person.standardise(window)["skin"]
    whole = make_windows(
        "r",
        (Modality("skin", 1.0, 40, ("a", "b")),),
        raw={"skin": np.concatenate([window["skin"] for window in seen])},
        y=np.zeros(30, int),
        classes=("p", "q"),
        subject=np.zeros(30, int),
        split=np.zeros(30, int),
    )
    there = by_subject(whole, FLOOR, PRIOR).batch(np.array([29]))["skin"]
    np.testing.assert_allclose(last, there, atol=1e-3)


def test_the_first_window_is_read_as_a_typical_persons():
    high = {"skin": np.full((1, 40, 2), 40.0, np.float32)}
    by_itself = Person(("skin",), FLOOR).standardise(high)["skin"]
    drawn = Person(("skin",), FLOOR, PRIOR).standardise(high)["skin"]
    assert np.abs(by_itself).max() < 1e-3
    assert (drawn > 1).all()
