"""Scores of predictions: accuracy, macro F1, AUROC. numpy only.

Notation: N windows · K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.errors import ConfigError


def accuracy(y: ArrayLike, predicted: ArrayLike) -> float:
    """Share of windows whose class was found, 0..1.

    Args:
        y: true classes, `(N,)`.
        predicted: answered classes, `(N,)`.

    Raises:
        ConfigError: no window, or lengths that differ.
    """
    truth, answer = _pair(y, predicted)
    return float((truth == answer).mean())


def macro_f1(y: ArrayLike, predicted: ArrayLike, n_classes: int) -> float:
    """Mean F1 of the classes, each counting the same, 0..1.

    Classes that are neither true nor answered anywhere are left out; the others have F1 = 2TP /
    (2TP + FP + FN).

    Args:
        y: true classes, `(N,)`, 0..K-1.
        predicted: answered classes, `(N,)`, 0..K-1.
        n_classes: K.

    Raises:
        ConfigError: no window, lengths that differ, or a class outside 0..K-1.
    """
    truth, answer = _pair(y, predicted)
    both = np.concatenate([truth, answer])
    if both.dtype.kind not in "iu" or both.min() < 0 or both.max() >= n_classes:
        raise ConfigError(
            f"classes must be integers within 0..{n_classes - 1}, not {both.min()}..{both.max()} "
            f"({both.dtype}); give class numbers, not probabilities"
        )
    hits = np.bincount(truth[truth == answer], minlength=n_classes)
    named = np.bincount(truth, minlength=n_classes) + np.bincount(answer, minlength=n_classes)
    seen = named > 0
    return float((2 * hits[seen] / named[seen]).mean())


def auroc(y: ArrayLike, score: ArrayLike) -> float | None:
    """Probability that a window of class 1 scores higher than one of class 0, ties counting half.

    Args:
        y: true classes, `(N,)`, 0 or 1.
        score: of class 1, `(N,)`, higher is surer; only the order matters.

    Returns:
        0..1, 0.5 is chance; `None` where only one class is there.

    Raises:
        ConfigError: no window, lengths that differ, another class, or NaN.
    """
    truth, scored = _pair(y, score)
    if not np.isin(truth, (0, 1)).all() or np.isnan(scored).any():
        raise ConfigError("auroc needs classes 0 and 1 and scores without NaN; give two classes")
    positive = truth == 1
    n_positive = int(positive.sum())
    n_negative = len(truth) - n_positive
    if n_positive == 0 or n_negative == 0:
        return None
    _, position, counts = np.unique(scored, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2  # equal scores share their mean rank
    above = rank[position][positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def scores(y: ArrayLike, probabilities: ArrayLike) -> dict[str, float | None]:
    """All scores of one set of predictions.

    Args:
        y: true classes, `(N,)`, 0..K-1.
        probabilities: of each class, `(N, K)`.

    Returns:
        `accuracy`, `macro_f1`, and `auroc` of class 1, `None` unless there are two classes and both
        occur.

    Raises:
        ConfigError: no window, shapes that do not fit, a class outside 0..K-1, or NaN.
    """
    table = np.asarray(probabilities)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ConfigError(f"probabilities have shape {table.shape}; give (windows, classes)")
    if np.isnan(table).any():
        raise ConfigError("probabilities hold NaN, so there is no answer to score; look at the model")
    predicted = table.argmax(axis=1)
    n_classes = table.shape[1]
    return {
        "accuracy": accuracy(y, predicted),
        "macro_f1": macro_f1(y, predicted, n_classes),
        "auroc": auroc(y, table[:, 1]) if n_classes == 2 else None,
    }


def _pair(y: ArrayLike, answers: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    truth, answer = np.asarray(y), np.asarray(answers)
    if truth.ndim != 1 or truth.shape != answer.shape:
        raise ConfigError(
            f"{truth.shape} true classes and {answer.shape} answers do not belong together; "
            "give one of each for every window"
        )
    if len(truth) == 0:
        raise ConfigError("there is no window to score; choose a split that is not empty")
    return truth, answer
