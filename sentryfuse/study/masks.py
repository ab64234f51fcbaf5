"""Which windows are scored and which sensors miss in them, drawn once per seed. Torch-free."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data import Windows
from sentryfuse.errors import ConfigError


def draw_windows(windows: Windows, split: str, n: int, *, seed: int) -> NDArray[np.intp]:
    """Windows of a split that have at least one sensor, drawn without replacement.

    Args:
        windows: the recording.
        split: which part of it.
        n: how many; all if there are no more.
        seed: equal seeds give equal windows.

    Returns:
        Their positions, ascending, `(n,)` or fewer.

    Raises:
        ConfigError: there is none.
    """
    pool = windows.indices(split)
    pool = pool[windows.present[pool].any(axis=1)]
    if not len(pool):
        raise ConfigError(f"{windows.name} has no {split} window with a sensor; choose another fold")
    if n >= len(pool):
        return pool
    return np.sort(np.random.default_rng(seed).choice(pool, n, replace=False))


def exact_masks(present: NDArray[np.bool_], *, rate: float, seed: int) -> NDArray[np.bool_]:
    """Take away a share of the sensors, exact over all windows together.

    `sentryfuse.data.fixed_masks` rounds for every window, so that of four sensors two miss at rates 0.4
    and 0.6 alike. Here some windows lose one more than others: each as many as the rate says, rounded
    down or up, and all together `round(rate * sensors)`. Where windows with few sensors cannot give their
    share, because one always stays, others lose more.

    Args:
        present: sensors that are there by nature, `(n, M)`; each window has one or more.
        rate: share of those that is taken away, `0 <= rate < 1`.
        seed: equal seeds give equal masks. The order in which a window loses its sensors depends on
            nothing else, so that masks of two rates have as much in common as they can.

    Returns:
        `(n, M)`, True where a sensor is on; never an empty row.

    Raises:
        ConfigError: the rate is out of range, or a window has no sensor.

    Source:
        Systematic sampling over the windows in random order; our choice.
    """
    if not 0 <= rate < 1:
        raise ConfigError(f"a missing rate of {rate} is outside 0 <= rate < 1; give for example 0.4")
    there = present.sum(axis=1)
    if not there.all():
        raise ConfigError("a window without any sensor cannot be scored; leave it out")
    rng = np.random.default_rng([seed, 1])  # another stream than that of the windows
    keys = np.where(present, rng.random(present.shape), 2.0)
    turn = rng.permutation(len(present))
    share = Fraction(str(float(rate)))
    upto = np.concatenate([[0], np.cumsum(there[turn])])
    due = (2 * share.numerator * upto + share.denominator) // (2 * share.denominator)
    gone = np.empty(len(present), np.intp)
    gone[turn] = np.diff(due)
    most = there - 1
    lacking = int(np.maximum(gone - most, 0).sum())
    gone = np.minimum(gone, most)
    while lacking and (gone < most).any():
        room = turn[(gone < most)[turn]][:lacking]
        gone[room] += 1
        lacking -= len(room)
    place = keys.argsort(axis=1).argsort(axis=1)  # of a sensor in its window's order of loss
    mask: NDArray[np.bool_] = present & (place >= gone[:, None])
    return mask
