"""Operators of torch that move numbers: reshaping, slicing, joining, padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sentryfuse.errors import ConfigError
from sentryfuse.model.aten import Builder, Windows, axis_of, converts, counted
from sentryfuse.planning.operators import Shape

Arguments = Mapping[str, Any]
SAME = ("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "positive", "type_as")
RESHAPED = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "_unsafe_view", "view_as")


def _first(a: Arguments) -> Any:
    return next(iter(a.values()))


@converts(*SAME)
def _same(b: Builder, a: Arguments, size: Shape) -> Any:
    return _first(a)


@converts("to", "_to_copy")
def _to(b: Builder, a: Arguments, size: Shape) -> Any:
    if a.get("dtype", torch.float32) not in (None, torch.float32):
        raise ConfigError(f"makes {a['dtype']} of what a device computes in float32")
    return _first(a)


@converts(*RESHAPED, "reshape_as")
def _reshaped(b: Builder, a: Arguments, size: Shape) -> Any:
    x = _first(a)
    return x if b.shape(x) == size else b.node("reshape", x, shape=size)


@converts("permute")
def _permute(b: Builder, a: Arguments, size: Shape) -> str:
    return b.node("permute", a["self"], order=[int(d) % len(size) for d in a["dims"]])


@converts("transpose", "swapaxes")
def _transpose(b: Builder, a: Arguments, size: Shape) -> str:
    names = ("dim0", "dim1") if "dim0" in a else ("axis0", "axis1")
    one, other = (axis_of(a, len(size), name) for name in names)
    order = [*range(len(size))]
    order[one], order[other] = other, one
    return b.node("permute", a["self"], order=order)


@converts("t", "mT", "numpy_T")
def _turned(b: Builder, a: Arguments, size: Shape) -> str:
    order = [*range(len(size))]
    order[-2:] = reversed(order[-2:])
    return b.node("permute", a["self"], order=order)


@converts("movedim")
def _movedim(b: Builder, a: Arguments, size: Shape) -> str:
    n = len(size)
    source, destination = (
        [d % n for d in (part if isinstance(part, list | tuple) else [part])]
        for part in (a["source"], a["destination"])
    )
    left = iter(d for d in range(n) if d not in source)
    moved = dict(zip(destination, source, strict=True))
    return b.node("permute", a["self"], order=[moved[i] if i in moved else next(left) for i in range(n)])


@converts("expand", "expand_as", "broadcast_to")
def _expand(b: Builder, a: Arguments, size: Shape) -> Any:
    x = _first(a)
    return x if b.shape(x) == size else b.node("expand", x, shape=size)


@converts("repeat")
def _repeat(b: Builder, a: Arguments, size: Shape) -> Any:
    """Stretch sizes of 1; others are joined with themselves."""
    x, times = a["self"], a["repeats"]
    shape = (1,) * (len(size) - len(b.shape(x))) + b.shape(x)
    if shape != b.shape(x):
        x = b.node("reshape", x, shape=shape)
    for axis, n in enumerate(times):
        if shape[axis] != 1 and not isinstance(n, Windows) and n != 1:
            x = b.node("concat", *[x] * int(n), axis=axis)
    return x if b.shape(x) == size else b.node("expand", x, shape=size)


def _filled_with(value: float | None) -> Any:
    def written(b: Builder, a: Arguments, size: Shape) -> str:
        number = float(a["fill_value"]) if value is None else value
        return b.node("expand", torch.full((1,) * len(size), number), shape=size)

    return written


for _name, _value in (("zeros", 0.0), ("ones", 1.0), ("full", None)):
    converts(_name, f"new_{_name}", f"{_name}_like")(_filled_with(_value))


@converts("cat", "concat", "concatenate")
def _cat(b: Builder, a: Arguments, size: Shape) -> Any:
    parts = [*a["tensors"]]
    return parts[0] if len(parts) == 1 else b.node("concat", *parts, axis=axis_of(a, len(size)))


@converts("stack")
def _stack(b: Builder, a: Arguments, size: Shape) -> str:
    axis = axis_of(a, len(size))
    one = (*size[:axis], 1, *size[axis + 1 :])
    return b.node("concat", *(b.node("reshape", part, shape=one) for part in a["tensors"]), axis=axis)


def cut(b: Builder, x: Any, axis: int, start: int, end: int, step: int = 1) -> Any:
    """A slice; the value itself where it is all of it."""
    length = b.shape(x)[axis]
    if start == 0 and step == 1 and (end >= length if length > 0 else end > 1 << 40):
        return x
    return b.node("slice", x, axis=axis, start=start, end=end, step=step)


@converts("slice", "narrow")
def _slice(b: Builder, a: Arguments, size: Shape) -> Any:
    axis = axis_of(a, len(size))
    length = b.shape(a["self"])[axis]
    if "length" in a:
        return cut(b, a["self"], axis, int(a["start"]) % length, int(a["start"]) % length + int(a["length"]))
    start, end = (0 if a["start"] is None else a["start"]), (1 << 62 if a["end"] is None else a["end"])
    if length > 0:
        start, end = (min(max(n + length if n < 0 else n, 0), length) for n in (start, end))
    return cut(b, a["self"], axis, start, end, int(a["step"]))


@converts("select")
def _select(b: Builder, a: Arguments, size: Shape) -> str:
    x = a["self"]
    axis = axis_of(a, len(b.shape(x)))
    length = b.shape(x)[axis]
    if length < 0:
        raise ConfigError("picks one of the windows")
    at = int(a["index"]) % length
    return b.node("reshape", cut(b, x, axis, at, at + 1), shape=size)


@converts("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "unsafe_chunk", "unsafe_split")
def _split(b: Builder, a: Arguments, size: Shape) -> list[Any]:
    x = a["self"]
    shape = b.shape(x)
    axis = axis_of(a, len(shape))
    if len(size) < len(shape):  # unbind
        return [b.node("reshape", cut(b, x, axis, i, i + 1), shape=size) for i in range(counted(shape, axis))]
    parts, step = a.get("split_sizes", a.get("split_size")), size[axis]
    if isinstance(parts, list | tuple):
        ends = [sum(parts[: i + 1]) for i in range(len(parts))]
    else:
        ends = [min(end, shape[axis]) for end in range(step, counted(shape, axis) + step, step)]
    return [cut(b, x, axis, start, end) for start, end in zip([0, *ends], ends, strict=False)]


def taken(b: Builder, x: Any, axis: int, places: Sequence[int] | Tensor) -> str:
    """Some places along an axis."""
    found = [int(p) for p in places]
    return b.node("take", x, axis=axis, places=[p % b.shape(x)[axis] for p in found])


@converts("index_select")
def _index_select(b: Builder, a: Arguments, size: Shape) -> str:
    return taken(b, a["self"], axis_of(a, len(size)), _places(a["index"]).reshape(-1))


@converts("embedding")
def _embedding(b: Builder, a: Arguments, size: Shape) -> Any:
    places = _places(a["indices"])
    return b.node("reshape", taken(b, a["weight"], 0, places.reshape(-1)), shape=size)


@converts("index")
def _index(b: Builder, a: Arguments, size: Shape) -> Any:
    asked = [(axis, index) for axis, index in enumerate(a["indices"]) if index is not None]
    if len(asked) != 1:
        raise ConfigError("is known along one axis alone")
    axis, index = asked[0]
    places = _places(index)
    if places.dtype == torch.bool:
        places = places.nonzero()
    return b.node("reshape", taken(b, a["self"], axis, places.reshape(-1)), shape=size)


def _places(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise ConfigError("picks places that depend on the window")
    return value


@converts("upsample_nearest1d", "upsample_nearest2d")
def _upsample(b: Builder, a: Arguments, size: Shape) -> Any:
    x = _first(a)
    for axis in range(2, len(size)):
        x = taken(b, x, axis, [i * b.shape(x)[axis] // size[axis] for i in range(size[axis])])
    return x


@converts("flip")
def _flip(b: Builder, a: Arguments, size: Shape) -> Any:
    x = a["self"]
    for axis in a["dims"]:
        x = taken(b, x, axis % len(size), [*reversed(range(counted(size, axis % len(size))))])
    return x


@converts("unfold")
def _unfold(b: Builder, a: Arguments, size: Shape) -> str:
    """Overlapping pieces of an axis, which become the last one."""
    x, n = a["self"], len(size) - 1
    axis = axis_of({"dim": a["dimension"]}, n)
    places = [i * a["step"] + j for i in range(size[axis]) for j in range(a["size"])]
    y = taken(b, x, axis, places)
    y = b.node("reshape", y, shape=(*size[: axis + 1], a["size"], *size[axis + 1 : n]))
    return b.node("permute", y, order=[i for i in range(n + 1) if i != axis + 1] + [axis + 1])


@converts("pad", "constant_pad_nd")
def _pad(b: Builder, a: Arguments, size: Shape) -> Any:
    x, value = a["self"], a["value"] or 0.0
    mode = a.get("mode", "constant")
    amounts = [
        (amount_before, after) for amount_before, after in zip(a["pad"][::2], a["pad"][1::2], strict=True)
    ]
    rank = len(size)
    if mode == "constant":
        for i, (before, after) in enumerate(amounts):  # a negative amount cuts off
            axis = rank - 1 - i
            x = cut(b, x, axis, max(0, -before), b.shape(x)[axis] + min(0, after))
        pads = [0] * 2 * rank
        for i, (before, after) in enumerate(amounts):
            pads[rank - 1 - i], pads[2 * rank - 1 - i] = max(0, before), max(0, after)
        return b.node("pad", x, pads=pads, value=float(value)) if any(pads) else x
    if mode not in ("reflect", "replicate", "circular"):
        raise ConfigError(f"pads in the way {mode}")
    for i, (before, after) in enumerate(amounts):
        axis = rank - 1 - i
        n = counted(b.shape(x), axis)
        places = torch.arange(-before, n + after)
        if mode == "replicate":
            places = places.clamp(0, n - 1)
        elif mode == "circular":
            places = places % n
        else:
            places = (n - 1) - ((n - 1) - places.abs()).abs()
        x = taken(b, x, axis, places)
    return x


def _padded(mode: str) -> Any:
    return lambda b, a, size: _pad(
        b, {"self": a["self"], "pad": a["padding"], "mode": mode, "value": 0}, size
    )


for _dims in ("1d", "2d"):
    converts(f"reflection_pad{_dims}")(_padded("reflect"))
    converts(f"replication_pad{_dims}")(_padded("replicate"))
