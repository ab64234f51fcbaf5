"""Computes ahead what a plan already decides: sizes, head maps, joined weights. Numpy only.

A template graph works for any width and length, so a third of its nodes only ask how large things are.
Within one plan the answers are known. An engine would find them as well, at every build, and more slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

Array = NDArray[Any]
Attributes = Mapping[str, Any]


def _axes(inputs: list[Array], at: int) -> tuple[int, ...] | None:
    return tuple(int(axis) for axis in inputs[at].ravel()) if len(inputs) > at else None


def _slice(x: Array, starts: Array, ends: Array, *rest: Array) -> Array:
    axes = rest[0].tolist() if rest else range(len(starts))
    steps = rest[1].tolist() if len(rest) > 1 else [1] * len(starts)
    cut = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
        cut[axis] = slice(start, end, step)
    return x[tuple(cut)]


def _reshape(x: Array, shape: Array, options: Attributes) -> Array:
    wanted = [
        x.shape[i] if n == 0 and not options.get("allowzero") else n for i, n in enumerate(shape.tolist())
    ]
    return x.reshape(wanted)


def _divide(a: Array, b: Array) -> Array:
    # ONNX rounds integers towards zero; sizes are never negative, so this is the same
    return a // b if a.dtype.kind == "i" else a / b


RULES: dict[str, Callable[[list[Array], Attributes], Array]] = {
    "Add": lambda i, _: i[0] + i[1],
    "Sub": lambda i, _: i[0] - i[1],
    "Mul": lambda i, _: i[0] * i[1],
    "Div": lambda i, _: _divide(i[0], i[1]),
    "Concat": lambda i, a: np.concatenate(i, a["axis"]),
    "Cast": lambda i, a: i[0].astype(helper.tensor_dtype_to_np_dtype(a["to"])),
    "Gather": lambda i, a: np.take(i[0], i[1], a.get("axis", 0)),
    "GreaterOrEqual": lambda i, _: i[0] >= i[1],
    "Reshape": lambda i, a: _reshape(i[0], i[1], a),
    "Slice": lambda i, _: _slice(*i),
    "Squeeze": lambda i, _: np.squeeze(i[0], _axes(i, 1)),
    "Transpose": lambda i, a: np.transpose(i[0], a.get("perm")),
    "Unsqueeze": lambda i, _: np.expand_dims(i[0], _axes(i, 1) or ()),
}


def fold(
    nodes: list[NodeProto], known: Mapping[str, Array], shapes: Mapping[str, tuple[int | None, ...]]
) -> tuple[list[NodeProto], dict[str, Array]]:
    """Replace every node whose value is known by that value.

    Args:
        nodes: of one graph, in order.
        known: values by name: weights, constants, what the plan decides.
        shapes: of inputs whose values are not known; `None` = a size that is not known either.

    Returns:
        The nodes that are left, and `known` with the values they need.
    """
    values = dict(known)
    left = []
    for node in nodes:
        options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Shape":
            name = node.input[0]
            shape = values[name].shape if name in values else shapes.get(name)
            if shape is not None:
                part = shape[options.get("start", 0) : options.get("end")]
                if None not in part:
                    values[node.output[0]] = np.array(part, np.int64)
                    continue
        elif node.op_type in RULES and all(name in values for name in node.input):
            values[node.output[0]] = RULES[node.op_type]([values[name] for name in node.input], options)
            continue
        left.append(node)
    return left, values
