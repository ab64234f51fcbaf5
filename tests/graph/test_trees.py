from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.errors import ConfigError
from sentryfuse.graph import trees as room
from sentryfuse.graph.trees import Placed, write_boosted, write_trees
from sentryfuse.graph.wire import varint, varints
from sentryfuse.graph.writer import Graph
from sentryfuse.readout.trees import Trees

pytestmark = pytest.mark.device

# Two trees: the first splits twice, the second is one leaf.
MADE = Trees(
    feature=np.array([1, -1, 0, -1, -1, -1], np.int32),
    threshold=np.array([0.5, 0, -1.0, 0, 0, 0], np.float32),
    left=np.array([1, 0, 3, 1, 2, 3], np.int32),
    right=np.array([2, 0, 4, 0, 0, 0], np.int32),
    value=np.array([[1, 0], [0, 1], [0.5, 0.5], [0.2, 0.8]], np.float32),
    root=np.array([0, 5], np.int32),
    depth=2,
)
ONE = Trees(
    feature=np.array([-1], np.int32),
    threshold=np.zeros(1, np.float32),
    left=np.zeros(1, np.int32),
    right=np.zeros(1, np.int32),
    value=np.array([[0.3, 0.7]], np.float32),
    root=np.array([0], np.int32),
    depth=0,
)
X = np.array([[-2, 0.5, 9], [-2, 0.6, 9], [-1, 0.6, 9], [0, 0.6, 9], [0, -5, 9]], np.float32)


def written(*, fused: bool) -> bytes:
    graph = Graph(1, batch=None, fused=fused)
    placed = [Placed(MADE, np.array([0, 1])), Placed(MADE, np.array([1, 2])), Placed(ONE, np.array([0]))]
    graph.op("Identity", write_trees(graph, "x", placed), writes="y")
    return graph.finish({"x": ("batch", 3)}, ("y", ("batch", 3, 2)))


@pytest.mark.parametrize("fused", [True, False])
def test_trees_end_in_the_same_leaves(fused):
    got = OnnxRuntime().build(written(fused=fused), threads=1, batch=None)({"x": X})
    expected = [MADE.logits(X[:, :2]), MADE.logits(X[:, 1:]), ONE.logits(X)]
    np.testing.assert_allclose(got, np.stack(expected, axis=1), rtol=1e-6)


@pytest.mark.parametrize("fused", [True, False])
def test_boosted_leaves_add_up(fused):
    value = np.array([[0, 1.5], [0, 0], [-2, 0], [0.25, 0.5]], np.float32)  # a leaf of nothing among them
    adding = replace(MADE, value=value, adds=True)
    graph = Graph(1, batch=None, fused=fused)
    graph.op("Identity", write_boosted(graph, "x", Placed(adding, np.array([1, 2]))), writes="y")
    made = graph.finish({"x": ("batch", 3)}, ("y", ("batch", 2)))
    got = OnnxRuntime().build(made, threads=1, batch=None)({"x": X})
    np.testing.assert_allclose(got, adding.logits(X[:, 1:]), rtol=1e-6)


def test_the_onnx_package_reads_trees():
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(written(fused=True))
    onnx.checker.check_model(model)
    (node,) = [n for n in model.graph.node if n.op_type == "TreeEnsembleRegressor"]
    held = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert held["nodes_modes"][:3] == [b"BRANCH_LEQ", b"LEAF", b"BRANCH_LEQ"]
    assert held["n_targets"] == 5


def test_trees_too_large_for_products_are_refused(monkeypatch):
    monkeypatch.setattr(room, "MOST_PATHS", 3)
    with pytest.raises(ConfigError, match="trees=False"):
        written(fused=False)


def test_many_whole_numbers_are_written_as_one_by_one():
    values = np.array([0, 1, 127, 128, 300, 16383, 16384, 2_097_151, 2_097_152, (1 << 28) - 1])
    assert varints(values) == b"".join(varint(int(v)) for v in values)
