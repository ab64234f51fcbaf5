"""Mean and standard deviation: of the training windows, of each subject, of a running stream.

All in float64 and by windows (count, mean, sum of squared deviations), which stay exact where a sum
of squares would lose a small signal on a large offset. NaN is never counted. Labels are never
looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.data.checks import chunks
from sentryfuse.data.windows import Windows
from sentryfuse.errors import ConfigError, DataError

Floats = NDArray[np.float64]

CONSTANT = 1e-7  # below this share of its own mean a spread is rounding of float32, not signal


@dataclass(frozen=True, eq=False)
class Statistics:
    """What training windows look like; a model normalises with it.

    Attributes:
        mean: modality -> `(C,)`, physical units; 0 for a channel never measured.
        std: modality -> `(C,)`, physical units, positive; 1 for a channel constant or never
            measured.
        within: modality -> `(C,)`, physical units: root of the mean variance inside a window; 0 for a channel
            constant in every window, static or never measured.
    """

    mean: Mapping[str, NDArray[np.float32]]
    std: Mapping[str, NDArray[np.float32]]
    within: Mapping[str, NDArray[np.float32]]


def training_statistics(windows: Windows, indices: NDArray[np.integer[Any]]) -> Statistics:
    """Mean and standard deviation of every channel over some windows.

    Args:
        windows: the recording; standardised by subject first if it says so.
        indices: positions of the training windows, `(n,)`.

    Returns:
        Finite numbers for every channel.

    Raises:
        DataError: no window.
    """
    refuse_empty(windows, indices)
    means = {}
    stds = {}
    withins = {}
    for name in windows.names:
        moments = window_moments(windows, name, indices)
        mean, std = pooled(*moments)
        means[name] = mean.astype(np.float32)
        stds[name] = or_one(std, mean).astype(np.float32)
        withins[name] = _within(*moments).astype(np.float32)
    return Statistics(means, stds, withins)


class RunningStatistics:
    """Mean and standard deviation of a stream that starts from what training knew.

    Args:
        mean: prior mean, `(C,)`, physical units.
        std: prior standard deviation, `(C,)`, physical units, positive.
        weight: how many observations the prior counts as [samples], positive; one number, or one per
            channel `(C,)`.

    Raises:
        ConfigError: shapes that differ, or numbers that are not positive where they must be.
    """

    def __init__(self, mean: ArrayLike, std: ArrayLike, weight: ArrayLike) -> None:
        self._mean = np.array(mean, dtype=np.float64)
        spread = np.asarray(std, dtype=np.float64)
        if self._mean.ndim != 1 or spread.shape != self._mean.shape:
            raise ConfigError(
                f"the prior mean {self._mean.shape} and std {spread.shape} must both be (channels,)"
            )
        if not (np.isfinite(self._mean).all() and np.isfinite(spread).all() and (spread > 0).all()):
            raise ConfigError("the prior mean must be finite and the prior std finite and positive")
        counts = np.asarray(weight, dtype=np.float64)
        if counts.shape not in ((), self._mean.shape) or not (np.isfinite(counts) & (counts > 0)).all():
            raise ConfigError(f"the prior weight must be a positive number of samples, not {weight!r}")
        self._count = np.broadcast_to(counts, self._mean.shape).copy()
        self._m2 = spread**2 * self._count

    def update(self, values: ArrayLike) -> None:
        """Take in some samples; the order and the size of the pieces do not matter.

        Args:
            values: `(T, C)`, physical units; NaN and infinite ones are left out.

        Raises:
            DataError: another number of channels.

        Source:
            Pairwise merge of Chan, Golub and LeVeque (1979).
        """
        samples = np.asarray(values, dtype=np.float64)
        if samples.ndim != 2 or samples.shape[1] != len(self._mean):
            raise DataError(
                f"these samples have shape {samples.shape}; this stream has (steps, {len(self._mean)})"
            )
        count, mean, m2 = _moments(samples[None])
        total = self._count + count[0]
        step = mean[0] - self._mean
        share = count[0] / total
        self._m2 = self._m2 + m2[0] + step**2 * self._count * share
        self._mean = self._mean + step * share
        self._count = total

    @property
    def count(self) -> Floats:
        """Observations so far, the prior's among them, `(C,)` [samples]."""
        return self._count

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean so far, `(C,)`, physical units."""
        return self._mean.astype(np.float32)

    @property
    def std(self) -> NDArray[np.float32]:
        """Standard deviation so far, `(C,)`, physical units, positive."""
        std: NDArray[np.float32] = np.sqrt(self._m2 / self._count).astype(np.float32)
        return std


def refuse_empty(windows: Windows, indices: NDArray[np.integer[Any]]) -> None:
    """No window has no statistics.

    Raises:
        DataError: there is none.
    """
    if len(indices) == 0:
        raise DataError(
            f"{windows.name}: no window to take statistics from; the training split is empty, "
            "store `split` with some 0"
        )


def _moments(values: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Count, mean and sum of squared deviations over the steps of `(n, T, C)`; each `(n, C)`."""
    wide = values.astype(np.float64)
    known = np.isfinite(wide)
    if known.all():
        count = np.full((wide.shape[0], wide.shape[2]), float(wide.shape[1]))
    else:
        count = known.sum(axis=1, dtype=np.float64)
        wide[~known] = 0
    mean = wide.sum(axis=1) / np.maximum(count, 1)
    wide -= mean[:, None, :]
    if not known.all():
        wide[~known] = 0
    return count, mean, np.einsum("ntc,ntc->nc", wide, wide)


def window_moments(
    windows: Windows, name: str, indices: NDArray[np.integer[Any]]
) -> tuple[Floats, Floats, Floats]:
    """`_moments` of many windows, chunk by chunk."""
    length, n_channels = windows.raw[name].shape[1:]
    parts = [
        _moments(windows.batch(indices[part], (name,))[name])
        for part in chunks(len(indices), 4 * length * n_channels)
    ]
    count, mean, m2 = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return count, mean, m2


def pooled(count: Floats, mean: Floats, m2: Floats) -> tuple[Floats, Floats]:
    """Moments of windows `(n, C)` -> mean and deviation of each channel, `(C,)`; 0 where never measured."""
    group = np.zeros(len(count), dtype=np.intp)
    total, centre, spread = grouped(group, 1, count, mean, m2)
    return centre[0], np.sqrt(spread[0] / np.maximum(total[0], 1))


def _within(count: Floats, mean: Floats, m2: Floats) -> Floats:
    """Moments of windows `(n, C)` -> root of the mean variance inside one that has two values, `(C,)`."""
    varies = (count > 1) & (np.sqrt(m2 / np.maximum(count, 1)) > CONSTANT * np.abs(mean))
    variance = np.where(varies, m2 / np.maximum(count, 1), 0)
    inside: Floats = np.sqrt(variance.sum(0) / np.maximum((count > 1).sum(0), 1))
    return inside


def grouped(
    group: NDArray[np.intp], n_groups: int, count: Floats, mean: Floats, m2: Floats
) -> tuple[Floats, Floats, Floats]:
    """Merge window moments `(n, C)` into those of groups `(n_groups, C)`."""

    def add(values: Floats) -> Floats:
        sums = np.zeros((n_groups, values.shape[1]))
        np.add.at(sums, group, values)
        return sums

    total = add(count)
    centre = add(count * mean) / np.maximum(total, 1)
    return total, centre, add(m2 + count * (mean - centre[group]) ** 2)


def or_one(std: Floats, mean: Floats) -> Floats:
    """1 instead of a spread that is only rounding, which would blow up the first new value."""
    return np.where(std <= CONSTANT * np.abs(mean), 1.0, std)
