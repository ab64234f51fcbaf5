"""What is folded is what ONNX says the nodes compute; what is not known stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from sentryfuse.engine.fold import RULES, compute, fold

pytestmark = pytest.mark.device


def folded(
    nodes: list[Any], known: dict[str, Any], shapes: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """What is left, and all values that were found."""
    left, work = fold(nodes, known, shapes)
    values = dict(known)
    compute(work, values, shapes)
    return left, values


INTS, MORE = np.array([6, 4, 2]), np.array([3, 1, 2])
GRID = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
CASES: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "add": ("Add", [INTS, MORE], {}),
    "add a number": ("Add", [INTS, np.array(5)], {}),
    "sub": ("Sub", [INTS, MORE], {}),
    "mul": ("Mul", [INTS, MORE], {}),
    "div of sizes": ("Div", [np.array(17), np.array(4)], {}),
    "div of floats": ("Div", [GRID, np.float32(4)], {}),
    "cast": ("Cast", [np.array([True, False])], {"to": TensorProto.FLOAT}),
    "compare": ("GreaterOrEqual", [INTS, np.array(4)], {}),
    "concat": ("Concat", [GRID, GRID], {"axis": 1}),
    "concat of sizes": ("Concat", [INTS, MORE], {"axis": 0}),
    "gather": ("Gather", [GRID, np.array([2, 0])], {"axis": 1}),
    "gather one": ("Gather", [INTS, np.array(1)], {}),
    "max": ("Max", [INTS, np.array(3)], {}),
    "reshape": ("Reshape", [GRID, np.array([4, -1])], {}),
    "reshape that keeps": ("Reshape", [GRID, np.array([0, 12])], {}),
    "reshape with allowzero": ("Reshape", [GRID, np.array([24, 1])], {"allowzero": 1}),
    "slice": ("Slice", [GRID, np.array([1]), np.array([9]), np.array([2])], {}),
    "slice backwards": ("Slice", [INTS, np.array([-1]), np.array([-9]), np.array([0]), np.array([-1])], {}),
    "slice without axes": ("Slice", [GRID, np.array([0, 1]), np.array([1, 3])], {}),
    "squeeze": ("Squeeze", [np.array([[7]]), np.array([0])], {}),
    "squeeze all": ("Squeeze", [np.array([[7]])], {}),
    "transpose": ("Transpose", [GRID], {"perm": [2, 0, 1]}),
    "transpose backwards": ("Transpose", [GRID], {}),
    "unsqueeze": ("Unsqueeze", [GRID, np.array([0])], {}),
    "shape": ("Shape", [GRID], {"start": 1, "end": 3}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_folded_node_is_what_onnx_says_it_is(case):
    op, inputs, options = CASES[case]
    names = [f"i{n}" for n in range(len(inputs))]
    node = helper.make_node(op, names, ["out"], **options)
    left, values = folded([node], dict(zip(names, inputs, strict=True)), {})
    assert left == []
    reads = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.asarray(x).dtype), np.shape(x))
        for name, x in zip(names, inputs, strict=True)
    ]
    writes = [helper.make_tensor_value_info("out", TensorProto.UNDEFINED, None)]
    model = helper.make_model(
        helper.make_graph([node], "one", reads, writes), opset_imports=[helper.make_opsetid("", 20)]
    )
    (want,) = list(
        ReferenceEvaluator(model).run(None, dict(zip(names, map(np.asarray, inputs), strict=True)))
    )
    np.testing.assert_array_equal(values["out"], want)
    assert np.asarray(values["out"]).shape == np.shape(want)


def test_every_rule_has_a_case():
    assert RULES.keys() <= {op for op, _, _ in CASES.values()}


def test_sizes_of_unknown_values_are_folded_where_they_are_known():
    nodes = [
        helper.make_node("Shape", ["x"], ["length"], start=1, end=2),
        helper.make_node("Shape", ["x"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "length"], ["both"], axis=0),
        helper.make_node("Reshape", ["x", "both"], ["y"]),
    ]
    left, values = folded(nodes, {}, {"x": (None, 7, 4)})
    assert [node.op_type for node in left] == ["Shape", "Concat", "Reshape"]
    assert values["length"].tolist() == [7]
    left, values = folded(nodes, {}, {"x": (1, 7, 4)})
    assert [node.op_type for node in left] == ["Reshape"]
    assert values["both"].tolist() == [1, 7]


def test_nodes_without_a_rule_stay():
    node = helper.make_node("Log", ["a"], ["b"])
    assert folded([node], {"a": np.ones(1)}, {})[0] == [node]
