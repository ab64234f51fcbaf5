"""What a rule for an ONNX operator is made of: values known by type and size, and a list to be put on."""

from __future__ import annotations

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

FLAGS = {
    "allowzero",
    "keepdims",
    "largest",
    "noop_with_empty_axes",
    "sorted",
    "stash_type",
    "transA",
    "transB",
}


class Value(NamedTuple):
    """What is known of a value before anything runs.

    Attributes:
        kind: of its elements.
        shape: its sizes.
        known: its content, where whole numbers follow from sizes.
        below: what positions that only the engine knows are smaller than; 0 if nothing is known.
    """

    kind: Kind
    shape: Shape
    known: NDArray[np.int64] | None = None
    below: int = 0


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


def operator(
    names: str, least: int, most: int | None = None, *, outputs: int = 1, attributes: str = ""
) -> Callable[[Rule], Rule]:
    """Decorate a rule to put operators on the list.

    Args:
        names: of the operators that share the rule, with spaces between.
        least: fewest inputs.
        most: most inputs; `least` if not given.
        outputs: how many values they make.
        attributes: names of those they may have, with spaces between.
    """

    def add(rule: Rule) -> Rule:
        for name in names.split():
            OPERATORS[name] = Operator(rule, least, most or least, outputs, frozenset(attributes.split()))
        return rule

    return add


def need(fact: bool, what: str) -> None:
    """Raise ValueError about what an operator was given, unless `fact` holds."""
    if not fact:
        raise ValueError(what)


def numbers(value: Value) -> list[int]:
    """Known whole numbers of a vector."""
    if value.known is None or len(value.shape) != 1:
        raise ValueError("a size that does not follow from other sizes")
    found: list[int] = value.known.ravel().tolist()
    return found


def whole(known: NDArray[np.int64]) -> Value:
    """A value whose content is known, and kept unless it is long."""
    return Value("i", known.shape, known if known.size <= MAX_KNOWN else None)


def axis_of(axis: Any, rank: int) -> int:
    """An axis counted from the front; it may be given from the back."""
    need(-rank <= axis < rank, "an axis that is not there")
    return int(axis) % rank


def axes_of(axes: Sequence[int], rank: int) -> set[int]:
    """Axes counted from the front, all different."""
    found = {axis_of(axis, rank) for axis in axes}
    need(len(found) == len(axes), "an axis twice")
    return found


def floats(inputs: Inputs) -> None:
    """Refuse whole numbers and truths."""
    need(all(value.kind == "f" for value in inputs), "numbers that are not float")
