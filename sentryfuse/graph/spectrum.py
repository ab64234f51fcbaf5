"""Log band energies of windows; the same numbers as `sentryfuse.statistics.spectrum`.

Energies do not depend on where a wave begins, so waves are counted from the middle of a frame: there cosines
are even and sines are odd, and half the products do for long windows.

Notation: N windows · T steps · C channels · L steps of a frame · P frames · Q frequencies · R bands.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sentryfuse.graph.writer import LAST, Array, Graph
from sentryfuse.statistics.spectrum import FLOOR, BandPlan, band_plan

MOST_SLICES = 32  # frames at uneven places that are cut out one by one


class Pooled(NamedTuple):
    """Energies of a window of deviation 1.

    Attributes:
        bands: mean energy of each band, `(N, C, R + Rs)`.
        weighted: energy times frequency, `(N, C, 1)`.
        total: energy, `(N, C, 1)`.
    """

    bands: str
    weighted: str
    total: str


def write_spectrum(graph: Graph, unit: str, t: int, *, few: bool) -> Pooled:
    """Energies of bands of windows of mean 0 and deviation 1.

    Args:
        graph: to write into.
        unit: name of `(N, C, T)`.
        t: `T`.
        few: as in `sentryfuse.statistics.spectrum.band_plan`.
    """
    plan = band_plan(t, few=few)
    frames = len(plan.starts)
    pool = np.concatenate(
        [plan.pool, plan.centre[:, None], np.ones_like(plan.centre)[:, None]], axis=1
    ) / np.float32(frames)
    if frames == 1:
        waves = graph.op("MatMul", unit, graph.hold(plan.basis))
        energy = graph.op("Mul", waves, waves)
        pool = np.concatenate([pool, pool])
    else:
        energy = _folded(graph, unit, t, plan)
    found = graph.op("MatMul", energy, graph.hold(pool))
    bands, weighted, total = graph.split(found, 2, [pool.shape[1] - 2, 1, 1])
    if plan.block:
        points = plan.slow_basis.shape[0]
        cut = graph.cut(unit, 2, 0, points * plan.block) if points * plan.block < t else unit
        means = graph.reduce("Mean", graph.op("Reshape", cut, graph.ints(0, 0, points, plan.block)), 3)
        waves = graph.op("MatMul", means, graph.hold(plan.slow_basis))
        energy = graph.op("Mul", waves, waves)
        slow = graph.op("MatMul", energy, graph.hold(np.concatenate([plan.slow_pool, plan.slow_pool])))
        bands = graph.op("Concat", bands, slow, axis=2)
    return Pooled(bands, weighted, total)


def bands_of(graph: Graph, pooled: Pooled, log_spread: str) -> str:
    """Logarithms of the energies in the window's own unit, `(N, C, R + Rs)`."""
    log = graph.op("Log", graph.op("Add", pooled.bands, graph.hold(FLOOR)))
    return graph.op("Sum", log, log_spread, log_spread)


def centroid_of(graph: Graph, pooled: Pooled) -> str:
    """Where the energy lies on the whole, `(N, C, 1)`."""
    return graph.op("Div", pooled.weighted, graph.op("Add", pooled.total, graph.hold(FLOOR)))


def _folded(graph: Graph, unit: str, t: int, plan: BandPlan) -> str:
    """Energies of all frames added up, `(N, C, Q)`."""
    length, bins = plan.basis.shape[0], plan.basis.shape[1] // 2
    first, second = _halves(graph, unit, t, plan.starts.tolist(), length // 2)
    even, odd = _waves(length, bins)
    parts = []
    for kind, basis in (("Add", even), ("Sub", odd)):
        waves = graph.op("MatMul", graph.op(kind, first, second), graph.hold(basis))
        parts.append(graph.reduce("SumSquare", waves, 2))
    return graph.op("Add", *parts)


def _waves(length: int, bins: int) -> tuple[Array, Array]:
    """Cosines and sines about the middle of a frame under a Hann window, its first half, `(L / 2, Q)`."""
    step = np.arange(length // 2) + 0.5
    whole = np.arange(length) + 0.5
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * step / length)
    norm = np.sqrt(((0.5 - 0.5 * np.cos(2 * np.pi * whole / length)) ** 2).sum() * length / 2)
    angle = 2 * np.pi * np.outer(step, np.arange(1, bins + 1)) / length
    scale = (hann / norm)[:, None]
    return (np.cos(angle) * scale).astype(np.float32), (np.sin(angle) * scale).astype(np.float32)


def _halves(graph: Graph, unit: str, t: int, starts: list[int], half: int) -> tuple[str, str]:
    """First halves of the frames and second halves backwards, `(N, C, P, L / 2)` each."""
    frames = len(starts)
    if starts == [half * i for i in range(frames)] and t == half * (frames + 1):
        blocks = graph.op("Reshape", unit, graph.ints(0, 0, frames + 1, half))
        backwards = _backwards(graph, blocks, 3)
        return graph.cut(blocks, 2, 0, -1), graph.cut(backwards, 2, 1, LAST)
    if frames > MOST_SLICES:
        at = np.array(starts)[:, None] + np.arange(half)
        other = np.array(starts)[:, None] + 2 * half - 1 - np.arange(half)
        return (
            graph.op("Gather", unit, graph.hold(at, np.int64), axis=2),
            graph.op("Gather", unit, graph.hold(other, np.int64), axis=2),
        )
    turned = _backwards(graph, unit, 2)
    sides = []
    for x, begins in ((unit, starts), (turned, [t - 2 * half - s for s in starts])):
        side = graph.op("Concat", *(graph.cut(x, 2, s, s + half) for s in begins), axis=2)
        sides.append(graph.op("Reshape", side, graph.ints(0, 0, frames, half)))
    return sides[0], sides[1]


def _backwards(graph: Graph, x: str, axis: int) -> str:
    return graph.op("Slice", x, graph.ints(-1), graph.ints(-LAST), graph.ints(axis), graph.ints(-1))
