"""Splits into train, validation and test, always by whole subjects.

0 is train, 1 validation, 2 test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError, DataError

LEAST_SUBJECTS = 3  # one each to learn from, to choose by and to test on


def split_by_subject(
    subject: NDArray[np.integer[Any]],
    *,
    seed: int,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
) -> NDArray[np.int8]:
    """Split whole subjects into train, validation and test.

    Args:
        subject: subject of each window, `(N,)`.
        seed: with the set of subjects, decides the split.
        fractions: shares of the subjects for train, validation and test; they add up to 1. Each
            split gets at least one subject, whatever its share.

    Returns:
        `(N,)`; 0 train, 1 validation, 2 test.

    Raises:
        ConfigError: fractions that are negative or do not add up to 1.
        DataError: fewer than three subjects.
    """
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ConfigError(f"fractions {fractions} must be three shares that add up to 1")
    unique, position = np.unique(subject, return_inverse=True)
    if len(unique) < LEAST_SUBJECTS:
        raise DataError(f"a split by subject needs 3 subjects or more, {few_subjects(len(unique))}")
    counts = [max(1, round(share * len(unique))) for share in fractions]
    while sum(counts) != len(unique):  # rounding or the floor of one; the largest split pays or gains
        counts[counts.index(max(counts))] += 1 if sum(counts) < len(unique) else -1
    of_subject = np.repeat(np.arange(3, dtype=np.int8), counts)
    return np.random.default_rng(seed).permutation(of_subject)[position]


def fold(subject: NDArray[np.integer[Any]], i: int, k: int) -> NDArray[np.int8]:
    """One fold of a k-fold by subject: every k-th subject, the next fold for validation.

    Args:
        subject: subject of each window, `(N,)`.
        i: which fold, `0 <= i < k`.
        k: number of folds, `3 <= k <=` number of subjects.

    Returns:
        `(N,)`; sorted subjects `[i::k]` test, `[(i + 1) % k::k]` validation, the rest train.

    Raises:
        ConfigError: `i` or `k` out of range.
        DataError: fewer subjects than folds.
    """
    unique, position = np.unique(subject, return_inverse=True)
    if k < 3 or not 0 <= i < k:
        raise ConfigError(f"fold {i} of {k} cannot be made; use k >= 3 and 0 <= i < k")
    if len(unique) < LEAST_SUBJECTS:
        raise DataError(f"folds need 3 subjects or more, {few_subjects(len(unique))}")
    if k > len(unique):
        raise DataError(f"{k} folds need {k} subjects, there are {len(unique)}; use fewer folds")
    of_subject = np.zeros(len(unique), dtype=np.int8)
    of_subject[(i + 1) % k :: k] = 1
    of_subject[i::k] = 2
    return of_subject[position]


def few_subjects(n: int) -> str:
    """What somebody with one or two subjects can do, the end of a sentence."""
    if n < 2:
        return (
            f"there is {n}; give parts of the recording that are apart (days, sessions) a `subject` number "
            "each, and scores will be of this person alone"
        )
    return (
        f"there are {n}; store `split` yourself (0 train for one, 1 validation for the other, and nothing is "
        "left to test on), or record more people"
    )


def check_no_shared_subject(
    subject: NDArray[np.integer[Any]],
    split: NDArray[np.integer[Any]],
    people: Sequence[str] | None = None,
) -> None:
    """Refuse a split in which one subject is on two sides: scores would flatter.

    Args:
        subject: subject of each window, `(N,)`.
        split: `(N,)`; 0 train, 1 validation, 2 test.
        people: names of the subjects, for the message; `None` = their numbers.

    Raises:
        DataError: a subject in two splits (the message names it), or a value outside 0..2.
    """
    if not np.isin(split, (0, 1, 2)).all():
        raise DataError("split holds other values than 0 train, 1 validation, 2 test; use those")
    unique, position = np.unique(subject, return_inverse=True)
    inside = np.zeros((len(unique), 3), dtype=bool)
    inside[position, split] = True
    shared = unique[inside.sum(axis=1) > 1]
    if len(shared):
        who = shared[0] if people is None else people[shared[0]]
        raise DataError(
            f"subject {who} is in more than one split ({len(shared)} such subjects); "
            "put every subject in one split only"
        )
