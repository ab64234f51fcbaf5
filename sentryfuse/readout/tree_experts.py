"""Trees on each sensor, on all sensors and on all but one, with their out-of-person answers.

Notation: N windows · F features · K classes · M sensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sentryfuse.readout.candidates import Task
from sentryfuse.readout.discriminant import Doubles, as_scores
from sentryfuse.readout.grow import grow
from sentryfuse.readout.trees import Floats, Trees

Grown = dict[tuple[str, ...], Trees]
MOST_SENSORS = 8  # above it no ensembles for all but one
MOST_BYTES = 240_000  # of all ensembles together, about
_TREES = 30
_LEAVES = 64
_FEWEST = 12  # leaves below which trees are not worth their bytes
_MOST_WINDOWS = 6000  # to learn from; more are thinned


def sets_of(sensors: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Sets of sensors that have trees: each alone, all, all but one."""
    sets: list[tuple[str, ...]] = [(s,) for s in sensors]
    if len(sensors) > 1:
        sets.append(sensors)
    if 2 < len(sensors) <= MOST_SENSORS:
        sets += [tuple(s for s in sensors if s != out) for out in sensors]
    return sets


def tree_experts(
    task: Task, z: Mapping[str, Floats], wanted: bool | None, seed: int
) -> tuple[Grown, dict[tuple[str, ...], Doubles]]:
    """Grow trees for the sets that have them, out of person and on all windows.

    Args:
        task: the training windows.
        z: sensor -> standardised features `(N, F)`.
        wanted: False for none; `None` grows them where so many classes leave room for them.
        seed: of the choice of features.

    Returns:
        The trees by set, and their out-of-person scores, `(N, K)` each.
    """
    sets = sets_of(task.sensors)
    leaves = min(_LEAVES, MOST_BYTES // (len(sets) * _TREES * (32 + 4 * task.n_classes)))
    if wanted is False or (wanted is None and leaves < _FEWEST):
        return {}, {}
    leaves = max(leaves, _FEWEST)

    def make(x: Floats, rows: NDArray[np.intp]) -> Trees:
        rows = rows if len(rows) else np.arange(len(x))
        return grow(x[rows], task.y[rows], task.n_classes, trees=_TREES, leaves=leaves, seed=seed)

    return by_set(task, z, sets, make, seed)


def by_set(
    task: Task,
    z: Mapping[str, Floats],
    sets: Sequence[tuple[str, ...]],
    make: Callable[[Floats, NDArray[np.intp]], Trees | None],
    seed: int,
) -> tuple[Grown, dict[tuple[str, ...], Doubles]]:
    """Trees of each set, and what they answer for people left out.

    Args:
        task: the training windows.
        z: sensor -> standardised features `(N, F)`.
        sets: of sensors.
        make: trees from features of a set and the windows to learn from; `None` where those do not do.
        seed: of the choice of windows where there are too many.

    Returns:
        The trees by set, and their out-of-person scores, `(N, K)` each.
    """
    column = {s: m for m, s in enumerate(task.sensors)}

    def of_set(names: tuple[str, ...]) -> tuple[Trees, Doubles] | None:
        x = np.concatenate([z[s] for s in names], axis=1)
        rows = task.present[:, [column[s] for s in names]].any(axis=1)
        whole = make(x, _thinned(rows, seed))
        if whole is None:
            return None
        mine = np.zeros((len(task.y), task.n_classes))
        for f in range(task.n_folds):
            out = task.fold == f
            inside = rows & (~out if task.n_folds > 1 else out)
            trees = make(x, _thinned(inside, seed)) if inside.any() and (out & rows).any() else None
            if trees is not None:
                mine[out & rows] = as_scores(trees.logits(x[out & rows]), numbers=task.numbers)
        return whole, mine

    # one after another: scikit-learn changes the filters of warnings as it goes, which threads would mix up
    found = {names: made for names in sets if (made := of_set(names)) is not None}
    return {names: made[0] for names, made in found.items()}, {n: made[1] for n, made in found.items()}


def _thinned(rows: NDArray[np.bool_] | np.bool_, seed: int) -> NDArray[np.intp]:
    chosen = np.flatnonzero(rows)
    if len(chosen) > _MOST_WINDOWS:
        chosen = np.random.default_rng(seed).choice(chosen, _MOST_WINDOWS, replace=False)
    return chosen
