from __future__ import annotations

import json

import numpy as np
import pytest

from sentryfuse.data import describe, make_windows
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.types import Modality


def some(**changes):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6, 4, 2)).astype(np.float32)
    x[2] = np.nan
    given = {
        "raw": {"a": x, "b": np.ones((6, 1, 1), np.int8)},
        "y": [0, 1, 1, 1, 1, 1],
        "classes": ("no", "yes"),
        "subject": [3, 3, 5, 5, 9, 9],
        "split": [0, 0, 1, 1, 2, 2],
    }
    modalities = (Modality("a", 2.0, 4, ("x", "y"), may_miss=True), Modality("b", 0.0, 1, ("v",)))
    return make_windows("some", modalities, **{**given, **changes})


def test_splits_together_are_all_windows():
    windows = some()
    parts = [windows.indices(word) for word in ("train", "validation", "test")]
    assert sorted(np.concatenate(parts)) == list(windows.indices("all")) == list(range(6))


def test_an_unknown_split_or_modality_is_refused_and_the_known_ones_named():
    windows = some()
    with pytest.raises(ConfigError, match="train, validation, test and all"):
        windows.indices("val")
    with pytest.raises(ConfigError, match="it has a, b"):
        windows.batch(np.array([0]), ("c",))


def test_a_modality_without_its_array_is_refused():
    with pytest.raises(DataError, match="no array"):
        some(raw={"a": some().raw["a"]})


def test_another_split_shares_the_arrays_and_is_checked():
    windows = some()
    other = windows.with_split([2, 2, 0, 0, 1, 1])
    assert other.raw["a"] is windows.raw["a"]
    assert list(other.indices("train")) == [2, 3]
    with pytest.raises(DataError, match="subject 3"):
        windows.with_split([0, 1, 1, 1, 2, 2])


def test_a_description_counts_what_is_there_and_is_json():
    told = json.loads(json.dumps(describe(some(licence="CC0"))))
    assert told["n_windows"] == 6
    assert told["classes"] == {"no": 1, "yes": 5}
    assert told["n_subjects"] == 3
    classes = {"no": 0, "yes": 2}
    assert told["splits"]["test"] == {"n_windows": 2, "n_subjects": 1, "classes": classes}
    assert told["licence"] == "CC0"
    first, second = told["modalities"]
    assert first["share_absent"] == pytest.approx(1 / 6)
    assert first["share_missing_values"] == pytest.approx(1 / 6)
    assert (second["share_absent"], second["rate_hz"], second["length"]) == (0, 0, 1)


def test_giving_a_batch_leaves_the_stored_values_alone():
    windows = some()
    before = windows.raw["a"].copy()
    windows.batch(np.arange(6))["a"][:] = 0
    np.testing.assert_array_equal(windows.raw["a"], before)
