"""An encoder of somebody's own as data: a list of known operators and the weights they read. No torch here.

A program turns one sensor's window into tokens. Its nodes run in order; node `i` writes the value `v<i>`,
and reads `x` (the window), earlier values, and weights by name. The last value is the answer, `(B, L, D)`.
What an operator makes of its reads is in `operators`; torch runs a program (`sentryfuse.model.encoder`), the
device writes it as a graph (`sentryfuse.graph.encoder`).

Sizes of values are whole numbers; `-k` stands for `k` times the number of windows. At most one size of a
value is such a one, and no operator works along it.

Notation: B windows · T steps · C channels · L tokens · D d_model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Interval, Len, Predicate
from pydantic import ConfigDict, TypeAdapter, ValidationError

from sentryfuse.errors import ConfigError
from sentryfuse.planning.operators import MAX_NUMBERS, OPERATORS, Ask, Shape, numbers
from sentryfuse.types import Name

MAX_NODES = 2000
MAX_WORK = 10**12  # multiply-accumulates of one window [MAC]
WINDOW, VALUE = "x", re.compile(r"v(0|[1-9]\d{0,3})")
WEIGHT = re.compile(r"\d{1,4}_\w{0,200}", re.ASCII)


def is_weight(name: str) -> bool:
    """Whether something can name a weight: a number and a word, so that it is no value."""
    return WEIGHT.fullmatch(name) is not None


Whole = Annotated[int, Interval(ge=-(10**9), le=10**9)]
Fraction = Annotated[float, Interval(ge=-3e38, le=3e38)]
Size = Annotated[int, Interval(ge=1, le=10**8)]
Option = Whole | Fraction | Annotated[str, Len(1, 40)] | Annotated[tuple[Whole, ...], Len(0, 1 << 16)]
Role = Literal["trained", "frozen", "measured"]


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor that nodes read.

    Attributes:
        name: a number and a word, such as `3_conv_weight`.
        shape: of it; at least one size.
        role: "trained"; "frozen", a weight that training leaves alone; or "measured", a constant or a running
            statistic, which is not counted among the weights.
    """

    name: Annotated[str, Predicate(is_weight)]
    shape: Annotated[tuple[Size, ...], Len(1, 8)]
    role: Role = "trained"


@dataclass(frozen=True, slots=True)
class Node:
    """One operator.

    Attributes:
        op: its name among `operators.OPERATORS`.
        reads: `x`, values of earlier nodes, and weights.
        options: what it must know beside its reads.
    """

    op: Name
    reads: Annotated[tuple[Name, ...], Len(1, 200)]
    options: Annotated[Mapping[Name, Option], Len(0, 16)] = field(default_factory=dict, hash=False)


class Sizes(NamedTuple):
    """What is known of a program when its window is.

    Attributes:
        values: shape of `x` and of the value of every node.
        macs: multiply-accumulates of one window [MAC].
        held: numbers of all values of one window.
    """

    values: Mapping[str, Shape]
    macs: int
    held: int


@dataclass(frozen=True)
class Program:
    """An encoder as data.

    Attributes:
        weights: in the order they were found.
        nodes: in the order they run.
    """

    weights: Annotated[tuple[Weight, ...], Len(0, MAX_NODES)]
    nodes: Annotated[tuple[Node, ...], Len(1, MAX_NODES)]

    def sizes(self, length: int, n_channels: int) -> Sizes:
        """Follow a window through the program; whatever does not fit is found here, before anything runs.

        Args:
            length: steps of the window, `T`.
            n_channels: `C`.

        Raises:
            ConfigError: naming the first node that cannot be: an unknown operator, reads that do not exist or
                do not fit, an option that is wrong or too many, too much work or memory.
        """
        window = length, n_channels
        if window not in self._known:
            self._known[window] = _followed(self, length, n_channels)
        return self._known[window]

    @cached_property
    def _known(self) -> dict[tuple[int, int], Sizes]:
        return {}  # a device asks again for every sub-network it writes

    def tokens(self, length: int, n_channels: int, d_model: int) -> int:
        """Tokens that it makes of a window, `L`.

        Raises:
            ConfigError: as `sizes`, or what it makes is not `(B, L, d_model)`.
        """
        last = self.sizes(length, n_channels).values[f"v{len(self.nodes) - 1}"]
        if len(last) != 3 or last[0] != -1 or last[1] < 1 or last[2] != d_model:
            raise ConfigError(f"makes {shown(last)} of a window, where (B, L, {d_model}) is needed")
        return last[1]

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Program:
        """Rebuild from `to_json`; whether its nodes fit together is not checked here.

        Raises:
            ConfigError: a field that is missing, unknown or wrong.
        """
        try:
            (program,) = _schema().validate_json(f"[{json.dumps(data)}]")
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            at = ".".join(str(part) for part in first["loc"][1:]) or "it"
            raise ConfigError(f"the program of an encoder cannot be read: {at}: {first['msg']}") from None
        return program


def _followed(program: Program, length: int, n_channels: int) -> Sizes:
    known: dict[str, Shape] = {weight.name: weight.shape for weight in program.weights}
    if len(known) < len(program.weights):
        raise ConfigError("names a weight twice")
    read = {WINDOW}
    values: dict[str, Shape] = {WINDOW: (-1, length, n_channels)}
    known |= values
    macs, held = 0, length * n_channels
    for i, node in enumerate(program.nodes):
        shape, work = _after(i, node, known)
        read |= {*node.reads}
        values[f"v{i}"] = known[f"v{i}"] = shape
        macs, held = macs + work, held + numbers(shape)
        if held > MAX_NUMBERS or macs > MAX_WORK:
            raise ConfigError(
                f"makes more than {MAX_NUMBERS:g} numbers or {MAX_WORK:g} MAC of a window by node {i} "
                f"({node.op})"
            )
    unread = [weight.name for weight in program.weights if weight.name not in read]
    if unread:
        raise ConfigError(f"has a weight {unread[0]} that no node reads")
    return Sizes(values, macs, held)


def _after(i: int, node: Node, known: Mapping[str, Shape]) -> tuple[Shape, int]:
    """Shape and work of a node."""
    for name in node.reads:
        if name not in known:
            raise ConfigError(f"has a node {i} ({node.op}) that reads {name}, which nothing before it makes")
    rule = OPERATORS.get(node.op)
    if rule is None:
        raise ConfigError(f"has a node {i} of the operator {node.op}, which is not known here")
    ask = Ask([known[name] for name in node.reads], node.options)
    try:
        shape, macs = rule(ask)
        ask.check(shape)
    except ConfigError as error:
        found = ", ".join(shown(known[name]) for name in node.reads[:4])
        raise ConfigError(f"has a node {i} ({node.op}) that {error}; it reads {found}") from None
    return shape, macs


def shown(shape: Shape) -> str:
    """A shape as people write it: `(B, 16, 32)`."""
    parts = ["B" if size == -1 else f"{-size} B" if size < 0 else str(size) for size in shape]
    return f"({', '.join(parts)})"


@cache
def _schema() -> TypeAdapter[tuple[Program]]:
    # a dataclass by itself would not take this configuration, inside of something it does
    return TypeAdapter(tuple[Program], config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
