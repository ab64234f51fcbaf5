"""Mean and covariance of what enters the last product of every block, and mixing them; torch-free.

Notation: C columns: one per FFN channel, or `head_dim` per head, side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.planning.layout import Block
from sentryfuse.types import check_present

Array = NDArray[np.float64]

# How much a prototype counts with every sensor it differs in: the nearest ones decide, and farther ones
# only stand in for blocks that the nearest do not run. Our choice.
FADE = 1e-3


@dataclass(frozen=True, eq=False)
class ColumnMoments:
    """What enters one product: that of a block, or of one expert.

    Attributes:
        weight: rows of a window, each counted as the square of what the expert is worth for it; plain
            number of rows where there are no experts. 0: nothing is known.
        mean: of the columns, by those weights, `(C,)`.
        covariance: of the columns, by those weights, `(C, C)`.
    """

    weight: float
    mean: Array
    covariance: Array

    @classmethod
    def unknown(cls, columns: int) -> Self:
        """Nothing seen yet."""
        return cls(0.0, np.zeros(columns), np.zeros((columns, columns)))


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of what enters the last product of every block.

    Attributes:
        parts: block name -> those of its product, or of each expert in order; weight 0 where it never ran.
    """

    parts: Mapping[str, tuple[ColumnMoments, ...]]


def group_columns(block: Block) -> list[NDArray[np.intp]]:
    """Columns of the last product that belong together: all of them, or those of each expert."""
    if block.active:
        groups = np.asarray(block.groups)
        return [np.flatnonzero(groups == expert) for expert in range(groups.max() + 1)]
    return [np.arange(block.units * (block.head_dim or 1))]


def blend(moments: Sequence[Moments], weights: Sequence[float]) -> Moments:
    """Moments of windows of which given shares were of each kind.

    Args:
        moments: of one model.
        weights: share of each kind, >= 0; only their proportion matters.

    Returns:
        Exactly the mean and covariance of the mixture. What one kind of window does not run is taken from
        the others.

    Raises:
        ConfigError: no moments, as many weights as there are moments are not given, weights that are
            negative or all 0, or moments of different models.
    """
    shares = np.asarray(weights, np.float64)
    if not len(moments) or shares.shape != (len(moments),) or not (shares >= 0).all() or not shares.any():
        raise ConfigError(
            f"{len(moments)} moments cannot be blended by the weights {list(weights)}; "
            "give one weight >= 0 for each, not all 0"
        )
    first = moments[0].parts
    for other in moments[1:]:
        if {n: _sizes(p) for n, p in other.parts.items()} != {n: _sizes(p) for n, p in first.items()}:
            raise ConfigError("moments of different models cannot be blended; collect them from one model")
    shares = shares / shares.sum()
    return Moments(
        {
            name: tuple(
                _mixture([m.parts[name][i] for m in moments], shares) for i in range(len(first[name]))
            )
            for name in first
        }
    )


def _sizes(parts: Sequence[ColumnMoments]) -> list[int]:
    return [len(part.mean) for part in parts]


def _mixture(parts: Sequence[ColumnMoments], shares: Array) -> ColumnMoments:
    weights = shares * [part.weight for part in parts]
    total = float(weights.sum())
    if total == 0:
        return parts[0]
    among = weights / total
    means = np.stack([part.mean for part in parts])
    mean = among @ means
    covariance = np.tensordot(among, np.stack([part.covariance for part in parts]), 1)
    off = (means - mean) * np.sqrt(among)[:, None]
    return ColumnMoments(total, mean, covariance + off.T @ off)


@dataclass(frozen=True, eq=False)
class ConditionalMoments:
    """Moments for any set of sensors, from those of a few sets: no data and no model needed any more.

    Inside the branch of one sensor moments do not depend on the others; in blocks that sensors share they
    do, and drift slowly with the set.

    Attributes:
        names: every sensor of the model, in order.
        prototypes: set of present sensors -> its moments.
    """

    names: tuple[str, ...]
    prototypes: Mapping[tuple[str, ...], Moments]

    def moments_for(self, present: Iterable[str] | None = None) -> Moments:
        """Moments for the sensors that are present.

        Args:
            present: names of the sensors that are on; `None` means all.

        Returns:
            Those of this very set if it is a prototype; else those of the nearest prototypes (fewest sensors
            differ), blended equally, and of the next ones for blocks that the nearest do not run.

        Raises:
            ConfigError: an unknown name.
            NoSensorsError: no sensor is present.
        """
        on = check_present(present, self.names)
        if on in self.prototypes:
            return self.prototypes[on]
        return blend(
            list(self.prototypes.values()), [FADE ** len(set(on) ^ set(other)) for other in self.prototypes]
        )


def prototype_sets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The sets that `ConditionalMoments` are collected for: all sensors, all but one, one alone."""
    sets = [tuple(names)]
    sets += [tuple(name for name in names if name != missing) for missing in names]
    sets += [(name,) for name in names]
    return list(dict.fromkeys(found for found in sets if found))
