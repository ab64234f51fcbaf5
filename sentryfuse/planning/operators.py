"""The operators an encoder of one's own may be made of: which reads and options fit, what comes out.

One rule for each, asked before anything runs, in torch and on the device alike. Sizes are whole numbers; `-k`
stands for `k` times the number of windows (see `program`).

Notation: N rows · C channels · T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from sentryfuse.errors import ConfigError

Shape = tuple[int, ...]
MAX_NUMBERS = 1 << 25  # of all values of one window
MAX_RANK = 8

Limits = Mapping[str, tuple[float, float]]
PLAIN = (
    *("relu", "sigmoid", "tanh", "silu", "gelu", "gelu tanh", "mish", "selu", "softplus", "hardswish"),
    *("hardsigmoid", "exp", "log", "sqrt", "reciprocal", "abs", "neg", "sin", "cos", "erf"),
)
# one value in, one of the same sizes out -> its options: name -> least and most
UNARY: Mapping[str, Limits] = {
    **{name: {} for name in PLAIN},
    "elu": {"alpha": (0, 1e6)},
    "leaky relu": {"slope": (-1e6, 1e6)},
    "clip": {"low": (-3e38, 3e38), "high": (-3e38, 3e38)},
    "power": {"exponent": (-64, 64)},
    "scale": {"factor": (-3e38, 3e38)},
    "shift": {"by": (-3e38, 3e38)},
    "dropout": {"rate": (0, 0.999), "whole": (0, 1)},
}
BINARY = ("add", "sub", "mul", "div", "max", "min")
REDUCTIONS = ("mean", "sum", "largest", "smallest")


def numbers(shape: Shape) -> int:
    """How many one window has."""
    return math.prod(map(abs, shape))


class Ask:
    """One node as its rule sees it.

    Attributes:
        reads: shapes of what it reads.
    """

    def __init__(self, reads: Sequence[Shape], options: Mapping[str, Any]) -> None:
        self.reads, self._options, self._asked = reads, options, set[str]()

    def fail(self, why: str) -> NoReturn:
        """Refuse the node."""
        raise ConfigError(why)

    def read(self, i: int, least: int, most: int = MAX_RANK) -> Shape:
        """A read of so many axes."""
        if i >= len(self.reads) or not least <= len(self.reads[i]) <= most:
            self.fail(f"needs a read {i} of {least} to {most} axes")
        return self.reads[i]

    def count(self, *allowed: int) -> int:
        """The number of reads, one of those allowed."""
        if len(self.reads) not in allowed:
            self.fail(f"has {len(self.reads)} reads")
        return len(self.reads)

    def vectors(self, first: int, size: int) -> None:
        """All reads from one on are `(size,)`."""
        for shape in self.reads[first:]:
            if shape != (size,):
                self.fail(f"needs its weights as ({size},)")

    def whole(self, name: str, least: int, most: int) -> int:
        """An option that is a whole number."""
        self._asked.add(name)
        value = self._options.get(name)
        if type(value) is not int or not least <= value <= most:
            self.fail(f"needs {name} within {least}..{most}")
        return value

    def number(self, name: str, least: float, most: float) -> float:
        """An option that is a number."""
        self._asked.add(name)
        value = self._options.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self.fail(f"needs {name} within {least:g}..{most:g}")
        return float(value)

    def whole_numbers(self, name: str, n: int | None, least: int, most: int) -> tuple[int, ...]:
        """An option that is a list of whole numbers, `n` of them."""
        self._asked.add(name)
        value = self._options.get(name)
        if (
            not isinstance(value, tuple | list)
            or (n is not None and len(value) != n)
            or not all(type(v) is int and least <= v <= most for v in value)
        ):
            self.fail(f"needs {name} as {'' if n is None else f'{n} '}whole numbers within {least}..{most}")
        return tuple(value)

    def axis(self, name: str = "axis") -> int:
        """An option that is an axis of the first read, which is not the windows'."""
        shape = self.read(0, 1)
        axis = self.whole(name, 0, len(shape) - 1)
        return self.inside(shape, axis)

    def inside(self, shape: Shape, axis: int) -> int:
        """Refuse an axis that counts windows."""
        if shape[axis] < 0:
            self.fail("works along the windows, so that their answers would depend on each other")
        return axis

    def check(self, shape: Shape) -> None:
        """What holds for every node, after its rule."""
        unasked = sorted(self._options.keys() - self._asked)
        if unasked:
            self.fail(f"has an option {unasked[0]} that it does not know")
        if not 1 <= len(shape) <= MAX_RANK or 0 in shape:
            self.fail("makes nothing")
        if sum(size < 0 for size in shape) > 1 or any(s < 0 for s in shape) < any(
            s < 0 for read in self.reads for s in read
        ):
            self.fail("mixes windows")
        if numbers(shape) > MAX_NUMBERS:
            self.fail(f"makes more than {MAX_NUMBERS} numbers of a window")


Result = tuple[Shape, int]  # and the multiply-accumulates of one window
Rule = Callable[[Ask], Result]
OPERATORS: dict[str, Rule] = {}


def _operator(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        OPERATORS.update(dict.fromkeys(names, rule))
        return rule

    return register


def broadcast(ask: Ask, a: Shape, b: Shape) -> Shape:
    """Sizes after stretching those that are 1."""
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    for m, n in zip(a, b, strict=True):
        if m != n and 1 not in (m, n):
            ask.fail("reads values whose sizes do not go together")
    return tuple(n if m == 1 else m for m, n in zip(a, b, strict=True))


def _unary(limits: Limits) -> Rule:
    def rule(ask: Ask) -> Result:
        ask.count(1)
        for name, (least, most) in limits.items():
            ask.number(name, least, most)
        return ask.read(0, 1), 0

    return rule


OPERATORS |= {name: _unary(limits) for name, limits in UNARY.items()}


@_operator(*BINARY)
def _binary(ask: Ask) -> Result:
    ask.count(2)
    return broadcast(ask, *ask.reads), 0


@_operator("linear")
def _linear(ask: Ask) -> Result:
    """`x W' + b` along the last axis."""
    ask.count(2, 3)
    x, weight = ask.read(0, 1), ask.read(1, 2, 2)
    ask.inside(x, len(x) - 1)
    if weight[1] != x[-1] or weight[0] < 0:
        ask.fail("needs a weight (out, in) of as many inputs as there are")
    ask.vectors(2, weight[0])
    shape = (*x[:-1], weight[0])
    return shape, numbers(shape) * x[-1]


@_operator("matmul")
def _matmul(ask: Ask) -> Result:
    ask.count(2)
    a, b = ask.read(0, 2), ask.read(1, 2)
    ask.inside(a, len(a) - 1)
    if a[-1] != b[-2]:
        ask.fail("multiplies matrices that do not fit")
    shape = (*broadcast(ask, a[:-2], b[:-2]), a[-2], b[-1])
    return shape, numbers(shape) * a[-1]


def _slid(ask: Ask, sizes: Shape, kernel: Shape, pads: Shape, *, dilations: Shape | None = None) -> Shape:
    """Sizes along which a kernel slides, afterwards."""
    n = len(sizes)
    strides = ask.whole_numbers("stride", n, 1, 1 << 16)
    out = []
    for i, size in enumerate(sizes):
        reach = (dilations[i] if dilations else 1) * (kernel[i] - 1) + 1
        room = size + pads[i] + pads[n + i] - reach
        if size < 1 or room < 0:
            ask.fail(f"has a kernel that reaches over {reach} steps")
        out.append(room // strides[i] + 1)
    return tuple(out)


@_operator("conv")
def _conv(ask: Ask) -> Result:
    """`(N, C, T)` or `(N, C, H, W)`, weight `(O, C / groups, *kernel)`."""
    ask.count(2, 3)
    x = ask.read(0, 3, 4)
    weight = ask.read(1, len(x), len(x))
    n = len(x) - 2
    pads = ask.whole_numbers("pads", 2 * n, 0, 1 << 16)
    dilations = ask.whole_numbers("dilation", n, 1, 1 << 16)
    groups = ask.whole("groups", 1, 1 << 16)
    if min(weight) < 1 or x[1] != weight[1] * groups or weight[0] % groups:
        ask.fail("needs a weight (out, in / groups, kernel) of as many channels as there are")
    ask.vectors(2, weight[0])
    shape = (x[0], weight[0], *_slid(ask, x[2:], weight[2:], pads, dilations=dilations))
    return shape, numbers(shape) * math.prod(weight[1:])


@_operator("max pool")
def _max_pool(ask: Ask) -> Result:
    return _pool(ask, dilated=True)


@_operator("average pool")
def _average_pool(ask: Ask) -> Result:
    ask.whole("padding_counts", 0, 1)
    return _pool(ask, dilated=False)


def _pool(ask: Ask, *, dilated: bool) -> Result:
    ask.count(1)
    x = ask.read(0, 3, 4)
    n = len(x) - 2
    kernel = ask.whole_numbers("kernel", n, 1, 1 << 16)
    pads = ask.whole_numbers("pads", 2 * n, 0, 1 << 16)
    if any(2 * pad > kernel[i % n] for i, pad in enumerate(pads)):
        ask.fail("is padded by more than half its kernel")
    dilations = ask.whole_numbers("dilation", n, 1, 1 << 16) if dilated else None
    return (*x[:2], *_slid(ask, x[2:], kernel, pads, dilations=dilations)), 0


@_operator("batch norm")
def _batch_norm(ask: Ask) -> Result:
    """Reads `(N, C, ...)`, running mean and variance, and weight and bias where it has them."""
    ask.count(3, 5)
    x = ask.read(0, 2)
    ask.vectors(1, x[ask.inside(x, 1)])
    ask.number("eps", 0, 1)
    ask.number("momentum", 0, 1)
    return x, 0


@_operator("layer norm")
def _layer_norm(ask: Ask) -> Result:
    ask.count(1, 2, 3)
    x = ask.read(0, 1)
    axes = ask.whole("axes", 1, len(x))
    ask.number("eps", 0, 1)
    for axis in range(len(x) - axes, len(x)):
        ask.inside(x, axis)
    if any(shape != x[-axes:] for shape in ask.reads[1:]):
        ask.fail("needs weights of the sizes it works along")
    return x, 0


@_operator("group norm")
def _group_norm(ask: Ask) -> Result:
    ask.count(1, 3)
    x = ask.read(0, 2)
    for axis in range(1, len(x)):
        ask.inside(x, axis)
    if x[1] % ask.whole("groups", 1, x[1]):
        ask.fail("has groups that do not divide its channels")
    ask.vectors(1, x[1])
    ask.number("eps", 0, 1)
    return x, 0


@_operator("softmax", "log softmax")
def _softmax(ask: Ask) -> Result:
    ask.count(1)
    ask.axis()
    return ask.read(0, 1), 0


@_operator(*REDUCTIONS)
def _reduction(ask: Ask) -> Result:
    ask.count(1)
    x = ask.read(0, 1)
    axes = ask.whole_numbers("axes", None, 0, len(x) - 1)
    if not axes or len(set(axes)) < len(axes):
        ask.fail("needs axes that differ")
    for axis in axes:
        ask.inside(x, axis)
    if ask.whole("keep", 0, 1):
        return tuple(1 if i in axes else size for i, size in enumerate(x)), 0
    return tuple(size for i, size in enumerate(x) if i not in axes), 0


@_operator("reshape")
def _reshape(ask: Ask) -> Result:
    ask.count(1)
    x = ask.read(0, 1)
    shape = ask.whole_numbers("shape", None, -(10**8), 10**8)
    if numbers(shape) != numbers(x):
        ask.fail(f"makes {numbers(shape)} numbers of {numbers(x)}")
    if min(x) > 0 > min(shape, default=1):
        ask.fail("mixes windows")
    return shape, 0


@_operator("permute")
def _permute(ask: Ask) -> Result:
    ask.count(1)
    x = ask.read(0, 1)
    order = ask.whole_numbers("order", len(x), 0, len(x) - 1)
    if len(set(order)) < len(order):
        ask.fail("names an axis twice")
    return tuple(x[i] for i in order), 0


@_operator("expand")
def _expand(ask: Ask) -> Result:
    """Stretch sizes of 1, also to the number of windows."""
    ask.count(1)
    x = ask.read(0, 1)
    shape = ask.whole_numbers("shape", None, -(10**8), 10**8)
    if broadcast(ask, x, shape) != shape:
        ask.fail("stretches sizes other than 1")
    return shape, 0


@_operator("concat")
def _concat(ask: Ask) -> Result:
    axis = ask.axis()
    first = ask.read(0, 1)
    for shape in ask.reads:
        if len(shape) != len(first) or shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            ask.fail("joins values whose other sizes differ")
        ask.inside(shape, axis)
    return (*first[:axis], sum(shape[axis] for shape in ask.reads), *first[axis + 1 :]), 0


@_operator("slice")
def _slice(ask: Ask) -> Result:
    ask.count(1)
    x, axis = ask.read(0, 1), ask.axis()
    start = ask.whole("start", 0, x[axis] - 1)
    end = ask.whole("end", start + 1, x[axis])
    step = ask.whole("step", 1, 1 << 16)
    return (*x[:axis], math.ceil((end - start) / step), *x[axis + 1 :]), 0


@_operator("take")
def _take(ask: Ask) -> Result:
    """Some places along an axis, in a given order, possibly several times."""
    ask.count(1)
    x, axis = ask.read(0, 1), ask.axis()
    places = ask.whole_numbers("places", None, 0, x[axis] - 1)
    return (*x[:axis], len(places), *x[axis + 1 :]), 0


@_operator("pad")
def _pad(ask: Ask) -> Result:
    """A constant before and after each axis."""
    ask.count(1)
    x = ask.read(0, 1)
    pads = ask.whole_numbers("pads", 2 * len(x), 0, 1 << 16)
    ask.number("value", -3e38, 3e38)
    around = [pads[i] + pads[len(x) + i] for i in range(len(x))]
    for axis, more in enumerate(around):
        if more:
            ask.inside(x, axis)
    return tuple(size + more for size, more in zip(x, around, strict=True)), 0
