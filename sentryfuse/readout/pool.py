"""Weights under which several heads are multiplied: few numbers, fitted on answers for people not seen.

Notation: N windows · H heads · K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.readout.discriminant import Doubles, log_softmax

_UNEVEN = 0.2  # share of the smaller of two classes
_ENOUGH = 3000  # windows that tell a temperature


def pooled_loss(heads: Doubles, y: NDArray[np.integer[Any]], weights: Doubles) -> float:
    """Mean negative log likelihood of the heads multiplied under some weights [nat]."""
    log = log_softmax(np.tensordot(heads, weights, axes=([1], [0])))
    return float(-log[np.arange(len(y)), y].mean())


def fit_pool(
    heads: Doubles,
    y: NDArray[np.integer[Any]],
    *,
    towards: Doubles,
    strength: float = 0.01,
    steps: int = 25,
) -> Doubles:
    """Non-negative weights of least log loss, drawn towards given ones.

    Args:
        heads: scores of each head, `(N, H, K)`, made out of person.
        y: `(N,)`.
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


def badness(scores: Doubles, y: NDArray[np.integer[Any]]) -> float:
    """Log loss of one head under its own best temperature [nat], plus its share of wrong answers.

    Log loss alone prefers shrinkage that is modest rather than right. With two very uneven classes the share
    of wrong answers says nothing and is left out.
    """
    some = sample_of(len(y), _ENOUGH)
    heads, y = scores[some, None, :], y[some]
    if len(y) == 0:
        return np.inf
    loss = pooled_loss(heads, y, fit_pool(heads, y, towards=np.ones(1), strength=1e-4, steps=8))
    count = np.bincount(y, minlength=scores.shape[1])
    if scores.shape[1] == 2 and count.min() < _UNEVEN * len(y):
        return loss
    return loss + float((heads[:, 0].argmax(axis=1) != y).mean())


def sample_of(n: int, most: int) -> NDArray[np.intp]:
    """At most so many of `n` windows, ascending, always the same ones."""
    if n <= most:
        return np.arange(n, dtype=np.intp)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False)).astype(np.intp)
