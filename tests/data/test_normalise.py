from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.data import (
    RunningStatistics,
    checks,
    make_windows,
    training_statistics,
)
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.types import Modality


def recording(x, subject=None, y=None):
    n, length, channels = x.shape
    return make_windows(
        "r",
        (Modality("a", 1.0, length, tuple(f"c{i}" for i in range(channels)), may_miss=True),),
        raw={"a": x.astype(np.float32)},
        y=np.arange(n) % 2 if y is None else y,
        classes=("p", "q"),
        subject=np.zeros(n, int) if subject is None else subject,
        split=np.zeros(n, int),
    )


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(checks, "CHUNK_VALUES", 100)


@given(st.integers(0, 10_000), st.floats(-1e4, 1e4), st.floats(0.02, 100))
def test_training_statistics_are_those_of_the_measured_values(seed, offset, spread):
    rng = np.random.default_rng(seed)
    x = (offset + spread * rng.normal(size=(9, 7, 2))).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[0, 0] = offset
    used = np.array([0, 2, 3, 7])
    got = training_statistics(recording(x), used)
    flat = x[used].reshape(-1, 2).astype(float)
    np.testing.assert_allclose(got.mean["a"], np.nanmean(flat, 0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(got.std["a"], np.nanstd(flat, 0), rtol=1e-4)


def test_what_varies_inside_windows_is_told_apart_from_offsets():
    rng = np.random.default_rng(0)
    level = rng.choice([32.0, 125.0], (200, 1, 1))
    x = np.concatenate([level + 0.5 * rng.normal(size=(200, 50, 1)), level.repeat(50, 1)], 2)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[:20] = np.nan
    got = training_statistics(recording(x), np.arange(200))
    assert got.std["a"][0] > 40
    np.testing.assert_allclose(got.within["a"], [0.5, 0], rtol=0.02)
    single = training_statistics(recording(x[:, :1]), np.arange(200))
    assert not single.within["a"].any()


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, -1e6])
def test_a_constant_channel_becomes_zero(value):
    x = np.full((40, 5, 1), value)
    got = training_statistics(recording(x), np.arange(40))
    assert got.std["a"] == pytest.approx(1)
    np.testing.assert_allclose((x - got.mean["a"]) / got.std["a"], 0, atol=1e-4)


def test_a_channel_never_measured_has_mean_zero_and_spread_one():
    x = np.full((4, 5, 1), np.nan)
    got = training_statistics(recording(x), np.arange(4))
    assert (float(got.mean["a"][0]), float(got.std["a"][0])) == (0, 1)


def test_no_training_window_is_an_error():
    with pytest.raises(DataError, match="training split is empty"):
        training_statistics(recording(np.ones((2, 2, 1))), np.array([], int))


@given(st.integers(0, 10_000), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_a_running_statistic_does_not_care_how_the_stream_is_cut(seed, pieces):
    rng = np.random.default_rng(seed)
    stream = rng.normal(1000, 0.5, (sum(pieces), 2))
    stream[rng.random(stream.shape) < 0.2] = np.nan
    whole = RunningStatistics([1000.0, 0.0], [1.0, 2.0], weight=5)
    whole.update(stream)
    cut = RunningStatistics([1000.0, 0.0], [1.0, 2.0], weight=5)
    for part in np.split(stream, np.cumsum(pieces)[:-1]):
        cut.update(part)
    np.testing.assert_allclose(cut.mean, whole.mean, rtol=1e-5)
    np.testing.assert_allclose(cut.std, whole.std, rtol=1e-5)


def test_a_running_statistic_moves_from_what_training_knew_to_what_the_stream_says():
    running = RunningStatistics([0.0], [1.0], weight=100)
    running.update(np.full((4, 1), np.nan))
    assert (float(running.mean[0]), float(running.std[0])) == (0, 1)
    stream = np.random.default_rng(0).normal(10, 3, (100, 1))
    running.update(stream)
    both = np.concatenate([np.tile([-1.0, 1.0], 50), stream[:, 0]])
    assert running.mean[0] == pytest.approx(both.mean(), rel=1e-5)
    assert running.std[0] == pytest.approx(both.std(), rel=1e-5)
    running.update(np.random.default_rng(1).normal(10, 3, (100_000, 1)))
    assert running.mean[0] == pytest.approx(10, abs=0.1)
    assert running.std[0] == pytest.approx(3, abs=0.1)


def test_a_running_statistic_refuses_what_it_cannot_use():
    with pytest.raises(ConfigError, match="positive"):
        RunningStatistics([0.0], [0.0], weight=1)
    with pytest.raises(ConfigError, match="weight"):
        RunningStatistics([0.0], [1.0], weight=0)
    with pytest.raises(DataError, match="steps, 1"):
        RunningStatistics([0.0], [1.0], weight=1).update(np.ones((3, 2)))
