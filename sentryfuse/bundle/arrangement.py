"""Operators that only arrange what they are given: shapes, parts, orders. Rules of opset 18 and later."""

from __future__ import annotations

import math

import numpy as np

from sentryfuse.bundle.rules import (
    MAX_KNOWN,
    Inputs,
    Options,
    Value,
    axes_of,
    axis_of,
    floats,
    need,
    numbers,
    operator,
    whole,
)


@operator("Shape", 1, attributes="start end")
def _sizes(inputs: Inputs, options: Options) -> list[Value]:
    shape = inputs[0].shape
    return [whole(np.array(shape[options.get("start", 0) : options.get("end")], np.int64))]


@operator("Concat", 1, 64, attributes="axis")
def _joined(inputs: Inputs, options: Options) -> list[Value]:
    first = inputs[0]
    axis = axis_of(options["axis"], len(first.shape))
    rest = [(v.kind, len(v.shape), v.shape[:axis], v.shape[axis + 1 :]) for v in inputs]
    need(all(each == rest[0] for each in rest), "parts of different sizes")
    known = [v.known for v in inputs if v.known is not None]
    if len(known) == len(inputs):
        return [whole(np.concatenate(known, axis))]
    return [Value(first.kind, (*rest[0][2], sum(v.shape[axis] for v in inputs), *rest[0][3]))]


@operator("Split", 2, outputs=2, attributes="axis")
def _split(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, *_ = inputs[0]
    axis = axis_of(options.get("axis", 0), len(shape))
    sizes = numbers(inputs[1])
    need(len(sizes) == 2 and min(sizes) > 0 and sum(sizes) == shape[axis], "parts of other sizes")
    return [Value(kind, (*shape[:axis], n, *shape[axis + 1 :])) for n in sizes]


@operator("Slice", 3, 5)
def _slice(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, known, _ = inputs[0]
    starts, ends = numbers(inputs[1]), numbers(inputs[2])
    axes = numbers(inputs[3]) if len(inputs) > 3 else list(range(len(starts)))
    steps = numbers(inputs[4]) if len(inputs) > 4 else [1] * len(starts)
    need(len(axes_of(axes, len(shape))) == len(starts) and 0 not in steps, "a part that is not there")
    cut = [slice(None)] * len(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cut[axis] = slice(start, end, step)
    if known is not None:
        return [whole(known[tuple(cut)])]
    made = tuple(len(range(*part.indices(n))) for part, n in zip(cut, shape, strict=True))
    return [Value(kind, made)]


@operator("Pad", 3, attributes="mode")
def _padded(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, *_ = inputs[0]
    pads = numbers(inputs[1])
    need(options.get("mode", b"constant") == b"constant", "padding with other values than one")
    need(len(pads) == 2 * len(shape) and min(pads) >= 0, "padding of other sizes")
    need(inputs[2].kind == kind and not inputs[2].shape, "padding of another type")
    before, after = pads[: len(shape)], pads[len(shape) :]
    return [Value(kind, tuple(n + b + a for n, b, a in zip(shape, before, after, strict=True)))]


@operator("Expand", 2)
def _expanded(inputs: Inputs, options: Options) -> list[Value]:
    wanted = numbers(inputs[1])
    need(all(0 < n <= MAX_KNOWN for n in wanted), "a size out of range")
    return [inputs[0]._replace(shape=np.broadcast_shapes(inputs[0].shape, tuple(wanted)), known=None)]


@operator("Reshape", 2, attributes="allowzero")
def _reshaped(inputs: Inputs, options: Options) -> list[Value]:
    shape, known = inputs[0].shape, inputs[0].known
    wanted = numbers(inputs[1])
    if not options.get("allowzero"):
        wanted = [shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    total, rest = math.prod(shape), math.prod(n for n in wanted if n != -1)
    need(rest > 0 and wanted.count(-1) <= 1 and min(wanted, default=1) >= -1, "a shape out of range")
    if -1 in wanted:
        need(total % rest == 0, f"{shape} as {wanted}")
        wanted = [total // rest if n == -1 else n for n in wanted]
    need(math.prod(wanted) == total, f"{shape} as {wanted}")
    if known is not None:
        return [whole(known.reshape(wanted))]
    return [inputs[0]._replace(shape=tuple(wanted))]


@operator("Squeeze", 1, 2)
def _squeezed(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, known, below = inputs[0]
    ones = {i for i, n in enumerate(shape) if n == 1}
    axes = axes_of(numbers(inputs[1]), len(shape)) if len(inputs) > 1 else ones
    need(axes <= ones, "to drop an axis that holds something")
    made = tuple(n for i, n in enumerate(shape) if i not in axes)
    return [Value(kind, made, below=below) if known is None else whole(known.reshape(made))]


@operator("Unsqueeze", 2)
def _unsqueezed(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, known, below = inputs[0]
    given = numbers(inputs[1])
    axes = axes_of(given, len(shape) + len(given))
    left = iter(shape)
    made = tuple(1 if i in axes else next(left) for i in range(len(shape) + len(given)))
    return [Value(kind, made, below=below) if known is None else whole(known.reshape(made))]


@operator("Transpose", 1, attributes="perm")
def _turned(inputs: Inputs, options: Options) -> list[Value]:
    kind, shape, *_ = inputs[0]
    order = list(options.get("perm", range(len(shape))[::-1]))
    need(sorted(order) == list(range(len(shape))), "an order of other axes")
    return [Value(kind, tuple(shape[i] for i in order))]


@operator("Gather", 2, attributes="axis")
def _gathered(inputs: Inputs, options: Options) -> list[Value]:
    data, at = inputs
    axis = axis_of(options.get("axis", 0), len(data.shape))
    n = data.shape[axis]
    _check_range(at, n)
    if data.known is not None and at.known is not None:
        return [whole(np.take(data.known, at.known, axis))]
    return [Value(data.kind, (*data.shape[:axis], *at.shape, *data.shape[axis + 1 :]))]


@operator("GatherElements", 2, attributes="axis")
def _gathered_each(inputs: Inputs, options: Options) -> list[Value]:
    _check_positions(inputs[0], inputs[1], options)
    return [Value(inputs[0].kind, inputs[1].shape)]


@operator("ScatterElements", 3, attributes="axis reduction")
def _scattered(inputs: Inputs, options: Options) -> list[Value]:
    data, at, updates = inputs
    _check_positions(data, at, options)
    need(options.get("reduction", b"none") == b"none", "values that are combined")
    need(updates.kind == data.kind and updates.shape == at.shape, "values of another size")
    return [Value(data.kind, data.shape)]


@operator("ScatterND", 3, attributes="reduction")
def _scattered_rows(inputs: Inputs, options: Options) -> list[Value]:
    data, at, updates = inputs
    need(options.get("reduction", b"none") in (b"none", b"add"), "values that are combined in another way")
    need(at.shape[-1:] == (1,), "positions of more than one axis")
    _check_range(at, data.shape[0])
    rows = (*at.shape[:-1], *data.shape[1:])
    need(updates.kind == data.kind and updates.shape == rows, "values of another size")
    return [Value(data.kind, data.shape)]


@operator("Range", 3)
def _counted(inputs: Inputs, options: Options) -> list[Value]:
    need(all(v.kind == "i" and not v.shape and v.known is not None for v in inputs), "unknown ends")
    start, end, step = (int(v.known) for v in inputs if v.known is not None)
    need(step != 0 and abs(end - start) <= MAX_KNOWN, "ends out of range")
    return [whole(np.arange(start, end, step, dtype=np.int64))]


def _check_positions(data: Value, at: Value, options: Options) -> None:
    rank = len(data.shape)
    axis = axis_of(options.get("axis", 0), rank)
    fits = all(i == axis or n <= data.shape[i] for i, n in enumerate(at.shape))
    need(len(at.shape) == rank and fits, "positions of another size")
    _check_range(at, data.shape[axis])


def _check_range(at: Value, n: int) -> None:
    """Positions, computed or not, that are all there among `n`."""
    need(at.kind == "i", "positions that are not whole numbers")
    if at.known is None:
        need(0 < at.below <= n, "positions that may not be there")
    else:
        need(bool(((at.known >= -n) & (at.known < n)).all()), "a position that is not there")


@operator("TopK", 2, outputs=2, attributes="axis largest sorted")
def _best(inputs: Inputs, options: Options) -> list[Value]:
    floats(inputs[:1])
    shape = inputs[0].shape
    axis = axis_of(options.get("axis", -1), len(shape))
    (k,) = numbers(inputs[1])
    need(0 < k <= shape[axis], "more of the best than there are")
    made = (*shape[:axis], k, *shape[axis + 1 :])
    return [Value("f", made), Value("i", made, below=shape[axis])]
