"""The operators a graph may consist of, and what each makes of the sizes of what it is given.

The closed list is what the exporter writes, and their nearest relatives. A rule is the operator's own rule
for shapes, opset 18 and later; whole numbers that are known are computed, since sizes follow from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto

Kind = Literal["f", "i", "b"]  # float32, int64, bool
Shape = tuple[int, ...]
MAX_KNOWN = 10**6  # whole numbers that are computed here, of one value
KINDS: Mapping[int, Kind] = {TensorProto.FLOAT: "f", TensorProto.INT64: "i", TensorProto.BOOL: "b"}
ATTRIBUTES = {
    name: AttributeProto.AttributeType.Value(kind)
    for kind, names in {
        "INT": "allowzero axis end keepdims largest noop_with_empty_axes sorted start stash_type to "
        "transA transB",
        "FLOAT": "alpha beta epsilon",
        "INTS": "perm",
        "STRING": "approximate mode reduction",
    }.items()
    for name in names.split()
}


class Value(NamedTuple):
    """What is known of a value before anything runs.

    Attributes:
        kind: of its elements.
        shape: its sizes.
        known: its content, where whole numbers follow from sizes.
    """

    kind: Kind
    shape: Shape
    known: NDArray[np.int64] | None = None


Inputs = Sequence[Value]
Options = Mapping[str, Any]
Rule = Callable[[Inputs, Options], list[Value]]


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        rule: what it makes; raises ValueError, IndexError or KeyError of what it cannot take.
        least: fewest inputs.
        most: most inputs.
        outputs: how many values it makes.
        attributes: names of those it may have.
    """

    rule: Rule
    least: int
    most: int
    outputs: int
    attributes: frozenset[str]


OPERATORS: dict[str, Operator] = {}


def _operator(
    names: str, least: int, most: int | None = None, *, outputs: int = 1, attributes: str = ""
) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        for name in names.split():
            OPERATORS[name] = Operator(rule, least, most or least, outputs, frozenset(attributes.split()))
        return rule

    return add


def _need(fact: bool, what: str) -> None:
    if not fact:
        raise ValueError(what)


def _numbers(value: Value) -> list[int]:
    """Known whole numbers of a vector."""
    if value.known is None or len(value.shape) > 1:
        raise ValueError("a size that does not follow from other sizes")
    found: list[int] = value.known.ravel().tolist()
    return found


def _whole(known: NDArray[np.int64]) -> Value:
    return Value("i", known.shape, known if known.size <= MAX_KNOWN else None)


def _axis(axis: Any, rank: int) -> int:
    _need(-rank <= axis < rank, "an axis that is not there")
    return int(axis) % rank


def _axes(axes: Sequence[int], rank: int) -> set[int]:
    found = {_axis(axis, rank) for axis in axes}
    _need(len(found) == len(axes), "an axis twice")
    return found


def _floats(inputs: Inputs) -> None:
    _need(all(value.kind == "f" for value in inputs), "numbers that are not float")


@_operator("Abs Erf Exp Log Neg Reciprocal Relu Sigmoid Sqrt Tanh", 1)
@_operator("Gelu", 1, attributes="approximate")
def _same(inputs: Inputs, options: Options) -> list[Value]:
    _floats(inputs)
    return [Value("f", inputs[0].shape)]


@_operator("Softmax", 1, attributes="axis")
def _softmax(inputs: Inputs, options: Options) -> list[Value]:
    _axis(options.get("axis", -1), len(inputs[0].shape))
    return _same(inputs, options)


@_operator("LayerNormalization", 2, 3, attributes="axis epsilon stash_type")
def _normalised(inputs: Inputs, options: Options) -> list[Value]:
    shape = inputs[0].shape
    inner = shape[_axis(options.get("axis", -1), len(shape)) :]
    _need(all(value.shape == inner for value in inputs[1:]), "scales of another size")
    return _same(inputs, options)


@_operator("Identity", 1)
def _identity(inputs: Inputs, options: Options) -> list[Value]:
    return [inputs[0]]


@_operator("IsNaN", 1)
def _is_nan(inputs: Inputs, options: Options) -> list[Value]:
    _floats(inputs)
    return [Value("b", inputs[0].shape)]


@_operator("Not", 1)
@_operator("And Or", 2)
def _logic(inputs: Inputs, options: Options) -> list[Value]:
    _need(all(value.kind == "b" for value in inputs), "logic on numbers")
    return [Value("b", np.broadcast_shapes(*(value.shape for value in inputs)))]


@_operator("Cast", 1, attributes="to")
def _cast(inputs: Inputs, options: Options) -> list[Value]:
    kind = KINDS[options["to"]]
    return [Value(kind, inputs[0].shape, inputs[0].known if kind == inputs[0].kind == "i" else None)]


@_operator("Clip", 2, 3)
def _clip(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, _ = inputs[0]
    _need(all(v.kind == kind and not v.shape for v in inputs[1:]), "bounds that are not single numbers")
    return [Value(kind, shape)]


@_operator("Equal Greater GreaterOrEqual Less LessOrEqual", 2)
def _compare(inputs: Inputs, options: Options) -> list[Value]:
    a, b = inputs
    _need(a.kind == b.kind != "b", "a comparison of different things")
    return [Value("b", np.broadcast_shapes(a.shape, b.shape))]


@_operator("Pow", 2)
def _power(inputs: Inputs, options: Options) -> list[Value]:
    _floats(inputs)
    return [Value("f", np.broadcast_shapes(inputs[0].shape, inputs[1].shape))]


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Rule:
    def rule(inputs: Inputs, options: Options) -> list[Value]:
        a, b = inputs
        _need(a.kind == b.kind != "b", "a sum of different things")
        shape = np.broadcast_shapes(a.shape, b.shape)
        if a.known is None or b.known is None or math.prod(shape) > MAX_KNOWN:
            return [Value(a.kind, shape)]
        limit = 1 << 31  # of factors and terms, so that nothing wraps around
        _need(bool((np.abs(a.known) < limit).all() and (np.abs(b.known) < limit).all()), "huge numbers")
        return [_whole(np.asarray(compute(a.known, b.known), np.int64))]

    return rule


def _quotient(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    # the device computes it ahead by rounding down, the engine would round towards zero
    _need(bool((a >= 0).all() and (b > 0).all()), "a quotient of numbers that are not sizes")
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
    _operator(_name, 2)(_arithmetic(_compute))


@_operator("Where", 3)
def _where(inputs: Inputs, options: Options) -> list[Value]:
    condition, a, b = inputs
    _need(condition.kind == "b" and a.kind == b.kind, "a choice between different things")
    return [Value(a.kind, np.broadcast_shapes(condition.shape, a.shape, b.shape))]


@_operator("MatMul", 2)
def _product(inputs: Inputs, options: Options) -> list[Value]:
    _floats(inputs)
    a, b = (value.shape for value in inputs)
    _need(len(a) >= 2 and len(b) >= 2 and a[-1] == b[-2], f"a product of {a} and {b}")
    return [Value("f", (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]))]


@_operator("Gemm", 2, 3, attributes="alpha beta transA transB")
def _linear(inputs: Inputs, options: Options) -> list[Value]:
    _floats(inputs)
    a, b = (value.shape for value in inputs[:2])
    _need(len(a) == len(b) == 2, "a product of what is not two matrices")
    if options.get("transA"):
        a = a[::-1]
    if options.get("transB"):
        b = b[::-1]
    made = (a[0], b[1])
    bias = inputs[2].shape if len(inputs) > 2 else ()
    _need(a[1] == b[0] and np.broadcast_shapes(made, bias) == made, f"a product of {a} and {b}")
    return [Value("f", made)]


@_operator("ReduceMax ReduceMean ReduceMin ReduceSum", 1, 2, attributes="keepdims noop_with_empty_axes")
def _reduced(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, _ = inputs[0]
    axes = _axes(_numbers(inputs[1]), len(shape)) if len(inputs) > 1 else set(range(len(shape)))
    _need(kind != "b" and bool(axes), "no numbers or no axis")
    if options.get("keepdims", 1):
        return [Value(kind, tuple(1 if i in axes else n for i, n in enumerate(shape)))]
    return [Value(kind, tuple(n for i, n in enumerate(shape) if i not in axes))]


@_operator("Shape", 1, attributes="start end")
def _sizes(inputs: Inputs, options: Options) -> list[Value]:
    shape = inputs[0].shape
    return [_whole(np.array(shape[options.get("start", 0) : options.get("end")], np.int64))]


@_operator("Concat", 1, 64, attributes="axis")
def _joined(inputs: Inputs, options: Options) -> list[Value]:
    first = inputs[0]
    axis = _axis(options["axis"], len(first.shape))
    rest = [(v.kind, len(v.shape), v.shape[:axis], v.shape[axis + 1 :]) for v in inputs]
    _need(all(each == rest[0] for each in rest), "parts of different sizes")
    known = [v.known for v in inputs if v.known is not None]
    if len(known) == len(inputs):
        return [_whole(np.concatenate(known, axis))]
    return [Value(first.kind, (*rest[0][2], sum(v.shape[axis] for v in inputs), *rest[0][3]))]


@_operator("Split", 2, outputs=2, attributes="axis")
def _split(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, _ = inputs[0]
    axis = _axis(options.get("axis", 0), len(shape))
    sizes = _numbers(inputs[1])
    _need(len(sizes) == 2 and min(sizes) > 0 and sum(sizes) == shape[axis], "parts of other sizes")
    return [Value(kind, (*shape[:axis], n, *shape[axis + 1 :])) for n in sizes]


@_operator("Slice", 3, 5)
def _slice(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, known = inputs[0]
    starts, ends = _numbers(inputs[1]), _numbers(inputs[2])
    axes = _numbers(inputs[3]) if len(inputs) > 3 else list(range(len(starts)))
    steps = _numbers(inputs[4]) if len(inputs) > 4 else [1] * len(starts)
    _need(len(_axes(axes, len(shape))) == len(starts) and 0 not in steps, "a part that is not there")
    cut = [slice(None)] * len(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cut[axis] = slice(start, end, step)
    if known is not None:
        return [_whole(known[tuple(cut)])]
    made = tuple(len(range(*part.indices(n))) for part, n in zip(cut, shape, strict=True))
    return [Value(kind, made)]


@_operator("Pad", 3, attributes="mode")
def _padded(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, _ = inputs[0]
    pads = _numbers(inputs[1])
    _need(options.get("mode", b"constant") == b"constant", "padding with other values than one")
    _need(len(pads) == 2 * len(shape) and min(pads) >= 0, "padding of other sizes")
    _need(inputs[2].kind == kind and not inputs[2].shape, "padding of another type")
    before, after = pads[: len(shape)], pads[len(shape) :]
    return [Value(kind, tuple(n + b + a for n, b, a in zip(shape, before, after, strict=True)))]


@_operator("Expand", 2)
def _expanded(inputs: Inputs, options: Options) -> list[Value]:
    wanted = _numbers(inputs[1])
    _need(all(0 < n <= MAX_KNOWN for n in wanted), "a size out of range")
    return [Value(inputs[0].kind, np.broadcast_shapes(inputs[0].shape, tuple(wanted)))]


@_operator("Reshape", 2, attributes="allowzero")
def _reshaped(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, known = inputs[0]
    wanted = _numbers(inputs[1])
    if not options.get("allowzero"):
        wanted = [shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    total, rest = math.prod(shape), math.prod(n for n in wanted if n != -1)
    _need(rest > 0 and wanted.count(-1) <= 1 and min(wanted, default=1) >= -1, "a shape out of range")
    if -1 in wanted:
        _need(total % rest == 0, f"{shape} as {wanted}")
        wanted = [total // rest if n == -1 else n for n in wanted]
    _need(math.prod(wanted) == total, f"{shape} as {wanted}")
    if known is not None:
        return [_whole(known.reshape(wanted))]
    return [Value(kind, tuple(wanted))]


@_operator("Squeeze", 1, 2)
def _squeezed(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, known = inputs[0]
    ones = {i for i, n in enumerate(shape) if n == 1}
    axes = _axes(_numbers(inputs[1]), len(shape)) if len(inputs) > 1 else ones
    _need(axes <= ones, "to drop an axis that holds something")
    made = tuple(n for i, n in enumerate(shape) if i not in axes)
    return [Value(kind, made) if known is None else _whole(known.reshape(made))]


@_operator("Unsqueeze", 2)
def _unsqueezed(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, known = inputs[0]
    given = _numbers(inputs[1])
    axes = _axes(given, len(shape) + len(given))
    left = iter(shape)
    made = tuple(1 if i in axes else next(left) for i in range(len(shape) + len(given)))
    return [Value(kind, made) if known is None else _whole(known.reshape(made))]


@_operator("Transpose", 1, attributes="perm")
def _turned(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, _ = inputs[0]
    order = list(options.get("perm", range(len(shape))[::-1]))
    _need(sorted(order) == list(range(len(shape))), "an order of other axes")
    return [Value(kind, tuple(shape[i] for i in order))]


@_operator("Gather", 2, attributes="axis")
def _gathered(inputs: Inputs, options: Options) -> list[Value]:
    data, at = inputs
    axis = _axis(options.get("axis", 0), len(data.shape))
    n = data.shape[axis]
    # positions that only the engine knows are checked by it
    _need(at.kind == "i", "positions that are not whole numbers")
    if at.known is not None:
        _need(bool(((at.known >= -n) & (at.known < n)).all()), "a position that is not there")
    if data.known is not None and at.known is not None:
        return [_whole(np.take(data.known, at.known, axis))]
    return [Value(data.kind, (*data.shape[:axis], *at.shape, *data.shape[axis + 1 :]))]


@_operator("GatherElements", 2, attributes="axis")
def _gathered_each(inputs: Inputs, options: Options) -> list[Value]:
    _check_positions(inputs[0], inputs[1], options)
    return [Value(inputs[0].kind, inputs[1].shape)]


@_operator("ScatterElements", 3, attributes="axis reduction")
def _scattered(inputs: Inputs, options: Options) -> list[Value]:
    data, at, updates = inputs
    _check_positions(data, at, options)
    _need(options.get("reduction", b"none") == b"none", "values that are combined")
    _need(updates.kind == data.kind and updates.shape == at.shape, "values of another size")
    return [Value(data.kind, data.shape)]


def _check_positions(data: Value, at: Value, options: Options) -> None:
    rank = len(data.shape)
    axis = _axis(options.get("axis", 0), rank)
    fits = all(i == axis or n <= data.shape[i] for i, n in enumerate(at.shape))
    _need(at.kind == "i" and len(at.shape) == rank and fits, "positions of another size")


@_operator("TopK", 2, outputs=2, attributes="axis largest sorted")
def _best(inputs: Inputs, options: Options) -> list[Value]:
    _floats(inputs[:1])
    shape = inputs[0].shape
    axis = _axis(options.get("axis", -1), len(shape))
    (k,) = _numbers(inputs[1])
    _need(0 < k <= shape[axis], "more of the best than there are")
    made = (*shape[:axis], k, *shape[axis + 1 :])
    return [Value("f", made), Value("i", made)]
