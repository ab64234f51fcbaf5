"""Whether a recording can teach or judge anything; said before the work, not after it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.splits import LEAST_SUBJECTS, few_subjects
from sentryfuse.data.windows import SPLITS, Windows
from sentryfuse.errors import ConfigError, DataError

UNEVEN = 10  # times as many windows of one class as of another; our choice
_FOR = {"train": "learn from", "validation": "choose the epoch by", "test": "score"}


def check_training(windows: Windows) -> None:
    """Refuse a recording from which nothing can be learned.

    Args:
        windows: the recording, split.

    Raises:
        DataError: no labels, nobody knows whom the windows are of, a split in which no window has any
            sensor, or training windows of one class.
        ConfigError: no windows to learn from or to choose the epoch by.
    """
    name = windows.name
    check_labelled(windows, "training learns from them; store y")
    if not windows.knows_subject:
        raise DataError(
            f"{name} lacks 'subject', so one person could be in training and test; store whom each window "
            "is of"
        )
    n_subjects = len(np.unique(windows.subject))
    for split in ("train", "validation"):
        if not len(windows.indices(split)):
            few = f": a split needs 3 subjects or more, {few_subjects(n_subjects)}"
            raise ConfigError(
                f"{name} has no {split} windows"
                + (few if n_subjects < LEAST_SUBJECTS else "; give a recording with both, or choose --fold")
            )
    for split in SPLITS:
        check_seen(windows, split)
    learned = windows.indices("train")
    learned = learned[windows.present[learned].any(axis=1)]
    if not windows.target.of_classes:
        still = [k for k in range(windows.y.shape[1]) if len(np.unique(windows.y[learned, k])) < 2]
        if still:
            raise DataError(
                f"{name}: {windows.classes[still[0]]!r} is {windows.y[learned[0], still[0]]:g} in all "
                f"{len(learned)} training windows, so there is nothing to learn; put other people into "
                "train, or leave it out"
            )
        return
    kinds = np.unique(windows.y[learned])
    if len(kinds) < 2:
        raise DataError(
            f"{name}: all {len(learned)} training windows are of the class {windows.classes[kinds[0]]!r}, "
            "and a classifier learns from two or more; put people with another class into train"
        )


def class_counts(windows: Windows, indices: NDArray[np.intp]) -> NDArray[np.int64]:
    """Windows of each class or with each label, `(K,)`."""
    if windows.target.of_classes:
        return np.bincount(windows.y[indices], minlength=len(windows.classes))
    return np.asarray((windows.y[indices] > 0).sum(axis=0), np.int64)


def check_labelled(windows: Windows, why: str) -> None:
    """Refuse a recording without labels.

    Args:
        windows: the recording.
        why: the end of the sentence.

    Raises:
        DataError: it has none.
    """
    if not windows.labelled:
        raise DataError(f"{windows.name} has no labels ('y'), and {why}")


def check_seen(windows: Windows, split: str) -> None:
    """Refuse a split that has windows, but none with any sensor.

    Raises:
        DataError: it is so.
    """
    inside = windows.indices(split)
    if len(inside) and not windows.present[inside].any():
        raise DataError(
            f"{windows.name}: none of the {len(inside)} windows of {split} has any sensor, so there is "
            f"nothing to {_FOR.get(split, 'answer')}; mend the recording, or put other people into {split}"
        )


def weak_points(windows: Windows, *, balance: bool = False) -> list[str]:
    """What makes a training or its scores worth less than they look; sentences, mostly none.

    Args:
        windows: the recording, split.
        balance: whether training counts every class alike.
    """
    found = []
    for split in SPLITS:
        found += weak_split(windows, split)
    learned = windows.indices("train")
    counts = class_counts(windows, learned)
    if windows.target.of_classes and counts.min() and counts.max() > UNEVEN * counts.min() and not balance:
        rare = int(counts.argmin())
        found.append(
            f"classes are uneven: {windows.classes[rare]} has {counts[rare]} of {len(learned)} training "
            "windows; accuracy says little of it, so look at macro F1, or train with --balance"
        )
    if len(np.unique(windows.subject[learned])) == 1:
        found.append("train is of one subject only: what differs between people cannot be learned from it")
    return found


def weak_split(windows: Windows, split: str) -> list[str]:
    """Classes that a split lacks; sentences, none where it has all of them or no window."""
    inside = windows.indices(split)
    if not len(inside) or not windows.labelled:
        return []
    if windows.target.task == "regression":
        return []
    counts = class_counts(windows, inside)
    lacking = [name for name, n in zip(windows.classes, counts, strict=True) if not n]
    if not lacking:
        return []
    words = f"class {', '.join(lacking)} has no window in {split} ({len(inside)} windows)"
    if split == "train":
        return [f"{words}: it is never answered"]
    alone = windows.target.of_classes and (counts > 0).sum() == 1
    only = f", where all are of class {windows.classes[int(counts.argmax())]}" if alone else ""
    return [f"{words}{only}: scores of {split} say nothing of it"]
