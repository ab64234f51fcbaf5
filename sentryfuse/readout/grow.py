"""Extremely randomised trees of scikit-learn, turned into plain arrays.

Training side only: scikit-learn is imported when a tree is grown.

Source:
    Geurts, Ernst and Wehenkel (2006). Few leaves and even class weights are our choice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.readout.trees import Floats, Trees


def grow(
    x: Floats, y: NDArray[np.integer[Any]], n_classes: int, *, trees: int, leaves: int, seed: int = 0
) -> Trees:
    """Grow small trees.

    Args:
        x: `(N, F)`, no NaN.
        y: `(N,)`.
        n_classes: `K`; classes that do not occur get probability 0.
        trees: how many.
        leaves: of a tree, at most.
        seed: of the choice of features and thresholds.

    Returns:
        Trees that give scikit-learn's probabilities.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    model = ExtraTreesClassifier(
        trees,
        max_leaf_nodes=leaves,
        max_features=min(x.shape[1], max(3, int(2 * np.sqrt(x.shape[1])))),
        min_samples_leaf=2 if len(x) >= 100 else 1,
        class_weight="balanced",
        random_state=seed,
        n_jobs=1,
    )
    model.fit(x, y)
    return from_forest(model, n_classes)


def from_forest(model: Any, n_classes: int) -> Trees:
    """Arrays of a fitted `ExtraTreesClassifier` or `RandomForestClassifier`.

    Args:
        model: fitted on data without NaN.
        n_classes: `K`, at least those the model knows.
    """
    there = np.asarray(model.classes_, dtype=np.int64)
    columns: list[tuple[NDArray[Any], ...]] = []
    root = []
    depth = nodes = leaves = 0
    for one in model.estimators_:
        tree = one.tree_
        leaf = tree.children_left < 0
        count = int(leaf.sum())
        row = np.cumsum(leaf) - 1 + leaves
        share = tree.value[leaf, 0, :]
        value = np.zeros((count, n_classes), dtype=np.float32)
        value[:, there] = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-30)
        left = np.where(leaf, row, tree.children_left + nodes)
        right = np.where(leaf, 0, tree.children_right + nodes)
        threshold = rounded_down(np.where(leaf, 0.0, tree.threshold))
        columns.append((np.where(leaf, -1, tree.feature), threshold, left, right, value))
        root.append(nodes)
        depth = max(depth, int(tree.max_depth))
        nodes += tree.node_count
        leaves += count
    feature, threshold, left, right, value = (np.concatenate(c) for c in zip(*columns, strict=True))
    return Trees(
        feature.astype(np.int32),
        threshold.astype(np.float32),
        left.astype(np.int32),
        right.astype(np.int32),
        value,
        np.array(root, dtype=np.int32),
        depth,
    )


def rounded_down(threshold: NDArray[np.float64]) -> Floats:
    """Largest float32 that is not above: decides for every float32 as the float64 does."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)
