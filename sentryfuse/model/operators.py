"""How torch runs each operator of an encoder of one's own; the same as `sentryfuse.graph.operators`.

Notation: B windows · N rows · C channels · T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sentryfuse.planning.operators import Shape

Options = Mapping[str, Any]
Run = Callable[[Sequence[Tensor], Options, int, bool], Tensor]  # reads, options, windows, in training

SIMPLE: Mapping[str, Callable[..., Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "mish": F.mish,
    "selu": F.selu,
    "softplus": F.softplus,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "reciprocal": torch.reciprocal,
    "abs": torch.abs,
    "neg": torch.neg,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "max": torch.maximum,
    "min": torch.minimum,
    "matmul": torch.matmul,
    "linear": F.linear,
}
_RUNS: dict[str, Run] = {}


def run_node(op: str, reads: Sequence[Tensor], options: Options, n_windows: int, training: bool) -> Tensor:
    """Compute one node.

    Args:
        op: one of `planning.operators.OPERATORS`; the sizes of what it reads have been checked.
        reads: what it reads.
        options: of the node.
        n_windows: `B`.
        training: drop out, and let batch norms see the batch.
    """
    if op in SIMPLE:
        return SIMPLE[op](*reads)
    return _RUNS[op](reads, options, n_windows, training)


def known() -> set[str]:
    """Operators that torch can run."""
    return SIMPLE.keys() | _RUNS.keys()


def sizes_of(shape: Shape, n_windows: int) -> list[int]:
    """A shape for so many windows."""
    return [size if size > 0 else -size * n_windows for size in shape]


def _runs(*names: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register what needs neither the number of windows nor whether it trains."""

    def register(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
        _RUNS.update({name: lambda reads, options, n, t: run(reads, options) for name in names})
        return run

    return register


_RUNS |= {
    "gelu tanh": lambda r, o, n, t: F.gelu(r[0], approximate="tanh"),
    "elu": lambda r, o, n, t: F.elu(r[0], o["alpha"]),
    "leaky relu": lambda r, o, n, t: F.leaky_relu(r[0], o["slope"]),
    "clip": lambda r, o, n, t: r[0].clamp(o["low"], o["high"]),
    "power": lambda r, o, n, t: r[0] ** o["exponent"],
    "scale": lambda r, o, n, t: r[0] * o["factor"],
    "shift": lambda r, o, n, t: r[0] + o["by"],
    "softmax": lambda r, o, n, t: r[0].softmax(o["axis"]),
    "log softmax": lambda r, o, n, t: r[0].log_softmax(o["axis"]),
    "mean": lambda r, o, n, t: r[0].mean([*o["axes"]], keepdim=bool(o["keep"])),
    "sum": lambda r, o, n, t: r[0].sum([*o["axes"]], keepdim=bool(o["keep"])),
    "largest": lambda r, o, n, t: r[0].amax([*o["axes"]], keepdim=bool(o["keep"])),
    "smallest": lambda r, o, n, t: r[0].amin([*o["axes"]], keepdim=bool(o["keep"])),
    "reshape": lambda r, o, n, t: r[0].reshape(sizes_of(o["shape"], n)),
    "expand": lambda r, o, n, t: r[0].expand(sizes_of(o["shape"], n)),
    "permute": lambda r, o, n, t: r[0].permute(*o["order"]),
    "concat": lambda r, o, n, t: torch.cat([*r], o["axis"]),
}


@_runs("slice")
def _slice(reads: Sequence[Tensor], o: Options) -> Tensor:
    places = [slice(None)] * reads[0].ndim
    places[o["axis"]] = slice(o["start"], o["end"], o["step"])
    return reads[0][tuple(places)]


@_runs("take")
def _take(reads: Sequence[Tensor], o: Options) -> Tensor:
    return reads[0].index_select(o["axis"], torch.tensor([*o["places"]], device=reads[0].device))


@_runs("pad")
def _pad(reads: Sequence[Tensor], o: Options) -> Tensor:
    return F.pad(reads[0], _around(o["pads"]), value=o["value"])


@_runs("conv")
def _conv(reads: Sequence[Tensor], o: Options) -> Tensor:
    x, *weights = reads
    n = x.ndim - 2
    conv: Callable[..., Tensor] = F.conv1d if n == 1 else F.conv2d
    pads = [*o["pads"]]
    if pads[:n] != pads[n:]:
        x, pads = F.pad(x, _around(pads)), [0] * n
    return conv(
        x, *weights, **_conv_sizes(o), padding=pads[:n], **({} if len(weights) > 1 else {"bias": None})
    )


def _conv_sizes(o: Options) -> dict[str, Any]:
    return {"stride": [*o["stride"]], "dilation": [*o["dilation"]], "groups": o["groups"]}


@_runs("max pool")
def _max_pool(reads: Sequence[Tensor], o: Options) -> Tensor:
    n = len(o["kernel"])
    pool: Callable[..., Tensor] = F.max_pool1d if n == 1 else F.max_pool2d
    pads = o["pads"][:n]
    return pool(reads[0], [*o["kernel"]], [*o["stride"]], [*pads], [*o["dilation"]])


@_runs("average pool")
def _average_pool(reads: Sequence[Tensor], o: Options) -> Tensor:
    n = len(o["kernel"])
    pool: Callable[..., Tensor] = F.avg_pool1d if n == 1 else F.avg_pool2d
    pads, counts = o["pads"][:n], bool(o["padding_counts"])
    return pool(reads[0], [*o["kernel"]], [*o["stride"]], [*pads], count_include_pad=counts)


@_runs("layer norm")
def _layer_norm(reads: Sequence[Tensor], o: Options) -> Tensor:
    x, *own = reads
    weight, bias = [*own, None, None][:2]
    return F.layer_norm(x, [*x.shape[-o["axes"] :]], weight, bias, o["eps"])


@_runs("group norm")
def _group_norm(reads: Sequence[Tensor], o: Options) -> Tensor:
    x, *own = reads
    weight, bias = own or (None, None)
    return F.group_norm(x, o["groups"], weight, bias, o["eps"])


def _batch_norm(reads: Sequence[Tensor], o: Options, n_windows: int, training: bool) -> Tensor:
    """In training the batch's own mean and variance, unless there is one number of each, or momentum is 0."""
    x, mean, variance, *own = reads
    batch = training and o["momentum"] > 0 and x.numel() > x.shape[1]
    weight, bias = own or (None, None)
    return F.batch_norm(x, mean, variance, weight, bias, batch, o["momentum"], o["eps"])


def _dropout(reads: Sequence[Tensor], o: Options, n_windows: int, training: bool) -> Tensor:
    drop = torch.feature_dropout if o["whole"] else torch.dropout
    return drop(reads[0], o["rate"], training)


_RUNS |= {"batch norm": _batch_norm, "dropout": _dropout}


def _around(pads: Sequence[int]) -> list[int]:
    """Begins of all axes, then their ends -> begin and end of the last axis, of the one before, ..."""
    n = len(pads) // 2
    return [pad for axis in reversed(range(n)) for pad in (pads[axis], pads[n + axis])]
