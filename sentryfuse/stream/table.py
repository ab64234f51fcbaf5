"""Samples in a CSV file: a column `time_s`, and `<modality>.<channel>` for each channel.

A row holds the sensors that were sampled at its time; the cells of the others stay empty, so each
sensor keeps its own rate. Single empty cells of a sensor, or `nan`, are "not measured".
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import DataError
from sentryfuse.types import Modality

MAX_BYTES = 1_000_000_000
TIME = "time_s"
_LONGEST_HEADER = 1_000_000


def read_csv(
    path: Path, modalities: Sequence[Modality]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float32]]]:
    """Read the samples of each sensor.

    Args:
        path: the file; comma separated, one header line, UTF-8.
        modalities: the sensors asked for; the file may lack some but has no others.

    Returns:
        Modality -> times `(n,)` [s], ascending, and values `(n, C)`; only those that have a sample.

    Raises:
        DataError: no such file, too large, not such a table, unknown or lacking columns, times
            that do not rise.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}; check the name")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} has {path.stat().st_size} bytes, more than the limit {MAX_BYTES}; split it")
    try:
        with path.open(encoding="utf-8-sig") as stream:
            header = [cell.strip() for cell in stream.readline(_LONGEST_HEADER).split(",")]
            columns = _columns(path, header, modalities)
            with warnings.catch_warnings(action="ignore"):  # of an empty table, which is judged below
                table = np.loadtxt(stream, delimiter=",", ndmin=2, comments=None, converters=_number)
    except (ValueError, OSError) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise DataError(f"{path} is not a table of numbers ({reason}); see docs/streams.md") from None
    if table.size and table.shape[1] != len(header):
        raise DataError(f"{path} has {len(header)} columns in its header but {table.shape[1]} below; mend it")
    found = {}
    for name, places in columns.items():
        values = table[:, places].astype(np.float32) if table.size else np.empty((0, len(places)), np.float32)
        rows = ~np.isnan(values).all(axis=1)
        times = table[rows, header.index(TIME)] if table.size else np.empty(0)
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise DataError(
                f"{path}: {TIME} of {name} must be finite and rise from row to row; sort the file"
            )
        if len(times):
            found[name] = (times, values[rows])
    if not found:
        raise DataError(f"{path} holds no sample of {', '.join(m.name for m in modalities)}; check the file")
    return found


def _columns(path: Path, header: Sequence[str], modalities: Sequence[Modality]) -> dict[str, list[int]]:
    """Where the channels of each sensor are."""
    known = {f"{m.name}.{channel}": m.name for m in modalities for channel in m.channels}
    unknown = [cell for cell in header if cell != TIME and cell not in known]
    if TIME not in header or unknown or len(set(header)) < len(header):
        what = f"an unknown column {unknown[0]!r}" if unknown else f"no column {TIME}, or one twice"
        raise DataError(f"{path} has {what}; asked for are {TIME}, {', '.join(known)}")
    places = {}
    for m in modalities:
        wanted = [f"{m.name}.{channel}" for channel in m.channels]
        lacking = [cell for cell in wanted if cell not in header]
        if lacking and len(lacking) < len(wanted):
            raise DataError(f"{path} lacks the column {lacking[0]!r}; add it or leave {m.name} out")
        if not lacking:
            places[m.name] = [header.index(cell) for cell in wanted]
    return places


def _number(cell: str) -> float:
    return float(cell) if cell.strip() else np.nan
