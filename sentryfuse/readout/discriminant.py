"""Linear discriminants from moments, with shrinkage; for any subset of the columns from the same moments.

Notation: N windows · D columns · K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

FLOOR = -8.0  # lowest log probability an expert may give
NEVER = -1e9  # bias of a class without training windows


@dataclass(frozen=True, eq=False)
class Sums:
    """Counts, sums and products of some windows; they add and subtract.

    Attributes:
        count: windows of each class, `(K,)`.
        total: sum of columns by class, `(K, D)`.
        gram: sum of products of columns, `(D, D)`.
    """

    count: Doubles
    total: Doubles
    gram: Doubles

    @classmethod
    def of(cls, a: NDArray[Any], y: NDArray[np.integer[Any]], n_classes: int) -> Sums:
        """Sums over `(N, D)` columns that are near mean 0."""
        a = a.astype(np.float64, copy=False) if a.shape[1] <= 128 else a
        one_hot = (y[:, None] == np.arange(n_classes)).astype(a.dtype)
        return cls(
            np.bincount(y, minlength=n_classes).astype(np.float64),
            (one_hot.T @ a).astype(np.float64),
            (a.T @ a).astype(np.float64),
        )

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.count + other.count, self.total + other.total, self.gram + other.gram)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.count - other.count, self.total - other.total, self.gram - other.gram)

    def moments(self) -> Moments:
        """Means and pooled covariance."""
        n = max(float(self.count.sum()), 1.0)
        mean = self.total.sum(axis=0) / n
        of_class = self.total / np.maximum(self.count, 1)[:, None]
        within = (self.gram - (of_class.T * self.count) @ of_class) / n
        offset = np.where(self.count[:, None] > 0, of_class - mean, 0)
        return Moments(self.count, mean, offset, within)


@dataclass(frozen=True, eq=False)
class Moments:
    """What a discriminant needs to know.

    Attributes:
        count: windows of each class, `(K,)`.
        mean: of all windows, `(D,)`.
        offset: mean of each class minus `mean`, `(K, D)`; 0 for a class without windows.
        within: covariance inside classes, pooled, `(D, D)`.
    """

    count: Doubles
    mean: Doubles
    offset: Doubles
    within: Doubles

    def solve(self, shrink: float, log_prior: Doubles) -> tuple[Doubles, Doubles]:
        """Weights and bias of the discriminant.

        Args:
            shrink: share of a multiple of the identity in the covariance, 0..1.
            log_prior: `(K,)`.

        Returns:
            `(D, K)` and `(K,)`, for columns that are not centred; a class without windows gets the least
            of all biases, so that it is never the answer.
        """
        weights = solve_shrunk(self.within, self.offset.T, shrink)
        bias = -0.5 * (self.offset.T * weights).sum(axis=0) + log_prior - self.mean @ weights
        return weights, np.where(self.count > 0, bias, NEVER)


def solve_shrunk(
    within: NDArray[Any], right: NDArray[Any], shrink: float, target: Doubles | None = None
) -> NDArray[Any]:
    """`((1 - l) S + l diag(t))^-1 R`, whatever the rank of S.

    Args:
        within: `S`, `(D, D)`.
        right: `R`, `(D, K)`.
        shrink: `l`, 0..1.
        target: `t`, `(D,)`; `None` means the mean of the diagonal of S everywhere.

    Returns:
        `(D, K)`, of the type of `within`; 0 where nothing varies.
    """
    d = len(within)
    level = np.full(d, np.trace(within) / max(d, 1)) if target is None else target
    if d == 0 or not level.max() > 0:
        return np.zeros_like(right)
    matrix = (1 - shrink) * within
    matrix.flat[:: d + 1] += ((shrink + 1e-9) * level + 1e-9 * level.max()).astype(within.dtype)
    try:
        return np.asarray(np.linalg.solve(matrix, right))
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(matrix, right, rcond=1e-9)[0])


def log_softmax(logits: NDArray[Any]) -> Doubles:
    """Log probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def as_scores(logits: NDArray[Any]) -> Doubles:
    """Log probabilities, floored and centred over the classes: what an expert hands on, `(N, K)`."""
    scores = np.maximum(log_softmax(logits), FLOOR)
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))
