"""Features of the windows of sensors; the same numbers, in the same order, as `sentryfuse.statistics`.

Notation: N windows of all sensors that are alike · B windows · T steps · C channels · S statistics ·
F features.

Values are `(N, C, T)`: the engine is quick along a last axis that is long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sentryfuse.graph.observed import write_observed
from sentryfuse.graph.spectrum import bands_of, centroid_of, write_spectrum
from sentryfuse.graph.writer import LAST, Array, Graph
from sentryfuse.statistics.names import MANY_CHANNELS, n_bands, pairs_of
from sentryfuse.statistics.observed import LEAST, ROUNDING
from sentryfuse.statistics.order import SHARES
from sentryfuse.types import Modality

HALF = 0.5  # share measured above which a spectrum or a correlation is one
LARGEST = float(np.finfo(np.float32).max)


class Measured(NamedTuple):
    """Statistics of every channel, and what the others are made of.

    Attributes:
        columns: side by side along the last axis, `(N, C, ...)` each.
        centred: the window minus its mean, 0 where not measured, `(N, C, T)`.
        spread: its deviation, positive, `(N, C, 1)`.
        log_spread: the logarithm of that.
        share: measured of the window, `(N, C, 1)`; "" where all is.
    """

    columns: list[str]
    centred: str
    spread: str
    log_spread: str
    share: str


def write_alike(graph: Graph, modality: Modality, xs: Sequence[str]) -> str:
    """Statistics of windows of sensors of the same length, channels and gaps, one sensor after the other.

    Args:
        graph: to write into.
        modality: any one of the sensors.
        xs: name of the windows of each, `(B, T, C)`.

    Returns:
        Name of `(sensors * B, F)`, not finite where a feature cannot be told.
    """
    t, c = modality.length, modality.n_channels
    x = xs[0] if len(xs) == 1 else graph.op("Concat", *xs, axis=0)
    if t == 1:
        value = graph.reshape(x, -1, c)
        return _with_presence(graph, value) if modality.may_miss else value
    x = graph.turn(x, 0, 2, 1) if c > 1 else graph.reshape(x, -1, 1, t)
    return write_turned(graph, modality, x)


def write_turned(graph: Graph, modality: Modality, x: str, order: str = "") -> str:
    """Statistics of windows whose steps come last.

    Args:
        graph: to write into.
        modality: of more than one step.
        x: name of the windows, `(N, C, T)`.
        order: name of `sentryfuse.statistics.order_statistics` of them, `(N, C, 5)`; "" sorts the windows in
            the graph, which is most of the time of it.

    Returns:
        Name of `(N, F)`, not finite where a feature cannot be told.
    """
    t, c = modality.length, modality.n_channels
    extremes = c <= MANY_CHANNELS
    if modality.may_miss:
        found = Measured(*write_observed(graph, x, t, order, extremes=extremes))
    else:
        found = _complete(graph, x, t, order, extremes=extremes)
    columns = [*found.columns]
    pairs = pairs_of(modality)
    bands = n_bands(modality)
    unit = graph.op("Div", found.centred, found.spread) if bands or pairs else ""
    if bands:
        pooled = write_spectrum(graph, unit, t, few=not extremes)
        own = [bands_of(graph, pooled, found.log_spread), centroid_of(graph, pooled)]
        if found.share:
            enough = graph.op("Greater", found.share, graph.hold(HALF))
            own = [graph.op("Where", enough, value, graph.hold(np.nan)) for value in own]
        columns += own
    table = graph.op("Concat", *columns, axis=2)
    if c > 1:
        table = graph.turn(table, 0, 2, 1)
    result = graph.op("Flatten", table, axis=1)
    if pairs:
        related = _correlations(graph, modality, unit, pairs, found.share)
        result = graph.op("Concat", result, related, axis=1)
    return result


def _with_presence(graph: Graph, value: str) -> str:
    """Values of static sensors and whether each is there, `(N, 2 C)`."""
    there = graph.op("LessOrEqual", graph.op("Abs", value), graph.hold(LARGEST))
    return graph.op("Concat", value, graph.op("Cast", there, to=1), axis=1)


def _complete(graph: Graph, x: str, t: int, order: str, *, extremes: bool) -> Measured:
    """Statistics of windows without a gap."""
    anchor = graph.cut(x, 2, 0, 1)
    z = graph.op("Sub", x, anchor)
    middle = graph.reduce("Mean", z, 2, keep=1)
    mean = graph.op("Add", anchor, middle)
    z = graph.op("Sub", z, middle)
    deviation = _deviation(graph, z)
    if order:
        five = graph.op("Sub", order, middle)
    else:
        ordered = graph.ops("TopK", z, graph.ints(t), outputs=2, axis=2, largest=0)[0]
        five = graph.op("MatMul", ordered, graph.hold(_five(t)))
    ends = graph.op("Add", mean, graph.op("Gather", five, graph.hold([0, 4], np.int64), axis=2))
    largest = graph.reduce("Max", graph.op("Abs", ends), 2, keep=1)
    rounding = graph.op("Add", graph.op("Mul", largest, graph.hold(ROUNDING)), graph.hold(LEAST))
    spread = graph.op("Max", deviation, rounding)
    log_spread = graph.op("Log", spread)
    step = graph.op("Sub", graph.cut(z, 2, 1, LAST), graph.cut(z, 2, 0, -1))
    size = graph.reduce("Mean", graph.op("Abs", step), 2, keep=1)
    gap = graph.op("Sub", step, graph.reduce("Mean", step, 2, keep=1))
    linear = graph.op("MatMul", z, graph.hold(_linear(t)))
    columns = [mean, log_spread, deviation, five, size, _deviation(graph, gap), linear]
    if extremes:
        columns += [ends, graph.cut(x, 2, -1, LAST)]
    return Measured(columns, z, spread, log_spread, "")


def _deviation(graph: Graph, z: str) -> str:
    """Of values of mean 0; the engine's own norm takes twice as long."""
    return graph.op("Sqrt", graph.reduce("Mean", graph.op("Mul", z, z), 2, keep=1))


def _five(t: int) -> Array:
    """Sorted values -> smallest, quartiles and largest, `(T, 5)`."""
    place = np.array(SHARES) * (t - 1)
    found: Array = np.maximum(1 - np.abs(np.arange(t)[:, None] - place), 0).astype(np.float32)
    return found


def _linear(t: int) -> Array:
    """Values -> slope, first, last and the mean of the last tenth, `(T, 4)`."""
    tail = max(1, round(t / 10))
    basis = np.zeros((t, 4))
    ramp = np.linspace(-1, 1, t, dtype=np.float32)
    basis[:, 0] = ramp / (ramp * ramp).sum()
    basis[0, 1] = basis[-1, 2] = 1
    basis[-tail:, 3] = 1 / tail
    return basis.astype(np.float32)


def _correlations(
    graph: Graph, modality: Modality, unit: str, pairs: Sequence[tuple[int, int]], share: str
) -> str:
    """Correlations between channels, `(N, pairs)`."""
    t, c = modality.length, modality.n_channels
    first, second = np.array(pairs).T
    if c > MANY_CHANNELS:
        product = graph.op("Mul", graph.cut(unit, 1, 0, -1), graph.cut(unit, 1, 1, LAST))
        found = graph.reduce("Mean", product, 2)
    else:
        scaled = graph.times_turned(unit, unit, 1 / t, axes=3)
        found = graph.op("Flatten", scaled, axis=1)
        found = graph.op("Gather", found, graph.hold(first * c + second, np.int64), axis=1)
    if share:
        flat = graph.op("Flatten", share, axis=1)
        enough = graph.op("Cast", graph.op("Greater", flat, graph.hold(HALF)), to=1)
        both = graph.op(
            "Mul",
            graph.op("Gather", enough, graph.hold(first, np.int64), axis=1),
            graph.op("Gather", enough, graph.hold(second, np.int64), axis=1),
        )
        found = graph.op("Where", graph.op("Cast", both, to=9), found, graph.hold(np.nan))
    return found
