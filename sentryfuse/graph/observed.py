"""Statistics over what was measured of windows in which single values are missing.

The same numbers as `sentryfuse.statistics.observed`.

Notation: N windows · T steps · C channels · S statistics.
"""

from __future__ import annotations

import numpy as np

from sentryfuse.graph.writer import LAST, Array, Graph
from sentryfuse.statistics.observed import LEAST, ROUNDING

_BIG = 3e38
_COUNT, _MOVES, _TAIL = 0, 1, 2  # what tells whether a statistic is known


def write_observed(
    graph: Graph, x: str, t: int, given: str, *, extremes: bool
) -> tuple[list[str], str, str, str, str]:
    """Statistics over the measured values.

    Args:
        graph: to write into.
        x: name of the windows, `(N, C, T)`, NaN = not measured.
        t: `T`.
        given: name of smallest value, quartiles and largest value minus the first measured one, `(N, C, 5)`;
            "" finds them.
        extremes: whether smallest, largest and last value are wanted.

    Returns:
        The statistics, NaN where unknown, `(N, C, ...)` each; the window minus its mean, 0 where not
        measured, `(N, C, T)`; its spread and the logarithm of that; the share measured, `(N, C, 1)` each.
    """
    one, none = graph.hold(1.0), graph.hold(0.0)
    gone = graph.op("IsNaN", x)
    mask = graph.op("Cast", graph.op("Not", gone), to=1)
    filled = graph.op("Where", gone, none, x)
    tail = max(1, round(t / 10))
    counted = graph.op("MatMul", mask, graph.hold(_counting(t, tail)))
    count, in_tail, levers = graph.split(counted, 2, [1, 1, 1])
    safe = graph.op("Max", count, one)
    # steps counted from the start and from the end, 0 where not measured: the largest is last, and first
    clocks = graph.op("Mul", graph.op("Unsqueeze", mask, graph.ints(2)), graph.hold(_clocks(t)))
    ends = graph.reduce("Max", clocks, 3, keep=1)
    there = graph.op(
        "Where", graph.op("Equal", clocks, ends), graph.op("Unsqueeze", filled, graph.ints(2)), none
    )
    last, first = graph.split(graph.reduce("Sum", there, 3), 2, [1, 1])
    newest = graph.cut(graph.op("Squeeze", ends, graph.ints(3)), 2, 0, 1)

    z = graph.op("Mul", graph.op("Sub", filled, first), mask)
    middle = graph.op("Div", graph.reduce("Sum", z, 2, keep=1), safe)
    mean = graph.op("Add", first, middle)
    z = graph.op("Mul", graph.op("Sub", z, middle), mask)
    deviation = graph.op("Div", graph.reduce("L2", z, 2, keep=1), graph.op("Sqrt", safe))
    largest = graph.reduce("Max", graph.op("Abs", filled), 2, keep=1)
    rounding = graph.op("Add", graph.op("Mul", largest, graph.hold(ROUNDING)), graph.hold(LEAST))
    spread = graph.op("Max", deviation, rounding)
    log_spread = graph.op("Log", spread)
    if given:
        low, quarter, high = graph.split(graph.op("Sub", given, middle), 2, [1, 3, 1])
    else:
        low = graph.reduce("Min", graph.op("Where", gone, graph.hold(_BIG), z), 2, keep=1)
        high = graph.reduce("Max", graph.op("Where", gone, graph.hold(-_BIG), z), 2, keep=1)
        quarter = _quartiles(graph, t, gone, z, high, count)

    both = graph.op("Mul", graph.cut(mask, 2, 1, LAST), graph.cut(mask, 2, 0, -1))
    moves = graph.reduce("Sum", both, 2, keep=1)
    some_moves = graph.op("Max", moves, one)
    step = graph.op("Mul", graph.op("Sub", graph.cut(z, 2, 1, LAST), graph.cut(z, 2, 0, -1)), both)
    mean_step = graph.op("Div", graph.reduce("Sum", step, 2, keep=1), some_moves)
    size = graph.op("Div", graph.reduce("L1", step, 2, keep=1), some_moves)
    power = graph.op("Div", graph.reduce("SumSquare", step, 2, keep=1), some_moves)
    variance = graph.op("Sub", power, graph.op("Mul", mean_step, mean_step))
    rough = graph.op("Sqrt", graph.op("Max", variance, none))
    slope = _slope(graph, t, z, mask, count, graph.op("Div", levers, safe))
    tail_sum = graph.reduce("Sum", graph.cut(z, 2, -tail, LAST), 2, keep=1)
    tail_mean = graph.op("Div", tail_sum, graph.op("Max", in_tail, one))
    in_tail = graph.op("Min", in_tail, graph.op("Sub", count, one))

    first_off, last_off = graph.op("Sub", first, mean), graph.op("Sub", last, mean)
    table = [mean, log_spread, deviation, low, quarter, high, size, rough, slope, first_off, last_off]
    table.append(tail_mean)
    known = [(_COUNT, 0), *[(_COUNT, 1)] * 7, (_MOVES, 0), (_MOVES, 1), *[(_COUNT, 1)] * 3, (_TAIL, 0)]
    if extremes:
        table += [graph.op("Add", mean, low), graph.op("Add", mean, high), last]
        known += [(_COUNT, 0)] * 3
    table += [graph.op("Add", mean, graph.cut(quarter, 2, 1, 2)), first]
    known += [(_COUNT, 0)] * 2
    evidence = graph.op("Concat", count, moves, in_tail, axis=2)
    evidence = graph.op("Gather", evidence, graph.hold([kind for kind, _ in known], np.int64), axis=2)
    enough = graph.op("Greater", evidence, graph.hold([least for _, least in known]))
    columns = graph.op("Where", enough, graph.op("Concat", *table, axis=2), graph.hold(np.nan))
    share = graph.op("Div", count, graph.hold(float(t)))
    age = graph.op("Div", graph.op("Sub", graph.hold(float(t)), newest), graph.hold(float(t)))
    return [columns, share, age], z, spread, log_spread, share


def _ramp(t: int) -> Array:
    return np.linspace(-1, 1, t, dtype=np.float32)


def _counting(t: int, tail: int) -> Array:
    """What is measured -> how many, how many of the last tenth, and the ramp summed up, `(T, 3)`."""
    basis = np.ones((t, 3), np.float32)
    basis[:-tail, 1] = 0
    basis[:, 2] = _ramp(t)
    return basis


def _clocks(t: int) -> Array:
    return np.stack([np.arange(1, t + 1), np.arange(t, 0, -1)]).astype(np.float32)


def _quartiles(graph: Graph, t: int, gone: str, z: str, high: str, count: str) -> str:
    """Quartiles of what was measured, `(N, C, 3)`: what is missing is sorted to the end."""
    ordered = graph.op("Where", gone, high, z)
    ordered = graph.ops("TopK", ordered, graph.ints(t), outputs=2, axis=2, largest=0)[0]
    spans = graph.op("Max", graph.op("Sub", count, graph.hold(1.0)), graph.hold(0.0))
    place = graph.op("Mul", spans, graph.hold([0.25, 0.5, 0.75]))
    off = graph.op("Sub", graph.op("Unsqueeze", place, graph.ints(3)), graph.hold(np.arange(t)))
    weight = graph.op("Max", graph.op("Sub", graph.hold(1.0), graph.op("Abs", off)), graph.hold(0.0))
    return graph.reduce("Sum", graph.op("Mul", graph.op("Unsqueeze", ordered, graph.ints(2)), weight), 3)


def _slope(graph: Graph, t: int, z: str, mask: str, count: str, when: str) -> str:
    """Slope over what was measured, `(N, C, 1)`."""
    lever = graph.op("Mul", graph.op("Sub", graph.hold(_ramp(t)), when), mask)
    strength = graph.reduce("SumSquare", lever, 2, keep=1)
    several = graph.op("Greater", count, graph.hold(1.0))
    strength = graph.op("Where", several, strength, graph.hold(1.0))
    return graph.op("Div", graph.reduce("Sum", graph.op("Mul", z, lever), 2, keep=1), strength)
