"""Statistics of windows in which single values are missing, over what was measured.

No loop over steps: positions are found by products of masks with the step's number, and quartiles by
weights on the sorted values, so that the same can be written as a graph.

Notation: N windows · T steps · C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

ROUNDING = 3e-7  # of the largest value: what float32 cannot tell from none
LEAST = 1e-18


def observed(x: Floats) -> tuple[dict[str, Floats], Floats, Floats, Floats]:
    """Statistics over the measured values.

    Args:
        x: `(N, C, T)`, physical units, NaN = not measured.

    Returns:
        The statistics by name, `(N, C)` each, NaN where unknown; the window minus its mean, 0 where
        not measured, `(N, C, T)`; its spread, positive, `(N, C)`; the share measured, `(N, C)`.
    """
    t = x.shape[-1]
    known = ~np.isnan(x)
    mask = known.astype(np.float32)
    count = mask.sum(axis=-1)
    some = count > 0
    several = count > 1
    safe = np.maximum(count, 1)
    steps = np.arange(t, dtype=np.float32)
    first_at = np.where(known, steps, t).min(axis=-1)
    last_at = np.where(known, steps, -1).max(axis=-1)
    filled = np.where(known, x, 0)
    at_first = (steps == first_at[:, :, None]).astype(np.float32)
    at_last = (steps == last_at[:, :, None]).astype(np.float32)
    first = (filled * at_first).sum(axis=-1)
    last = (filled * at_last).sum(axis=-1)

    z = np.where(known, x - first[:, :, None], 0)
    middle = z.sum(axis=-1) / safe
    mean = first + middle
    z = (z - middle[:, :, None]) * mask
    deviation = np.sqrt((z * z).sum(axis=-1) / safe)
    largest = np.abs(filled).max(axis=-1)
    spread = np.maximum(deviation, ROUNDING * largest + LEAST)
    lowest = z.min(axis=-1, keepdims=True, where=known, initial=np.inf)
    highest = z.max(axis=-1, keepdims=True, where=known, initial=-np.inf)
    ordered = np.sort(np.where(known, z, highest), axis=-1)  # what is missing goes to the end
    quarter = []
    for share in (0.25, 0.5, 0.75):
        place = share * np.maximum(count - 1, 0)
        weight = np.maximum(1 - np.abs(steps - place[:, :, None]), 0)
        quarter.append((np.where(weight > 0, ordered, 0) * weight).sum(axis=-1))

    both = mask[:, :, 1:] * mask[:, :, :-1]
    moves = both.sum(axis=-1)
    step = np.diff(z, axis=-1) * both
    mean_step = step.sum(axis=-1) / np.maximum(moves, 1)
    var_step = (step * step).sum(axis=-1) / np.maximum(moves, 1) - mean_step**2
    ramp = np.linspace(-1, 1, t, dtype=np.float32)
    when = (ramp * mask).sum(axis=-1) / safe
    lever = (ramp - when[:, :, None]) * mask
    strength = (lever * lever).sum(axis=-1)
    slope = (z * lever).sum(axis=-1) / np.where(several, strength, 1)
    tail = max(1, round(t / 10))
    in_tail = mask[:, :, -tail:].sum(axis=-1)
    tail_mean = z[:, :, -tail:].sum(axis=-1) / np.maximum(in_tail, 1)

    def where(condition: NDArray[np.bool_], values: Floats) -> Floats:
        return np.where(condition, values, np.float32(np.nan))

    low = lowest[:, :, 0]
    high = highest[:, :, 0]
    columns = {
        "mean": where(some, mean),
        "log_std": where(several, np.log(spread)),
        "std": where(several, deviation),
        "min-m": where(several, low),
        "q25-m": where(several, quarter[0]),
        "q50-m": where(several, quarter[1]),
        "q75-m": where(several, quarter[2]),
        "max-m": where(several, high),
        "abs_diff": where(moves > 0, np.abs(step).sum(axis=-1) / np.maximum(moves, 1)),
        "std_diff": where(moves > 1, np.sqrt(np.maximum(var_step, 0))),
        "slope": where(several, slope),
        "first-m": where(several, first - mean),
        "last-m": where(several, last - mean),
        "tail-m": where(several & (in_tail > 0), tail_mean),
        "min": where(some, mean + low),
        "max": where(some, mean + high),
        "last": where(some, last),
        "median": where(some, mean + quarter[1]),
        "first": where(some, first),
        "share": count / t,
        "age": (t - 1 - last_at) / t,
    }
    return columns, z, spread, count / t
