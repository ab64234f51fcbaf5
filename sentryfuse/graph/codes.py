"""Encoded features of a readout in a graph, and linear heads on them.

The same numbers as `sentryfuse.readout.encode`, but for constants: what a ramp or a rank begins at is in the
bias of the heads that follow.

Notation: B windows · F features · Q ramps of a feature · E encoded numbers · K classes · M sensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sentryfuse.graph.writer import Graph
from sentryfuse.readout.encode import Encoding, normal_scores

Doubles = NDArray[np.float64]
_STEEP = 3e38  # gain of a ramp between equal knots: a step
_BEYOND = 1e-5  # [deviations] how far above its knot a step is: many windows lie on the knot, up to rounding


@dataclass(frozen=True, eq=False)
class Codes:
    """Encoded features of some sensors.

    Attributes:
        graph: they are in.
        name: of `(B, Q * F)`, ramp by ramp and the sensors side by side in each; `Q` = 1 without ramps.
        ramps: `Q`.
        sizes: features of each sensor.
        base: what is to be added to every number, `(Q, F)`.
    """

    graph: Graph
    name: str
    ramps: int
    sizes: Mapping[str, int]
    base: Doubles

    def whole(self, weights: Mapping[str, Doubles], bias: Doubles) -> str:
        """One head over all sensors, `(B, K)`.

        Args:
            weights: of each sensor, `(E, K)`.
            bias: `(K,)`.
        """
        k = len(bias)
        blocks = [weights[s].reshape(self.ramps, n, k) for s, n in self.sizes.items()]
        matrix = np.concatenate(blocks, axis=1).reshape(-1, k)
        shifted = bias + self.base.reshape(-1) @ matrix
        return self.graph.op("Gemm", self.name, self.graph.hold(matrix), self.graph.hold(shifted))

    def each(self, weights: Mapping[str, Doubles]) -> tuple[list[str], Doubles]:
        """A head on each of some sensors, sensors as wide as their neighbours at once.

        Args:
            weights: of some of the sensors, `(E, K)`, in the order of `sizes`.

        Returns:
            Values `(B, sensors * K)` whose sensors follow each other, and what the biases lack, `(M, K)`.
        """
        graph, starts, start = self.graph, {}, 0
        for s, n in self.sizes.items():
            starts[s] = start
            start += n
        found, shifts = [], []
        run_of = {s: (self.sizes[s], starts[s] - self.sizes[s] * i) for i, s in enumerate(weights)}
        for (n, _), group in groupby(weights, key=run_of.__getitem__):
            names = [*group]
            part = self._part(starts[names[0]], n * len(names), start)
            matrices = np.stack([weights[s] for s in names])
            k = matrices.shape[2]
            for s, matrix in zip(names, matrices, strict=True):
                own = self.base[:, starts[s] : starts[s] + n]
                shifts.append(own.reshape(-1) @ matrix)
            if len(names) == 1:
                found.append(graph.op("MatMul", part, graph.hold(matrices[0])))
                continue
            if self.ramps > 1:
                part = graph.turn(graph.reshape(part, -1, self.ramps, len(names), n), 0, 2, 1, 3)
            part = graph.reshape(part, -1, len(names), 1, self.ramps * n)
            product = graph.op("MatMul", part, graph.hold(matrices))
            found.append(graph.reshape(product, -1, len(names) * k))
        return found, np.stack(shifts)

    def _part(self, start: int, size: int, whole: int) -> str:
        """Columns of neighbouring sensors, `(B, Q * size)`."""
        if size == whole:
            return self.name
        graph = self.graph
        if self.ramps == 1:
            return graph.cut(self.name, 1, start, start + size)
        part = graph.cut(graph.reshape(self.name, -1, self.ramps, whole), 2, start, start + size)
        return graph.op("Flatten", part, axis=1)


def write_codes(graph: Graph, z: str, encodings: Mapping[str, Encoding]) -> Codes:
    """Encode standardised features.

    Args:
        graph: to write into.
        z: name of `(B, F)`, the sensors side by side.
        encodings: of the same sensors in the same order, all of one kind.
    """
    sizes = {s: int(e.knots.shape[1]) for s, e in encodings.items()}
    kind = next(iter(encodings.values())).kind
    total = sum(sizes.values())
    if kind == "plain":
        return Codes(graph, z, 1, sizes, np.zeros((1, total)))
    knots = np.concatenate([e.knots for e in encodings.values()], axis=1)
    low, high = knots[:-1], knots[1:]
    rises = high > low
    gain = np.where(rises, np.minimum(1 / np.where(rises, high - low, 1), _STEEP), _STEEP)
    begins = np.where(rises, low, low + np.float32(_BEYOND))
    each = z if graph.batch == 1 else graph.reshape(z, -1, 1, total)
    off = graph.op("Sub", each, graph.hold(begins))
    ramps = graph.op("Clip", graph.op("Mul", off, graph.hold(gain)), graph.hold(0.0), graph.hold(1.0))
    if kind == "ramps":
        base = np.where(rises, -0.5, 0.0)
        return Codes(graph, graph.reshape(ramps, -1, len(low) * total), len(low), sizes, base)
    value = normal_scores(len(knots)).astype(np.float64)
    codes = graph.op("MatMul", graph.hold(np.diff(value)[None]), ramps)
    codes = codes if graph.batch == 1 else graph.reshape(codes, -1, total)
    return Codes(graph, codes, 1, sizes, np.full((1, total), value[0]))


def side_by_side(codes: Mapping[int, Codes], view_of: Mapping[str, int]) -> Codes | None:
    """Each sensor's numbers from the view that is read of it, so that one product does for all sensors.

    Args:
        codes: of each view.
        view_of: of each sensor, in their order.

    Returns:
        `None` where views cannot stand in for each other: one has several ramps, or not all sensors.
    """
    if any(c.ramps > 1 or list(c.sizes) != list(view_of) for c in codes.values()):
        return None
    (_, found), *others = codes.items()
    for view, other in others:
        mine = np.concatenate([np.full(n, view_of[s] == view) for s, n in found.sizes.items()])
        graph = found.graph
        name = graph.op("Where", graph.hold(mine[None], np.bool_), other.name, found.name)
        found = Codes(graph, name, 1, found.sizes, np.where(mine, other.base, found.base))
    return found


def columns_of(graph: Graph, z: str, sizes: Mapping[str, int], wanted: Sequence[str]) -> str:
    """Features of some of the sensors that stand side by side, in the same order."""
    if len(wanted) == len(sizes):
        return z
    pieces = dict(zip(sizes, graph.split(z, 1, [*sizes.values()]), strict=True))
    return graph.op("Concat", *(pieces[s] for s in wanted), axis=1) if len(wanted) > 1 else pieces[wanted[0]]
