"""Boosted trees of scikit-learn, turned into plain arrays.

Training side only: scikit-learn is imported when a tree is grown.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.readout.trees import Floats, Trees


def grow(
    x: Floats,
    y: NDArray[np.integer[Any]],
    n_classes: int,
    *,
    rounds: int,
    leaves: int = 6,
    rate: float = 0.1,
    seed: int = 0,
) -> Trees:
    """Boost shallow trees.

    Args:
        x: `(N, F)`, no NaN.
        y: `(N,)`.
        n_classes: `K`; classes that do not occur get a logit that is never the answer.
        rounds: trees for each class.
        leaves: of a tree, at most.
        rate: step of boosting.
        seed: of the choice of features.

    Returns:
        Trees that give scikit-learn's decision function, bit for bit up to float32.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    there = np.unique(y)
    base = np.full(n_classes, -30.0, dtype=np.float32)
    if len(there) < 2:
        base[there] = 0
        nothing = np.zeros(0, dtype=np.int32)
        empty = np.zeros(0, dtype=np.float32)
        return Trees(nothing, empty, nothing, nothing, empty, nothing, nothing, base, 0)
    model = HistGradientBoostingClassifier(
        max_iter=rounds,
        learning_rate=rate,
        max_leaf_nodes=leaves,
        min_samples_leaf=int(np.clip(len(x) // 50, 2, 20)),
        max_features=min(1.0, max(0.1, 60 / x.shape[1])),
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, y)
    return from_boosting(model, n_classes)


def from_boosting(model: Any, n_classes: int) -> Trees:
    """Arrays of a fitted `HistGradientBoostingClassifier`.

    Args:
        model: fitted on data without NaN and without categories.
        n_classes: `K`, at least those the model knows.
    """
    there = np.asarray(model.classes_, dtype=np.int32)
    base = np.full(n_classes, -30.0, dtype=np.float32)
    start = np.ravel(model._baseline_prediction).astype(np.float32)
    targets = there if len(there) > 2 else there[1:]
    base[there] = 0
    base[targets] = start
    nodes, root, target = [], [], []
    depth = at = 0
    for stage in model._predictors:
        for which, tree in enumerate(stage):
            table = tree.nodes
            own = np.arange(len(table)) + at
            leaf = table["is_leaf"].astype(bool)
            left = np.where(leaf, own, table["left"].astype(np.int64) + at)
            right = np.where(leaf, own, table["right"].astype(np.int64) + at)
            nodes.append((table["feature_idx"], table["num_threshold"], left, right, table["value"], leaf))
            root.append(at)
            target.append(targets[which])
            depth = max(depth, int(table["depth"].max()))
            at += len(table)
    columns = [np.concatenate(c) for c in zip(*nodes, strict=True)]
    leaf = columns[5]
    return Trees(
        feature=np.where(leaf, 0, columns[0]).astype(np.int32),
        threshold=_rounded_down(np.where(leaf, 0, columns[1])),
        left=columns[2].astype(np.int32),
        right=columns[3].astype(np.int32),
        value=np.where(leaf, columns[4], 0).astype(np.float32),
        root=np.array(root, dtype=np.int32),
        target=np.array(target, dtype=np.int32),
        base=base,
        depth=depth,
    )


def _rounded_down(threshold: NDArray[np.float64]) -> Floats:
    """Largest float32 that is not above: decides for every float32 as the float64 does."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)
