"""Labelled windows in memory: what every data source gives and every other room takes.

Arrays stay as they were stored (often int16) and become physical values batch by batch, so a
recording needs no more memory than its file uncompressed.

Notation: N windows · B windows of a batch · T steps · C channels · M modalities · S subjects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.data.checks import (
    check_classes,
    check_names,
    check_shape,
    checked_scale,
    checked_split,
    chunks,
    integers,
    scan,
)
from sentryfuse.data.splits import split_by_subject
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.types import Modality

SPLITS = ("train", "validation", "test")
SplitName = Literal["train", "validation", "test", "all"]


@dataclass(frozen=True, eq=False)
class SubjectStatistics:
    """Mean and standard deviation of every subject, for standardising by subject.

    Attributes:
        subjects: ascending, `(S,)`.
        mean: modality -> `(S, C)`, physical units.
        std: modality -> `(S, C)`, physical units, positive (already floored).
    """

    subjects: NDArray[np.int64]
    mean: Mapping[str, NDArray[np.float32]]
    std: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Windows:
    """Labelled windows of several modalities, as stored. Build with `make_windows`, which checks.

    Attributes:
        name: short name of the recording.
        modalities: every sensor, in order; `may_miss` where single values may be NaN.
        raw: modality -> `(N, T, C)`, as stored.
        scale: modality -> `(C,)`; physical value = raw * scale.
        y: class of each window, `(N,)`, 0..K-1.
        classes: names of the K classes.
        subject: the unit that train and test must not share, `(N,)`.
        split: `(N,)`; 0 train, 1 validation, 2 test.
        present: `(N, M)`; False where every value of that modality is NaN in that window.
        licence: of the recording, where the file names one.
        by_subject: set when `batch` standardises each window by its own subject.
    """

    name: str
    modalities: tuple[Modality, ...]
    raw: Mapping[str, NDArray[Any]]
    scale: Mapping[str, NDArray[np.float32]]
    y: NDArray[np.int64]
    classes: tuple[str, ...]
    subject: NDArray[np.int64]
    split: NDArray[np.int8]
    present: NDArray[np.bool_]
    licence: str | None = None
    by_subject: SubjectStatistics | None = None

    def __len__(self) -> int:
        """Number of windows, `N`."""
        return len(self.y)

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names, in order."""
        return tuple(m.name for m in self.modalities)

    def indices(self, split: SplitName | str) -> NDArray[np.intp]:
        """Positions of the windows of one split, ascending.

        Args:
            split: "train", "validation", "test" or "all".

        Returns:
            `(n,)`; may be empty.

        Raises:
            ConfigError: another word.
        """
        if split == "all":
            return np.arange(len(self), dtype=np.intp)
        if split not in SPLITS:
            raise ConfigError(
                f"split {split!r} is unknown; there are {', '.join(SPLITS)} and all; use one of those"
            )
        return np.flatnonzero(self.split == SPLITS.index(split))

    def batch(
        self, indices: NDArray[np.integer[Any]], names: Iterable[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Windows as the model takes them.

        Args:
            indices: positions of the windows, `(B,)`.
            names: modalities to give; `None` means all.

        Returns:
            Modality -> `(B, T, C)`, physical units, NaN where not measured; without unit (mean 0,
            standard deviation about 1 per subject) when `by_subject` is set.

        Raises:
            ConfigError: a modality that is not there.
        """
        result = {}
        for name in self.names if names is None else names:
            if name not in self.raw:
                raise ConfigError(
                    f"{self.name} has no modality {name!r}; it has {', '.join(self.names)}; use those names"
                )
            values = self.raw[name][indices].astype(np.float32)
            values *= self.scale[name]
            if self.by_subject is not None:
                row = np.searchsorted(self.by_subject.subjects, self.subject[indices])
                values -= self.by_subject.mean[name][row][:, None, :]
                values /= self.by_subject.std[name][row][:, None, :]
            result[name] = values
        return result

    def with_split(self, split: ArrayLike) -> Windows:
        """The same windows, split otherwise; nothing is copied.

        Args:
            split: `(N,)`; 0 train, 1 validation, 2 test; no subject in two of them.

        Raises:
            DataError: another length, another value, or a subject in two splits.
        """
        return replace(self, split=checked_split(self.name, np.asarray(split), self.subject))


def make_windows(
    name: str,
    modalities: Sequence[Modality],
    *,
    raw: Mapping[str, NDArray[Any]],
    y: ArrayLike,
    classes: Sequence[str],
    subject: ArrayLike,
    scale: Mapping[str, ArrayLike] | None = None,
    split: ArrayLike | None = None,
    licence: str | None = None,
) -> Windows:
    """Check arrays against each other and put them together; the only place where `Windows` begin.

    Args:
        name: short name of the recording, used in messages.
        modalities: every sensor, in order, with the length and channels its array must have.
        raw: modality -> `(N, T, C)`, int8, int16, float16 or float32; NaN only where `may_miss`.
        y: class of each window, `(N,)`, integers 0..K-1.
        classes: K different names, at least two.
        subject: `(N,)`, integers.
        scale: modality -> scalar or `(C,)`, positive; 1 where not given.
        split: `(N,)`; 0 train, 1 validation, 2 test; `None` splits by subject with a fixed seed.
        licence: of the recording.

    Returns:
        The windows, with the natural presence found by looking at every value.

    Raises:
        DataError: anything that does not fit; the message names it.
    """
    labels = integers(name, "y", np.asarray(y))
    n = len(labels)
    if n == 0:
        raise DataError(f"{name} holds no window; y is empty; give at least one window")
    check_classes(name, classes, labels)
    subjects = integers(name, "subject", np.asarray(subject))
    if len(subjects) != n:
        raise DataError(f"{name}: subject has {len(subjects)} entries but y has {n}; make them equal")
    check_names(name, [m.name for m in modalities])
    scales = {}
    present = np.ones((n, len(modalities)), dtype=bool)
    for column, modality in enumerate(modalities):
        if modality.name not in raw:
            raise DataError(
                f"{name} names the modality {modality.name!r} but has no array for it; "
                "add it or leave the name out"
            )
        values = raw[modality.name]
        check_shape(name, modality, values, n)
        scales[modality.name] = checked_scale(name, modality, (scale or {}).get(modality.name, 1.0))
        present[:, column] = scan(name, modality, values, scales[modality.name])
    chosen = split_by_subject(subjects, seed=0) if split is None else np.asarray(split)
    return Windows(
        name=name,
        modalities=tuple(modalities),
        raw={m.name: raw[m.name] for m in modalities},
        scale=scales,
        y=labels,
        classes=tuple(str(c) for c in classes),
        subject=subjects,
        split=checked_split(name, chosen, subjects),
        present=present,
        licence=licence,
    )


def describe(windows: Windows) -> dict[str, Any]:
    """What is inside, ready for `json.dumps`.

    Returns:
        `name`, `n_windows`, `modalities` (rate [Hz], length [steps], share of windows without it,
        share of its values not measured), `classes` with counts, `n_subjects`, `splits` with
        windows and subjects, `licence`.
    """
    modalities = []
    for column, m in enumerate(windows.modalities):
        values = windows.raw[m.name]
        missing = 0
        if values.dtype.kind == "f":
            for part in chunks(len(windows), m.length * m.n_channels):
                missing += int(np.isnan(values[part]).sum())
        modalities.append(
            {
                "name": m.name,
                "rate_hz": m.rate_hz,
                "length": m.length,
                "channels": list(m.channels),
                "may_miss": m.may_miss,
                "share_absent": float(1 - windows.present[:, column].mean()),
                "share_missing_values": missing / values.size,
            }
        )
    counts = np.bincount(windows.y, minlength=len(windows.classes))
    splits = {}
    for word in SPLITS:
        inside = windows.indices(word)
        splits[word] = {
            "n_windows": len(inside),
            "n_subjects": len(np.unique(windows.subject[inside])),
        }
    return {
        "name": windows.name,
        "n_windows": len(windows),
        "modalities": modalities,
        "classes": {c: int(k) for c, k in zip(windows.classes, counts, strict=True)},
        "n_subjects": len(np.unique(windows.subject)),
        "splits": splits,
        "licence": windows.licence,
    }
