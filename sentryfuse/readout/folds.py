"""Folds that keep a person's windows together, and what to do where that cannot be.

Notation: N windows · K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.intp]

N_FOLDS = 5
_MANY = 60  # groups above which they are dealt out by chance within classes


def folds_of(
    y: NDArray[np.integer[Any]], subject: NDArray[np.integer[Any]], n_classes: int, seed: int = 0
) -> Ints:
    """Fold of each window, people kept together and classes spread.

    A class seen in one person only would vanish with that person. The windows of such a class are cut into
    runs in time instead, one for each fold; with a single person that happens to all of them.

    Args:
        y: class of each window, `(N,)`.
        subject: `(N,)`.
        n_classes: `K`.
        seed: of the order in which equals are dealt out.

    Returns:
        `(N,)`, 0 .. at most 4; every fold that is named has a window.
    """
    rng = np.random.default_rng(seed)
    people, who = np.unique(subject, return_inverse=True)
    table = np.zeros((len(people), n_classes))
    np.add.at(table, (who, y), 1)
    fold = _deal(table, rng)[who]
    for k in np.flatnonzero((table > 0).sum(axis=0) == 1):
        mine = np.flatnonzero(y == k)
        parts = min(N_FOLDS, len(mine))
        fold[mine] = np.arange(len(mine)) * parts // len(mine)
    return np.unique(fold, return_inverse=True)[1].astype(np.intp)


def _deal(table: NDArray[np.float64], rng: np.random.Generator) -> Ints:
    """Fold of each group, given its windows of each class `(groups, K)`."""
    groups = len(table)
    if groups <= N_FOLDS:
        return np.arange(groups, dtype=np.intp)
    order = rng.permutation(groups)
    result = np.zeros(groups, dtype=np.intp)
    if groups > _MANY:
        rare = table / np.maximum(table.sum(axis=0), 1)
        order = order[np.argsort(rare[order].argmax(axis=1), kind="stable")]
        result[order] = np.arange(groups) % N_FOLDS
        return result
    share = table / np.maximum(table.sum(axis=0), 1)
    held = np.zeros((N_FOLDS, table.shape[1]))
    size = np.zeros(N_FOLDS)
    most = -(-groups // N_FOLDS)
    for group in order[np.argsort(-table[order].sum(axis=1), kind="stable")]:
        cost = ((held + share[group]) ** 2).sum(axis=1) - (held**2).sum(axis=1) + 0.01 * size
        cost[size >= most] = np.inf
        best = int(cost.argmin())
        result[group] = best
        held[best] += share[group]
        size[best] += 1
    return result


def are_known(subject: NDArray[Any]) -> bool:
    """Whether there are people enough, with windows enough each, to ask what is a person's own."""
    people = len(np.unique(subject))
    return people > 2 and len(subject) >= 10 * people
