"""Samples as they were taken -> the even steps a model knows, and what is wrong with them.

Notation: n samples · T steps of a window · C channels. `u` is when a sample was taken, counted in
nominal periods from the start of the window.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.stream.health import HealthRules, Verdict
from sentryfuse.types import Modality

Floats = NDArray[np.float32]
EARLIEST = -0.25  # the first step lies -0.25..0.75 periods into the window; exact streams are far from a flip


class Scale(NamedTuple):
    """What training saw of one sensor.

    Attributes:
        mean: `(C,)`, physical units.
        std: `(C,)`, physical units, positive.
    """

    mean: Floats
    std: Floats


class Steps(NamedTuple):
    """The samples of one window on its grid.

    Attributes:
        slots: the steps that have a sample, ascending, `(k,)`, 0..T-1.
        rows: their values, `(k, C)`.
        u: of every sample that falls into the window, also where two share a step, `(n,)`.
        seen: values of those, `(n, C)`.
    """

    slots: NDArray[np.intp]
    rows: Floats
    u: NDArray[np.float64]
    seen: Floats


def on_grid(u: NDArray[np.float64], values: Floats, length: int) -> Steps:
    """Give every sample its step.

    The grid is moved by the phase the samples share, so a sensor that samples half-way between our
    ticks does not fall into a hole and its neighbour by turns.

    Args:
        u: ascending, `(n,)`; a step or so beyond the window on both sides.
        values: `(n, C)`.
        length: `T`.

    Returns:
        The first sample of each step.
    """
    turn = 2 * np.pi * u
    phase = float(np.arctan2(np.sin(turn).sum(), np.cos(turn).sum())) / (2 * np.pi)
    phase += phase < EARLIEST
    slot = np.rint(u - phase).astype(np.intp)
    low, high = np.searchsorted(slot, (0, length))
    slot, u, values = slot[low:high], u[low:high], values[low:high]
    first = np.diff(slot, prepend=-1) > 0
    return Steps(slot[first], values[first], u, values)


def filled(steps: Steps, length: int, *, may_miss: bool) -> Floats:
    """The window, holes filled from their neighbours or left NaN.

    Args:
        steps: at least one.
        length: `T`.
        may_miss: the model knows NaN.

    Returns:
        `(T, C)`, new memory.
    """
    if len(steps.slots) == length:
        return np.array(steps.rows, order="C")
    window = np.full((length, steps.rows.shape[1]), np.nan, np.float32)
    if may_miss:
        window[steps.slots] = steps.rows
        return window
    every = np.arange(length)
    for channel in range(window.shape[1]):
        window[:, channel] = np.interp(every, steps.slots, steps.rows[:, channel])
    return window


def rate_ratio(u: NDArray[np.float64]) -> float:
    """Periods between samples, 1 at the nominal rate; 1 where too few to tell.

    Of the mean and the median step the one nearer to 1: lost samples spoil the mean, jitter the
    median, a wrong rate both.
    """
    if len(u) < 4:
        return 1.0
    mean = (u[-1] - u[0]) / (len(u) - 1)
    median = float(np.median(np.diff(u)))
    return min((float(mean), median), key=lambda step: abs(np.log(max(step, 1e-6))))


def longest_run(values: Floats) -> int:
    """Most equal samples in a row, all channels equal, NaN equal to nothing; `(n, C)`."""
    if len(values) == 0:
        return 0
    breaks = np.flatnonzero((values[1:] != values[:-1]).any(axis=1))
    edges = np.concatenate(([-1], breaks, [len(values) - 1]))
    return int(np.diff(edges).max())


def judge(
    steps: Steps, modality: Modality, rules: HealthRules, scale: Scale | None
) -> tuple[Verdict, Floats | None]:
    """Look at the samples of one window alone.

    Args:
        steps: of `on_grid`.
        modality: what they should be.
        rules: what is still good.
        scale: what training saw; `None` leaves out the check of the range.

    Returns:
        `OK` and the window `(T, C)`, or what is wrong and `None`. A window given is finite; NaN only
        where the sensor may miss values, and never in all of them.
    """
    lacking = 1 - len(steps.slots) / modality.length
    if len(steps.slots) == 0 or lacking > rules.max_gap:
        return Verdict.GAP, None
    if abs(rate_ratio(steps.u) - 1) > rules.rate_tolerance:
        return Verdict.RATE, None
    if not np.isfinite(steps.seen).all() and (
        not modality.may_miss or np.isinf(steps.seen).any() or np.isnan(steps.rows).all()
    ):
        return Verdict.NAN, None
    limit = rules.stuck_after(modality.name, modality.rate_hz, modality.length)
    if limit and longest_run(steps.seen) >= limit:
        return Verdict.STUCK, None
    window = filled(steps, modality.length, may_miss=modality.may_miss)
    if scale is not None:
        low = scale.mean - rules.range_stds * scale.std
        high = scale.mean + rules.range_stds * scale.std
        beyond = np.count_nonzero((window < low) | (window > high))
        if beyond > rules.max_clipped * window.size:
            return Verdict.RANGE, None
        if beyond:
            np.clip(window, low, high, out=window)
    return Verdict.OK, window
