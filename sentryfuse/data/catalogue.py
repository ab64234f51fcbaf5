"""Recordings known by name, and opening any by name or path."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sentryfuse.data.npz import load_windows
from sentryfuse.data.synthetic import MODALITIES, synthetic_wearable
from sentryfuse.data.windows import Windows
from sentryfuse.errors import DataError

EMBEDDED = "wearable"
TABLES = (".csv", ".tsv", ".parquet", ".ts", ".npy", ".toml")  # `data make` turns them into windows


def list_data() -> list[dict[str, Any]]:
    """Every recording known by name, ready for `json.dumps`.

    Returns:
        For each: `name`, `description`, `licence`, `origin`, `modalities`.
    """
    return [
        {
            "name": EMBEDDED,
            "description": "synthetic: 14 people, 8 activities, 6 body sensors, made from a seed",
            "licence": "Apache-2.0",
            "origin": "embedded",
            "modalities": [asdict(m) for m in MODALITIES],
        }
    ]


def open_data(name_or_path: str | os.PathLike[str]) -> Windows:
    """The windows of a recording known by name, or of a file.

    Args:
        name_or_path: a name of `list_data`, or an npz file; a name wins over a file called the
            same, write `./wearable` for the file.

    Raises:
        DataError: neither a name nor a file, or a file that cannot be used.
    """
    if name_or_path == EMBEDDED:
        return synthetic_wearable()
    path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(entry["name"] for entry in list_data())
        raise DataError(
            f"there is no recording or file {str(name_or_path)!r}; known by name: {known}; "
            "give one of those or the path of an npz file"
        )
    if path.suffix.lower() in TABLES:
        raise DataError(
            f"{path} is a table of samples, not windows; make windows of it first: "
            f"sentryfuse data make {path} --out {path.with_suffix('.npz').name}"
        )
    return load_windows(path)
