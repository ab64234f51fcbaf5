"""Computes ahead what a plan already decides: sizes, head maps, joined weights. Numpy only.

A template graph works for any width and length, so a third of its nodes only ask how large things are.
Within one plan the answers are known. An engine would find them as well, at every build, and more slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

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
    "Max": lambda i, _: np.maximum(i[0], i[1]),
    "Reshape": lambda i, a: _reshape(i[0], i[1], a),
    "Slice": lambda i, _: _slice(*i),
    "Squeeze": lambda i, _: np.squeeze(i[0], _axes(i, 1)),
    "Transpose": lambda i, a: np.transpose(i[0], a.get("perm")),
    "Unsqueeze": lambda i, _: np.expand_dims(i[0], _axes(i, 1) or ()),
}


class Work(NamedTuple):
    """One node whose value a plan decides: `output = rule(inputs)`.

    Attributes:
        output: name of its value.
        inputs: names it reads; of a "Shape", the one value whose size is asked.
        rule: computes the value, `None` for a "Shape".
        options: of the node.
    """

    output: str
    inputs: tuple[str, ...]
    rule: Callable[[list[Array], Attributes], Array] | None
    options: Attributes


def fold(
    nodes: Iterable[NodeProto], known: Iterable[str], shapes: Mapping[str, tuple[int | None, ...]]
) -> tuple[list[NodeProto], list[Work]]:
    """Part the nodes whose values will be known from those an engine must run.

    Which they are is the same for all plans, so this is done once; `compute` then finds the values of a plan.

    Args:
        nodes: of one graph, in order.
        known: names of values that are known: weights, constants, what the plan decides.
        shapes: of inputs whose values are not known; `None` = a size that is not known either.

    Returns:
        The nodes that are left, and the work in place of the others, both in order.
    """
    have = set(known)
    left, work = [], []
    for node in nodes:
        options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        rule = RULES.get(node.op_type)
        if node.op_type == "Shape":
            found = node.input[0] in have or _is_known(shapes.get(node.input[0]), options)
        else:
            found = rule is not None and have.issuperset(node.input)
        if found:
            work.append(Work(node.output[0], tuple(node.input), rule, options))
            have.add(node.output[0])
        else:
            left.append(node)
    return left, work


def compute(
    work: Iterable[Work], values: dict[str, Array], shapes: Mapping[str, tuple[int | None, ...]]
) -> None:
    """Do the work for one plan.

    Args:
        work: of `fold`.
        values: what it reads; what it makes is added.
        shapes: as for `fold`.
    """
    for output, inputs, rule, options in work:
        if rule is not None:
            values[output] = rule([values[name] for name in inputs], options)
        else:
            shape = values[inputs[0]].shape if inputs[0] in values else shapes[inputs[0]]
            values[output] = np.array(shape[options.get("start", 0) : options.get("end")], np.int64)


def _is_known(shape: tuple[int | None, ...] | None, options: Attributes) -> bool:
    return shape is not None and None not in shape[options.get("start", 0) : options.get("end")]
