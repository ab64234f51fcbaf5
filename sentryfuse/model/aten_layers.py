"""Operators of torch that are layers: products, convolutions, norms, pooling, activations, attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sentryfuse.errors import ConfigError
from sentryfuse.model.aten import FARTHEST, Builder, axis_of, converts, pairs
from sentryfuse.planning.operators import Shape

Arguments = Mapping[str, Any]
PLAIN = {  # torch's name -> ours, of what has no options
    **{name: name for name in ("relu", "sigmoid", "tanh", "silu", "mish", "selu", "exp", "log", "sqrt")},
    **{name: name for name in ("reciprocal", "abs", "neg", "sin", "cos", "erf", "hardswish", "hardsigmoid")},
}
DEFAULT_MOMENTUM = 0.1  # of torch's batch norms; a cumulative average has none


def given(*values: Any) -> list[Any]:
    """Those that are there."""
    return [value for value in values if value is not None]


def _plain(ours: str) -> Any:
    return lambda b, a, size: b.node(ours, a["self"])


for _theirs, _ours in PLAIN.items():
    converts(_theirs)(_plain(_ours))


@converts("gelu")
def _gelu(b: Builder, a: Arguments, size: Shape) -> str:
    return b.node("gelu tanh" if a["approximate"] == "tanh" else "gelu", a["self"])


@converts("softplus")
def _softplus(b: Builder, a: Arguments, size: Shape) -> str:
    beta = float(a["beta"])
    y = b.node("softplus", a["self"] if beta == 1 else b.node("scale", a["self"], factor=beta))
    return y if beta == 1 else b.node("scale", y, factor=1 / beta)


@converts("elu")
def _elu(b: Builder, a: Arguments, size: Shape) -> str:
    if a["scale"] != 1 or a["input_scale"] != 1:
        raise ConfigError("is known without scales alone")
    return b.node("elu", a["self"], alpha=float(a["alpha"]))


@converts("leaky_relu")
def _leaky_relu(b: Builder, a: Arguments, size: Shape) -> str:
    return b.node("leaky relu", a["self"], slope=float(a["negative_slope"]))


@converts("prelu")
def _prelu(b: Builder, a: Arguments, size: Shape) -> str:
    """`max(x, 0) - w max(-x, 0)`, a weight per channel or one for all."""
    x, weight = a["self"], a["weight"]
    if b.shape(weight) != (1,):
        weight = b.node("reshape", weight, shape=(*b.shape(weight), *[1] * (len(size) - 2)))
    below = b.node("mul", b.node("relu", b.node("neg", x)), weight)
    return b.node("sub", b.node("relu", x), below)


@converts("relu6")
def _relu6(b: Builder, a: Arguments, size: Shape) -> str:
    return b.node("clip", a["self"], low=0.0, high=6.0)


@converts("hardtanh")
def _hardtanh(b: Builder, a: Arguments, size: Shape) -> str:
    return b.node("clip", a["self"], low=float(a["min_val"]), high=float(a["max_val"]))


@converts("log_sigmoid")
def _log_sigmoid(b: Builder, a: Arguments, size: Shape) -> str:
    return b.node("neg", b.node("softplus", b.node("neg", a["self"])))


@converts("softsign")
def _softsign(b: Builder, a: Arguments, size: Shape) -> str:
    return b.node("div", a["self"], b.node("shift", b.node("abs", a["self"]), by=1.0))


@converts("glu")
def _glu(b: Builder, a: Arguments, size: Shape) -> str:
    axis = axis_of(a, len(size))
    half = size[axis]
    first, second = (
        b.node("slice", a["self"], axis=axis, start=start, end=start + half, step=1) for start in (0, half)
    )
    return b.node("mul", first, b.node("sigmoid", second))


def _softened(ours: str) -> Any:
    return lambda b, a, size: b.node(ours, a["self"], axis=axis_of(a, len(size)))


converts("softmax")(_softened("softmax"))
converts("log_softmax")(_softened("log softmax"))


def _dropped(whole: int) -> Any:
    def written(b: Builder, a: Arguments, size: Shape) -> Any:
        if not 0 < a["p"] < 1:
            return a["input"]
        return b.node("dropout", a["input"], rate=float(a["p"]), whole=whole)

    return written


converts("dropout")(_dropped(0))
converts("feature_dropout")(_dropped(1))


@converts("linear")
def _linear(b: Builder, a: Arguments, size: Shape) -> str:
    return b.node("linear", a["input"], a["weight"], *given(a["bias"]))


@converts("addmm")
def _addmm(b: Builder, a: Arguments, size: Shape) -> str:
    if a["beta"] != 1 or a["alpha"] != 1:
        raise ConfigError("is known without factors alone")
    return b.node("add", b.node("matmul", a["mat1"], a["mat2"]), a["self"])


@converts("matmul", "mm", "bmm")
def _matmul(b: Builder, a: Arguments, size: Shape) -> str:
    x, y = a["self"], a["other"] if "other" in a else a["mat2"]
    if min(len(b.shape(x)), len(b.shape(y))) < 2:
        raise ConfigError("is known for matrices alone; unsqueeze the vector")
    return b.node("matmul", x, y)


@converts("einsum")
def _einsum(b: Builder, a: Arguments, size: Shape) -> str:
    """A product of two: what both have and the answer has not is summed over."""
    equation, given_ = a["equation"].replace(" ", ""), a["tensors"]
    left, _, out = equation.partition("->")
    terms = left.split(",")
    letters = "".join(terms)
    if len(terms) != 2 or not letters.isalpha() or any(len({*t}) < len(t) for t in (*terms, out)):
        raise ConfigError("is known for two values and an equation of letters, each once, alone")
    first, second = terms
    if "->" not in equation:
        out = "".join(sorted(n for n in letters if letters.count(n) == 1))
    common = [n for n in out if n in first and n in second]
    summed = [n for n in first if n in second and n not in out]
    rows, columns = ([n for n in term if n in out and n not in common] for term in terms)
    if {*first} != {*common, *rows, *summed} or {*second} != {*common, *columns, *summed}:
        raise ConfigError("sums over what one value alone has; sum it first")
    sizes = dict(zip(first + second, (*b.shape(given_[0]), *b.shape(given_[1])), strict=True))
    parts = []
    for value, term, order in zip(
        given_, terms, ((common, rows, summed), (common, summed, columns)), strict=True
    ):
        turned = b.node("permute", value, order=[term.index(n) for group in order for n in group])
        shape = [math.prod(sizes[n] for n in group) for group in order]
        parts.append(b.node("reshape", turned, shape=shape))
    y = b.node("reshape", b.node("matmul", *parts), shape=[sizes[n] for n in (*common, *rows, *columns)])
    return b.node("permute", y, order=[[*common, *rows, *columns].index(n) for n in out])


@converts("_weight_norm")
def _weight_norm(b: Builder, a: Arguments, size: Shape) -> str:
    """A direction and a length, which are trained; torch multiplies them before the layer does."""
    direction, axes = a["v"], [i for i in range(len(size)) if i != a["dim"] % len(size)]
    squares = b.node("sum", b.node("mul", direction, direction), axes=axes, keep=1)
    return b.node("mul", b.node("div", direction, b.node("sqrt", squares)), a["g"])


@converts("conv1d", "conv2d")
def _conv(b: Builder, a: Arguments, size: Shape) -> str:
    n, kernel = len(size) - 2, b.shape(a["weight"])[2:]
    stride, dilation = pairs(a["stride"], n), pairs(a["dilation"], n)
    if a["padding"] == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pads = [t // 2 for t in total] + [t - t // 2 for t in total]
    else:
        pads = [0] * 2 * n if a["padding"] == "valid" else pairs(a["padding"], n) * 2
    reads = [a["input"], a["weight"], *given(a["bias"])]
    return b.node("conv", *reads, stride=stride, pads=pads, dilation=dilation, groups=int(a["groups"]))


@converts("batch_norm")
def _batch_norm(b: Builder, a: Arguments, size: Shape) -> str:
    if a["training"] or a["running_mean"] is None:
        raise ConfigError("needs running statistics, or what it makes of a window depends on the others")
    own = given(a["weight"], a["bias"])
    momentum = float(a["momentum"]) or DEFAULT_MOMENTUM
    if own and not any(b.learns(value) for value in own):
        momentum = 0.0  # a frozen norm keeps its statistics
    reads = [a["input"], a["running_mean"], a["running_var"], *own]
    return b.node("batch norm", *reads, eps=float(a["eps"]), momentum=momentum)


@converts("layer_norm")
def _layer_norm(b: Builder, a: Arguments, size: Shape) -> str:
    own = given(a["weight"], a["bias"])
    return b.node("layer norm", a["input"], *own, axes=len(a["normalized_shape"]), eps=float(a["eps"]))


@converts("rms_norm")
def _rms_norm(b: Builder, a: Arguments, size: Shape) -> str:
    x, n = a["input"], len(a["normalized_shape"])
    eps = float(torch.finfo(torch.float32).eps) if a["eps"] is None else float(a["eps"])
    axes = [*range(len(size) - n, len(size))]
    power = b.node("mean", b.node("mul", x, x), axes=axes, keep=1)
    y = b.node("div", x, b.node("sqrt", b.node("shift", power, by=eps)))
    return y if a["weight"] is None else b.node("mul", y, a["weight"])


@converts("group_norm")
def _group_norm(b: Builder, a: Arguments, size: Shape) -> str:
    own = given(a["weight"], a["bias"])
    return b.node("group norm", a["input"], *own, groups=int(a["num_groups"]), eps=float(a["eps"]))


@converts("instance_norm")
def _instance_norm(b: Builder, a: Arguments, size: Shape) -> str:
    if not a["use_input_stats"]:
        raise ConfigError("is known with statistics of the window alone")
    own = given(a["weight"], a["bias"])
    return b.node("group norm", a["input"], *own, groups=abs(size[1]), eps=float(a["eps"]))


@converts("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d")
def _pool(b: Builder, a: Arguments, size: Shape) -> str:
    n = len(size) - 2
    if a["ceil_mode"] or a.get("divisor_override"):
        raise ConfigError("is known without ceil_mode and divisor_override alone")
    kernel = pairs(a["kernel_size"], n)
    sizes: dict[str, Any] = {"kernel": kernel, "stride": pairs(a["stride"], n, kernel)}
    sizes["pads"] = pairs(a["padding"], n) * 2
    if "dilation" in a:
        return b.node("max pool", a["self"], **sizes, dilation=pairs(a["dilation"], n))
    return b.node("average pool", a["self"], **sizes, padding_counts=int(a["count_include_pad"]))


@converts("adaptive_avg_pool1d", "adaptive_avg_pool2d")
def _adaptive_average(b: Builder, a: Arguments, size: Shape) -> str:
    """Even pieces are pooled, uneven ones averaged by a product with a constant."""
    x, n = a["self"], len(size) - 2
    before = b.shape(x)[2:]
    if not any(t % k for t, k in zip(before, size[2:], strict=True)):
        kernel = [t // k for t, k in zip(before, size[2:], strict=True)]
        return b.node("average pool", x, kernel=kernel, stride=kernel, pads=[0] * 2 * n, padding_counts=1)
    if n == 1:
        return b.node("matmul", x, shares(before[0], size[2]))
    x = b.node("matmul", x, shares(before[1], size[3]))
    return b.node("matmul", shares(before[0], size[2]).T.contiguous(), x)


@converts("adaptive_max_pool1d", "adaptive_max_pool2d")
def _adaptive_max(b: Builder, a: Arguments, size: Shape) -> list[Any]:
    n, before = len(size) - 2, b.shape(a["self"])[2:]
    if any(t % k for t, k in zip(before, size[2:], strict=True)):
        raise ConfigError(f"is known for even pieces alone, and {before} steps are no multiple of {size[2:]}")
    kernel = [t // k for t, k in zip(before, size[2:], strict=True)]
    sizes = {"kernel": kernel, "stride": kernel, "pads": [0] * 2 * n, "dilation": [1] * n}
    return [b.node("max pool", a["self"], **sizes), None]


@converts("scaled_dot_product_attention")
def _attention(b: Builder, a: Arguments, size: Shape) -> str:
    if a["dropout_p"] or a.get("enable_gqa"):
        raise ConfigError("is known without dropout of its own and enable_gqa alone")
    query, key, value, mask = a["query"], a["key"], a["value"], a["attn_mask"]
    sizes = b.shape(key)
    order = [*range(len(sizes) - 2), len(sizes) - 1, len(sizes) - 2]
    scale = 1 / math.sqrt(sizes[-1]) if a["scale"] is None else float(a["scale"])
    logits = b.node("matmul", b.node("scale", query, factor=scale), b.node("permute", key, order=order))
    if a["is_causal"]:
        mask = torch.ones(b.shape(query)[-2], sizes[-2]).tril().bool()
    if mask is not None:
        if isinstance(mask, Tensor):
            mask = (
                torch.where(mask, 0.0, -FARTHEST) if mask.dtype == torch.bool else mask.clamp(min=-FARTHEST)
            )
        logits = b.node("add", logits, mask)
    return b.node("matmul", b.node("softmax", logits, axis=len(sizes) - 1), value)


def shares(steps: int, pieces: int) -> Tensor:
    """Of which steps each piece is the mean, as torch cuts them, `(steps, pieces)`."""
    made = torch.zeros(steps, pieces)
    for i in range(pieces):
        start, end = i * steps // pieces, -(-(i + 1) * steps // pieces)
        made[start:end, i] = 1 / (end - start)
    return made
