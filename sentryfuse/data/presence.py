"""Which sensors are on: schedules for training, masks for tests, batches that share one set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.windows import Windows
from sentryfuse.errors import ConfigError, NoSensorsError


@dataclass(frozen=True, slots=True)
class Curriculum:
    """How often sensors are switched off while training goes on.

    Attributes:
        max_rate: chance that a sensor is off once the rise is over, `0 <= max_rate < 1`.
        rise: share of training over which the chance grows from 0, `0 <= rise <= 1`.
    """

    max_rate: float = 0.5
    rise: float = 0.5

    def __post_init__(self) -> None:
        """Refuse rates that would leave nothing."""
        _check_rate(self.max_rate)
        if not 0 <= self.rise <= 1:
            raise ConfigError(f"rise {self.rise} is outside 0..1; it is a share of training")

    def rate(self, progress: float) -> float:
        """Chance that a sensor is off.

        Args:
            progress: share of training already done, 0..1; values outside count as the nearest end.
        """
        done = min(max(progress, 0.0), 1.0)
        return self.max_rate if done >= self.rise else self.max_rate * done / self.rise

    def draw(self, available: Sequence[str], rate: float, rng: np.random.Generator) -> tuple[str, ...]:
        """Switch each sensor off with the same chance, independently, but never all of them.

        Args:
            available: sensors that could be on, in order.
            rate: chance that one is off, `0 <= rate < 1`.
            rng: random numbers.

        Returns:
            Sensors that are on, in order.

        Raises:
            NoSensorsError: none is available.
            ConfigError: the rate is out of range.
        """
        _check_rate(rate)
        if not available:
            raise NoSensorsError("no sensor is available to draw from; name at least one")
        while True:
            on = rng.random(len(available)) >= rate
            if on.any():
                return tuple(name for name, keep in zip(available, on, strict=True) if keep)


class PresenceGroups(NamedTuple):
    """Windows sorted by what is present in them.

    Attributes:
        groups: (positions of the present modalities, indices of those windows), most sensors first.
        empty: indices of windows in which nothing is present, `(e,)`; no model can answer them.
    """

    groups: list[tuple[tuple[int, ...], NDArray[np.intp]]]
    empty: NDArray[np.intp]


def fixed_masks(n: int, n_modalities: int, *, rate: float, seed: int) -> NDArray[np.bool_]:
    """Sensors that are on in each test window, drawn once per seed, the same in every comparison.

    Args:
        n: windows.
        n_modalities: `M`.
        rate: share of sensors that is missing; `round(rate * M)` in every window, but never all.
        seed: equal seeds give equal masks.

    Returns:
        `(n, M)`, True where present; every choice of missing sensors is equally likely.

    Raises:
        ConfigError: the rate is out of range, or there is no modality.
    """
    _check_rate(rate)
    if n_modalities < 1:
        raise ConfigError(f"masks need one modality or more, not {n_modalities}")
    missing = min(round(rate * n_modalities), n_modalities - 1)
    order = np.random.default_rng(seed).random((n, n_modalities)).argsort(axis=1)
    mask: NDArray[np.bool_] = order >= missing
    return mask


def group_by_presence(present: NDArray[np.bool_], indices: NDArray[np.integer[Any]]) -> PresenceGroups:
    """Sort windows into groups that share one set of sensors.

    Args:
        present: what is present in each of these windows, `(n, M)`.
        indices: which windows they are, `(n,)`.

    Returns:
        The groups in a stable order, windows in the order given, and the windows that have nothing.

    Raises:
        ConfigError: lengths that differ.
    """
    if present.ndim != 2 or len(present) != len(indices):
        raise ConfigError(
            f"presence of shape {present.shape} does not belong to {len(indices)} windows; "
            "give one row for each window"
        )
    rows: NDArray[np.intp] = indices.astype(np.intp)
    patterns, position = np.unique(present.astype(bool), axis=0, return_inverse=True)
    position = position.reshape(-1)
    groups = []
    for row in sorted(range(len(patterns)), key=lambda r: (-patterns[r].sum(), r)):
        if patterns[row].any():
            on = tuple(int(m) for m in np.flatnonzero(patterns[row]))
            groups.append((on, rows[position == row]))
    return PresenceGroups(groups, rows[~present.astype(bool).any(axis=1)])


def batches(
    windows: Windows,
    indices: NDArray[np.integer[Any]],
    *,
    batch_size: int,
    present: NDArray[np.bool_] | None = None,
    rng: np.random.Generator | None = None,
) -> Iterator[tuple[tuple[str, ...], NDArray[np.intp]]]:
    """Batches in which every window has the same sensors.

    Windows in which nothing is present are left out; `group_by_presence` names them.

    Args:
        windows: the recording.
        indices: which windows to give, `(n,)`.
        batch_size: most windows in a batch.
        present: sensors that may be on, a row for each of `indices`, `(n, M)`; `None` means all.
            Natural absence is always respected as well.
        rng: shuffles windows and batches; without it the order is stable.

    Yields:
        Names of the sensors that are on, and the windows, `(b,)` with `b <= batch_size`.

    Raises:
        ConfigError: a batch size below 1, or a mask of another shape.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size {batch_size} is too small; use 1 or more")
    on = windows.present[indices]
    if present is not None:
        if present.shape != on.shape:
            raise ConfigError(
                f"a mask of shape {present.shape} does not belong to {on.shape[0]} windows of "
                f"{on.shape[1]} modalities; give one row for each window"
            )
        on = on & present
    made = []
    for pattern, members in group_by_presence(on, indices).groups:
        names = tuple(windows.names[m] for m in pattern)
        order = members if rng is None else rng.permutation(members)
        made += [(names, order[i : i + batch_size]) for i in range(0, len(order), batch_size)]
    for k in range(len(made)) if rng is None else rng.permutation(len(made)):
        yield made[k]


def leave_one_out(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Every set with exactly one sensor missing, in order of it; none for a single sensor."""
    if len(names) < 2:
        return []
    return [tuple(n for n in names if n != missing) for missing in names]


def _check_rate(rate: float) -> None:
    if not 0 <= rate < 1:
        raise ConfigError(f"a missing rate of {rate} is outside 0 <= rate < 1; give for example 0.3")
