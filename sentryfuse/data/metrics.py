"""Scores of predictions: accuracy, macro F1, AUROC, and how far probabilities can be trusted. numpy only.

Of numbers mean absolute error, root mean square error and R2; of several labels mean average precision.

Notation: N windows · K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.target import CLASSES, THRESHOLD, Target

WORDS = {"accuracy": "accuracy", "auroc": "AUROC", "r2": "R2", "map": "mean average precision"}
_LEAST = float(np.finfo(np.float32).eps)  # a probability that counts as none


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
    _check_classes(truth, answer, n_classes)
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


def negative_log_likelihood(probabilities: ArrayLike, y: ArrayLike) -> float:
    """Mean of minus the log of the probability given to the true class, >= 0; less is better.

    Args:
        probabilities: of each class, `(N, K)`; one below 1.2e-7 (float32 near 1 knows no finer step) counts
            as that, so that one certain mistake is not infinitely bad.
        y: true classes, `(N,)`, 0..K-1.

    Raises:
        ConfigError: no window, shapes that do not fit, a class outside 0..K-1, or NaN.
    """
    table, truth = _table(probabilities), np.asarray(y)
    _check_classes(*_pair(truth, table.argmax(axis=1)), table.shape[1])
    given = table[np.arange(len(truth)), truth].astype(np.float64)
    return float(-np.log(np.clip(given, _LEAST, 1)).mean())


def expected_calibration_error(probabilities: ArrayLike, y: ArrayLike, bins: int = 15) -> float:
    """Mean distance between how sure the answers are and how often they are right, 0..1; less is better.

    Windows are put into bins of equal width by the probability of the answered class.

    Args:
        probabilities: of each class, `(N, K)`.
        y: true classes, `(N,)`, 0..K-1.
        bins: how many, >= 1.

    Raises:
        ConfigError: no bin or no window, shapes that do not fit, a class outside 0..K-1, or NaN.

    Source:
        Guo et al. (2017).
    """
    if bins < 1:
        raise ConfigError(f"bins must be at least 1, got {bins}")
    table = _table(probabilities)
    truth, answer = _pair(y, table.argmax(axis=1))
    _check_classes(truth, answer, table.shape[1])
    sure = table.max(axis=1).astype(np.float64)
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=sure - (truth == answer), minlength=bins)
    return float(np.abs(gap).sum() / len(truth))


def average_precision(y: ArrayLike, score: ArrayLike) -> float | None:
    """Mean precision at the places of the windows that have a label, best score first, 0..1.

    Args:
        y: whether a window has the label, `(N,)`, 0 or 1.
        score: `(N,)`, higher is surer; among equal scores all count as found together.

    Returns:
        0..1; `None` where no window has it.

    Raises:
        ConfigError: no window, lengths that differ, or NaN.
    """
    truth, scored = _pair(y, score)
    if np.isnan(scored).any():
        raise ConfigError("average precision needs scores without NaN; look at the model")
    positive = truth > 0
    if not positive.any():
        return None
    values, place = np.unique(-scored, return_inverse=True)
    hits = np.bincount(place, weights=positive, minlength=len(values))
    seen = np.cumsum(np.bincount(place, minlength=len(values)))
    precision = np.cumsum(hits) / seen
    return float((hits * precision).sum() / positive.sum())


def number_scores(y: ArrayLike, answers: ArrayLike) -> dict[str, float | None]:
    """Scores of a regression, mean over its numbers.

    Args:
        y: true numbers, `(N, K)`.
        answers: `(N, K)`.

    Returns:
        `mae` and `rmse` in the unit of the numbers, `r2` (1 = perfect, 0 = as good as the mean; `None` where
        a number is the same in all windows).

    Raises:
        ConfigError: no window, shapes that do not fit, or NaN.
    """
    truth, table = np.asarray(y, np.float64), np.asarray(answers, np.float64)
    if truth.shape != table.shape or truth.ndim != 2 or not len(truth):
        raise ConfigError(
            f"{truth.shape} true numbers and {table.shape} answers do not belong together, or there are none;"
            " give one of each for every window"
        )
    if np.isnan(table).any():
        raise ConfigError("answers hold NaN, so there is nothing to score; look at the model")
    error = table - truth
    spread = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    r2 = None if (spread == 0).any() else float((1 - (error**2).sum(axis=0) / spread).mean())
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean(axis=0)).mean()),
        "r2": r2,
    }


def label_scores(y: ArrayLike, probabilities: ArrayLike) -> dict[str, float | None]:
    """Scores of several labels at once.

    Args:
        y: whether a window has each label, `(N, K)`, 0 or 1.
        probabilities: `(N, K)`.

    Returns:
        `accuracy` (share of labels told right), `macro_f1` (mean over labels that occur or are answered),
        `map` (mean average precision over labels that occur) and `nll` (of one label).

    Raises:
        ConfigError: no window, shapes that do not fit, or NaN.
    """
    truth, table = np.asarray(y, np.float64), np.asarray(probabilities, np.float64)
    if truth.shape != table.shape or truth.ndim != 2 or not len(truth):
        raise ConfigError(
            f"{truth.shape} true labels and {table.shape} answers do not belong together, or there are none;"
            " give one of each for every window"
        )
    there, said = truth > 0, table >= THRESHOLD
    named = there.sum(axis=0) + said.sum(axis=0)
    found = [average_precision(truth[:, k], table[:, k]) for k in range(truth.shape[1])]
    known = [one for one in found if one is not None]
    p = np.clip(np.where(there, table, 1 - table), _LEAST, 1)
    return {
        "accuracy": float((there == said).mean()),
        "macro_f1": float((2 * (there & said).sum(axis=0)[named > 0] / named[named > 0]).mean())
        if named.any()
        else 0.0,
        "map": float(np.mean(known)) if known else None,
        "nll": float(-np.log(p).mean()),
    }


def measure_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """What rows of scores are judged by: "r2", "map", "auroc" (two classes) or "accuracy"; more is better.

    Args:
        rows: of `scores`; at least one.
    """
    for name in ("r2", "map"):
        if name in rows[0]:
            return name
    return "auroc" if all(row["auroc"] is not None for row in rows) else "accuracy"


def scores(y: ArrayLike, probabilities: ArrayLike, target: Target = CLASSES) -> dict[str, float | None]:
    """All scores of one set of predictions.

    Args:
        y: true classes, `(N,)`, 0..K-1; numbers or labels, `(N, K)`.
        probabilities: of each class, `(N, K)`; or answered numbers, or probabilities of labels.
        target: what they are.

    Returns:
        `accuracy`, `macro_f1`, `auroc` of class 1 (`None` unless there are two classes and both occur),
        `nll` (negative log likelihood) and `ece` (expected calibration error). For numbers those of
        `number_scores` and for labels those of `label_scores` as well; what has no meaning is `None`.

    Raises:
        ConfigError: no window, shapes that do not fit, a class outside 0..K-1, or NaN.
    """
    if not target.of_classes:
        nothing = dict.fromkeys(("accuracy", "macro_f1", "auroc", "nll", "ece"))
        more = number_scores if target.task == "regression" else label_scores
        return nothing | more(y, probabilities)
    table = _table(probabilities)
    predicted = table.argmax(axis=1)
    n_classes = table.shape[1]
    return {
        "accuracy": accuracy(y, predicted),
        "macro_f1": macro_f1(y, predicted, n_classes),
        "auroc": auroc(y, table[:, 1]) if n_classes == 2 else None,
        "nll": negative_log_likelihood(table, y),
        "ece": expected_calibration_error(table, y),
    }


def _table(probabilities: ArrayLike) -> NDArray[Any]:
    table = np.asarray(probabilities)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ConfigError(f"probabilities have shape {table.shape}; give (windows, classes)")
    if np.isnan(table).any():
        raise ConfigError("probabilities hold NaN, so there is no answer to score; look at the model")
    return table


def _check_classes(truth: NDArray[Any], answer: NDArray[Any], n_classes: int) -> None:
    both = np.concatenate([truth, answer])
    if both.dtype.kind not in "iu" or both.min() < 0 or both.max() >= n_classes:
        raise ConfigError(
            f"classes must be integers within 0..{n_classes - 1}, not {both.min()}..{both.max()} "
            f"({both.dtype}); give class numbers, not probabilities"
        )


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
