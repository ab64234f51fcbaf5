"""Windows in memory, mostly labelled: what every data source gives and every other room takes.

Arrays stay as they were stored (often int16) and become physical values batch by batch, so a
recording needs no more memory than its file uncompressed.

Notation: N windows · B windows of a batch · T steps · C channels · M modalities · S subjects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.data.checks import check_names, check_shape, checked_scale, checked_split, chunks, scan
from sentryfuse.data.faults import Faults
from sentryfuse.data.forms import UNLABELLED, labels_of, numbers_of, people_of, split_of, values_of
from sentryfuse.data.splits import LEAST_SUBJECTS, split_by_subject
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.target import CLASSES, Target
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


@dataclass(frozen=True, eq=False, repr=False)
class Windows:
    """Windows of several modalities, as stored. Build with `make_windows`, which checks.

    Attributes:
        name: short name of the recording.
        modalities: every sensor, in order; `may_miss` where single values may be NaN.
        raw: modality -> `(N, T, C)`, as stored.
        scale: modality -> `(C,)`; physical value = raw * scale.
        y: class of each window, `(N,)`, 0..K-1; -1 everywhere where the recording has no labels. Numbers
            of a regression, or 0 and 1 of several labels, `(N, K)`; NaN everywhere without.
        classes: names of the K classes, numbers or labels; may be empty where there are no labels.
        subject: the unit that train and test must not share, `(N,)`; 0 everywhere where it is not known.
        split: `(N,)`; 0 train, 1 validation, 2 test.
        present: `(N, M)`; False where every value of that modality is NaN in that window.
        licence: of the recording, where the file names one.
        by_subject: set when `batch` standardises each window by its own subject.
        people: names that the numbers in `subject` stand for; `None` where they are numbers.
        knows_subject: whether the recording says whom each window is of.
        target: what `y` is.
    """

    name: str
    modalities: tuple[Modality, ...]
    raw: Mapping[str, NDArray[Any]]
    scale: Mapping[str, NDArray[np.float32]]
    y: NDArray[Any]
    classes: tuple[str, ...]
    subject: NDArray[np.int64]
    split: NDArray[np.int8]
    present: NDArray[np.bool_]
    licence: str | None = None
    by_subject: SubjectStatistics | None = None
    people: tuple[str, ...] | None = None
    knows_subject: bool = True
    target: Target = CLASSES

    def __repr__(self) -> str:
        """What is inside, in one line."""
        sensors = ", ".join(f"{m.name} {m.length} x {m.n_channels}" for m in self.modalities)
        word = {"classification": "classes", "regression": "numbers", "multilabel": "labels"}
        kinds = f"{len(self.classes)} {word[self.target.task]}" if self.labelled else "no labels"
        return f"Windows({self.name!r}: {len(self)} windows of {sensors}; {kinds})"

    def __len__(self) -> int:
        """Number of windows, `N`."""
        return len(self.y)

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names, in order."""
        return tuple(m.name for m in self.modalities)

    @property
    def labelled(self) -> bool:
        """Whether every window has a label."""
        if self.y.dtype.kind == "f":
            return bool(np.isfinite(self.y).all())
        return bool((self.y != UNLABELLED).all())

    @cached_property
    def digest(self) -> str:
        """sha256 over every value, label, subject and split, hexadecimal: equal for equal recordings."""
        found = sha256()
        for m in self.modalities:
            found.update(repr(m).encode())
            found.update(self.scale[m.name].tobytes())
            raw = self.raw[m.name]
            found.update(raw.dtype.str.encode())
            for part in chunks(len(raw), m.length * m.n_channels):
                found.update(np.ascontiguousarray(raw[part]).data)
        for values in (self.y, self.subject, self.split):
            found.update(values.tobytes())
        return found.hexdigest()

    def subject_names(self, indices: NDArray[np.integer[Any]]) -> list[str | int] | None:
        """Whom windows are of, as the recording calls them; `None` where it does not say.

        Args:
            indices: positions of the windows, `(n,)`.
        """
        if not self.knows_subject:
            return None
        found: list[int] = self.subject[indices].tolist()
        return [*found] if self.people is None else [self.people[number] for number in found]

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
        return replace(self, split=checked_split(self.name, np.asarray(split), self.subject, self.people))


def make_windows(
    name: str,
    modalities: Sequence[Modality],
    *,
    raw: Mapping[str, NDArray[Any]],
    y: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    subject: ArrayLike | None = None,
    scale: Mapping[str, ArrayLike] | None = None,
    split: ArrayLike | None = None,
    licence: str | None = None,
    target: Target = CLASSES,
    faults: Faults | None = None,
) -> Windows:
    """Check arrays against each other and put them together; the only place where `Windows` begin.

    Everything that is wrong is told in one error.

    Args:
        name: short name of the recording, used in messages.
        modalities: every sensor, in order, with the length and channels its array must have.
        raw: modality -> `(N, T, C)`, real numbers; what is not int8, int16, float16 or float32 becomes one of
            them. NaN only where `may_miss`, or in all of a window, which then lacks the sensor.
        y: class of each window, `(N,)`, integers 0..K-1 or names; numbers of a regression `(N,)` or
            `(N, K)`; 0 and 1 of several labels `(N, K)`; `None` = no labels, for windows that are only
            predicted.
        classes: K different names; `None` takes the labels that occur, and of numbers "value" or "label".
        subject: `(N,)`, integers or names; `None` = not known, and nothing can be trained on it.
        scale: modality -> scalar or `(C,)`, positive; 1 where not given.
        split: `(N,)`; 0 train, 1 validation, 2 test, or those words; `None` splits by subject with a fixed
            seed. Without labels, or of fewer than three subjects, all is test.
        licence: of the recording.
        target: what `y` is; of a regression with its unit.
        faults: what was found wrong before, to be told together.

    Returns:
        The windows, with the natural presence found by looking at every value.

    Raises:
        DataError: anything that does not fit; the message names it.
    """
    faults = faults or Faults(name)
    with faults.noted():
        if modalities or not faults.any:  # none is left where all have faults of their own
            check_names(name, [m.name for m in modalities])
    n = _count(name, y, raw, faults)
    names = tuple(str(c) for c in classes or ())
    labels: NDArray[Any] = np.full(n, UNLABELLED, dtype=np.int64)
    if not target.of_classes:
        labels = np.full((n, len(names)), np.nan, dtype=np.float32)
    if y is not None:
        with faults.noted():
            if target.of_classes:
                labels, names = labels_of(name, np.asarray(y), classes)
            else:
                labels, names = numbers_of(name, np.asarray(y), classes, target)
    subjects, people, known = np.zeros(n, dtype=np.int64), None, False
    if subject is not None:
        with faults.noted():
            found, people = people_of(name, np.asarray(subject))
            if len(found) != n:
                raise DataError(
                    f"{name}: subject has {len(found)} entries but {'x' if y is None else 'y'} has {n}; make "
                    "them equal"
                )
            subjects, known = found, True
    values, scales = {}, {}
    present = np.ones((n, len(modalities)), dtype=bool)
    for column, m in enumerate(modalities):
        with faults.noted():
            if m.name not in raw:
                raise DataError(
                    f"{name} names the modality {m.name!r} but has no array for it; add it or leave the name "
                    "out"
                )
            values[m.name] = values_of(name, f"x_{m.name}", np.asarray(raw[m.name]))
            check_shape(name, m, values[m.name], n)
            scales[m.name] = checked_scale(name, m, (scale or {}).get(m.name, 1.0))
            present[:, column] = scan(name, m, values[m.name], scales[m.name])
    dealt = np.full(n, SPLITS.index("test"), dtype=np.int8)
    with faults.noted():
        if split is not None:
            given = split_of(name, np.asarray(split))
            dealt = checked_split(name, given, subjects if known else None, people)
            if len(dealt) != n:
                raise DataError(
                    f"{name}: split has {len(dealt)} entries, there are {n} windows; give one each"
                )
        elif y is not None and len(np.unique(subjects)) >= LEAST_SUBJECTS:
            dealt = split_by_subject(subjects, seed=0)
    faults.raise_all()
    return Windows(
        name=name,
        modalities=tuple(modalities),
        raw=values,
        scale=scales,
        y=labels,
        classes=names,
        subject=subjects,
        split=dealt,
        present=present,
        licence=licence,
        people=people,
        knows_subject=known,
        target=target,
    )


def _count(name: str, y: ArrayLike | None, raw: Mapping[str, NDArray[Any]], faults: Faults) -> int:
    """How many windows there are: as many as labels, or as the first sensor has."""
    lengths = [len(x) for x in (*([] if y is None else [np.asarray(y)]), *raw.values()) if np.ndim(x)]
    if lengths and lengths[0] == 0:
        with faults.noted():
            raise DataError(
                f"{name} holds no window; {'x' if y is None else 'y'} is empty; give at least one window"
            )
    return lengths[0] if lengths else 0
