"""Log energies of frequency bands by products with constant bases.

A window of up to 256 steps is one frame under a Hann window. A longer one is cut into half-overlapping
frames of 256 whose energies are averaged (the fast bands), and its means over equal blocks form one more
frame (the slow bands, below the lowest of the fast ones).

Notation: T steps · L steps of a frame · P frames · Q frequencies · R bands.

Source:
    Averaged frames: Welch (1967). Frame length and number of bands are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_FRAME = 256
_BANDS = 10
_SLOW_BANDS = 4
_FEW_BANDS = 5
FLOOR = 1e-6  # share of the window's variance below which an energy is not told apart from none


@dataclass(frozen=True, eq=False)
class BandPlan:
    """Constant arrays of one window length.

    Attributes:
        starts: first step of every frame, `(P,)`.
        basis: cosines and sines under the Hann window, `(L, 2Q)`.
        pool: energies of frequencies -> mean energy of bands, `(Q, R)`.
        centre: frequency of every bin, `(Q,)`, 0..1 of half the sampling rate.
        block: steps averaged for the slow frame; 0 where there is none.
        slow_basis: `(T // block, 2 Qs)`.
        slow_pool: `(Qs, Rs)`.
        edges: names what each band spans, first and last frequency [cycles per step]; `R + Rs` of them.
    """

    starts: NDArray[np.intp]
    basis: Floats
    pool: Floats
    centre: Floats
    block: int
    slow_basis: Floats
    slow_pool: Floats
    edges: tuple[tuple[float, float], ...]


def _basis(length: int, bins: int) -> Floats:
    """Cosines and sines of the bins 1..Q under a Hann window, `(L, 2Q)`, scaled to unit energy."""
    step = np.arange(length)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (step + 0.5) / length)
    angle = 2 * np.pi * np.outer(step, np.arange(1, bins + 1)) / length
    both = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * hann[:, None]
    return np.asarray(both / np.sqrt((hann**2).sum() * length / 2), dtype=np.float32)


def _pool(bins: int, bands: int) -> tuple[Floats, list[tuple[int, int]]]:
    """Geometric bands over the bins 1..Q: matrix `(Q, R)` of means and the bins each spans."""
    cuts = np.unique(np.round(np.geomspace(1, bins + 1, bands + 1)).astype(int))
    matrix = np.zeros((bins, len(cuts) - 1), dtype=np.float32)
    spans = []
    for band, (low, high) in enumerate(pairwise(cuts)):
        matrix[low - 1 : high - 1, band] = 1.0 / (high - low)
        spans.append((int(low), int(high) - 1))
    return matrix, spans


@lru_cache(maxsize=64)
def band_plan(length: int, *, few: bool) -> BandPlan:
    """Bases and bands for one window length.

    Args:
        length: steps of a window, at least 4.
        few: half as many bands, for sensors of many channels.

    Returns:
        The constant arrays.
    """
    frame = min(length, _FRAME)
    count = 1 if frame == length else int(np.ceil((length - frame) / (frame // 2))) + 1
    starts = np.round(np.linspace(0, length - frame, count)).astype(np.intp)
    bins = frame // 2
    pool, spans = _pool(bins, _FEW_BANDS if few else _BANDS)
    edges = [(low / frame, high / frame) for low, high in spans]
    block = 0
    slow_basis = np.zeros((0, 0), dtype=np.float32)
    slow_pool = np.zeros((0, 0), dtype=np.float32)
    if length >= 4 * _FRAME:
        block = length // (_FRAME // 2)
        points = length // block
        slow_bins = max(4, min(points // 2, length // frame))
        slow_basis = _basis(points, slow_bins)
        slow_pool, spans = _pool(slow_bins, 2 if few else _SLOW_BANDS)
        edges += [(low / (points * block), high / (points * block)) for low, high in spans]
    return BandPlan(
        starts,
        _basis(frame, bins),
        pool,
        (np.arange(1, bins + 1) / bins).astype(np.float32),
        block,
        slow_basis,
        slow_pool,
        tuple(edges),
    )


def _energies(frames: Floats, basis: Floats) -> Floats:
    half = basis.shape[1] // 2
    parts = (frames @ basis) ** 2
    return np.asarray(parts[..., :half] + parts[..., half:])


def log_bands(unit: Floats, *, few: bool) -> tuple[Floats, Floats]:
    """Log band energies of windows of mean 0 and deviation 1, and where the energy lies on the whole.

    Args:
        unit: `(N, C, T)`, no unit.
        few: as in `band_plan`.

    Returns:
        `(N, C, R + Rs)`, natural log of the share of variance; `(N, C)`, the centroid, 0..1 of half the
        sampling rate.
    """
    plan = band_plan(unit.shape[-1], few=few)
    length = plan.basis.shape[0]
    energy = np.zeros((*unit.shape[:-1], plan.pool.shape[0]), dtype=np.float32)
    for start in plan.starts:  # a few frames at fixed places, never the windows
        energy += _energies(unit[..., start : start + length], plan.basis)
    energy /= len(plan.starts)
    bands = energy @ plan.pool
    centroid = (energy @ plan.centre) / (energy.sum(axis=-1) + FLOOR)
    if plan.block:
        points = plan.slow_basis.shape[0]
        cut = unit[..., : points * plan.block]
        slow = cut.reshape(*cut.shape[:-1], points, plan.block).mean(axis=-1)
        bands = np.concatenate([bands, _energies(slow, plan.slow_basis) @ plan.slow_pool], axis=-1)
    return np.log(bands + FLOOR), centroid
