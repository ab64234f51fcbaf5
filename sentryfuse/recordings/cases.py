"""What is cut already: `.ts` files of aeon and sktime, and arrays of windows.

A `.ts` file holds one case a line, its channels set apart by colons. The reader is our own sixty lines
because aeon and sktime, which have one, bring numba and pandas with them and pin numpy.

Notation: N cases · T steps · C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.splits import split_by_subject
from sentryfuse.data.windows import SPLITS, Windows
from sentryfuse.data.windows import make_windows as checked_windows
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.progress import say
from sentryfuse.recordings.columns import by_size, word
from sentryfuse.target import CLASSES, Target
from sentryfuse.types import Modality

GROUPS = (8, 2, 5)  # stand-ins for people in train, validation and test
_FIFTH = 0.2  # of the cases of each class
LENGTHS = ("pad", "cut")


@dataclass(frozen=True)
class Cases:
    """Cases of one file.

    Attributes:
        name: of the problem.
        values: each `(T, C)`, T may differ; NaN where not measured.
        labels: of each.
    """

    name: str
    values: list[NDArray[np.float32]]
    labels: list[str]


def read_ts(path: Path) -> Cases:
    """Read a `.ts` file.

    Args:
        path: the file, of the form of aeon and sktime; equal or unequal lengths, `?` for not measured.

    Raises:
        DataError: no such file, one with time stamps or without class labels, or a line that is no case.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; check the name") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {(error.strerror or str(error)).lower()}; check it") from error
    facts: dict[str, str] = {}
    values: list[NDArray[np.float32]] = []
    labels: list[str] = []
    begun = False
    for number, full in enumerate(text.splitlines(), start=1):
        line = full.strip()
        if not line or line.startswith(("#", "%")):
            continue
        if line.startswith("@") and not begun:
            key, _, rest = line[1:].partition(" ")
            facts[key.lower()] = rest.strip()
            begun = key.lower() == "data"
            if begun:
                _check_facts(path, facts)
            continue
        if not begun:
            raise DataError(
                f"{path} is no ts file: line {number} comes before @data; give files of aeon or sktime"
            )
        *channels, label = line.split(":")
        values.append(_case(path, number, channels))
        labels.append(word(label))
    if not begun or not values:
        raise DataError(f"{path} is no ts file or holds no case below @data; give files of aeon or sktime")
    widths = {v.shape[1] for v in values}
    if len(widths) > 1:
        raise DataError(f"{path} has cases of {min(widths)} and of {max(widths)} channels; give all the same")
    return Cases(facts.get("problemname") or path.stem, values, labels)


def make_cases(
    sources: Sequence[Path],
    *,
    lengths: str = "pad",
    rate_hz: float = 1.0,
    sensors: Mapping[str, Sequence[int]] | None = None,
) -> tuple[Windows, list[str]]:
    """Windows from one or two `.ts` files; of two, one is train and one is test.

    Files name no people. Cases of a class are dealt in the order of the file: the last fifth of the training
    cases validates, and groups of neighbours stand for people, so that folds of people can be made.

    Args:
        sources: NAME_TRAIN.ts and NAME_TEST.ts, in any order; or one file.
        lengths: of unequal cases: `pad` with NaN to the longest, or `cut` to the shortest.
        rate_hz: of the channels, which the files do not say [Hz].
        sensors: sensor -> its channels, from 0 on; one sensor of all when not given.

    Returns:
        The windows, and what a user should know, a sentence each.

    Raises:
        DataError: a file that cannot be read, or two that do not belong together.
        ConfigError: an unknown rule, or channels that are not there.
    """
    if lengths not in LENGTHS:
        raise ConfigError(f"lengths {lengths!r} is unknown; use pad or cut")
    if len(sources) > 2:
        raise DataError(
            f"{len(sources)} ts files were given; give NAME_TRAIN.ts and NAME_TEST.ts, or one file"
        )
    ordered = sorted(sources, key=lambda p: "test" in p.stem.lower())
    if len(ordered) == 2 and ("test" in ordered[0].stem.lower()) == ("test" in ordered[1].stem.lower()):
        raise DataError(
            f"{ordered[0].name} and {ordered[1].name}: one of two ts files must have TEST in its name; "
            "rename it"
        )
    files = [read_ts(path) for path in ordered]
    if len({f.values[0].shape[1] for f in files}) > 1:
        raise DataError(
            f"{ordered[0]} and {ordered[1]} have different numbers of channels; give two of one problem"
        )
    values = [v for f in files for v in f.values]
    steps = [len(v) for v in values]
    x, said = _even(values, steps, lengths)
    names = sorted({label for f in files for label in f.labels}, key=by_size)
    y = np.array([names.index(label) for f in files for label in f.labels])
    given = np.repeat([0, 2], [len(f.values) for f in files]) if len(files) == 2 else None
    split, subject = by_neighbours(y, given)
    said.append("the files name no people: groups of neighbouring cases stand for them, for folds")
    if rate_hz == 1.0:
        said.append("the files say no rate: 1 step a second is written; give rate_hz for the true one")
    modalities, raw = _divided(x, rate_hz, sensors)
    title = ordered[0].stem.replace("_TRAIN", "").replace("_TEST", "")
    windows = checked_windows(title, modalities, raw=raw, y=y, classes=names, subject=subject, split=split)
    return windows, said


def _check_facts(path: Path, facts: Mapping[str, str]) -> None:
    if facts.get("timestamps", "false").lower().startswith("true"):
        raise DataError(
            f"{path} has time stamps in its cases, which are not read; write it without (@timeStamps false)"
        )
    said = facts.get("classlabel", facts.get("targetlabel", "")).lower()
    if "targetlabel" in facts and said.startswith("true"):
        raise DataError(f"{path} has targets of a regression, not classes; give a file with @classLabel true")
    if not said.startswith("true"):
        raise DataError(
            f"{path} has no class labels (@classLabel true and their names); give a file that has"
        )


def _case(path: Path, number: int, channels: Sequence[str]) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # too large for float32 is infinite, which is refused later
            rows = [
                np.array(
                    [np.nan if c.strip() in ("?", "NaN", "") else float(c) for c in cells.split(",")],
                    np.float32,
                )
                for cells in channels
            ]
    except ValueError as error:
        raise DataError(f"{path} line {number}: {str(error)[:80]}; mend that case or take it out") from error
    if not rows or not len(rows[0]):
        raise DataError(
            f"{path} line {number} holds no channel before its label; mend that case or take it out"
        )
    longest = max(map(len, rows))
    case = np.full((longest, len(rows)), np.nan, np.float32)
    for c, row in enumerate(rows):
        case[: len(row), c] = row
    return case


def _even(
    values: Sequence[NDArray[np.float32]], steps: Sequence[int], lengths: str
) -> tuple[NDArray[np.float32], list[str]]:
    shortest, longest = min(steps), max(steps)
    length = longest if lengths == "pad" else shortest
    x = np.full((len(values), length, values[0].shape[1]), np.nan, np.float32)
    for i, value in enumerate(values):
        x[i, : min(len(value), length)] = value[:length]
    if shortest == longest:
        return x, []
    how = f"padded with NaN to {longest}" if lengths == "pad" else f"cut to {shortest}"
    return x, [f"cases have {shortest} to {longest} steps: {how}"]


def windows_of_arrays(
    arrays: Mapping[str, NDArray[Any]],
    *,
    name: str,
    rates: Mapping[str, float | None],
    channels: Mapping[str, Sequence[str]],
    label: Any,
    subject: Any,
    split: Any,
    axes: str | None,
    seed: int,
    target: Target = CLASSES,
) -> Windows:
    """Windows that somebody else has cut.

    Args:
        arrays: sensor -> `(N, T, C)`, or `(N, C, T)` if `axes` says so.
        name: of the recording.
        rates: sensor -> samples per second [Hz].
        channels: sensor -> names; c0, c1, ... where empty.
        label: of each window, `(N,)`, names or numbers; what a regression or several labels at once are
            learned from, `(N,)` or `(N, K)`.
        subject: whom each is of, `(N,)`; `None` where nobody knows.
        split: `(N,)` of 0, 1, 2; or "train", "validation", "test" -> subjects; `None` draws by subject, and
            where there are fewer than three takes neighbours of a class apart.
        axes: "NTC", "NCT" or `None`.
        seed: of the draw.
        target: what `label` is.

    Raises:
        DataError: arrays that do not fit each other.
        ConfigError: a rate that is missing, or axes that are unknown.
    """
    modalities, raw = [], {}
    for key, array in arrays.items():
        values = _checked_axes(key, array, axes)
        if values.dtype.kind not in "iufb":
            raise DataError(f"{name}: {key} is {values.dtype}; give numbers")
        values = np.array(values, np.float32)
        values[np.isinf(values)] = np.nan
        rate = rates[key]
        if rate is None:
            raise ConfigError(f"the rate of {key} is missing; give rate_hz")
        columns = tuple(channels[key] or [f"c{i}" for i in range(values.shape[2])])
        modalities.append(Modality(key, float(rate), values.shape[1], columns, bool(np.isnan(values).any())))
        raw[key] = values
    n = len(next(iter(raw.values())))
    labels = [word(value) for value in np.asarray(label).reshape(-1).tolist()] if target.of_classes else None
    people = [""] * n if subject is None else [word(v) for v in np.asarray(subject).reshape(-1).tolist()]
    told = np.asarray(label) if labels is None else labels
    for key, entries in (("label", told), ("subject", people)):
        if len(entries) != n:
            raise DataError(
                f"{name}: {key} has {len(entries)} entries but there are {n} windows; give one each"
            )
    if labels is not None and not all(labels):
        raise DataError(
            f"{name}: {labels.count('')} windows have no label; take them out, or name a class for them"
        )
    classes = None if labels is None else sorted(set(labels), key=by_size)
    y = (
        np.zeros(n, np.int64)
        if classes is None
        else np.array([classes.index(t) for t in labels or ()], np.int64)
    )
    names = sorted(set(people), key=by_size)
    who = np.array([names.index(p) for p in people], np.int64)
    if isinstance(split, Mapping):
        dealt = np.array([_place_of(names, split)[p] for p in people])
    elif split is not None:
        dealt = np.asarray(split)
    elif len(names) > 2:
        dealt = split_by_subject(who, seed=seed)
    else:
        say(f"{name} has fewer than three subjects: neighbouring windows of a class are kept apart instead")
        dealt, who = by_neighbours(y)
    return checked_windows(
        name, modalities, raw=raw, y=told if labels is None else y, classes=classes, subject=who, split=dealt,
        target=target,
    )  # fmt: skip


def _place_of(names: Sequence[str], split: Mapping[str, Sequence[Any]]) -> dict[str, int]:
    found = {word(p): k for k, key in enumerate(SPLITS) for p in split.get(key, [])}
    lacking = [p for p in names if p not in found]
    if lacking:
        raise DataError(
            f"split does not say where subject {lacking[0]!r} goes ({len(lacking)} such); name all"
        )
    return found


def by_neighbours(
    y: NDArray[np.int64], split: NDArray[np.integer[Any]] | None = None
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Splits and stand-ins for people, where nothing names any: neighbours of a class are taken for alike.

    Args:
        y: class of each window, `(N,)`, in the order of the file.
        split: what is known, `(N,)`, 0 train, 1 validation, 2 test; the last fifth of the training windows of
            a class validates where none does. `None` takes the last fifth of each class for the test first.

    Returns:
        Split and subject, `(N,)` each; no subject is in two splits.
    """
    dealt = np.zeros(len(y), np.int8) if split is None else np.asarray(split).astype(np.int8)
    if split is None:
        _last_fifth(y, dealt, 2)
    if not (dealt == 1).any():
        _last_fifth(y, dealt, 1)
    subject = np.zeros(len(y), np.int64)
    for s, groups in enumerate(GROUPS):
        for k in np.unique(y):
            mine = np.flatnonzero((y == k) & (dealt == s))
            subject[mine] = sum(GROUPS[:s]) + np.arange(len(mine)) * groups // max(1, len(mine))
    return dealt, subject


def _last_fifth(y: NDArray[np.int64], split: NDArray[np.int8], to: int) -> None:
    for k in np.unique(y):
        mine = np.flatnonzero((y == k) & (split == 0))
        if len(mine) > 1:
            split[mine[len(mine) - max(1, round(_FIFTH * len(mine))) :]] = to


def _divided(
    x: NDArray[np.float32], rate_hz: float, sensors: Mapping[str, Sequence[int]] | None
) -> tuple[list[Modality], dict[str, NDArray[np.float32]]]:
    chosen = sensors or {"series": range(x.shape[2])}
    modalities, raw = [], {}
    for name, places in chosen.items():
        wrong = [p for p in places if not 0 <= p < x.shape[2]]
        if wrong or not len(places):
            raise ConfigError(
                f"sensor {name!r} asks for channel {wrong[0] if wrong else '?'}; there are 0 to "
                f"{x.shape[2] - 1}"
            )
        part = np.ascontiguousarray(x[:, :, list(places)])
        raw[name] = part
        channels = tuple(f"c{p}" for p in places)
        modalities.append(Modality(name, rate_hz, x.shape[1], channels, bool(np.isnan(part).any())))
    return modalities, raw


def _checked_axes(name: str, values: NDArray[Any], axes: str | None) -> NDArray[Any]:
    """Arrays of windows as `(N, T, C)`.

    Args:
        name: of the sensor.
        values: `(N, T, C)`, or `(N, C, T)` if `axes` says so; `(N, T)` for one channel.
        axes: "NTC", "NCT" or `None`.

    Raises:
        DataError: more channels than steps, and nobody said that this is meant.
    """
    if axes not in (None, "NTC", "NCT"):
        raise ConfigError(f"axes {axes!r} is unknown; say NTC (windows, steps, channels) or NCT")
    if axes == "NCT":
        return np.swapaxes(values, 1, 2)
    if axes is None and values.shape[2] > values.shape[1]:
        raise DataError(
            f"{name} has shape {values.shape}, which would be {values.shape[1]} steps of {values.shape[2]} "
            "channels; say "
            'axes="NTC" if that is so, or axes="NCT" if channels come before steps'
        )
    return values
