"""Linear discriminants from moments, with shrinkage; for any subset of the columns from the same moments.

Where numbers are asked for in place of classes the same formulas give ridge regression: the covariance is
that of all windows, and what stands for the offset of a class is the covariance with a number.

Notation: N windows · D columns · K classes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.readout.positive import solve_positive

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
    def of(cls, a: NDArray[Any], y: NDArray[Any], n_classes: int) -> Sums:
        """Sums over `(N, D)` columns that are near mean 0; `y` holds classes `(N,)` or numbers `(N, K)`."""
        a = a.astype(np.float64, copy=False) if a.shape[1] <= 128 else a
        if y.ndim == 2:
            return NumberSums.of_numbers(a, y)
        one_hot = (y[:, None] == np.arange(n_classes)).astype(a.dtype)
        return cls(
            np.bincount(y, minlength=n_classes).astype(np.float64),
            (one_hot.T @ a).astype(np.float64),
            (a.T @ a).astype(np.float64),
        )

    def __add__(self, other: Sums) -> Sums:
        return type(self)(self.count + other.count, self.total + other.total, self.gram + other.gram)

    def __sub__(self, other: Sums) -> Sums:
        return type(self)(self.count - other.count, self.total - other.total, self.gram - other.gram)

    def moments(self) -> Moments:
        """Means and pooled covariance."""
        n = max(float(self.count.sum()), 1.0)
        mean = self.total.sum(axis=0) / n
        of_class = self.total / np.maximum(self.count, 1)[:, None]
        within = (self.gram - (of_class.T * self.count) @ of_class) / n
        offset = np.where(self.count[:, None] > 0, of_class - mean, 0)
        return Moments(self.count, mean, offset, within)


@dataclass(frozen=True, eq=False)
class NumberSums(Sums):
    """The same for numbers: the last row of `count` and `total` is of the windows themselves."""

    @classmethod
    def of_numbers(cls, a: NDArray[Any], y: NDArray[Any]) -> NumberSums:
        """Sums over `(N, D)` columns and `(N, K)` numbers, both near mean 0."""
        right = np.concatenate([y, np.ones((len(y), 1))], axis=1).astype(a.dtype)
        return cls(
            right.sum(axis=0, dtype=np.float64),
            (right.T @ a).astype(np.float64),
            (a.T @ a).astype(np.float64),
        )

    def moments(self) -> Moments:
        """Means and covariances."""
        n = max(float(self.count[-1]), 1.0)
        mean, level = self.total[-1] / n, self.count[:-1] / n
        offset = self.total[:-1] / n - level[:, None] * mean
        within = self.gram / n - mean[:, None] * mean
        return Moments(np.full(len(level), self.count[-1]), mean, offset, within, numbers=True)


@dataclass(frozen=True, eq=False)
class Moments:
    """What a discriminant or a regression needs to know.

    Attributes:
        count: windows of each class, `(K,)`.
        mean: of all windows, `(D,)`.
        offset: mean of each class minus `mean`, `(K, D)`; 0 for a class without windows. Of numbers the
            covariance with each.
        within: covariance inside classes, pooled, `(D, D)`; of numbers that of all windows.
        numbers: whether they are of numbers.
    """

    count: Doubles
    mean: Doubles
    offset: Doubles
    within: Doubles
    numbers: bool = False

    def part(self, at: NDArray[np.intp]) -> Moments:
        """Those of some columns."""
        return replace(
            self, mean=self.mean[at], offset=self.offset[:, at], within=self.within[np.ix_(at, at)]
        )

    def bias(self, weights: Doubles) -> Doubles:
        """What goes with weights `(D, K)`, even priors, `(K,)`; the least of all for a class never seen."""
        bias = -self.mean @ weights
        if self.numbers:
            return np.asarray(bias)
        bias = bias - 0.5 * (self.offset.T * weights).sum(axis=0)
        return np.where(self.count > 0, bias, NEVER)

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
        return weights, np.maximum(self.bias(weights) + log_prior, NEVER)


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
    for solve in (solve_positive, np.linalg.solve):
        with suppress(np.linalg.LinAlgError):
            return np.asarray(solve(matrix, right))
    return np.asarray(np.linalg.lstsq(matrix, right, rcond=1e-9)[0])


def pooled(heads: Doubles, weights: Doubles, *, numbers: bool = False) -> Doubles:
    """Heads `(N, H, K)` under weights `(H,)`: log probabilities, or numbers added up, `(N, K)`."""
    total = np.tensordot(heads, weights, axes=([1], [0]))
    return np.asarray(total) if numbers else log_softmax(total)


def log_softmax(logits: NDArray[Any]) -> Doubles:
    """Log probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def as_scores(logits: NDArray[Any], *, numbers: bool = False) -> Doubles:
    """Log probabilities, floored and centred over the classes: what an expert hands on, `(N, K)`.

    Numbers are handed on as they are.
    """
    if numbers:
        return logits.astype(np.float64)
    scores = np.maximum(log_softmax(logits), FLOOR)
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))
