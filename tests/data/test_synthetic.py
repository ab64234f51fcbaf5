from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from sentryfuse.data import load_windows, save_windows, synthetic_wearable
from sentryfuse.errors import ConfigError


@pytest.fixture(scope="module")
def wearable():
    return synthetic_wearable()


def test_it_has_the_size_and_shape_the_demo_needs(wearable):
    assert wearable.name == "wearable"
    assert len(wearable.modalities) >= 5
    assert len(wearable.classes) >= 6
    assert 2500 <= len(wearable) <= 3500
    assert len({m.rate_hz for m in wearable.modalities}) >= 3
    people = [len(np.unique(wearable.subject[wearable.indices(s)])) for s in ("train", "test")]
    assert people == [8, 4]
    for split in ("train", "validation", "test"):
        assert set(wearable.y[wearable.indices(split)]) == set(range(len(wearable.classes)))


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_people(wearable):
    again, other = synthetic_wearable(), synthetic_wearable(seed=1)
    for name in wearable.names:
        assert again.raw[name].tobytes() == wearable.raw[name].tobytes()
        assert other.raw[name].tobytes() != wearable.raw[name].tobytes()


def test_only_temperature_is_sometimes_off_and_never_for_everybody(wearable):
    absent = dict(zip(wearable.names, 1 - wearable.present.mean(axis=0), strict=True))
    assert 0.03 < absent.pop("temp") < 0.3
    assert set(absent.values()) == {0}


def test_it_survives_a_round_trip(tmp_path):
    windows = synthetic_wearable(n_people=3, windows_per_person=16)
    save_windows(tmp_path / "w.npz", windows)
    read = load_windows(tmp_path / "w.npz")
    assert read.modalities == windows.modalities
    assert read.licence == "Apache-2.0"
    np.testing.assert_array_equal(read.present, windows.present)


def test_too_few_people_are_refused():
    with pytest.raises(ConfigError, match="3 people"):
        synthetic_wearable(n_people=2)


def statistics_of(x):
    """What a simple classifier sees of one modality: level, spread, range, change and bands."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # windows in which nothing was measured
        centred = x - np.nanmean(x, axis=1, keepdims=True)
        change = np.nanmean(np.abs(np.diff(x, axis=1)), axis=1)
        columns = [np.nanmean(x, 1), np.nanstd(x, 1), np.nanmin(x, 1), np.nanmax(x, 1), change]
    power = np.abs(np.fft.rfft(np.nan_to_num(centred), axis=1)) ** 2
    edges = np.unique(np.geomspace(1, power.shape[1], 8).astype(int))
    for low, high in pairwise(edges):
        columns.append(np.log(power[:, low:high].sum(axis=1) + 1e-9))
    return np.nan_to_num(np.concatenate(columns, axis=1))


def test_strangers_are_recognised_and_different_sensors_matter(wearable):
    table = {name: statistics_of(x) for name, x in wearable.batch(wearable.indices("all")).items()}
    train, test = wearable.split < 2, wearable.split == 2

    def accuracy_without(*absent):
        x = np.concatenate([v for k, v in table.items() if k not in absent], axis=1)
        forest = RandomForestClassifier(40, random_state=0).fit(x[train], wearable.y[train])
        return forest.score(x[test], wearable.y[test])

    everything = accuracy_without()
    assert 0.82 < everything < 0.95
    assert everything - accuracy_without("wrist_acc") > 0.07
    assert everything - accuracy_without("leg_gyro") > 0.03
    assert everything - accuracy_without("bvp", "eda") > 0.03
