"""Windows that have been cut, kept until all are known; then one npz file, or `Windows` in memory.

The npz is the interchange layout of `sentryfuse.data.npz`, written array by array and piece by piece. Beside
its keys stands `time_s` (N,), where each window begins [s].
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sentryfuse.data.archive import max_bytes_asked
from sentryfuse.data.windows import Windows, make_windows
from sentryfuse.errors import DataError
from sentryfuse.files import write_atomically
from sentryfuse.recordings.samples import Column, Storage
from sentryfuse.recordings.waiting import Waiting
from sentryfuse.types import Modality

if TYPE_CHECKING:
    from sentryfuse.recordings.collect import Recording
    from sentryfuse.recordings.deal import Dealt

_PIECE = 1 << 20  # values written together
LONGEST_NAME = 200  # bytes of a name that becomes one of a file in the npz


class WindowStore:
    """Windows as they are cut.

    Args:
        modalities: every sensor, in order.
        storage: where values are kept.
        labelled: whether windows have labels.
        target: sensor whose mean is what a regression answers; "" = none.
    """

    def __init__(
        self, modalities: list[Modality], storage: Storage, *, labelled: bool, target: str = ""
    ) -> None:
        self.labelled, self.target = labelled, target
        self.modalities = modalities
        self._values: dict[str, Column] = {
            m.name: storage.column(np.float32, m.length * m.n_channels) for m in modalities
        }
        self._misses = dict.fromkeys(self._values, False)
        self._starts: list[NDArray[np.int64]] = []
        self._codes: list[NDArray[np.int64]] = []
        self._recordings: list[NDArray[np.int64]] = []
        self.recordings: list[Recording] = []

    def append(
        self,
        arrays: Mapping[str, NDArray[np.float32]],
        *,
        starts: NDArray[np.int64],
        codes: NDArray[np.int64],
        recording: Recording,
    ) -> None:
        """Take windows of one recording, in order of time.

        Args:
            arrays: modality -> `(G, T, C)`, NaN where not measured.
            starts: where each begins [ns], `(G,)`.
            codes: label of each, `(G,)`.
            recording: they are of.
        """
        if not self.recordings or self.recordings[-1] is not recording:
            self.recordings.append(recording)
        for name, values in arrays.items():
            self._values[name].append(values.reshape(len(values), -1))
            self._misses[name] = self._misses[name] or bool(np.isnan(values).any())
        self._starts.append(starts)
        self._codes.append(codes)
        self._recordings.append(np.full(len(starts), len(self.recordings) - 1))

    @property
    def inputs(self) -> list[Modality]:
        """Every sensor but the one that is asked for."""
        return [m for m in self.modalities if m.name != self.target]

    def target_means(self) -> NDArray[np.float64]:
        """Mean of the target over each window, over what was measured, `(N,)`; NaN without any."""
        column = self._values[self.target]
        found = [np.empty(0)]
        for low in range(0, len(column), _PIECE):
            part = column.read(low, min(low + _PIECE, len(column))).astype(np.float64)
            known = ~np.isnan(part)
            total = np.where(known, part, 0).sum(axis=1)
            found.append(np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan))
        return np.concatenate(found)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each window begins [ns], `(N,)`."""
        return np.concatenate([np.empty(0, np.int64), *self._starts])

    @property
    def codes(self) -> NDArray[np.int64]:
        """Label of each window, `(N,)`."""
        return np.concatenate([np.empty(0, np.int64), *self._codes])

    @property
    def recording(self) -> NDArray[np.int64]:
        """Position in `recordings` of each window, `(N,)`."""
        return np.concatenate([np.empty(0, np.int64), *self._recordings])

    def windows(self, name: str, dealt: Dealt, *, licence: str | None) -> Windows:
        """What is kept, in memory, checked.

        Raises:
            DataError: anything that does not fit the layout.
        """
        raw = {}
        for m in self.inputs:
            column = self._values[m.name]
            values = column.read(0, len(column))[dealt.kept]
            raw[m.name] = values.reshape(-1, m.length, m.n_channels)
        return make_windows(
            name,
            self._final_modalities(),
            raw=raw,
            y=dealt.y if self.labelled or self.target else None,
            classes=dealt.classes or None,
            subject=np.array(dealt.people, np.str_)[dealt.subject],
            split=dealt.split,
            licence=licence,
            target=dealt.target,
        )

    def save(self, path: Path, dealt: Dealt, *, licence: str | None) -> None:
        """Write what is kept as an npz file, whole or not at all, with a bar.

        Raises:
            DataError: it would be larger than the project reads, or a sensor's name is no name of a file.
            InputError: the system refuses to write.
        """
        for m in self.inputs:
            if len(m.name.encode()) > LONGEST_NAME:
                raise DataError(
                    f"a sensor is called {m.name[:20]}... with {len(m.name)} letters, at most {LONGEST_NAME} "
                    "bytes can be stored; name it in the recipe"
                )
        per_window = sum(m.length * m.n_channels for m in self.inputs)
        most_bytes = max_bytes_asked()
        if len(dealt.kept) * per_window * 4 > most_bytes:
            raise DataError(
                f"{len(dealt.kept)} windows would take {len(dealt.kept) * per_window * 4 / 1e9:.0f} GB, more "
                "than the "
                f"{most_bytes / 1e9:g} GB that are read back; make hop_s longer, or make several files"
            )
        small: dict[str, NDArray[Any]] = {
            "modalities": np.array([m.name for m in self.inputs], np.str_),
            "subject": np.array(dealt.people, np.str_)[dealt.subject],
            "split": dealt.split,
            "time_s": self.starts[dealt.kept] / 1e9,
        }
        if self.labelled or self.target:
            small |= {"y": dealt.y, "classes": np.array(dealt.classes, np.str_)}
        if self.target:
            small["task"] = np.array(dealt.target.task, np.str_)
            if dealt.target.unit:
                small["unit"] = np.array(dealt.target.unit, np.str_)
        if licence:
            small["licence"] = np.array(licence, np.str_)
        for m in self._final_modalities():
            small[f"rate_{m.name}"] = np.array(m.rate_hz, np.float64)
            small[f"channels_{m.name}"] = np.array(m.channels, np.str_)
            small[f"missing_{m.name}"] = np.array(m.may_miss)
        with (
            write_atomically(path) as draft,
            zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            Waiting("write [MB]", max(1, len(dealt.kept) * per_window * 4 // 10**6)) as bar,
        ):
            for key, values in small.items():
                with archive.open(f"{key}.npy", "w") as member:
                    npy.write_array(member, values, allow_pickle=False)
            written = 0
            for m in self.inputs:
                shape = (len(dealt.kept), m.length, m.n_channels)
                with archive.open(f"x_{m.name}.npy", "w", force_zip64=True) as member:
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    npy.write_array_header_1_0(member, header)
                    rows = max(1, _PIECE // (m.length * m.n_channels))
                    for low in range(0, len(dealt.kept), rows):
                        part = dealt.kept[low : low + rows]  # ascending
                        values = self._values[m.name].read(int(part[0]), int(part[-1]) + 1)[part - part[0]]
                        member.write(np.ascontiguousarray(values, "<f4").data)
                        written += values.nbytes
                        bar.update(written // 10**6, m.name)

    def _final_modalities(self) -> list[Modality]:
        return [Modality(m.name, m.rate_hz, m.length, m.channels, self._misses[m.name]) for m in self.inputs]
