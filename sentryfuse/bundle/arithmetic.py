"""Operators that compute: element by element, products, reductions. Rules of opset 18 and later."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle.rules import (
    KINDS,
    MAX_KNOWN,
    Inputs,
    Options,
    Rule,
    Value,
    axes_of,
    axis_of,
    floats,
    need,
    numbers,
    operator,
    whole,
)


@operator("Abs Erf Exp Log Neg Reciprocal Relu Sigmoid Sqrt Tanh", 1)
@operator("Gelu", 1, attributes="approximate")
def _same(inputs: Inputs, options: Options) -> list[Value]:
    floats(inputs)
    need(options.get("approximate", b"none") in (b"none", b"tanh"), "an approximation that nobody knows")
    return [Value("f", inputs[0].shape)]


@operator("Softmax", 1, attributes="axis")
def _softmax(inputs: Inputs, options: Options) -> list[Value]:
    axis_of(options.get("axis", -1), len(inputs[0].shape))
    return _same(inputs, options)


@operator("LayerNormalization", 2, 3, attributes="axis epsilon stash_type")
def _normalised(inputs: Inputs, options: Options) -> list[Value]:
    shape = inputs[0].shape
    inner = shape[axis_of(options.get("axis", -1), len(shape)) :]
    need(all(value.shape == inner for value in inputs[1:]), "scales of another size")
    return _same(inputs, options)


@operator("Identity", 1)
def _identity(inputs: Inputs, options: Options) -> list[Value]:
    return [inputs[0]]


@operator("IsNaN", 1)
def _is_nan(inputs: Inputs, options: Options) -> list[Value]:
    floats(inputs)
    return [Value("b", inputs[0].shape)]


@operator("Not", 1)
@operator("And Or", 2)
def _logic(inputs: Inputs, options: Options) -> list[Value]:
    need(all(value.kind == "b" for value in inputs), "logic on numbers")
    return [Value("b", np.broadcast_shapes(*(value.shape for value in inputs)))]


@operator("Cast", 1, attributes="to")
def _cast(inputs: Inputs, options: Options) -> list[Value]:
    kind = KINDS[options["to"]]
    return [Value(kind, inputs[0].shape, inputs[0].known if kind == inputs[0].kind == "i" else None)]


@operator("Clip", 2, 3)
def _clip(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, *_ = inputs[0]
    need(all(v.kind == kind and not v.shape for v in inputs[1:]), "bounds that are not single numbers")
    return [Value(kind, shape)]


@operator("Equal Greater GreaterOrEqual Less LessOrEqual", 2)
def _compare(inputs: Inputs, options: Options) -> list[Value]:
    a, b = inputs
    need(a.kind == b.kind != "b", "a comparison of different things")
    return [Value("b", np.broadcast_shapes(a.shape, b.shape))]


@operator("Pow", 2)
def _power(inputs: Inputs, options: Options) -> list[Value]:
    floats(inputs)
    return [Value("f", np.broadcast_shapes(inputs[0].shape, inputs[1].shape))]


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Rule:
    def rule(inputs: Inputs, options: Options) -> list[Value]:
        a, b = inputs
        need(a.kind == b.kind != "b", "a sum of different things")
        shape = np.broadcast_shapes(a.shape, b.shape)
        if a.known is None or b.known is None or math.prod(shape) > MAX_KNOWN:
            return [Value(a.kind, shape, below=_below(a, b) if compute is np.add else 0)]
        limit = 1 << 31  # of factors and terms, so that nothing wraps around
        need(bool((np.abs(a.known) < limit).all() and (np.abs(b.known) < limit).all()), "huge numbers")
        return [whole(np.asarray(compute(a.known, b.known), np.int64))]

    return rule


def _below(a: Value, b: Value) -> int:
    """What a sum of positions and a known offset is smaller than; 0 if nothing is known."""
    at, offset = (b, a) if b.known is None else (a, b)
    if not at.below or offset.known is None or not offset.known.size or offset.known.min() < 0:
        return 0
    return at.below + int(offset.known.max())


def _quotient(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    # the device computes it ahead by rounding down, the engine would round towards zero
    need(bool((a >= 0).all() and (b > 0).all()), "a quotient of numbers that are not sizes")
    return a // b


_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _quotient,
    "Max": np.maximum,
    "Min": np.minimum,
}
for _name, _compute in _ARITHMETIC.items():
    operator(_name, 2)(_arithmetic(_compute))


@operator("Where", 3)
def _where(inputs: Inputs, options: Options) -> list[Value]:
    condition, a, b = inputs
    need(condition.kind == "b" and a.kind == b.kind, "a choice between different things")
    return [Value(a.kind, np.broadcast_shapes(condition.shape, a.shape, b.shape))]


@operator("MatMul", 2)
def _product(inputs: Inputs, options: Options) -> list[Value]:
    floats(inputs)
    a, b = (value.shape for value in inputs)
    need(len(a) >= 2 and len(b) >= 2 and a[-1] == b[-2], f"a product of {a} and {b}")
    return [Value("f", (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]))]


@operator("Gemm", 2, 3, attributes="alpha beta transA transB")
def _linear(inputs: Inputs, options: Options) -> list[Value]:
    floats(inputs)
    a, b = (value.shape for value in inputs[:2])
    need(len(a) == len(b) == 2, "a product of what is not two matrices")
    if options.get("transA"):
        a = a[::-1]
    if options.get("transB"):
        b = b[::-1]
    made = (a[0], b[1])
    bias = inputs[2].shape if len(inputs) > 2 else ()
    need(a[1] == b[0] and np.broadcast_shapes(made, bias) == made, f"a product of {a} and {b}")
    return [Value("f", made)]


@operator("ReduceMax ReduceMean ReduceMin ReduceSum", 1, 2, attributes="keepdims noop_with_empty_axes")
def _reduced(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, *_ = inputs[0]
    axes = axes_of(numbers(inputs[1]), len(shape)) if len(inputs) > 1 else set(range(len(shape)))
    need(kind != "b" and bool(axes), "no numbers or no axis")
    if options.get("keepdims", 1):
        return [Value(kind, tuple(1 if i in axes else n for i, n in enumerate(shape)))]
    return [Value(kind, tuple(n for i, n in enumerate(shape) if i not in axes))]
