from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.errors import ConfigError
from sentryfuse.statistics import feature_names, features
from sentryfuse.types import Modality

pytestmark = pytest.mark.device


def sensor(t: int, c: int, *, may_miss: bool = False) -> Modality:
    return Modality("s", 10.0, t, tuple(f"c{i}" for i in range(c)), may_miss)


def table(modality: Modality, x: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(feature_names(modality), features(modality, x).T, strict=True))


@pytest.mark.parametrize(
    ("t", "c", "may_miss"),
    [
        (1, 3, False),
        (1, 3, True),
        (2, 1, False),
        (3, 2, True),
        (50, 9, False),
        (48, 2, True),
        (100, 64, False),
    ],
)
def test_every_column_has_an_own_name(t, c, may_miss, rng):
    modality = sensor(t, c, may_miss=may_miss)
    names = feature_names(modality)
    found = features(modality, rng.normal(size=(5, t, c)))
    assert len(set(names)) == len(names) == found.shape[1]
    assert found.dtype == np.float32


def test_statistics_are_those_of_numpy(rng):
    x = rng.normal(size=(6, 50, 1)).astype(np.float32)
    found = table(sensor(50, 1), x)
    flat = x[:, :, 0].astype(np.float64)
    mean = flat.mean(axis=1)
    expected = {
        "mean": mean,
        "std": flat.std(axis=1),
        "log_std": np.log(flat.std(axis=1)),
        "min": flat.min(axis=1),
        "max": flat.max(axis=1),
        "last": flat[:, -1],
        "q25-m": np.quantile(flat, 0.25, axis=1) - mean,
        "q50-m": np.quantile(flat, 0.5, axis=1) - mean,
        "q75-m": np.quantile(flat, 0.75, axis=1) - mean,
        "abs_diff": np.abs(np.diff(flat)).mean(axis=1),
        "std_diff": np.diff(flat).std(axis=1),
        "slope": np.polyfit(np.linspace(-1, 1, 50), flat.T, 1)[0],
        "tail-m": flat[:, -5:].mean(axis=1) - mean,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[f"c0.{name}"], values, rtol=2e-5, atol=2e-6, err_msg=name)


def test_a_sensor_measured_throughout_gets_the_same_numbers_where_values_may_be_missing(rng):
    x = rng.normal(size=(6, 80, 2)).astype(np.float32)
    whole = table(sensor(80, 2), x)
    partly = table(sensor(80, 2, may_miss=True), x)
    for name, values in whole.items():
        np.testing.assert_allclose(partly[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_missing_values_are_left_out(rng):
    x = rng.normal(size=(1, 20, 1)).astype(np.float32)
    x[0, [0, 1, 5, 18, 19]] = np.nan
    known = x[0, ~np.isnan(x[0, :, 0]), 0]
    found = table(sensor(20, 1, may_miss=True), x)
    assert found["c0.mean"][0] == pytest.approx(known.mean(), abs=1e-6)
    assert found["c0.median"][0] == pytest.approx(np.median(known), abs=1e-6)
    assert found["c0.q75-m"][0] == pytest.approx(np.quantile(known, 0.75) - known.mean(), abs=1e-6)
    assert found["c0.first"][0] == known[0]
    assert found["c0.last"][0] == known[-1]
    assert found["c0.share"][0] == pytest.approx(0.75)
    assert found["c0.age"][0] == pytest.approx(0.1)
    assert np.isnan(found["c0.tail-m"][0])


def test_nothing_measured_is_unknown_but_its_share():
    found = table(sensor(20, 1, may_miss=True), np.full((2, 20, 1), np.nan))
    assert found["c0.share"].tolist() == [0, 0]
    assert np.isnan(found["c0.mean"]).all()


def test_a_small_signal_on_a_large_offset_keeps_its_digits(rng):
    small = 0.5 * rng.normal(size=(4, 200, 1))
    found = table(sensor(200, 1), (1013 + small).astype(np.float32))
    np.testing.assert_allclose(found["c0.std"], small.std(axis=1)[:, 0], rtol=1e-3)
    np.testing.assert_allclose(found["c0.slope"], table(sensor(200, 1), small)["c0.slope"], atol=1e-4)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_unit_only_shifts_log_energies(unit, rng):
    x = rng.normal(size=(3, 64, 1))
    one, other = table(sensor(64, 1), x), table(sensor(64, 1), x * unit)
    np.testing.assert_allclose(other["c0.band3"] - one["c0.band3"], 2 * np.log(unit), rtol=1e-4)
    np.testing.assert_allclose(other["c0.centroid"], one["c0.centroid"], rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 7.3, -1e6])
def test_constant_channels_give_finite_numbers(value):
    found = features(sensor(64, 2), np.full((3, 64, 2), value, dtype=np.float32))
    assert np.isfinite(found).all()
    assert np.unique(found, axis=0).shape[0] == 1


def test_a_higher_tone_lies_in_a_higher_band():
    t = np.arange(3840) / 3840
    low, high = (np.sin(2 * np.pi * f * t)[None, :, None] for f in (200.0, 1700.0))
    modality = sensor(3840, 1)
    low_table, high_table = table(modality, low), table(modality, high)
    assert high_table["c0.centroid"][0] > 3 * low_table["c0.centroid"][0]
    assert high_table["c0.band9"][0] > low_table["c0.band9"][0] + 3


def test_correlations_of_many_channels_are_those_of_neighbours(rng):
    x = rng.normal(size=(2, 40, 64))
    x[:, :, 5] = x[:, :, 4]
    names = [n for n in feature_names(sensor(40, 64)) if n.endswith("corr")]
    assert len(names) == 63
    assert table(sensor(40, 64), x)["c4*c5.corr"] == pytest.approx(1, abs=1e-4)


def test_windows_do_not_depend_on_those_beside_them(rng):
    modality = sensor(300, 8)
    x = rng.normal(size=(700, 300, 8)).astype(np.float32)
    np.testing.assert_allclose(features(modality, x)[650:], features(modality, x[650:]), rtol=1e-4, atol=1e-4)


def test_windows_of_another_shape_are_refused():
    with pytest.raises(ConfigError, match="give those"):
        features(sensor(10, 2), np.zeros((3, 10, 1)))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
