"""A graph as it grows: every method adds nodes and answers with the name of the value they make.

Notation: B windows · L tokens · D d_model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.graph import wire

Array = NDArray[np.float32]
LAST = (1 << 31) - 1  # end of a slice that takes all there is
SMALL = 16  # numbers; equal constants up to this size are held once


@dataclass(eq=False)
class Tokens:
    """What a step writes, in one or both of the shapes that steps read.

    Attributes:
        length: tokens per window, `L`.
        full: name of it as `(B, L, D)`, once somebody needed that.
        flat: name of it as `(B * L, D)`, once somebody needed that.
    """

    length: int
    full: str = ""
    flat: str = ""


@lru_cache(maxsize=2048)
def _whole_numbers(name: str, values: tuple[int, ...]) -> tuple[wire.Piece, ...]:
    return wire.tensor(name, np.array(values, np.int64))


class Graph:
    """Nodes and constants so far.

    Args:
        d_model: `D`.
        batch: windows per call; `None` = any number.
        fused: operators of onnxruntime's own and of the newest operator set may be used.
    """

    def __init__(self, d_model: int, *, batch: int | None, fused: bool) -> None:
        self.d_model, self.batch, self.fused = d_model, batch, fused
        self.pieces: list[wire.Piece] = []
        self._held: set[str] = set()
        self._domains: list[str] = []
        self._n = 0

    def hold(self, value: ArrayLike, dtype: Any = np.float32) -> str:
        """A constant; equal small ones are held once."""
        numbers = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        name = f"c{len(self._held)}"
        if numbers.size <= SMALL:
            name = f"c/{numbers.dtype.str}{numbers.shape}{numbers.tobytes().hex()}"
        if name not in self._held:
            self._held.add(name)
            self.pieces += wire.tensor(name, numbers)
        return name

    def ints(self, *values: int) -> str:
        """A constant list of whole numbers."""
        name = f"i/{values}"
        if name not in self._held:
            self._held.add(name)
            self.pieces += _whole_numbers(name, values)
        return name

    def ops(
        self, kind: str, *reads: str, outputs: int, writes: str = "", domain: str = "", **options: Any
    ) -> list[str]:
        """One node that makes several values, or one of a given name."""
        self._n += 1
        names = [writes] if writes else [f"v{self._n}.{i}" for i in range(outputs)]
        for key, value in options.items():
            if type(value) is list and not (value and isinstance(value[0], str)):
                options[key] = tuple(value)
        if domain and domain not in self._domains:
            self._domains.append(domain)
        self.pieces += wire.node(kind, reads, names, f"n{self._n}", options, domain)
        return names

    def op(self, kind: str, *reads: str, writes: str = "", domain: str = "", **options: Any) -> str:
        """One node that makes one value."""
        return self.ops(kind, *reads, outputs=1, writes=writes, domain=domain, **options)[0]

    def linear(self, x: str, weight: Array, bias: Array, *, writes: str = "") -> str:
        """`x W' + b` of a matrix, `(N, D)` -> `(N, M)`."""
        return self.op("Gemm", x, self.hold(weight), self.hold(bias), writes=writes, transB=1)

    def norm(self, x: str, weight: Array, bias: Array) -> str:
        """Layer norm over the last axis."""
        held = self.hold(weight), self.hold(bias)
        return self.op("LayerNormalization", x, *held, axis=-1, epsilon=1e-5)

    def reshape(self, x: str, *shape: int, writes: str = "") -> str:
        """Other sizes, the same numbers in the same order; one of them may be -1."""
        return self.op("Reshape", x, self.ints(*shape), writes=writes)

    def cut(self, x: str, axis: int, start: int, end: int) -> str:
        """A slice along one axis."""
        return self.op("Slice", x, self.ints(start), self.ints(end), self.ints(axis))

    def split(self, x: str, axis: int, sizes: Sequence[int]) -> list[str]:
        """Pieces along one axis that make up the whole."""
        return self.ops("Split", x, self.ints(*sizes), outputs=len(sizes), axis=axis)

    def reduce(self, kind: str, x: str, *axes: int, keep: int = 0) -> str:
        """Sum, Mean, Max, Min, L1 or L2 over axes."""
        return self.op(f"Reduce{kind}", x, self.ints(*axes), keepdims=keep)

    def turn(self, x: str, *order: int) -> str:
        """Axes in another order."""
        return self.op("Transpose", x, perm=order)

    def times_turned(self, x: str, y: str, gain: float = 1.0, *, axes: int = 4) -> str:
        """The product with a matrix whose last two of three or four axes change places, times a number."""
        if self.fused:
            return self.op("FusedMatMul", x, y, domain=wire.OWN, transB=1, alpha=gain)
        order = (*range(axes - 2), axes - 1, axes - 2)
        product = self.op("MatMul", x, self.turn(y, *order))
        return product if gain == 1 else self.op("Mul", product, self.hold(gain))

    def full(self, value: Tokens) -> str:
        """The value as `(B, L, D)`."""
        if not value.full:
            value.full = self.reshape(value.flat, -1, value.length, self.d_model)
        return value.full

    def flat(self, value: Tokens) -> str:
        """The value as `(B * L, D)`."""
        if not value.flat:
            value.flat = self.reshape(value.full, -1, self.d_model)
        return value.flat

    def finish(self, inputs: Mapping[str, wire.Shape], output: tuple[str, wire.Shape]) -> bytes:
        """The graph as bytes; see `wire.model`."""
        return wire.model(self.pieces, inputs, output, fused=self.fused, domains=self._domains)
