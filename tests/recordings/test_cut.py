"""Laws of cutting: no window crosses a gap or a change of label, every sample is where its time says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import sentryfuse as sf
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.recordings.collect import Collector, Recording
from sentryfuse.recordings.cut import cut_recording
from sentryfuse.recordings.make import _modalities, has_labels
from sentryfuse.recordings.recipe import make_recipe
from sentryfuse.recordings.samples import Storage
from sentryfuse.recordings.store import WindowStore

RATE = 10.0


def cut(tracks, *, labels=None, recording_label=-1, **rules):
    """Cut one recording made of sensor -> (rate, times [s], values); values are sample numbers."""
    label = {"label": "label"} if labels is not None or recording_label >= 0 else {}
    tables = [
        {"time": "t", **label, "sensor": [{"name": name, "columns": ["v"], "rate_hz": rate, **extra}]}
        for name, (rate, _, _, extra) in tracks.items()
    ]
    recipe = make_recipe({"window_s": 1.0, **rules, "table": tables}, "test")
    storage = Storage()
    collector = Collector(recipe, storage)
    recording = Recording("p", "", label=recording_label)
    for name, (_, times, values, _) in tracks.items():
        samples = storage.samples(1)
        samples.append(
            np.rint(np.asarray(times) * 1e9).astype(np.int64), np.asarray(values, np.float32)[:, None]
        )
        recording.sensors[name] = samples
        collector.counts.of(name).samples += len(times)
    if labels is not None:
        recording.labels = storage.samples(1, np.int32)
        times, codes = labels
        recording.labels.append(np.rint(np.asarray(times) * 1e9).astype(np.int64), np.asarray(codes)[:, None])
    store = WindowStore(_modalities(recipe), storage, labelled=has_labels(recipe))
    cut_recording(recording, recipe, store, collector.counts)
    x = {m.name: store._values[m.name].read(0, 10**6).reshape(-1, m.length) for m in store.modalities}
    return x, store.starts / 1e9, store.codes, collector.counts


def regular(n, rate=RATE, start=0.0, **extra):
    return rate, start + np.arange(n) / rate, np.arange(n), extra


def test_an_even_recording_is_cut_without_losing_a_sample():
    x, starts, _, counts = cut({"a": regular(100)}, hop_s=0.5)
    assert starts.tolist() == [0.5 * k for k in range(19)]
    np.testing.assert_array_equal(x["a"], np.arange(19)[:, None] * 5 + np.arange(10))
    assert counts.of("a").used == 100
    assert (counts.tried, counts.kept) == (19, 19)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 199), max_size=60, unique=True),
    st.floats(0, 0.2),
    st.sampled_from([0.3, 0.5, 1.0, 1.7]),
    st.floats(-0.3, 0.3),
    st.sampled_from(["absent", "drop", "keep"]),
    st.integers(0, 10**6),
)
def test_samples_are_in_windows_that_cover_them_once_and_never_across_a_gap(
    lost, jitter, hop_s, phase, gaps, seed
):
    rng = np.random.default_rng(seed)
    keep = np.setdiff1d(np.arange(200), lost)
    times = 5 + phase / RATE + keep / RATE + rng.uniform(-jitter, jitter, len(keep)) / RATE
    try:
        x, starts, _, counts = cut({"a": (RATE, times, keep, {})}, hop_s=hop_s, max_gap_s=0.45, gaps=gaps)
    except DataError as error:  # with so many lost it looks like a slower sensor
        assume("runs at" not in str(error))
        raise
    place = dict(zip(keep.tolist(), times.tolist(), strict=True))
    landed: dict[int, int] = {}
    for row, begin in zip(x["a"], starts, strict=True):
        here = row[~np.isnan(row)].astype(int).tolist()
        assert here == sorted(set(here)), "in order, each once"
        for sample in here:
            assert begin - 0.05 - 1e-6 <= place[sample] < begin + 1 - 0.05 + 1e-6
            landed[sample] = landed.get(sample, 0) + 1
        if gaps != "keep":
            inside = [place[s] for s in here]
            assert (np.diff(inside) <= 0.45 + 1e-9).all(), "never across a gap"
    for sample, number in landed.items():
        assert number <= ((place[sample] >= starts - 0.051) & (place[sample] < starts + 0.951)).sum()
    assert counts.tried == counts.kept + sum(counts.dropped.values())
    assert counts.of("a").used <= len(keep)
    assert counts.of("a").used >= len(landed)
    if not counts.of("a").crowded:
        assert counts.of("a").used == len(landed), "used are those in a window, and no other"


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(-1, 2)), min_size=1, max_size=8),
    st.sampled_from([0.5, 1.0]),
)
def test_no_window_crosses_a_change_of_label(runs, hop_s):
    codes = np.concatenate([np.full(n, code) for n, code in runs])
    times = np.arange(len(codes)) / RATE
    x, _, found, counts = cut({"a": (RATE, times, codes, {})}, labels=(times, codes), hop_s=hop_s)
    for row, code in zip(x["a"], found, strict=True):
        assert code >= 0
        assert (row == code).all()
    assert counts.tried == counts.kept + sum(counts.dropped.values())


@pytest.mark.parametrize("share", [0.5, 0.7, 1.0])
def test_the_majority_decides_where_its_share_is_large_enough(share):
    codes = np.repeat([0, 1], [53, 47])
    times = np.arange(100) / RATE
    x, starts, found, counts = cut(
        {"a": (RATE, times, codes, {})}, labels=(times, codes), label_rule="majority", label_share=share
    )
    for row, code in zip(x["a"], found, strict=True):
        assert (row == code).mean() >= share - 1e-9
    assert len(starts) == (10 if share <= 0.7 else 9)
    assert counts.tried == 10 == counts.kept + counts.dropped["undecided"]


def test_a_sensor_with_a_gap_is_absent_from_windows_that_touch_it_and_the_other_goes_on():
    t = np.arange(100) / RATE
    there = (t < 3.2) | (t >= 5.3)
    tracks = {"a": (RATE, t[there], t[there], {}), "b": regular(200, 20.0)}
    x, starts, _, counts = cut(tracks)
    assert starts.tolist() == list(range(10))
    absent = np.isnan(x["a"]).all(axis=1)
    assert absent.tolist() == [False] * 3 + [True] * 3 + [False] * 4
    assert not np.isnan(x["a"][~absent]).any()
    assert not np.isnan(x["b"]).any()
    assert counts.of("a").gaps == 1
    _, starts, _, counts = cut(tracks, gaps="drop")
    assert starts.tolist() == [0, 1, 2, 6, 7, 8, 9]
    assert counts.dropped["gap"] == 3
    x, _, _, _ = cut(tracks, gaps="keep")
    assert np.isnan(x["a"]).sum(axis=1).tolist() == [0, 0, 0, 8, 10, 3, 0, 0, 0, 0]


def test_a_pause_of_all_sensors_starts_windows_anew():
    t = np.concatenate([np.arange(25), np.arange(43, 73)]) / RATE
    x, starts, _, counts = cut({"a": (RATE, t, t * 10, {})})
    assert starts.tolist() == [0, 1, 4.3, 5.3, 6.3]
    np.testing.assert_allclose(x["a"][:, 0], starts * 10, rtol=1e-6)
    assert counts.stretches == 2


def test_holes_below_a_gap_are_nan_at_their_place():
    t = np.delete(np.arange(30), [13, 14]) / RATE
    x, _, _, counts = cut({"a": (RATE, t, np.rint(t * 10), {})}, max_gap_s=0.5)
    assert np.flatnonzero(np.isnan(x["a"][1])).tolist() == [3, 4]
    assert counts.of("a").empty_steps == 2


def test_resampling_interpolates_at_even_times_and_not_over_gaps():
    t = np.arange(0, 10, 0.013)
    t = t[(t < 4.5) | (t > 5.5)]
    x, starts, _, _ = cut({"a": (RATE, t, 3 * t, {"resample": True})})
    assert starts.tolist() == [0, 1, 2, 3, *(starts[4:].tolist())]
    for row, begin in zip(x["a"], starts, strict=True):
        expected = 3 * (begin + np.arange(10) / RATE)
        np.testing.assert_allclose(row[:-1], expected[:-1], atol=1e-4)
        assert abs(row[-1] - expected[-1]) < 0.2
        assert not begin <= 5 <= begin + 1


def test_each_sensor_keeps_its_own_rate_and_phase():
    tracks = {"fast": regular(1000, 100.0), "slow": regular(37, 3.7, start=0.1)}
    x, _, _, _ = cut(tracks, hop_s=0.25)
    assert x["fast"].shape[1] == 100
    assert x["slow"].shape[1] == 4
    assert not np.isnan(x["fast"]).any()


def test_what_never_changes_is_one_step_of_every_window():
    tracks = {"a": regular(50), "age": (0.0, [0.0], [42.0], {})}
    x, _, _, _ = cut(tracks)
    assert x["age"].tolist() == [[42.0]] * 5


def test_another_rate_than_the_recipe_says_is_refused_with_the_true_one():
    with pytest.raises(DataError, match="runs at 20 Hz but the recipe says 10"):
        cut({"a": (10.0, np.arange(200) / 20, np.arange(200), {})})
    x, _, _, _ = cut({"a": (10.0, np.arange(200) / 20, np.arange(200), {"resample": True})})
    np.testing.assert_allclose(x["a"][0], np.arange(10) * 2)


def test_a_recording_shorter_than_a_window_gives_none_and_is_counted():
    _, starts, _, counts = cut({"a": regular(7)})
    assert len(starts) == 0
    assert (counts.stretches, counts.short) == (1, 1)
    assert counts.short_s == pytest.approx(0.7)


def test_windows_that_no_sensor_can_fill_are_refused():
    with pytest.raises(ConfigError, match="shorter than one step"):
        sf.make_windows({"a": np.zeros((100, 1))}, rate_hz=1, window_s=0.5, label="x")
    with pytest.raises(ConfigError, match="below one step"):
        sf.make_windows({"a": np.zeros((100, 1))}, rate_hz=1, window_s=5, hop_s=0.1, label="x")


def test_times_jitter_without_losing_samples():
    rng = np.random.default_rng(0)
    t = np.arange(2000) / RATE + rng.normal(0, 0.02, 2000)
    x, _, _, counts = cut({"a": (RATE, np.sort(t), np.arange(2000), {})})
    assert np.isnan(x["a"]).mean() < 0.01
    assert counts.of("a").used > 1980
