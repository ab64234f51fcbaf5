"""Fewer nodes for the same numbers: what newer or onnxruntime's own operators do in one.

An engine would find most of this as well, but at every build, and a build takes time for every node. Not all
that can be put together is quicker: SkipLayerNormalization makes an answer a tenth slower (onnxruntime 1.31).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

Array = NDArray[Any]
OWN = "com.microsoft"
OPSET = 23  # of ONNX, the first with Attention


def fuse(
    nodes: Sequence[NodeProto],
    values: dict[str, Array],
    sizes: Mapping[str, Sequence[int]],
    needed: Collection[str],
    *,
    settled: bool,
) -> list[NodeProto]:
    """Put together what one operator can do.

    Args:
        nodes: of one step, folded, in order.
        values: constants by name; new ones are added.
        sizes: shapes of what the nodes make, where they are known.
        needed: values that somebody else reads.
        settled: no plan changes a shape, so that numbers may be taken from them.

    Returns:
        Nodes that compute the same up to rounding, in order; those nobody recognises stay.
    """
    graph = _Nodes(nodes, values, sizes, needed)
    for rule in (*((_slice_once, _split) if settled else ()), _attend, _multiply_turned):
        for node in nodes:
            if any(node is other for other in graph.nodes):
                rule(graph, node)
    return graph.nodes


class _Nodes:
    """Nodes in order, with who makes and who reads a value."""

    def __init__(
        self,
        nodes: Sequence[NodeProto],
        values: dict[str, Array],
        sizes: Mapping[str, Sequence[int]],
        needed: Collection[str],
    ) -> None:
        self.nodes, self.values, self.sizes, self.needed = list(nodes), values, sizes, needed

    def readers(self, name: str) -> list[NodeProto]:
        """All nodes that read a value."""
        return [node for node in self.nodes if name in node.input]

    def maker(self, name: str, op: str) -> NodeProto | None:
        """The node of this kind that makes a value for one reader only."""
        if name in self.needed or len(self.readers(name)) != 1:
            return None
        return next((n for n in self.nodes if name in n.output and n.op_type == op), None)

    def replace(self, gone: Sequence[NodeProto], new: NodeProto) -> None:
        """Put one node in the place of the last of others."""
        at = [any(node is other for other in gone) for node in self.nodes]
        last = max(i for i, is_gone in enumerate(at) if is_gone)
        self.nodes[last] = new
        self.nodes = [n for i, n in enumerate(self.nodes) if i == last or not at[i]]


def _slice_once(graph: _Nodes, node: NodeProto) -> None:
    """A slice of a slice -> a slice."""
    inner = next((n for n in graph.nodes if node.input and n.output[0] == node.input[0]), None)
    if inner is None or inner.op_type != "Slice":
        return
    ranges = _range(graph, node), _range(graph, inner)
    if ranges[0] is None or ranges[1] is None or ranges[0][0] != ranges[1][0]:
        return
    axis, start, end = ranges[0]
    offset = ranges[1][1]
    names = [f"{node.output[0]}/{part}" for part in ("start", "end", "axis")]
    for name, value in zip(names, (offset + start, offset + end, axis), strict=True):
        graph.values[name] = np.array([value], np.int64)
    graph.replace([node], helper.make_node("Slice", [inner.input[0], *names], node.output, node.name))
    if not graph.readers(inner.output[0]) and inner.output[0] not in graph.needed:
        graph.nodes = [n for n in graph.nodes if n is not inner]


def _split(graph: _Nodes, node: NodeProto) -> None:
    """Slices that make up a whole value -> one split, where the first of them stands."""
    slices = graph.readers(node.input[0]) if node.op_type == "Slice" else []
    found = [(_range(graph, n), n) for n in slices if n.op_type == "Slice"]
    parts = sorted((at, n.output[0]) for at, n in found if at is not None)
    if len(parts) < 2 or len(parts) < len(slices):
        return
    axis, whole = parts[0][0][0], graph.sizes[node.input[0]]
    ends = [0, *(at[2] for at, _ in parts)]
    if any(at[:2] != (axis, ends[i]) for i, (at, _) in enumerate(parts)) or ends[-1] != whole[axis]:
        return
    lengths = f"{node.output[0]}/lengths"
    graph.values[lengths] = np.diff(ends)
    first = min(i for i, n in enumerate(graph.nodes) if any(n is other for other in slices))
    split = helper.make_node("Split", [node.input[0], lengths], [name for _, name in parts], node.name)
    split.attribute.append(helper.make_attribute("axis", axis))
    graph.nodes[first] = split
    graph.nodes = [n for n in graph.nodes if not any(n is other for other in slices)]


def _attend(graph: _Nodes, node: NodeProto) -> None:
    """Scaled products, softmax and the product with the values -> Attention, for `(B, H, L, K)`."""
    if node.op_type != "MatMul" or len(graph.sizes.get(node.output[0], ())) != 4:
        return
    weigh = graph.maker(node.input[0], "Softmax")
    logits = graph.maker(weigh.input[0], "MatMul") if weigh is not None else None
    scaled = graph.maker(logits.input[0], "Mul") if logits is not None else None
    turned = graph.maker(logits.input[1], "Transpose") if logits is not None else None
    if weigh is None or logits is None or scaled is None or turned is None:
        return
    scale = graph.values.get(scaled.input[1])
    if _options(turned)["perm"] != [0, 1, 3, 2] or _options(weigh)["axis"] not in (-1, 3):
        return
    if scale is None or scale.size != 1:
        return
    reads = [scaled.input[0], turned.input[0], node.input[1]]
    new = helper.make_node("Attention", reads, node.output, node.name, scale=float(scale.item()))
    graph.replace([scaled, turned, logits, weigh, node], new)


def _multiply_turned(graph: _Nodes, node: NodeProto) -> None:
    """A product with a transposed matrix -> one product."""
    turned = graph.maker(node.input[1], "Transpose") if node.op_type == "MatMul" else None
    if turned is None or _options(turned)["perm"] != [0, 1, 3, 2]:
        return
    reads = [node.input[0], turned.input[0]]
    new = helper.make_node("FusedMatMul", reads, node.output, node.name, domain=OWN, transB=1)
    graph.replace([turned, node], new)


def _range(graph: _Nodes, node: NodeProto) -> tuple[int, int, int] | None:
    """Axis, start and end of a slice along one axis, without holes; `None` where that is not known."""
    numbers = [graph.values.get(name) for name in node.input[1:]]
    whole = graph.sizes.get(node.input[0])
    if node.op_type != "Slice" or whole is None or len(numbers) < 3:
        return None
    if any(x is None or x.size != 1 for x in numbers):
        return None
    start, end, axis, step = [int(x.item()) for x in numbers if x is not None] + [1] * (4 - len(numbers))
    start, end, step = slice(start, end, step).indices(whole[axis])
    return (axis % len(whole), start, end) if step == 1 and whole[axis] else None


def _options(node: NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
