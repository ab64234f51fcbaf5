"""Gradient boosting of scikit-learn on the features that trees use most, turned into plain arrays.

Training side only: scikit-learn is imported when something is boosted.

Notation: N windows · F features · K classes · V nodes.

Source:
    Friedman (2001), as histograms (Ke et al. 2017). Few rounds of small trees, and the features they may look
    at, are our choice, made on folds of people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.readout.candidates import Task
from sentryfuse.readout.discriminant import Doubles
from sentryfuse.readout.grow import grow, rounded_down
from sentryfuse.readout.tree_experts import MOST_SENSORS, Grown, by_set
from sentryfuse.readout.trees import Floats, Trees

MOST_BYTES = 300_000  # of all ensembles together, about
_ROUNDS, _FEWEST_ROUNDS = 40, 12
_PACE = 6.0  # rounds x learning rate
_LEAVES = 15
_FEATURES = 128


def boosted_sets(sensors: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Sets of sensors that have boosted trees: all, all but one."""
    sets = [sensors]
    if 1 < len(sensors) <= MOST_SENSORS:
        sets += [tuple(s for s in sensors if s != out) for out in sensors]
    return sets


def boosted_trees(
    task: Task, z: Mapping[str, Floats], sets: Sequence[tuple[str, ...]], seed: int
) -> tuple[Grown, dict[tuple[str, ...], Doubles]]:
    """Boost for some of the sets that have them, out of person and on all windows.

    Args:
        task: the training windows.
        z: sensor -> standardised features `(N, F)`.
        sets: some of `boosted_sets`.
        seed: of the choice of features.

    Returns:
        The trees by set, and their out-of-person scores, `(N, K)` each; nothing where so many classes leave
        no room for enough rounds, or one class is all there is.
    """
    if task.numbers and task.n_classes > 1:  # scikit-learn boosts one number
        return {}, {}
    per_round = (1 if task.n_classes == 2 else task.n_classes) * _LEAVES * (32 + 4 * task.n_classes)
    rounds = min(_ROUNDS, MOST_BYTES // (len(boosted_sets(task.sensors)) * per_round))
    if rounds < _FEWEST_ROUNDS or task.n_folds < 2 or len(np.unique(task.y)) < 2:
        return {}, {}

    def make(x: Floats, rows: NDArray[np.intp]) -> Trees | None:
        if len(np.unique(task.y[rows])) < 2:
            return None
        return boost(x[rows], task.y[rows], task.n_classes, rounds=rounds, seed=seed)

    return by_set(task, z, sets, make, seed)


def boost(x: Floats, y: NDArray[Any], n_classes: int, *, rounds: int, seed: int) -> Trees:
    """Boost small trees.

    Args:
        x: `(N, F)`, no NaN.
        y: `(N,)`, of two classes at least; or one number each, `(N, 1)`.
        n_classes: `K`; classes that do not occur are left behind by all others.
        rounds: trees for each class (one for two classes).
        seed: of the choice of features.

    Returns:
        Trees whose leaves add up to scikit-learn's logits.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    columns = np.arange(x.shape[1])
    if len(columns) > _FEATURES:
        first = grow(x, y, n_classes, trees=20, leaves=64, seed=seed)
        used = np.bincount(first.feature[first.feature >= 0], minlength=len(columns))
        columns = np.sort(np.argsort(-used, kind="stable")[:_FEATURES])
    numbers = y.ndim == 2
    model = (HistGradientBoostingRegressor if numbers else HistGradientBoostingClassifier)(
        max_iter=rounds,
        learning_rate=_PACE / rounds,
        max_leaf_nodes=_LEAVES,
        max_bins=63,
        max_features=0.3,
        min_samples_leaf=min(20, max(2, len(x) // 50)),
        early_stopping=False,
        random_state=seed,
    )
    with threadpool_limits(1):  # on so little, threads mostly wait for each other
        model.fit(np.ascontiguousarray(x[:, columns]), y.squeeze(1) if numbers else y)
    return from_boosting(model, n_classes, columns, numbers=numbers)


def from_boosting(model: Any, n_classes: int, columns: NDArray[np.intp], *, numbers: bool = False) -> Trees:
    """Arrays of a fitted `HistGradientBoostingClassifier` or, for numbers, `HistGradientBoostingRegressor`.

    Args:
        model: fitted on data without NaN.
        n_classes: `K`, at least those the model knows.
        columns: of the features, those the model was given.
        numbers: whether it is of numbers.
    """
    there = np.arange(1) if numbers else np.asarray(model.classes_, dtype=np.int64)
    start = np.full(n_classes, -20.0)
    base = np.asarray(model._baseline_prediction, dtype=np.float64).ravel()
    start[there] = np.array([0.0, base[0]]) if len(there) == 2 else base
    parts: list[tuple[NDArray[Any], ...]] = []
    root = []
    nodes_before = leaves_before = depth = 0
    for turn in model._predictors:
        for at, predictor in enumerate(turn):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            row = np.cumsum(leaf) - 1 + leaves_before
            value = np.zeros((int(leaf.sum()), n_classes))
            value[:, there[1] if len(there) == 2 else there[at]] = nodes["value"][leaf]
            if not parts:  # the first tree brings what all start from
                value += start
            left = np.where(leaf, row, nodes["left"].astype(np.int64) + nodes_before)
            right = np.where(leaf, 0, nodes["right"].astype(np.int64) + nodes_before)
            looks = np.where(leaf, -1, columns[np.where(leaf, 0, nodes["feature_idx"])])
            parts.append(
                (looks, rounded_down(np.where(leaf, 0.0, nodes["num_threshold"])), left, right, value)
            )
            root.append(nodes_before)
            depth = max(depth, int(nodes["depth"].max(initial=0)))
            nodes_before += len(nodes)
            leaves_before += int(leaf.sum())
    feature, threshold, left, right, value = (np.concatenate(c) for c in zip(*parts, strict=True))
    return Trees(
        feature.astype(np.int32),
        threshold.astype(np.float32),
        left.astype(np.int32),
        right.astype(np.int32),
        value.astype(np.float32),
        np.array(root, dtype=np.int32),
        depth,
        adds=True,
        numbers=numbers,
    )
