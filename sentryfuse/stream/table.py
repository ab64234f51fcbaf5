"""Samples in a CSV file: a column of times, and `<modality>.<channel>` for each channel.

A row holds the sensors that were sampled at its time; the cells of the others stay empty, so each
sensor keeps its own rate. Single empty cells of a sensor, or `nan`, `NA`, `null`, are "not measured".
What loggers write differently and means one thing only is read; what may mean two things is refused.
"""

from __future__ import annotations

import csv
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import DataError
from sentryfuse.stream.stamps import in_seconds, stamp_of, time_column
from sentryfuse.types import Modality

MAX_BYTES = 1_000_000_000
TIME = "time_s"
_LONGEST_HEADER = 1_000_000
_LOOK = 65_536  # bytes that tell how a file is encoded
_NOTHING = {"", "na", "n/a", "nan", "null", "none", "nil", "-", "?"}
_log = logging.getLogger("sentryfuse.runtime")

Columns = dict[str, tuple[NDArray[np.float64], NDArray[np.float32]]]


def read_csv(path: Path, modalities: Sequence[Modality], *, time: str | None = None) -> Columns:
    """Read the samples of each sensor.

    Args:
        path: the file; separated by commas, semicolons, tabs or bars, a line of names first (maybe after
            lines that begin with #), UTF-8, UTF-16 with its mark, or Latin-1.
        modalities: the sensors asked for; the file may lack some but has no others.
        time: name of the column of times, maybe with `:s`, `:ms`, `:us` or `:ns`; `None` finds it.

    Returns:
        Modality -> times `(n,)` [s], ascending, and values `(n, C)`; only those that have a sample.

    Raises:
        DataError: no such file, too large, not such a table, unknown or lacking columns, times that do
            not rise or whose unit cannot be told.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}; check the name")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} has {path.stat().st_size} bytes, more than the limit {MAX_BYTES}; split it")
    try:
        with path.open(encoding=_encoding(path), newline="") as stream:
            header, delimiter = _header(stream, modalities)
            stamps, unit = time_column(path, header, time)
            columns = _columns(path, header, modalities, stamps)
            table = _numbers(stream, header, delimiter, stamps, columns)
    except (ValueError, OSError, csv.Error) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        if "converter specified" in reason:  # numpy's way to say that the first row is shorter
            reason = f"fewer columns than the {len(header)} of its header"
        raise DataError(f"{path} is not a table of numbers ({reason}); see docs/streams.md") from None
    if table.size and table.shape[1] != len(header):
        raise DataError(f"{path} has {len(header)} columns in its header but {table.shape[1]} below; mend it")
    found: Columns = {}
    for m in modalities:
        if m.name not in columns or not table.size:
            continue
        with np.errstate(over="ignore"):  # too large for float32 is infinite, which is judged later
            values = table[:, columns[m.name]].astype(np.float32)
        rows = ~np.isnan(values).all(axis=1)
        if rows.any():
            found[m.name] = table[rows, stamps], values[rows]
    if not found:
        raise DataError(f"{path} holds no sample of {', '.join(m.name for m in modalities)}; check the file")
    known = {m.name: m for m in modalities}
    fastest = max(found, key=lambda name: known[name].rate_hz)
    factor = in_seconds(path, header[stamps], unit, found[fastest][0], known[fastest].rate_hz)
    return {
        name: _rising(path, known[name], times * factor, values) for name, (times, values) in found.items()
    }


def _encoding(path: Path) -> str:
    """How the text is written, by its mark or its first bytes."""
    with path.open("rb") as stream:
        first = stream.read(_LOOK)
    if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if first[1:64:2].count(0) > 16:  # every other byte of plain text is 0
        return "utf-16-le"
    try:
        first.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(first) - 4:  # not merely cut in the middle of a letter
            return "latin-1"
    return "utf-8-sig"


def _header(stream: TextIO, modalities: Sequence[Modality]) -> tuple[list[str], str]:
    """Names of the columns and what separates them; the stream then stands at the first row."""
    known = {_plain(name) for m in modalities for name in _names(m)}
    while line := stream.readline(_LONGEST_HEADER):
        text = line.strip("\r\n\ufeff")
        if re.fullmatch(r"sep=.", text):
            continue
        cells, delimiter = _split(text.lstrip("# ") if text.startswith("#") else text)
        if not text.startswith("#") and text.strip():
            return cells, delimiter
        if known & {_plain(cell) for cell in cells}:  # numpy writes its header as a comment
            return cells, delimiter
    return [], ","


def _split(text: str) -> tuple[list[str], str]:
    """Cells of a header by the separator that gives most."""
    found = [([c.strip() for c in next(csv.reader([text], delimiter=d), [])], d) for d in ",;\t|"]
    return max(found, key=lambda pair: len(pair[0]))


def _names(modality: Modality) -> list[str]:
    return [f"{modality.name}.{channel}" for channel in modality.channels]


def _plain(name: str) -> str:
    """A name without what loggers write differently: `Acc_X`, `acc/x` and `acc.x` are one."""
    return re.sub(r"[\s_./:\\-]+", ".", name.strip().lower())


def _columns(
    path: Path, header: Sequence[str], modalities: Sequence[Modality], stamps: int
) -> dict[str, list[int]]:
    """Where the channels of each sensor are; columns of no sensor (labels, notes) are left out and named."""
    if len(set(header)) < len(header):
        twice = next(cell for cell in header if header.count(cell) > 1)
        raise DataError(f"{path} has the column {twice[:60]!r} twice; name each once")
    wanted = {m.name: _names(m) for m in modalities}
    alone = {
        m.name for m in modalities if m.n_channels == 1
    }  # a sensor of one channel may go by its own name
    loose: dict[str, list[int]] = {}
    for place, cell in enumerate(header):
        loose.setdefault(_plain(cell), []).append(place)

    def find(name: str) -> int | None:
        if name in header:
            return header.index(name)
        places = loose.get(_plain(name), [])
        return places[0] if len(places) == 1 else None

    found: dict[str, list[int]] = {}
    for name, cells in wanted.items():
        places = [find(cell) for cell in cells]
        if name in alone and places == [None]:
            places = [find(name)]
        lacking = [cell for cell, place in zip(cells, places, strict=True) if place is None]
        if lacking and len(lacking) < len(cells):
            raise DataError(f"{path} lacks the column {lacking[0]!r}; add it or leave {name} out")
        if not lacking:
            found[name] = [place for place in places if place is not None]
    used = {stamps, *(place for places in found.values() for place in places)}
    others = [cell for place, cell in enumerate(header) if place not in used]
    sensors = {_plain(m.name) for m in modalities}
    for cell in others:
        if "." in cell.strip(".") or any(_plain(cell).startswith(f"{name}.") for name in sensors):
            asked = ", ".join(name for names in wanted.values() for name in names)
            raise DataError(f"{path} has an unknown column {cell[:60]!r}; asked for are {TIME}, {asked}")
    if others and found:
        _log.warning("%s: columns of no sensor are left out: %s", path, ", ".join(others)[:200])
    return found


def _numbers(
    stream: TextIO, header: Sequence[str], delimiter: str, stamps: int, columns: dict[str, list[int]]
) -> NDArray[np.float64]:
    """All rows, `(n, columns)`; columns of no sensor are NaN."""
    used = {place for places in columns.values() for place in places}
    comma = delimiter != ","

    def number(cell: str) -> float:
        cell = cell.strip()
        if cell.lower() in _NOTHING:
            return np.nan
        return float(cell.replace(",", ".") if comma and cell.count(",") == 1 and "." not in cell else cell)

    def when(cell: str) -> float:
        try:
            return number(cell)
        except ValueError:
            return stamp_of(cell)

    converters: dict[int | str, Callable[[str], Any]] = {
        place: when if place == stamps else number if place in used else (lambda cell: np.nan)
        for place in range(len(header))
    }
    rows = (line for line in stream if line.strip() and not line.startswith("#"))
    with warnings.catch_warnings(action="ignore"):  # of an empty table, which is judged by the caller
        table: NDArray[np.float64] = np.loadtxt(
            rows,
            delimiter=delimiter,
            ndmin=2,
            comments=None,
            quotechar='"',
            converters=converters,
            encoding=None,  # text to converters, as newer numpy does
        )
    return table


def _rising(
    path: Path, modality: Modality, times: NDArray[np.float64], values: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Times of one sensor, each later than the one before."""
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise DataError(
            f"{path}: the times of {modality.name} must be finite and rise from row to row; sort the file"
        )
    again = np.zeros(len(times), bool)  # rows written twice say nothing new
    again[1:] = (np.diff(times) == 0) & (values[1:] == values[:-1]).all(axis=1)
    times, values = times[~again], values[~again]
    first = np.flatnonzero(np.diff(times, prepend=-np.inf) > 0)
    if len(first) == len(times):
        return times, values
    count = np.diff(first, append=len(times))
    if modality.rate_hz <= 0:
        last = first + count - 1
        return times[last], values[last]
    # times told too coarsely: the samples that share one lie evenly up to the next
    starts = times[first]
    period = 1 / modality.rate_hz
    room = np.minimum(np.diff(starts, append=np.inf), count * period)
    inside = np.arange(len(times)) - np.repeat(first, count)
    spread = np.repeat(starts, count) + inside * np.repeat(room / count, count)
    if (np.diff(spread) <= 0).any():
        raise DataError(f"{path}: the times of {modality.name} do not rise from row to row; sort the file")
    return spread, values
