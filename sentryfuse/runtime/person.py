"""Statistics of the person who wears the sensors, gathered while the stream runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.data import RunningStatistics
from sentryfuse.data.people import shrunk
from sentryfuse.errors import ConfigError
from sentryfuse.readout import PersonFeatures

Array = NDArray[np.float32]
SELDOM = 1e-6  # weight of a channel that has not been measured yet [samples]
FARTHEST = 20.0  # own deviations; what lies beyond is clipped, so that one spike does not spoil the rest


class Person:
    """Standardises windows by what was seen of this person so far, as training did by the whole recording.

    Early windows are answered from little: from what is supposed of people in general and the few of their
    own; in a bundle that supposes nothing the first one is standardised by itself.

    Args:
        names: every sensor of the model.
        floor: modality -> smallest deviation, `(C,)`, physical units, of the bundle.
        prior: modality -> `(4, C)` of `sentryfuse.data.subject_prior`; empty supposes nothing.

    Raises:
        ConfigError: a sensor without a floor.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        floor: Mapping[str, ArrayLike],
        prior: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        missing = [name for name in names if name not in floor]
        if missing:
            raise ConfigError(
                "this bundle standardises by person and lacks the smallest deviation of "
                f"{', '.join(missing)}; train and export again"
            )
        self._floor = {name: np.asarray(floor[name], np.float32) for name in names}
        self._prior = {name: np.asarray(rows, np.float64) for name, rows in (prior or {}).items()}
        self._seen: dict[str, RunningStatistics] = {}

    def standardise(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Take windows in and standardise them.

        Args:
            values: modality -> `(1, T, C)`, physical units, NaN where not measured.

        Returns:
            The same shapes, in deviations of this person.
        """
        made = {}
        for name, x in values.items():
            floor, seen = self._floor[name], self._seen.get(name)
            if seen is None:
                seen = self._seen[name] = _first(x[0], floor)
            else:
                far = FARTHEST * np.maximum(seen.std, floor)
                x = np.clip(x, seen.mean - far, seen.mean + far)
                seen.update(x[0])
            mean, std = shrunk(self._prior.get(name), seen.count / x.shape[1], seen.mean, seen.std)
            made[name] = ((x - mean) / np.maximum(std, floor)).astype(np.float32)
        return made


def _first(x: Array, floor: Array) -> RunningStatistics:
    """Statistics of the first window, `(T, C)`, by medians: nothing is known yet of what is far."""
    measured = np.isfinite(x)
    count = measured.sum(0)
    mean, std = np.zeros(x.shape[1], np.float32), floor.copy()
    for channel in np.flatnonzero(count):
        own = x[measured[:, channel], channel]
        mean[channel] = np.median(own)
        near = np.abs(own - mean[channel]) <= FARTHEST * max(
            float(np.median(np.abs(own - mean[channel]))), float(floor[channel])
        )
        mean[channel], std[channel] = own[near].mean(), max(float(own[near].std()), float(floor[channel]))
    return RunningStatistics(mean, std, weight=np.where(count > 0, count, SELDOM))


def features_of_person(bundle: Bundle) -> PersonFeatures | None:
    """Where to gather a person's statistics; `None` for a bundle that does not ask for them."""
    mixture = bundle.mixture
    if mixture is None or mixture.readout.person_weight is None:
        return None
    return PersonFeatures(mixture.readout)


def person_of(bundle: Bundle) -> Person | None:
    """Statistics of the person for a bundle that standardises by subject.

    Raises:
        ConfigError: it lacks the smallest deviation of a sensor.
    """
    if bundle.normalise != "subject":
        return None
    return Person(bundle.names, bundle.subject_floor, bundle.subject_prior)
