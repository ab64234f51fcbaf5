"""Moments of one person's features, gathered window by window while a stream runs.

Notation: B windows · F features of all sensors of a readout · G features of some of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.readout.discriminant import Doubles
from sentryfuse.readout.encode import Floats, shrunk_scale
from sentryfuse.readout.readout import Readout


class _Part(NamedTuple):
    """Some sensors, one after the other.

    Attributes:
        at: where their features stand among all, `(G,)`.
        mean: of the population, `(G,)`.
        inverse: one over its deviation, 0 where nothing varies, `(G,)`.
    """

    at: NDArray[np.intp]
    mean: Floats
    inverse: Floats


class PersonFeatures:
    """What standardises the features of a person by the windows up to now.

    The readout counts the population as so many windows of its own, so that a person's first minutes are
    answered as the population's are.

    Args:
        readout: one that standardises by person.

    Raises:
        ConfigError: it does not.
    """

    def __init__(self, readout: Readout) -> None:
        if readout.person_weight is None:
            raise ConfigError("this readout standardises by the population; nothing is to be gathered for it")
        self._weight, self._scales = readout.person_weight, readout.parts.scales
        sizes = [len(self._scales[name].mean) for name in readout.sensors]
        self._starts = dict(zip(readout.sensors, np.cumsum([0, *sizes]).tolist(), strict=False))
        self._count, self._mean, self._squares = np.zeros((3, sum(sizes)))
        self._parts: dict[tuple[str, ...], _Part] = {}

    def follow(self, readout: Readout) -> None:
        """Go on with what was gathered so far for the same readout, read again."""
        self._scales, self._parts = readout.parts.scales, {}

    def scale(self, sensors: Sequence[str]) -> tuple[Floats, Floats]:
        """Mean and one over the deviation of the features of some sensors, `(G,)` each."""
        part = self._part(sensors)
        count = self._count[part.at]
        variance = self._squares[part.at] / np.maximum(count, 1)
        return shrunk_scale(part.mean, part.inverse, count, self._mean[part.at], variance, self._weight)

    def see(self, sensors: Sequence[str], features: Floats) -> None:
        """Take windows in.

        Args:
            sensors: that are on.
            features: of them, `(B, G)`, not finite where a feature is not known.

        Source:
            Pairwise merge of Chan, Golub and LeVeque (1979).
        """
        at = self._part(sensors).at
        known = np.isfinite(features)
        x = np.where(known, features, 0).astype(np.float64)
        new = known.sum(axis=0)
        mean = x.sum(axis=0) / np.maximum(new, 1)
        off = np.where(known, x - mean, 0)
        before: Doubles = self._count[at]
        total = before + new
        share = new / np.maximum(total, 1)
        step = mean - self._mean[at]
        self._squares[at] += (off * off).sum(axis=0) + step * step * before * share
        self._mean[at] += step * share
        self._count[at] = total

    def _part(self, sensors: Sequence[str]) -> _Part:
        key = tuple(sensors)
        if key not in self._parts:
            scales = [self._scales[name] for name in key]
            at = [self._starts[name] + np.arange(len(s.mean)) for name, s in zip(key, scales, strict=True)]
            mean, inverse = ([getattr(s, leaf) for s in scales] for leaf in ("mean", "inverse"))
            self._parts[key] = _Part(*map(np.concatenate, (at, mean, inverse)))
        return self._parts[key]
