"""Weights under which several heads are multiplied: few numbers, fitted on answers for people not seen.

Notation: N windows · H heads · K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.readout.discriminant import Doubles, log_softmax, pooled

_NOISE = 0.5  # standard errors over folds within which settings are equals
_UNEVEN = 0.2  # share of the smaller of two classes
_ENOUGH = 3000  # windows that tell a temperature


def pooled_loss(heads: Doubles, y: NDArray[np.integer[Any]], weights: Doubles) -> float:
    """Mean negative log likelihood of the heads multiplied under some weights [nat]."""
    log = pooled(heads, weights)
    return float(-log[np.arange(len(y)), y].mean())


def fit_pool(
    heads: Doubles,
    y: NDArray[Any],
    *,
    towards: Doubles,
    strength: float = 0.01,
    steps: int = 25,
) -> Doubles:
    """Non-negative weights of least log loss, or of numbers least squared error, drawn towards given ones.

    Args:
        heads: scores of each head, `(N, H, K)`, made out of person.
        y: `(N,)`; numbers `(N, K)`.
        towards: weights that a penalty draws to, `(H,)`.
        strength: of the penalty.
        steps: of Newton's method, at most.

    Returns:
        `(H,)`.
    """
    n, h, _ = heads.shape
    weights = np.maximum(towards, 0).astype(np.float64)
    if n == 0 or h == 0:
        return weights
    if y.ndim == 2:
        return _least_squares(heads, y, towards, strength)
    own = heads[np.arange(n), :, y]

    def value(w: Doubles) -> float:
        return pooled_loss(heads, y, w) + 0.5 * strength * float(((w - towards) ** 2).sum())

    best = value(weights)
    for _ in range(steps):
        p = np.exp(log_softmax(np.tensordot(heads, weights, axes=([1], [0]))))
        expected = np.einsum("nhk,nk->nh", heads, p)
        slope = (expected - own).mean(axis=0) + strength * (weights - towards)
        scaled = heads * np.sqrt(p)[:, None, :]
        curve = np.einsum("nhk,ngk->hg", scaled, scaled, optimize=True) / n - expected.T @ expected / n
        curve += (strength + 1e-8) * np.eye(h)
        free = (weights > 0) | (slope < 0)
        if not free.any():
            break
        step = np.zeros(h)
        step[free] = np.linalg.solve(curve[np.ix_(free, free)], -slope[free])
        size = 1.0
        moved = False
        while size > 1e-3:
            trial = np.maximum(weights + size * step, 0)
            now = value(trial)
            if now < best - 1e-9:
                moved = best - now > 1e-7
                weights, best = trial, now
                break
            size /= 2
        if not moved:
            break
    return weights


def _least_squares(heads: Doubles, y: NDArray[Any], towards: Doubles, strength: float) -> Doubles:
    """Non-negative weights under which heads add up to numbers, by coordinate descent."""
    n, h, k = heads.shape
    a = heads.transpose(0, 2, 1).reshape(n * k, h)
    gram = a.T @ a / (n * k) + strength * np.eye(h)
    right = a.T @ y.reshape(-1) / (n * k) + strength * towards
    weights = np.maximum(towards, 0).astype(np.float64)
    for _ in range(500):
        before = weights.copy()
        for i in range(h):
            rest = right[i] - gram[i] @ weights + gram[i, i] * weights[i]
            weights[i] = max(0.0, rest / gram[i, i])
        if np.abs(weights - before).max() < 1e-7:
            break
    return weights


def badness(scores: Doubles, y: NDArray[Any]) -> Doubles:
    """Log loss of each window at the head's own best temperature [nat], plus one where the answer is wrong.

    Of numbers their squared error, mean over them.

    Log loss alone prefers shrinkage that is modest rather than right. With two very uneven classes wrong
    answers say nothing and are left out.

    Args:
        scores: of one head, made out of person, `(N, K)`.
        y: `(N,)`; numbers `(N, K)`.

    Returns:
        `(N,)`.
    """
    if y.ndim == 2:
        return np.asarray(((scores - y) ** 2).mean(axis=1))
    some = sample_of(len(y), _ENOUGH)
    weight = fit_pool(scores[some, None, :], y[some], towards=np.ones(1), strength=1e-4, steps=8)
    bad = -log_softmax(scores * weight[0])[np.arange(len(y)), y]
    count = np.bincount(y, minlength=scores.shape[1])
    if scores.shape[1] == 2 and count.min() < _UNEVEN * len(y):
        return np.asarray(bad)
    return np.asarray(bad + (scores.argmax(axis=1) != y))


def choose(bad: Sequence[Doubles], fold: NDArray[np.intp], liking: Sequence[float]) -> int:
    """Which of several settings to take: of those not clearly worse than the best, the one liked most.

    Args:
        bad: of each setting, `badness` of each window, `(N,)`.
        fold: of each window, `(N,)`.
        liking: of each setting, what to prefer where folds cannot tell.

    Returns:
        Index of the setting.
    """
    if len(fold) == 0:
        return int(np.argmax(liking))
    folds = np.unique(fold)
    of_fold = np.array([[b[fold == f].mean() for f in folds] for b in bad])
    best = int(of_fold.mean(axis=1).argmin())
    found = best
    for i, own in enumerate(of_fold):
        gap = own - of_fold[best]
        noise = gap.std(ddof=1) / np.sqrt(len(folds)) if len(folds) > 1 else 0.0
        if gap.mean() <= _NOISE * noise and liking[i] > liking[found]:
            found = i
    return found


def sample_of(n: int, most: int) -> NDArray[np.intp]:
    """At most so many of `n` windows, ascending, always the same ones."""
    if n <= most:
        return np.arange(n, dtype=np.intp)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False)).astype(np.intp)
