"""What rivals see: statistics of every sensor, and which sensors a window has.

Notation: N windows · T steps · C channels · F features · M sensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data import Windows
from sentryfuse.statistics import features
from sentryfuse.types import Modality

Floats = NDArray[np.float32]

_CHUNK = 512  # windows in work at once


@dataclass(frozen=True, eq=False)
class Table:
    """Statistics of many windows.

    Attributes:
        columns: sensor -> `(N, F)`, NaN where a feature cannot be told.
        present: sensor -> whether a window has it at all, `(N,)`.
    """

    columns: Mapping[str, Floats]
    present: Mapping[str, NDArray[np.bool_]]

    @classmethod
    def of_recording(cls, windows: Windows, indices: NDArray[np.intp]) -> Table:
        """Of some windows of a recording, chunk by chunk."""
        parts = np.array_split(indices, max(1, -(-len(indices) // _CHUNK)))
        columns = {
            m.name: np.concatenate([features(m, windows.batch(part, [m.name])[m.name]) for part in parts])
            for m in windows.modalities
        }
        there = windows.present[indices]
        return cls(columns, {name: there[:, i] for i, name in enumerate(windows.names)})

    @classmethod
    def of_batch(cls, modalities: Sequence[Modality], batch: Mapping[str, Floats]) -> Table:
        """Of raw windows `(B, T, C)` in which every sensor of the batch is on."""
        columns = {m.name: features(m, batch[m.name]) for m in modalities if m.name in batch}
        return cls(columns, {name: np.ones(len(x), dtype=bool) for name, x in columns.items()})

    def rows(self, chosen: NDArray[np.bool_]) -> Table:
        """The windows that were chosen, `(N,)`."""
        return Table(
            {name: x[chosen] for name, x in self.columns.items()},
            {name: there[chosen] for name, there in self.present.items()},
        )

    def has_any(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Whether a window has one of these sensors or more, `(N,)`."""
        some: NDArray[np.bool_] = np.any([self.present[name] for name in names], axis=0)
        return some
