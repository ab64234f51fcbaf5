"""Ensembles of trees in a graph; the same answers as `sentryfuse.readout.trees`.

Where the engine has an operator for trees, all ensembles are one node that tells which leaf each tree ends
in. Elsewhere they are products: every comparison of a tree times the paths to its leaves counts how many
agree, and the leaf with which all agree is the one.

Notation: B windows · F columns · T trees · V nodes of a tree · L leaves of a tree · K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.graph import wire
from sentryfuse.graph.writer import Array, Graph
from sentryfuse.readout.trees import UNSEEN, Trees

Ints = NDArray[np.int64]
MOST_PATHS = 4_000_000  # numbers of the matrix of paths of all trees


class Placed(NamedTuple):
    """An ensemble and where its features stand.

    Attributes:
        trees: the ensemble.
        columns: of the value the trees read, for each of their features.
    """

    trees: Trees
    columns: Ints


def write_trees(graph: Graph, z: str, ensembles: Sequence[Placed]) -> str:
    """Logits of every ensemble.

    Args:
        graph: to write into.
        z: name of `(B, F)`, without NaN.
        ensembles: at least one; each tree's nodes stand one after the other, its root first.

    Returns:
        Name of `(B, ensembles, K)`, log probabilities before they are made to add up to one; or numbers.

    Raises:
        ConfigError: trees that are too large for an engine without an operator for them.
    """
    rows = _leaves_by_node(graph, z, ensembles) if graph.fused else _leaves_by_products(graph, z, ensembles)
    sizes = [len(placed.trees.root) for placed in ensembles]
    k = ensembles[0].trees.value.shape[1]
    if len(set(sizes)) == 1:
        means = graph.reduce("Mean", graph.reshape(rows, -1, len(sizes), sizes[0], k), 2)
    else:
        parts = graph.split(rows, 1, sizes)
        means = graph.op("Concat", *(graph.reduce("Mean", part, 1, keep=1) for part in parts), axis=1)
    if ensembles[0].trees.numbers:
        return means
    return graph.op("Log", graph.op("Add", means, graph.hold(UNSEEN / k)))


def write_boosted(graph: Graph, z: str, ensemble: Placed) -> str:
    """Sum of the leaves that a window reaches, as logits.

    Args:
        graph: to write into.
        z: name of `(B, F)`, without NaN.
        ensemble: trees whose leaves add up; each tree's nodes stand one after the other, its root first.

    Returns:
        Name of `(B, K)`.

    Raises:
        ConfigError: trees that are too large for an engine without an operator for them.
    """
    trees = ensemble.trees
    if not graph.fused:
        return graph.reduce("Sum", _leaves_by_products(graph, z, [ensemble]), 1)
    nodes = _nodes(ensemble)
    counts = trees.value != 0
    counts[~counts.any(axis=1), 0] = True  # a leaf without a number is no leaf to the engine
    row, k = np.nonzero(counts)
    leaf = np.flatnonzero(trees.feature < 0)
    at = leaf[np.argsort(trees.left[leaf], kind="stable")][row]
    targets = {
        "target_treeids": nodes["nodes_treeids"][at],
        "target_nodeids": nodes["nodes_nodeids"][at],
        "target_ids": k,
        "target_weights": trees.value[row, k],
    }
    return _by_operator(graph, z, trees.value.shape[1], trees.feature < 0, {**nodes, **targets})


def _leaves_by_node(graph: Graph, z: str, ensembles: Sequence[Placed]) -> str:
    """Probabilities of the leaf that each tree ends in, `(B, T, K)`."""
    found: list[dict[str, NDArray[Any]]] = []
    n_trees = n_rows = 0
    for placed in ensembles:
        trees, leaf, nodes = placed.trees, placed.trees.feature < 0, _nodes(placed)
        tree = nodes["nodes_treeids"] + n_trees
        found.append(
            {
                **nodes,
                "nodes_treeids": tree,
                "target_treeids": tree[leaf],
                "target_nodeids": nodes["nodes_nodeids"][leaf],
                "target_ids": tree[leaf],
                "target_weights": (trees.left[leaf] + n_rows).astype(np.float32),
            }
        )
        n_trees += len(trees.root)
        n_rows += len(trees.value)
    leaf = np.concatenate([placed.trees.feature < 0 for placed in ensembles])
    together = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    reached = graph.op("Cast", _by_operator(graph, z, n_trees, leaf, together), to=7)
    values = np.concatenate([placed.trees.value for placed in ensembles])
    return graph.op("Gather", graph.hold(values), reached, axis=0)


def _nodes(placed: Placed) -> dict[str, NDArray[Any]]:
    """Attributes of the operator that tell the nodes of an ensemble."""
    trees, columns = placed
    leaf = trees.feature < 0
    tree, start = _places(trees)
    return {
        "nodes_treeids": tree,
        "nodes_nodeids": np.arange(len(leaf)) - start,
        "nodes_featureids": np.where(leaf, 0, columns[np.where(leaf, 0, trees.feature)]),
        "nodes_values": trees.threshold,
        "nodes_truenodeids": np.where(leaf, 0, trees.left - start),
        "nodes_falsenodeids": np.where(leaf, 0, trees.right - start),
    }


def _by_operator(
    graph: Graph, z: str, n_targets: int, leaf: NDArray[np.bool_], attributes: dict[str, NDArray[Any]]
) -> str:
    given: dict[str, Any] = {**attributes}
    return graph.op(
        "TreeEnsembleRegressor",
        z,
        domain=wire.TREES,
        n_targets=n_targets,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_modes=["LEAF" if one else "BRANCH_LEQ" for one in leaf.tolist()],
        **given,
    )


def _places(trees: Trees) -> tuple[Ints, Ints]:
    """Tree of every node, and that tree's first node."""
    tree = np.searchsorted(trees.root, np.arange(len(trees.feature)), side="right") - 1
    return tree, trees.root[tree].astype(np.int64)


def _leaves_by_products(graph: Graph, z: str, ensembles: Sequence[Placed]) -> str:
    """The same by plain operators."""
    made = [_paths(*placed) for placed in ensembles]
    n_trees = sum(len(one.feature) for one in made)
    v, n_leaves = (max(one.paths.shape[axis] for one in made) for axis in (1, 2))
    if n_trees * v * n_leaves > MOST_PATHS:
        raise ConfigError(
            f"the readout has {n_trees} trees of up to {n_leaves} leaves, too many for an engine without an "
            "operator for trees; use engine onnxruntime, or fit the readout with trees=False"
        )
    k = ensembles[0].trees.value.shape[1]
    feature, threshold = np.zeros((n_trees, v), np.int64), np.zeros((n_trees, v), np.float32)
    paths, depth = np.zeros((n_trees, v, n_leaves), np.float32), np.full((n_trees, 1, n_leaves), -1.0)
    value = np.zeros((n_trees, n_leaves, k), np.float32)
    start = 0
    for one in made:
        t, own_v, own_l = one.paths.shape
        mine = slice(start, start + t)
        feature[mine, :own_v], threshold[mine, :own_v] = one.feature, one.threshold
        paths[mine, :own_v, :own_l], depth[mine, 0, :own_l] = one.paths, one.depth
        value[mine, :own_l] = one.value
        start += t
    looked = graph.op("Gather", z, graph.hold(feature.reshape(-1), np.int64), axis=1)
    goes_left = graph.op("LessOrEqual", looked, graph.hold(threshold.reshape(-1)))
    side = graph.op("Where", goes_left, graph.hold(1.0), graph.hold(-1.0))
    agree = graph.op("MatMul", graph.reshape(side, -1, n_trees, 1, v), graph.hold(paths))
    there = graph.op("Cast", graph.op("Equal", agree, graph.hold(depth)), to=1)
    return graph.reshape(graph.op("MatMul", there, graph.hold(value)), -1, n_trees, k)


class _Paths(NamedTuple):
    feature: Ints  # column of each comparison, `(T, V)`
    threshold: Array  # `(T, V)`
    paths: Array  # 1 where the way to a leaf goes left, -1 right, 0 elsewhere, `(T, V, L)`
    depth: Array  # comparisons on that way, -1 where there is no such leaf, `(T, L)`
    value: Array  # `(T, L, K)`


def _paths(trees: Trees, columns: Ints) -> _Paths:
    ways: list[list[tuple[int, dict[int, float]]]] = []  # leaves of each tree, with the turns that lead there
    orders: list[dict[int, int]] = []
    for root in trees.root.tolist():
        leaves: list[tuple[int, dict[int, float]]] = []
        order: dict[int, int] = {}
        stack: list[tuple[int, dict[int, float]]] = [(root, {})]
        while stack:
            node, turns = stack.pop()
            if trees.feature[node] < 0:
                leaves.append((int(trees.left[node]), turns))
                continue
            own = order.setdefault(node, len(order))
            stack.append((int(trees.left[node]), {**turns, own: 1.0}))
            stack.append((int(trees.right[node]), {**turns, own: -1.0}))
        ways.append(leaves)
        orders.append(order)
    t, v, n_leaves = len(ways), max(1, *map(len, orders)), max(map(len, ways))
    made = _Paths(
        np.zeros((t, v), np.int64),
        np.zeros((t, v), np.float32),
        np.zeros((t, v, n_leaves), np.float32),
        np.full((t, n_leaves), -1, np.float32),
        np.zeros((t, n_leaves, trees.value.shape[1]), np.float32),
    )
    for i, (leaves, order) in enumerate(zip(ways, orders, strict=True)):
        for node, own in order.items():
            made.feature[i, own], made.threshold[i, own] = columns[trees.feature[node]], trees.threshold[node]
        for j, (row, turns) in enumerate(leaves):
            for own, side in turns.items():
                made.paths[i, own, j] = side
            made.depth[i, j], made.value[i, j] = len(turns), trees.value[row]
    return made
