"""Statistics of the person who wears the sensors, gathered while the stream runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.data import RunningStatistics

Array = NDArray[np.float32]


class Person:
    """Standardises windows by what was seen of this person so far, as training did by the whole recording.

    Early windows are answered from little: the first one is standardised by itself.

    Args:
        bundle: one that wants windows standardised by person.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._floor = {name: np.asarray(floor, np.float32) for name, floor in bundle.subject_floor.items()}
        self._seen: dict[str, RunningStatistics] = {}

    def standardise(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Take windows in and standardise them.

        Args:
            values: modality -> `(1, T, C)`, physical units.

        Returns:
            The same shapes, in deviations of this person.
        """
        made = {}
        for name, x in values.items():
            floor = self._floor[name]
            seen = self._seen.get(name)
            if seen is None:
                with np.errstate(all="ignore"):  # a window without a value has no mean
                    mean, std = np.nanmean(x[0], 0), np.nanstd(x[0], 0)
                mean, std = np.nan_to_num(mean), np.maximum(np.nan_to_num(std), floor)
                seen = self._seen[name] = RunningStatistics(mean, std, weight=x.shape[1])
            else:
                seen.update(x[0])
            made[name] = ((x - seen.mean) / np.maximum(seen.std, floor)).astype(np.float32)
        return made
