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


def grow(x: Floats, y: NDArray[Any], n_classes: int, *, trees: int, leaves: int, seed: int = 0) -> Trees:
    """Grow small trees.

    Args:
        x: `(N, F)`, no NaN.
        y: classes `(N,)`, or numbers `(N, K)`.
        n_classes: `K`; classes that do not occur get probability 0.
        trees: how many.
        leaves: of a tree, at most.
        seed: of the choice of features and thresholds.

    Returns:
        Trees that give scikit-learn's probabilities or numbers.
    """
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    numbers = y.ndim == 2
    some = max(3, x.shape[1] // 3) if numbers else max(3, int(2 * np.sqrt(x.shape[1])))
    shape: dict[str, Any] = {
        "max_leaf_nodes": leaves,
        "max_features": min(x.shape[1], some),
        "min_samples_leaf": 2 if len(x) >= 100 else 1,
        "random_state": seed,
        "n_jobs": 1,
    }
    if numbers:
        return from_forest(ExtraTreesRegressor(trees, **shape).fit(x, y.squeeze(1) if n_classes == 1 else y))
    return from_forest(ExtraTreesClassifier(trees, class_weight="balanced", **shape).fit(x, y), n_classes)


def from_forest(model: Any, n_classes: int | None = None) -> Trees:
    """Arrays of a fitted `ExtraTreesClassifier`, `RandomForestClassifier` or a regressor of the kind.

    Args:
        model: fitted on data without NaN.
        n_classes: `K`, at least those the model knows; `None` for numbers.
    """
    numbers = n_classes is None
    there = np.arange(model.n_outputs_) if numbers else np.asarray(model.classes_, dtype=np.int64)
    columns: list[tuple[NDArray[Any], ...]] = []
    root = []
    depth = nodes = leaves = 0
    for one in model.estimators_:
        tree = one.tree_
        leaf = tree.children_left < 0
        count = int(leaf.sum())
        row = np.cumsum(leaf) - 1 + leaves
        share = tree.value[leaf, :, 0] if numbers else tree.value[leaf, 0, :]
        value = np.zeros((count, n_classes or len(there)), dtype=np.float32)
        value[:, there] = share if numbers else share / np.maximum(share.sum(axis=1, keepdims=True), 1e-30)
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
        numbers=numbers,
    )


def rounded_down(threshold: NDArray[np.float64]) -> Floats:
    """Largest float32 that is not above: decides for every float32 as the float64 does."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)
