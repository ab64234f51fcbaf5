"""Operators of torch that compute with numbers: sums, products, powers, means, variances, choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sentryfuse.errors import ConfigError
from sentryfuse.model.aten import FARTHEST, Builder, converts, counted
from sentryfuse.planning.operators import Shape

Arguments = Mapping[str, Any]


def _arithmetic(b: Builder, op: str, x: Any, y: Any) -> Any:
    """A sum, difference, product or quotient, of numbers too."""
    if isinstance(x, int | float):
        if op in ("add", "mul"):
            return _arithmetic(b, op, y, x)
        if op == "sub":
            return b.node("shift", b.node("neg", y), by=float(x))
        return b.node("scale", b.node("reciprocal", y), factor=float(x))
    if isinstance(y, int | float):
        if op in ("add", "sub"):
            return b.node("shift", x, by=float(y if op == "add" else -y))
        return b.node("scale", x, factor=float(y if op == "mul" else 1 / y))
    return b.node(op, x, y)


def _arithmetic_of(op: str) -> Any:
    def written(b: Builder, a: Arguments, size: Shape) -> Any:
        x, y = a["self"], a["other"]
        if a.get("rounding_mode"):
            raise ConfigError("is known without rounding alone")
        alpha = a.get("alpha", 1)
        if alpha != 1:
            y = y * alpha if isinstance(y, int | float) else b.node("scale", y, factor=float(alpha))
        return _arithmetic(b, op, x, y)

    return written


for _op in ("add", "sub", "mul", "div"):
    converts(_op, *{"sub": ["subtract"], "mul": ["multiply"], "div": ["divide", "true_divide"]}.get(_op, []))(
        _arithmetic_of(_op)
    )


@converts("rsub")
def _rsub(b: Builder, a: Arguments, size: Shape) -> Any:
    return _arithmetic_of("sub")(b, {**a, "self": a["other"], "other": a["self"]}, size)


@converts("addcmul")
def _addcmul(b: Builder, a: Arguments, size: Shape) -> Any:
    more = _arithmetic(b, "mul", b.node("mul", a["tensor1"], a["tensor2"]), float(a["value"]))
    return b.node("add", a["self"], more)


converts("maximum")(lambda b, a, size: b.node("max", a["self"], a["other"]))
converts("minimum")(lambda b, a, size: b.node("min", a["self"], a["other"]))


@converts("clamp", "clip", "clamp_min", "clamp_max")
def _clamp(b: Builder, a: Arguments, size: Shape) -> str:
    low, high = (-3e38 if a.get("min") is None else a["min"]), (3e38 if a.get("max") is None else a["max"])
    return b.node("clip", a["self"], low=float(low), high=float(high))


@converts("square")
def _square(b: Builder, a: Arguments, size: Shape) -> str:
    return b.node("mul", a["self"], a["self"])


@converts("rsqrt")
def _rsqrt(b: Builder, a: Arguments, size: Shape) -> str:
    return b.node("reciprocal", b.node("sqrt", a["self"]))


@converts("log1p")
def _log1p(b: Builder, a: Arguments, size: Shape) -> str:
    return b.node("log", b.node("shift", a["self"], by=1.0))


@converts("pow")
def _pow(b: Builder, a: Arguments, size: Shape) -> str:
    if not isinstance(a["exponent"], int | float):
        raise ConfigError("is known for exponents that are numbers alone")
    if a["exponent"] == 2:
        return b.node("mul", a["self"], a["self"])
    return b.node("power", a["self"], exponent=float(a["exponent"]))


def _axes(b: Builder, x: Any, dims: Any) -> list[int]:
    rank = len(b.shape(x))
    many = dims if isinstance(dims, list | tuple) else [dims]
    return [*range(rank)] if dims is None or not many else [d % rank for d in many]


def _reduced(op: str) -> Any:
    def written(b: Builder, a: Arguments, size: Shape) -> str:
        axes = _axes(b, a["self"], a.get("dim"))
        return b.node(op, a["self"], axes=axes, keep=int(a.get("keepdim") or 0))

    return written


for _theirs, _ours in (("mean", "mean"), ("sum", "sum"), ("amax", "largest"), ("amin", "smallest")):
    converts(_theirs)(_reduced(_ours))


def _with_places(op: str) -> Any:
    """Largest or smallest, of an axis or of two values; where it is nobody may ask."""

    def written(b: Builder, a: Arguments, size: Shape) -> Any:
        if a.get("other") is not None:
            return b.node({"largest": "max", "smallest": "min"}[op], a["self"], a["other"])
        return [_reduced(op)(b, a, size), None]

    return written


converts("max")(_with_places("largest"))
converts("min")(_with_places("smallest"))


@converts("linalg_vector_norm")
def _norm(b: Builder, a: Arguments, size: Shape) -> str:
    if a["ord"] != 2:
        raise ConfigError("is known for the root of the sum of squares alone")
    squares = b.node("mul", a["self"], a["self"])
    axes = _axes(b, squares, a["dim"])
    return b.node("sqrt", b.node("sum", squares, axes=axes, keep=int(a["keepdim"])))


def chosen(b: Builder, where: Any, x: Any, y: Any, size: Shape) -> str:
    """`x` where a constant is true, `y` elsewhere."""
    if not isinstance(where, Tensor):
        raise ConfigError("chooses by numbers of the window")
    first, second = where.float(), 1 - where.float()

    def part(value: Any, share: Tensor) -> Any:
        if isinstance(value, int | float | Tensor) and not isinstance(value, bool):
            return share * torch.as_tensor(value).float().clamp(-FARTHEST, FARTHEST)
        return b.node("mul", value, share)

    y = b.node("add", part(x, first), part(y, second))
    return y if b.shape(y) == size else b.node("expand", y, shape=size)


converts("masked_fill")(lambda b, a, size: chosen(b, a["mask"], a["value"], a["self"], size))
converts("where")(lambda b, a, size: chosen(b, a["condition"], a["self"], a["other"], size))


def variance(b: Builder, a: Arguments) -> str:
    """Mean square of what deviates from the mean, times `n / (n - correction)`."""
    x, axes = a["self"], _axes(b, a["self"], a.get("dim"))
    keep = int(a.get("keepdim") or 0)
    correction = a.get("correction")
    if correction is None:
        correction = int(a.get("unbiased", True) is not False)
    n = 1
    for axis in axes:
        n *= counted(b.shape(x), axis)
    if n <= correction:
        raise ConfigError(f"divides by nothing: {n} numbers and a correction of {correction}")
    off = b.node("sub", x, b.node("mean", x, axes=axes, keep=1))
    mean = b.node("mean", b.node("mul", off, off), axes=axes, keep=keep)
    return mean if correction == 0 else b.node("scale", mean, factor=n / (n - correction))


converts("var")(lambda b, a, size: variance(b, a))
converts("std")(lambda b, a, size: b.node("sqrt", variance(b, a)))
