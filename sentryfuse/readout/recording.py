"""The readout's answers for the windows of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data import Windows
from sentryfuse.readout.discriminant import Doubles, pooled
from sentryfuse.readout.encode import Person
from sentryfuse.readout.mixture import Floats, Mixture
from sentryfuse.readout.readout import Solved, heads_from
from sentryfuse.statistics import features

CHUNK = 512  # windows whose raw values are in memory at once


def features_of(
    windows: Windows, indices: NDArray[np.intp], *, own_signals: bool = False
) -> dict[str, Floats]:
    """Statistics of some windows, sensor -> `(n, F)`.

    Args:
        windows: the recording; with `own_signals` standardised by person.
        indices: which windows.
        own_signals: of the standardised values, not of the raw ones.
    """
    raw = windows if own_signals else replace(windows, by_subject=None)
    found: dict[str, list[Floats]] = {m.name: [] for m in windows.modalities}
    for start in range(0, len(indices), CHUNK):
        batch = raw.batch(indices[start : start + CHUNK])
        for m in windows.modalities:
            found[m.name].append(features(m, batch[m.name]))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def on_recording(mixture: Mixture | None, windows: Windows, indices: NDArray[np.intp]) -> OnRecording | None:
    """The readout's answers for some windows; `None` without a readout."""
    return None if mixture is None else OnRecording(mixture, windows, indices)


class OnRecording:
    """Multiplies what a transformer answers for windows of a recording with what the readout answers.

    Where the readout standardises by person, a person is known by all windows of the recording.

    Args:
        mixture: of a model or bundle.
        windows: the recording, prepared for the model.
        indices: the windows that may be asked for.
    """

    def __init__(self, mixture: Mixture, windows: Windows, indices: NDArray[np.intp]) -> None:
        readout = mixture.readout
        self.mixture, self._row = mixture, np.full(len(windows), -1)
        if readout.person_weight is not None:
            indices = np.flatnonzero(np.isin(windows.subject, windows.subject[indices]))
        self._row[indices] = np.arange(len(indices))
        own = [m for m in windows.modalities if m.name in readout.sensors]
        own_windows = replace(windows, modalities=tuple(own))
        x = features_of(own_windows, indices, own_signals=readout.own_signals)
        there = windows.present[indices]
        self._z = {}
        for m in own:
            on = there[:, windows.names.index(m.name)]
            values = np.where(on[:, None], x[m.name], np.float32(np.nan))
            scale = readout.parts.scales[m.name]
            if readout.person_weight is None:
                self._z[m.name] = scale.apply(values)
                continue
            z = np.empty_like(values)
            for who in np.unique(windows.subject[indices]):
                rows = windows.subject[indices] == who
                z[rows] = scale.apply(values[rows], Person.of(values[rows]), readout.person_weight)
            self._z[m.name] = z
        self._solved: dict[tuple[str, ...], Solved] = {}

    def log_readout(self, chosen: NDArray[np.intp], present: Sequence[str]) -> Doubles:
        """Log probabilities or standardised numbers of the readout alone, `(B, K)`."""
        names = tuple(present)
        if names not in self._solved:
            self._solved[names] = self.mixture.readout.solve(names)
        solved, readout, rows = self._solved[names], self.mixture.readout, self._row[chosen]
        z = {name: self._z[name][rows] for name in solved.sensors}
        numbers = not readout.target.of_classes
        heads = heads_from(readout.parts, z, solved, readout.log_prior, numbers=numbers)
        return pooled(heads, solved.pool, numbers=numbers)

    def __call__(
        self, chosen: NDArray[np.intp], present: Sequence[str], probabilities: Floats | None
    ) -> Floats:
        """Probabilities or numbers of some windows, `(B, K)`.

        Args:
            chosen: positions of the windows in the recording, `(B,)`.
            present: sensors that are on.
            probabilities: of the transformer, `(B, K)`; `None` where no layer of it runs.
        """
        return self.mixture.answer(self.log_readout(chosen, present), probabilities, len(present))
