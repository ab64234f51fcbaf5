"""How each operator of an encoder of one's own is written as ONNX; the same as `sentryfuse.model.operators`.

Notation: N rows · C channels · T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sentryfuse.graph.writer import Graph
from sentryfuse.planning.operators import Shape
from sentryfuse.planning.program import Node

KINDS: Mapping[str, str] = {  # operators that are one of ONNX's without options, by its name there
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "gelu": "Gelu",
    "mish": "Mish",
    "selu": "Selu",
    "softplus": "Softplus",
    "hardswish": "HardSwish",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "reciprocal": "Reciprocal",
    "abs": "Abs",
    "neg": "Neg",
    "sin": "Sin",
    "cos": "Cos",
    "erf": "Erf",
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "matmul": "MatMul",
}
REDUCED = {"mean": "Mean", "sum": "Sum", "largest": "Max", "smallest": "Min"}


@dataclass(frozen=True)
class Spot:
    """One node where it is written.

    Attributes:
        graph: to write into.
        node: of the program; its sizes have been checked.
        reads: names of what it reads.
        shapes: of what it reads.
        shape: of what it makes.
        anchor: an input whose first size is the number of windows.
    """

    graph: Graph
    node: Node
    reads: Sequence[str]
    shapes: Sequence[Shape]
    shape: Shape
    anchor: str

    @property
    def options(self) -> Mapping[str, Any]:
        """Of the node."""
        return self.node.options


Emit = Callable[[Spot], str]
_EMITS: dict[str, Emit] = {}


def write_node(spot: Spot) -> str:
    """Write one node; returns the name of its value."""
    op = spot.node.op
    if op in KINDS:
        return spot.graph.op(KINDS[op], *spot.reads)
    return _EMITS[op](spot)


def known() -> set[str]:
    """Operators that can be written."""
    return KINDS.keys() | _EMITS.keys()


def _emits(*names: str) -> Callable[[Emit], Emit]:
    def register(emit: Emit) -> Emit:
        _EMITS.update(dict.fromkeys(names, emit))
        return emit

    return register


def reshaped(graph: Graph, x: str, shape: Shape) -> str:
    """Other sizes; the one that counts windows is left for the engine to find."""
    return graph.reshape(x, *(max(size, -1) for size in shape))


@_emits("silu")
def _silu(s: Spot) -> str:
    return s.graph.op("Mul", s.reads[0], s.graph.op("Sigmoid", s.reads[0]))


@_emits("gelu tanh")
def _gelu_tanh(s: Spot) -> str:
    return s.graph.op("Gelu", s.reads[0], approximate="tanh")


@_emits("hardsigmoid")
def _hardsigmoid(s: Spot) -> str:
    return s.graph.op("HardSigmoid", s.reads[0], alpha=1 / 6, beta=0.5)


@_emits("elu")
def _elu(s: Spot) -> str:
    return s.graph.op("Elu", s.reads[0], alpha=float(s.options["alpha"]))


@_emits("leaky relu")
def _leaky_relu(s: Spot) -> str:
    return s.graph.op("LeakyRelu", s.reads[0], alpha=float(s.options["slope"]))


@_emits("clip", "power", "scale", "shift")
def _with_numbers(s: Spot) -> str:
    kind = {"clip": "Clip", "power": "Pow", "scale": "Mul", "shift": "Add"}[s.node.op]
    names = ("low", "high") if s.node.op == "clip" else tuple(s.options)
    return s.graph.op(kind, s.reads[0], *(s.graph.hold(s.options[name]) for name in names))


@_emits("dropout")
def _dropout(s: Spot) -> str:
    return s.reads[0]  # in training alone


@_emits("linear")
def _linear(s: Spot) -> str:
    x, flat = s.reads[0], len(s.shapes[0]) == 2
    if not flat:
        x = s.graph.reshape(x, -1, s.shapes[0][-1])
    y = s.graph.op("Gemm", x, *s.reads[1:], transB=1)
    return y if flat else reshaped(s.graph, y, s.shape)


@_emits("conv")
def _conv(s: Spot) -> str:
    o = s.options
    sizes: dict[str, Any] = {
        "strides": o["stride"],
        "pads": o["pads"],
        "dilations": o["dilation"],
        "group": o["groups"],
    }
    return s.graph.op("Conv", *s.reads, **sizes)


@_emits("max pool")
def _max_pool(s: Spot) -> str:
    o = s.options
    sizes: dict[str, Any] = {"kernel_shape": o["kernel"], "strides": o["stride"], "pads": o["pads"]}
    return s.graph.op("MaxPool", s.reads[0], **sizes, dilations=o["dilation"])


@_emits("average pool")
def _average_pool(s: Spot) -> str:
    o = s.options
    sizes: dict[str, Any] = {"kernel_shape": o["kernel"], "strides": o["stride"], "pads": o["pads"]}
    return s.graph.op("AveragePool", s.reads[0], **sizes, count_include_pad=o["padding_counts"])


@_emits("batch norm")
def _batch_norm(s: Spot) -> str:
    x, mean, variance, *own = s.reads
    n = s.shapes[1][0]
    scale, shift = own or (s.graph.hold(np.ones(n)), s.graph.hold(np.zeros(n)))
    return s.graph.op("BatchNormalization", x, scale, shift, mean, variance, epsilon=_eps(s))


@_emits("layer norm")
def _layer_norm(s: Spot) -> str:
    x, *own = s.reads
    axes = s.options["axes"]
    if not own:
        own = [s.graph.hold(np.ones(s.shape[-axes:]))]
    return s.graph.op("LayerNormalization", x, *own, axis=-axes, epsilon=_eps(s))


@_emits("group norm")
def _group_norm(s: Spot) -> str:
    x, *own = s.reads
    groups, channels = s.options["groups"], s.shape[1]
    within = channels // groups * math.prod(s.shape[2:])
    y = reshaped(s.graph, x, (s.shape[0], groups, within))
    ones, zeros = s.graph.hold(np.ones(groups)), s.graph.hold(np.zeros(groups))
    y = s.graph.op("InstanceNormalization", y, ones, zeros, epsilon=_eps(s))
    y = reshaped(s.graph, y, s.shape)
    if own:
        scale, shift = (s.graph.reshape(name, channels, *[1] * (len(s.shape) - 2)) for name in own)
        y = s.graph.op("Add", s.graph.op("Mul", y, scale), shift)
    return y


@_emits("softmax", "log softmax")
def _softmax(s: Spot) -> str:
    kind = "Softmax" if s.node.op == "softmax" else "LogSoftmax"
    return s.graph.op(kind, s.reads[0], axis=s.options["axis"])


@_emits(*REDUCED)
def _reduced(s: Spot) -> str:
    axes, keep = s.options["axes"], s.options["keep"]
    return s.graph.reduce(REDUCED[s.node.op], s.reads[0], *axes, keep=keep)


@_emits("reshape")
def _reshape(s: Spot) -> str:
    return reshaped(s.graph, s.reads[0], s.shape)


@_emits("permute")
def _permute(s: Spot) -> str:
    order = s.options["order"]
    return s.graph.turn(s.reads[0], *order)


@_emits("expand")
def _expand(s: Spot) -> str:
    graph, batch = s.graph, s.graph.batch
    if batch or min(s.shape) > 0:
        sizes = graph.ints(*(size if size > 0 else -size * (batch or 1) for size in s.shape))
        return graph.op("Expand", s.reads[0], sizes)
    windows = graph.cut(graph.op("Shape", s.anchor), 0, 0, 1)
    parts = [
        graph.ints(size) if size > 0 else graph.op("Mul", windows, graph.ints(-size)) for size in s.shape
    ]
    return graph.op("Expand", s.reads[0], graph.op("Concat", *parts, axis=0))


@_emits("concat")
def _concat(s: Spot) -> str:
    return s.graph.op("Concat", *s.reads, axis=s.options["axis"])


@_emits("slice")
def _slice(s: Spot) -> str:
    ends = [s.options[name] for name in ("start", "end", "axis", "step")]
    return s.graph.op("Slice", s.reads[0], *(s.graph.ints(n) for n in ends))


@_emits("take")
def _take(s: Spot) -> str:
    places = s.graph.hold(s.options["places"], np.int64)
    return s.graph.op("Gather", s.reads[0], places, axis=s.options["axis"])


@_emits("pad")
def _pad(s: Spot) -> str:
    pads, value = s.options["pads"], s.options["value"]
    return s.graph.op("Pad", s.reads[0], s.graph.ints(*pads), s.graph.hold(value))


def _eps(s: Spot) -> float:
    return float(s.options["eps"])
