from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.data import check_no_shared_subject, fold, split_by_subject
from sentryfuse.errors import ConfigError, DataError

subjects = st.lists(st.integers(-5, 30), min_size=3, max_size=60).filter(lambda s: len(set(s)) >= 3)


@given(subjects, st.integers(0, 99))
def test_nobody_is_shared_and_every_split_has_somebody(who, seed):
    subject = np.array(who)
    split = split_by_subject(subject, seed=seed)
    check_no_shared_subject(subject, split)
    assert set(split) == {0, 1, 2}
    np.testing.assert_array_equal(split, split_by_subject(subject, seed=seed))


def test_the_fractions_are_of_subjects_and_the_seed_matters():
    subject = np.repeat(np.arange(20), 3)
    split = split_by_subject(subject, seed=0, fractions=(0.5, 0.2, 0.3))
    assert list(np.bincount(split)) == [30, 12, 18]
    assert (split != split_by_subject(subject, seed=1, fractions=(0.5, 0.2, 0.3))).any()


@given(subjects, st.integers(3, 6))
def test_over_all_folds_everybody_is_tested_once_and_validates_once(who, k):
    subject = np.array(who)
    if k > len(set(who)):
        with pytest.raises(DataError, match="use fewer folds"):
            fold(subject, 0, k)
        return
    folds = np.array([fold(subject, i, k) for i in range(k)])
    assert ((folds == 2).sum(axis=0) == 1).all()
    assert ((folds == 1).sum(axis=0) == 1).all()
    for split in folds:
        check_no_shared_subject(subject, split)
        assert set(split) == {0, 1, 2}


def test_a_fold_tests_every_kth_subject():
    subject = np.array([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17])
    split = fold(subject, 4, 5)
    assert list(subject[split == 2]) == [6, 11, 17]
    assert list(subject[split == 1]) == [2, 7, 13]


def test_what_cannot_be_split_is_refused():
    with pytest.raises(DataError, match="3 subjects or more"):
        split_by_subject(np.array([1, 1, 2]), seed=0)
    with pytest.raises(ConfigError, match="add up to 1"):
        split_by_subject(np.arange(5), seed=0, fractions=(0.5, 0.1, 0.1))
    for i, k in ((3, 3), (-1, 3), (0, 2)):
        with pytest.raises(ConfigError, match="cannot be made"):
            fold(np.arange(5), i, k)


def test_a_shared_subject_is_named():
    with pytest.raises(DataError, match="subject 8 "):
        check_no_shared_subject(np.array([7, 8, 8]), np.array([0, 0, 2]))
    with pytest.raises(DataError, match="other values"):
        check_no_shared_subject(np.array([7, 8]), np.array([0, 3]))
