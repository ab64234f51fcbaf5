"""What a recording holds, in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.checks import chunks
from sentryfuse.data.learnable import class_counts
from sentryfuse.data.windows import SPLITS, Windows


def describe(windows: Windows) -> dict[str, Any]:
    """What is inside, ready for `json.dumps`.

    Returns:
        `name`, `n_windows`, `task`, `unit`, `modalities` (rate [Hz], length [steps], share of windows without
        it, share of its values not measured), `labelled`, `classes` with counts, `n_subjects` (`None` where
        nobody says whom windows are of), `splits` with windows, subjects and windows of each class,
        `licence`.
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
    known = windows.labelled and bool(windows.classes)
    numbers = windows.target.task == "regression"
    splits = {}
    for word in SPLITS:
        inside = windows.indices(word)
        splits[word] = {
            "n_windows": len(inside),
            "n_subjects": len(np.unique(windows.subject[inside])),
            "classes": _counts(windows, inside) if known else {},
            **({"values": _values(windows, inside)} if known and numbers else {}),
        }
    return {
        "name": windows.name,
        "n_windows": len(windows),
        "modalities": modalities,
        "labelled": known,
        "task": windows.target.task,
        "unit": windows.target.unit,
        "classes": _counts(windows, windows.indices("all")) if known else dict.fromkeys(windows.classes, 0),
        "n_subjects": len(np.unique(windows.subject)) if windows.knows_subject else None,
        "splits": splits,
        "licence": windows.licence,
    }


def _counts(windows: Windows, indices: NDArray[np.intp]) -> dict[str, int]:
    """Windows of each class or with each label; none for numbers."""
    if windows.target.task == "regression":
        return {}
    counts = class_counts(windows, indices)
    return {name: int(count) for name, count in zip(windows.classes, counts, strict=True)}


def _values(windows: Windows, indices: NDArray[np.intp]) -> dict[str, dict[str, float | None]]:
    """Smallest, mean and largest of each number; `None` without windows."""
    found: dict[str, dict[str, float | None]] = {}
    for column, name in enumerate(windows.classes):
        y = windows.y[indices, column]
        numbers = (y.min(), y.mean(), y.max()) if len(y) else (None, None, None)
        found[name] = {
            word: None if number is None else float(number)
            for word, number in zip(("min", "mean", "max"), numbers, strict=True)
        }
    return found
