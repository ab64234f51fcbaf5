"""The interchange layout: one npz file with a window per row, each modality at its own rate.

| key | meaning |
| --- | --- |
| `modalities` (M,) text | names, in order |
| `x_<m>` (N, T, C) or (N, T) | real numbers; kept as int8, int16, float16 or float32 |
| `rate_<m>` | sampling rate [Hz]; 0 = static, one step |
| `scale_<m>` scalar or (C,), optional | physical value = `x_<m>` * scale; 1 |
| `channels_<m>` (C,) text, optional | channel names; c0, c1, ... |
| `missing_<m>` bool, optional | NaN in part of a window means "not measured"; True for float16 |
| `y` (N,) integer or text | label; may lack in what is only predicted |
| `classes` (K,) text, optional | names of the labels; those that occur |
| `task` text, optional | classification, regression (`y` (N,) or (N, K) numbers), multilabel (0 and 1) |
| `unit` text, optional | of the numbers of a regression |
| `subject` (N,) integer or text | what train and test must not share; may lack in what is only predicted |
| `split` (N,) integer or text, optional | 0 train, 1 validation, 2 test; by subject with a fixed seed |
| `licence` text, optional | of the recording |

A window whose values of a modality are all NaN lacks that modality. Other keys are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.archive import SMALL, Archive, max_bytes_asked
from sentryfuse.data.checks import check_count, check_lengths, check_names
from sentryfuse.data.describe import describe
from sentryfuse.data.faults import Faults
from sentryfuse.data.forms import check_axes, texts_of, values_of
from sentryfuse.data.windows import Windows, make_windows
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.files import write_atomically
from sentryfuse.target import CLASSES, Target
from sentryfuse.types import Modality

__all__ = ["Windows", "describe", "load_windows", "make_windows", "save_windows"]

WIDEST_ROW = 65_536  # of a label or a name, in a file where they are not small [bytes]


def load_windows(
    path: str | os.PathLike[str], *, name: str | None = None, max_bytes: int | None = None
) -> Windows:
    """Read a recording and check all of it before anything is made of it.

    Everything that is wrong is told in one error.

    Args:
        path: npz file in the layout of this module.
        name: short name; the file's stem if not given.
        max_bytes: largest uncompressed size [bytes], read from the headers before anything is
            allocated; `None` = 16 GB, or what the environment variable SENTRYFUSE_MAX_GB says.

    Returns:
        The windows, as stored.

    Raises:
        DataError: the file is missing, damaged, too large or breaks the layout; the message says
            where.
        ConfigError: SENTRYFUSE_MAX_GB is not a positive number.
    """
    path = Path(path)
    title = path.stem if name is None else name
    with Archive(path, max_bytes=max_bytes_asked() if max_bytes is None else max_bytes) as archive:
        names = _texts(title, "modalities", archive.read_small("modalities"))
        check_names(title, names)
        faults = Faults(title)
        n, rows = _rows(title, archive, names, faults)
        modalities = []
        raw: dict[str, NDArray[Any]] = {}
        scale: dict[str, NDArray[Any]] = {}
        for modality_name in names:
            with faults.noted():
                modality, raw[modality_name] = _read_modality(title, archive, modality_name, n)
                modalities.append(modality)
                if f"scale_{modality_name}" in archive:
                    scale[modality_name] = archive.read_small(f"scale_{modality_name}")
        classes = None
        if "classes" in archive:
            with faults.noted():
                classes = _texts(title, "classes", archive.read_small("classes"))
        target = CLASSES
        if "task" in archive:
            with faults.noted():
                target = _target(title, archive)
        licence = None
        if "licence" in archive:
            lines = _texts(title, "licence", np.atleast_1d(archive.read_small("licence")))
            licence = " ".join(" ".join(lines).split())
        return make_windows(
            title,
            modalities,
            raw=raw,
            scale=scale,
            classes=classes,
            licence=licence,
            target=target,
            faults=faults,
            **{key: archive.read(key) for key in rows},
        )


def save_windows(path: str | os.PathLike[str], windows: Windows) -> None:
    """Write a recording in the same layout, as stored; never half a file.

    Standardisation by subject is a way of reading and is not written.

    Args:
        path: npz file to make or replace.
        windows: what to write.

    Raises:
        InputError: the system refuses to write.
    """
    arrays: dict[str, NDArray[Any]] = {
        "modalities": np.array(windows.names, dtype=np.str_),
        "split": windows.split,
    }
    if windows.labelled:
        arrays["y"] = windows.y
    if not windows.target.of_classes:
        arrays["task"] = np.array(windows.target.task, dtype=np.str_)
        if windows.target.unit:
            arrays["unit"] = np.array(windows.target.unit, dtype=np.str_)
    if windows.classes:
        arrays["classes"] = np.array(windows.classes, dtype=np.str_)
    if windows.knows_subject:
        who = windows.subject if windows.people is None else np.array(windows.people)[windows.subject]
        arrays["subject"] = who
    for m in windows.modalities:
        arrays[f"x_{m.name}"] = windows.raw[m.name]
        arrays[f"scale_{m.name}"] = windows.scale[m.name]
        arrays[f"rate_{m.name}"] = np.array(m.rate_hz, dtype=np.float64)
        arrays[f"channels_{m.name}"] = np.array(m.channels, dtype=np.str_)
        arrays[f"missing_{m.name}"] = np.array(m.may_miss)
    if windows.licence is not None:
        arrays["licence"] = np.array(windows.licence, dtype=np.str_)
    with write_atomically(Path(path)) as draft, draft.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def _rows(title: str, archive: Archive, names: Sequence[str], faults: Faults) -> tuple[int, list[str]]:
    """How many windows there are by the headers, and which arrays of one row a window may be read.

    What is small is read and judged later, together with the rest.
    """
    forms = [archive.form(f"x_{name}") for name in names if f"x_{name}" in archive]
    n = next((form.shape[0] for form in forms if form.shape), 0)
    found = []
    for key in ("y", "subject", "split"):
        if key not in archive:
            continue
        form = archive.form(key)
        if form.n_bytes > SMALL and (form.shape[:1] != (n,) or form.n_bytes > WIDEST_ROW * n):
            with faults.noted():
                raise DataError(
                    f"{title}: {key} has shape {form.shape} of {form.dtype.itemsize} bytes each, but there "
                    f"are {n} windows; give one entry per window"
                )
            continue
        found.append(key)
        if key == "y" and form.shape:
            n = form.shape[0]
    return n, found


def _read_modality(title: str, archive: Archive, name: str, n: int) -> tuple[Modality, NDArray[Any]]:
    for key in (f"x_{name}", f"rate_{name}"):
        if key not in archive:
            raise DataError(
                f"{title} names the modality {name!r} but lacks {key!r}; add it or leave {name!r} out"
            )
    form = archive.form(f"x_{name}")  # all that it says is judged before its values take memory
    dtype = values_of(title, f"x_{name}", np.empty(0, form.dtype)).dtype
    shape = (*form.shape, 1) if len(form.shape) == 2 else form.shape
    if len(shape) != 3:
        raise DataError(f"{title}: x_{name} has shape {shape}; it must be (windows, steps, channels)")
    rate = float(_scalar(title, f"rate_{name}", archive.read_small(f"rate_{name}"), "iuf"))
    named = None
    if f"channels_{name}" in archive:
        named = _texts(title, f"channels_{name}", np.atleast_1d(archive.read_small(f"channels_{name}")))
    if 0 not in shape[1:]:  # of nothing no axis can be told from another
        check_axes(title, name, shape, named, rate)
    check_lengths(title, name, shape)
    channels = named or tuple(f"c{i}" for i in range(shape[2]))
    may_miss = dtype == np.float16  # the layout's own sign
    if f"missing_{name}" in archive:
        may_miss = bool(_scalar(title, f"missing_{name}", archive.read_small(f"missing_{name}"), "b"))
    modality = Modality(name, rate, shape[1], channels, may_miss)
    check_count(title, modality, shape, n)
    values = values_of(title, f"x_{name}", archive.read(f"x_{name}"))
    return modality, values.reshape(shape)


def _target(title: str, archive: Archive) -> Target:
    """What the labels are."""
    words = {}
    for key in ("task", "unit"):
        if key in archive:
            words[key] = " ".join(_texts(title, key, np.atleast_1d(archive.read_small(key))))
    try:
        return Target(cast(Any, words["task"]), words.get("unit", ""))
    except ConfigError as error:
        raise DataError(f"{title}: {error}") from None


def _texts(title: str, key: str, values: NDArray[Any]) -> tuple[str, ...]:
    if values.dtype.kind == "S":
        values = texts_of(title, key, values)
    if values.dtype.kind != "U" or values.ndim != 1:
        raise DataError(
            f"{title}: {key} must be a list of texts, not {values.dtype} {values.shape}; store it so"
        )
    return tuple(str(value) for value in values)


def _scalar(title: str, key: str, values: NDArray[Any], kinds: str) -> Any:
    if values.size != 1 or values.dtype.kind not in kinds:
        raise DataError(
            f"{title}: {key} must be one {'truth value' if kinds == 'b' else 'number'}, not "
            f"{values.dtype} {values.shape}; store it so"
        )
    return values.reshape(()).item()
