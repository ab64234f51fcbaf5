"""npz and npy files of somebody else: arrays that stand for samples or for windows, by their names.

| key (npz) or name of the file (npy) | meaning |
| --- | --- |
| `X`, or any other name | a sensor: samples `(n, C)`, or windows `(N, T, C)` |
| `y`, `label`, `labels`, `target` | labels, names or numbers |
| `subject`, `groups`, `person` | whom they are of |
| `time`, `time_s`, `time_ms`, ... | times of the samples |
| `rate_hz`, `rate`, `fs` | samples per second |
| `split` | 0 train, 1 validation, 2 test, of windows |
| `X_train`, `y_train`, `X_test`, `y_test` | the two splits, each apart |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.archive import Archive, max_bytes_asked, read_npy
from sentryfuse.data.windows import Windows
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.recordings.arrays import make_windows
from sentryfuse.recordings.cases import by_neighbours
from sentryfuse.recordings.names import unit_of

_KEYS = {
    "label": ("y", "label", "labels", "target", "targets"),
    "subject": ("subject", "subjects", "groups", "group", "person", "participant"),
    "rate_hz": ("rate_hz", "rate", "fs", "sampling_rate", "sfreq"),
    "split": ("split",),
}
_TIME = re.compile(r"(time|times|timestamps?|t)(_(s|ms|us|ns))?")
_PART = re.compile(r"(?P<key>.+)_(?P<part>train|test)")


def windows_of_files(
    paths: Sequence[Path],
    *,
    window_s: float | None,
    hop_s: float | None,
    rate_hz: float | None,
    axes: str | None,
) -> tuple[Windows, list[str]]:
    """Windows from arrays in npz or npy files, named as in the table above.

    Args:
        paths: one npz file, or npy files whose names say what they hold.
        window_s: length of a window [s]; needed for samples.
        hop_s: from one window's start to the next [s].
        rate_hz: samples per second [Hz], where no array says it.
        axes: NTC or NCT, of windows.

    Returns:
        The windows, and what a user should know, a sentence each.

    Raises:
        DataError: a file that is damaged or does not hold such arrays.
        ConfigError: something is missing that no array says.
    """
    arrays = _arrays(paths)
    title = paths[0].stem
    if "modalities" in arrays:
        raise DataError(
            f"{paths[0]} holds windows already; use it as it is: sentryfuse train --data {paths[0]}"
        )
    arrays, parts = _joined(arrays, title)
    found: dict[str, Any] = {}
    for role, names in _KEYS.items():
        key = next((k for k in arrays if k.lower() in names), None)
        if key is not None:
            found[role] = arrays.pop(key)
    time = next((k for k in arrays if _TIME.fullmatch(k.lower())), None)
    if time is not None:
        found["time"] = arrays.pop(time)
        found["unit"] = unit_of(time) or "s"
    sensors = {
        ("sensor" if k.lower() in ("x", "data") else k): v
        for k, v in arrays.items()
        if v.dtype.kind in "iufb"
    }
    sensors = {k: v for k, v in sensors.items() if v.ndim > 0}
    if not sensors:
        raise DataError(
            f"{title} holds no array of samples or windows; it has {', '.join(arrays) or 'nothing else'}"
        )
    rate = found.pop("rate_hz", None)
    found["rate_hz"] = rate_hz if rate_hz is not None else None if rate is None else float(np.ravel(rate)[0])
    cut = all(v.ndim == 3 for v in sensors.values())
    split = found.pop("split", parts)
    said = []
    if not cut and split is not None:
        raise DataError(
            f"{title} says splits of samples; splits are of subjects or of windows: leave them out"
        )
    if cut and split is None and "subject" not in found and "label" in found:
        _, y = np.unique(np.asarray(found["label"]), return_inverse=True)
        split, found["subject"] = by_neighbours(y)
        said.append("no array names people: groups of neighbouring windows stand for them")
    elif cut and split is not None and "subject" not in found:
        split, found["subject"] = by_neighbours(
            np.unique(np.asarray(found.get("label")), return_inverse=True)[1], split
        )
        said.append("no array names people: groups of neighbouring windows stand for them")
    if "label" not in found:
        raise ConfigError(f"{title} holds no labels; add an array `y`, one entry for each window or sample")
    made = make_windows(
        sensors,
        window_s=window_s,
        hop_s=hop_s,
        split=split if cut else None,
        axes=axes,
        name=title,
        **found,
    )
    return made, said


def _arrays(paths: Sequence[Path]) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for path in paths:
        if path.suffix.lower() == ".npz":
            if len(paths) > 1:
                raise DataError(
                    f"{len(paths)} files were given, one of them {path.name}; give one npz file alone"
                )
            with Archive(path, max_bytes=max_bytes_asked()) as archive:
                return {key: archive.read(key) for key in archive.names()}
        found[path.stem] = read_npy(path)
    return found


def _joined(
    arrays: dict[str, NDArray[Any]], title: str
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int8] | None]:
    """`X_train` and `X_test` as one `X`, and which part each entry is of."""
    pairs = {m["key"] for m in map(_PART.fullmatch, arrays) if m is not None}
    if not pairs:
        return arrays, None
    joined = {k: v for k, v in arrays.items() if _PART.fullmatch(k) is None}
    counts = set()
    for key in sorted(pairs):
        both = [arrays.get(f"{key}_{part}") for part in ("train", "test")]
        if both[0] is None or both[1] is None:
            raise DataError(f"{title} holds {key}_train or {key}_test but not both; add the other")
        if both[0].shape[1:] != both[1].shape[1:]:
            raise DataError(
                f"{title}: {key}_train is {both[0].shape} and {key}_test {both[1].shape}; make them alike"
            )
        joined[key] = np.concatenate([both[0], both[1]])
        counts.add((len(both[0]), len(both[1])))
    if len(counts) > 1:
        raise DataError(
            f"{title}: arrays of train and test have different lengths; give one entry for each window"
        )
    n_train, n_test = counts.pop()
    return joined, np.repeat(np.array([0, 2], np.int8), [n_train, n_test])
