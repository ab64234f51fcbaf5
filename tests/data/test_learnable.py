from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.data import make_windows
from sentryfuse.data.learnable import check_seen, check_training, weak_points
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.types import Modality

pytestmark = pytest.mark.device

SUBJECT = np.repeat(np.arange(6), 20)
SPLIT = np.array([0, 0, 0, 0, 1, 2])[SUBJECT]
Y = np.tile([0, 1, 2], 40)


def recording(**changes):
    """Six people, twenty windows each, three classes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 5, 2)).astype(np.float32)
    if (empty := changes.pop("empty", None)) is not None:
        x[empty == SPLIT] = np.nan
    made = {"y": Y, "classes": ("a", "b", "c"), "subject": SUBJECT, "split": SPLIT}
    return make_windows("own", [Modality("acc", 5.0, 5, ("x", "y"))], raw={"acc": x}, **{**made, **changes})


def test_a_recording_that_teaches_has_no_weak_point():
    check_training(recording())
    assert weak_points(recording()) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"y": None}, "no labels"),
        ({"subject": None}, "'subject'"),
        ({"y": np.where(SPLIT == 0, 0, Y)}, "all 80 training windows are of the class 'a'"),
        ({"y": np.zeros(120, int)}, "of the class 'a'"),
        ({"empty": 0}, "none of the 80 windows of train has any sensor, .* nothing to learn from"),
        ({"empty": 1}, "nothing to choose the epoch by"),
        ({"empty": 2}, "nothing to score"),
        ({"subject": np.zeros(120, int), "split": None}, "days, sessions"),
        ({"subject": np.arange(120) % 2, "split": None}, "store `split` yourself"),
        ({"split": np.where(SPLIT == 1, 0, SPLIT)}, "no validation windows; give a recording with both"),
    ],
)
def test_what_teaches_nothing_is_refused(changes, word):
    with pytest.raises((DataError, ConfigError), match=word):
        check_training(recording(**changes))


def test_the_advice_for_one_and_for_two_subjects_leads_to_a_training():
    check_training(recording(subject=SUBJECT + 100, split=None))  # days of one person as subjects
    two = np.arange(120) % 2
    check_training(recording(subject=two, split=two))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"y": np.where((SPLIT == 0) & (Y == 2), 1, Y)},
            ["class c has no window in train", "never answered"],
        ),
        ({"y": np.where(SPLIT == 2, 1, Y)}, ["class a, c has no window in test", "all are of class b"]),
        ({"y": np.where((SPLIT == 1) & (Y == 0), 1, Y)}, ["class a has no window in validation"]),
        (
            {"y": np.where((Y == 2) & (np.arange(120) > 6) & (SPLIT == 0), 0, Y)},
            ["c has 2 of 80", "--balance"],
        ),
        ({"split": np.array([0, 1, 1, 1, 1, 2])[SUBJECT]}, ["one subject only"]),
    ],
)
def test_what_is_only_weak_is_said(changes, words):
    windows = recording(**changes)
    check_training(windows)
    said = weak_points(windows)
    assert len(said) == 1
    assert all(word in said[0] for word in words)


def test_training_that_counts_classes_alike_hears_nothing_of_uneven_ones():
    uneven = recording(y=np.where((Y == 2) & (np.arange(120) > 6) & (SPLIT == 0), 0, Y))
    assert weak_points(uneven, balance=True) == []


def test_a_split_without_windows_is_nothing_to_look_at():
    check_seen(recording(split=np.where(SPLIT == 2, 1, SPLIT), empty=1), "test")
