"""Samples come out in order of time, whatever the order they came in and wherever they are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.recordings import samples as module
from sentryfuse.recordings.samples import Storage, in_order

TIMES = st.lists(st.integers(-1000, 1000), min_size=1, max_size=200)


def fill(storage, times, chunk=37):
    at = np.array(times, np.int64)
    found = storage.samples(2)
    for low in range(0, len(at), chunk):
        part = at[low : low + chunk]
        index = np.arange(low, low + len(part), dtype=np.float32)
        found.append(part, np.stack([index, -index], axis=1))
    return found


@pytest.fixture(params=["memory", "disk"])
def storage(request, tmp_path):
    return Storage(tmp_path if request.param == "disk" else None)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 16)
    monkeypatch.setattr(module, "STRIDE", 8)
    monkeypatch.setattr(module, "SORTED_AT_ONCE", 40)
    monkeypatch.setattr(module.Samples.chunks, "__defaults__", (16,))


@given(TIMES)
def test_times_rise_and_the_first_sample_of_each_time_stays(tmp_path_factory, times):
    for folder in (None, tmp_path_factory.mktemp("s")):
        storage = Storage(folder)
        found, dropped, _ = in_order(fill(storage, times), storage, repeats="drop")
        at = found.times.read(0, len(found))
        assert at.tolist() == sorted(set(times))
        assert dropped == len(times) - len(set(times))
        firsts = [times.index(t) for t in at.tolist()]
        assert found.values.read(0, len(found))[:, 0].tolist() == firsts
        for moment in (-2000, 0, 3, 2000, int(at[0]), int(at[-1])):
            assert found.find(moment) == np.searchsorted(at, moment)


@given(TIMES)
def test_spreading_keeps_samples_and_their_order(times):
    storage = Storage()
    seconds = [t * 10**9 for t in sorted(times)]
    found, dropped, was_sorted = in_order(fill(storage, seconds), storage, repeats="spread")
    at = found.times.read(0, len(found))
    assert dropped == 0
    assert not was_sorted
    assert (np.diff(at) > 0).all()
    assert found.values.read(0, len(found))[:, 0].tolist() == list(range(len(times)))
    assert (np.abs(at - np.array(seconds)) < 2001 * 10**9).all()


def test_a_clock_of_whole_seconds_is_spread_evenly(storage):
    times = np.repeat(np.arange(20), 5) * 10**9
    found, _, _ = in_order(fill(storage, times), storage, repeats="spread")
    assert np.diff(found.times.read(0, 100)).tolist() == [2 * 10**8] * 99


def test_samples_that_rise_are_not_copied(storage):
    made = fill(storage, range(100))
    found, dropped, was_sorted = in_order(made, storage, repeats="drop")
    assert found is made
    assert (dropped, was_sorted) == (0, False)


def test_dropping_frees_the_disk(tmp_path):
    storage = Storage(tmp_path)
    made = fill(storage, range(100))
    assert list(tmp_path.iterdir())
    made.drop()
    assert not list(tmp_path.iterdir())
    assert len(made) == 0
