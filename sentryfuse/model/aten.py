"""Operators of torch -> nodes of a program: the ones that can be written on a device.

Each function here answers for one operator of torch's own (`aten`), under the names its schema gives to
arguments. What depends on no window and no weight is computed once, here, and held as a constant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sentryfuse.errors import ConfigError
from sentryfuse.planning.operators import OPERATORS, Ask, Shape
from sentryfuse.planning.program import Node, Weight, shown

FARTHEST = 1e5  # instead of minus infinity in a mask: far below any logit, and a number a bundle may hold


class Windows:
    """A whole number that depends on how many windows there are; its value is not known here."""


class Builder:
    """A program as it grows.

    Args:
        trained: parameter -> whether training changes it.

    Attributes:
        weights: so far, in order.
        nodes: so far, in order.
        tensors: the weights' numbers.
        called: id of a constant -> its name in the module, and the constant.
    """

    def __init__(self, trained: Mapping[str, bool]) -> None:
        self.trained = trained
        self.weights: list[Weight] = []
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.called: dict[int, tuple[str, Tensor]] = {}
        self._shapes: dict[str, Shape] = {}
        self._held: dict[str | int, str] = {}
        self._waiting: dict[str, tuple[str, Tensor]] = {}  # parameters that no node has read yet

    def window(self, name: str, shape: Shape) -> str:
        """The window, under its name."""
        self._shapes[name] = shape
        return name

    def parameter(self, target: str, tensor: Tensor) -> str:
        """A parameter; it becomes a weight when a node reads it."""
        key = f"parameter {target}"
        self._waiting[key] = target, tensor
        self._shapes[key] = tuple(tensor.shape) or (1,)
        return key

    def read(self, value: Any) -> str:
        """A value, weight or constant as nodes read it."""
        if isinstance(value, str):
            if value in self._waiting:
                target, tensor = self._waiting[value]
                if value not in self._held:
                    role = "trained" if self.trained.get(target) else "frozen"
                    self._held[value] = self._weight(target, tensor, role)
                return self._held[value]
            return value
        if isinstance(value, Tensor):
            if id(value) not in self._held:
                known = self.called.setdefault(
                    id(value), ("constant", value)
                )  # keeps it alive: ids are reused
                self._held[id(value)] = self._weight(known[0], value, "measured")
            return self._held[id(value)]
        if value is None:
            raise ConfigError("reads where a largest or smallest value is, which no device says")
        if isinstance(value, Windows):
            raise ConfigError("counts windows, which a device does not")
        raise ConfigError(f"reads {type(value).__name__}, which is no tensor")

    def learns(self, value: Any) -> bool:
        """Whether training changes a parameter."""
        return value in self._waiting and bool(self.trained.get(self._waiting[value][0]))

    def shape(self, value: Any) -> Shape:
        """Sizes of a value, weight or constant."""
        if isinstance(value, Tensor):
            return tuple(value.shape)
        if not isinstance(value, str):
            self.read(value)
        return self._shapes[value]

    def node(self, op: str, *reads: Any, **options: Any) -> str:
        """Add a node; answers with the name of its value.

        Raises:
            ConfigError: it does not fit what it reads.
        """
        names = tuple(self.read(value) for value in reads)
        for key, value in options.items():
            if isinstance(value, list):
                options[key] = tuple(value)
        ask = Ask([self._shapes[name] for name in names], options)
        shape, _ = OPERATORS[op](ask)
        ask.check(shape)
        name = f"v{len(self.nodes)}"
        self.nodes.append(Node(op, names, options))
        self._shapes[name] = shape
        return name

    def finish(self, value: Any) -> None:
        """Make a value the last one."""
        if not self.nodes or self.read(value) != f"v{len(self.nodes) - 1}":
            self.node("reshape", value, shape=self.shape(value))

    def _weight(self, target: str, tensor: Tensor, role: Any) -> str:
        if not tensor.is_floating_point():
            tensor = tensor.float()
        numbers = tensor.detach().float().clone().reshape(tuple(tensor.shape) or (1,))
        if not torch.isfinite(numbers).all():
            raise ConfigError(f"reads {target}, which holds numbers that are not finite")
        word = re.sub(r"[^A-Za-z0-9_]", "_", target)[-100:]
        name = f"{len(self.weights)}_{word}"
        self.weights.append(Weight(name, tuple(numbers.shape), role))
        self.tensors[name] = numbers
        self._shapes[name] = tuple(numbers.shape)
        return name


Convert = Callable[[Builder, Mapping[str, Any], Shape], Any]
_CONVERTS: dict[str, Convert] = {}


def converts(*names: str) -> Callable[[Convert], Convert]:
    """Register how operators of torch are written down."""

    def register(function: Convert) -> Convert:
        _CONVERTS.update(dict.fromkeys(names, function))
        return function

    return register


def known() -> list[str]:
    """Names of the operators of torch that can be written down."""
    return sorted(_CONVERTS)


def convert(
    builder: Builder,
    target: torch._ops.OpOverload,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    sizes: Sequence[Shape],
) -> Any:
    """Write one operator down.

    Args:
        builder: to write into.
        target: the operator.
        args: what it is called with; values by name, constants as tensors.
        kwargs: the rest.
        sizes: of what it makes.

    Raises:
        ConfigError: it is not known, or known in other forms only.
    """
    if _is_constant([*args, *kwargs.values()]):
        return target(*args, **kwargs)
    name = target._schema.name.removeprefix("aten::")
    function = _CONVERTS.get(name) or _CONVERTS.get(name.removesuffix("_"))
    if function is None:
        raise ConfigError(
            "cannot be written on a device; put known operators in its place (docs/own_encoder.md)"
        )
    arguments = {a.name: a.default_value for a in target._schema.arguments if a.has_default_value()}
    names = [a.name for a in target._schema.arguments]
    arguments = {n: arguments.get(n) for n in names} | dict(zip(names, args, strict=False)) | dict(kwargs)
    value = function(builder, arguments, sizes[0])
    made = value if isinstance(value, list) else [value]
    for part, size in zip(made, sizes, strict=False):
        if part is not None and builder.shape(part) != (size or (1,)):
            raise ConfigError(f"makes {shown(size)}, and {shown(builder.shape(part))} as a program")
    return value


def shape_of(found: Any) -> Shape:
    """Sizes of an example value, `-k` for `k` times the number of windows.

    Raises:
        ConfigError: a size depends on the number of windows in another way.
    """
    return tuple(_size(size) for size in getattr(found, "shape", ()))


def _size(size: Any) -> int:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    (symbol,) = expression.free_symbols
    times = expression.coeff(symbol)
    if expression != times * symbol or int(times) < 1:
        raise ConfigError(f"makes {expression} numbers, which is no multiple of the windows")
    return -int(times)


def _is_constant(args: Sequence[Any]) -> bool:
    """Whether a call reads constants alone."""
    flat: list[Any] = []
    for arg in args:
        flat += arg if isinstance(arg, tuple | list) else [arg]
    return not any(isinstance(arg, str | Windows) and not _is_word(arg) for arg in flat)


def _is_word(arg: Any) -> bool:
    """Whether an argument is a word such as "same", and no name of a value."""
    return isinstance(arg, str) and re.fullmatch(r"x|v\d+|parameter .*", arg) is None


def axis_of(a: Mapping[str, Any], rank: int, name: str = "dim") -> int:
    """An axis from 0 on."""
    return int(a[name]) % rank


def pairs(value: Any, n: int, default: Any = None) -> list[int]:
    """One number or a list -> a list of `n`."""
    if value is None or (isinstance(value, list | tuple) and not value):
        value = default
    many = [*value] if isinstance(value, list | tuple) else [value]
    return [int(v) for v in (many * n if len(many) == 1 else many)]


def counted(shape: Shape, axis: int) -> int:
    """Steps of an axis.

    Raises:
        ConfigError: it counts windows.
    """
    if shape[axis] < 0:
        raise ConfigError("takes the windows apart")
    return shape[axis]
