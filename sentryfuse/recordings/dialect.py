"""How a text table is written: encoding, separator, decimal sign, comments, where the header is.

Every file is looked at by itself, so a folder may hold files of several loggers. What is found is plain
UTF-8 afterwards: `open_clean` gives the bytes of the table alone, whatever the file was.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sentryfuse.errors import DataError

HEAD_BYTES = 1 << 18  # looked at to find out
NULLS = (
    "",
    "NA",
    "N/A",
    "n/a",
    "na",
    "NaN",
    "nan",
    "-nan",
    "NULL",
    "null",
    "Null",
    "None",
    "none",
    "nil",
    "#N/A",
)
SEPARATORS = (",", ";", "\t", "|")
SPACE = " "  # any number of spaces and tabs between two cells
COMMENTS = ("#", "%", "//")
_MARKS = (  # byte order marks, longest first
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)", re.IGNORECASE)
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one text table is written.

    Attributes:
        encoding: name of the encoding.
        mark: bytes of a byte order mark at the start.
        separator: of cells.
        decimal: "." or ",".
        comment: how lines that are no data begin; empty for none.
        skip: lines before the header, comments not counted.
        units: whether a line of units follows the header.
        end: what ends every row beside the line end; mostly empty.
        header: the column names; `c0`, `c1`, ... where the file has none.
        named: whether the file has a header.
    """

    encoding: str
    mark: int
    separator: str
    decimal: str
    comment: str
    skip: int
    units: bool
    end: str
    header: tuple[str, ...]
    named: bool


def is_number(cell: str, decimal: str = ".") -> bool:
    """Whether a cell is a number, written with this decimal sign."""
    cell = cell.strip()
    if decimal == "," and "." not in cell:
        cell = cell.replace(",", ".")
    return _NUMBER.fullmatch(cell) is not None


def find_dialect(path: Path) -> Dialect:
    """Look at the beginning of a text table.

    Args:
        path: the file; also one compressed with gzip (`.gz`).

    Returns:
        How it is written.

    Raises:
        DataError: no such file, nothing in it, not text, or no table in it.
    """
    with _open(path) as stream:
        head = _read(path, stream, HEAD_BYTES)
    if not head.strip():
        raise DataError(f"{path} is empty; leave it out or record it again")
    encoding, mark = _encoding(path, head)
    text = head[mark:].decode(encoding, errors="replace")
    whole = len(head) < HEAD_BYTES
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not whole and len(lines) > 1:
        lines.pop()  # cut in the middle
    comment = next((c for c in COMMENTS if any(line.startswith(c) for line in lines)), "")
    lines = [line for line in lines if line.strip() and not (comment and line.startswith(comment))]
    if not lines:
        raise DataError(f"{path} holds comments only; leave it out or record it again")
    try:
        separator = _separator(path, lines)
        ended = separator != ";" and sum(line.rstrip().endswith(";") for line in lines) > 0.9 * len(lines)
        end = ";" if ended else ""
        rows = [_cells(line.rstrip().removesuffix(";") if ended else line, separator) for line in lines[:300]]
    except csv.Error as error:
        raise DataError(
            f"{path} is no table ({error}); give CSV, TSV, Parquet, npz, npy or ts files"
        ) from None
    width = Counter(len(row) for row in rows[-200:]).most_common(1)[0][0]
    skip = next(i for i, row in enumerate(rows) if len(row) == width)
    body = [row for row in rows[skip:] if len(row) == width]
    decimal = "," if separator != "," and _has_comma_numbers(body) else "."
    named = not any(is_number(cell, decimal) for cell in body[0]) and any(cell.strip() for cell in body[0])
    if not named and skip and (apart := _header_apart(rows[skip - 1], body, decimal)):
        body, named, skip = [apart, *body], True, skip - 1
    units = named and _has_units(body, decimal)
    if named and len(body) == 1 + units:
        raise DataError(f"{path} has a header and no row below it; leave it out or record it again")
    header = [cell.strip().strip('"') for cell in body[0]] if named else []
    header = [cell or f"c{i}" for i, cell in enumerate(header or [""] * width)]
    twice = [cell for cell, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{path} has the column {twice[0]!r} twice; give each column its own name")
    return Dialect(encoding, mark, separator, decimal, comment, skip, units, end, tuple(header), named)


def open_clean(path: Path, dialect: Dialect) -> IO[bytes]:
    """The rows of a text table as UTF-8 bytes: no mark, no comments, no header, no empty line."""
    return io.BufferedReader(_Clean(path, dialect), 1 << 20)


class _Clean(io.RawIOBase):
    """Reads a file block by block and leaves out what is no row."""

    def __init__(self, path: Path, dialect: Dialect) -> None:
        self._path = path
        self._file = _open(path)
        self._file.read(dialect.mark)
        self._dialect = dialect
        self._comment = dialect.comment.encode()
        self._plain = dialect.encoding == "utf-8"
        self._text = None if self._plain else io.TextIOWrapper(self._file, dialect.encoding, errors="replace")
        self._skip = dialect.skip + dialect.named + dialect.units
        self._ready = b""
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill the buffer with the next clean bytes."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not self._ready and not self._ended:
            self._fill()
        size = min(len(view), len(self._ready))
        view[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        """Close the file behind."""
        if not self.closed:
            self._file.close()
        super().close()

    def tell_read(self) -> int:
        """Bytes of the file read so far."""
        return self._file.tell() if not self._file.closed else 0

    def _fill(self) -> None:
        if self._text is not None:
            block = self._text.read(1 << 20).encode()
        else:
            block = _read(self._path, self._file, 1 << 20)
        if not block:
            self._ended = True
            lines = self._rest
            self._rest = b""
            if lines and not lines.endswith(b"\n"):
                lines += b"\n"
        else:
            if b"\r" in block and b"\n" not in block:
                block = block.replace(b"\r", b"\n")
            joined = self._rest + block
            cut = joined.rfind(b"\n") + 1
            lines, self._rest = joined[:cut], joined[cut:]
        if self._skip or self._must_filter(lines):
            lines = self._filtered(lines)
        if self._dialect.end:
            end = self._dialect.end.encode()
            lines = lines.replace(end + b"\n", b"\n").replace(end + b"\r\n", b"\n")
        if self._dialect.separator == SPACE:
            lines = b"".join(b" ".join(line.split()) + b"\n" for line in lines.splitlines())
        self._ready = lines

    def _must_filter(self, lines: bytes) -> bool:
        comment = self._comment
        if b"\n\n" in lines or b"\n\r\n" in lines or lines[:1] in (b"\n", b"\r"):
            return True
        return bool(comment) and (lines.startswith(comment) or b"\n" + comment in lines)

    def _filtered(self, lines: bytes) -> bytes:
        kept = []
        for line in lines.splitlines(keepends=True):
            if not line.strip() or (self._comment and line.startswith(self._comment)):
                continue
            if self._skip:
                self._skip -= 1
                continue
            kept.append(line)
        return b"".join(kept)


def _open(path: Path) -> IO[bytes]:
    try:
        return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; check the name") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {(error.strerror or str(error)).lower()}; check it") from error


def _read(path: Path, stream: IO[bytes], size: int) -> bytes:
    try:
        return stream.read(size)
    except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise DataError(f"cannot read {path}: {str(error).lower()}; give a whole file") from error


def _encoding(path: Path, head: bytes) -> tuple[str, int]:
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name, len(mark)
    zeros = head.count(b"\0")
    if zeros:
        odd = head[1::2].count(b"\0")
        even = zeros - odd
        if max(odd, even) > 0.3 * len(head) and min(odd, even) < 0.05 * len(head):
            return ("utf-16-le" if odd > even else "utf-16-be"), 0
        raise DataError(f"{path} is no text; give CSV, TSV, Parquet, npz, npy or ts files")
    try:
        head[: len(head) - 4].decode("utf-8") if len(head) == HEAD_BYTES else head.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) < HEAD_BYTES or error.start < len(head) - 8:
            return "cp1252", 0  # what spreadsheets of the West write
    return "utf-8", 0


def _separator(path: Path, lines: Sequence[str]) -> str:
    """The separator that cuts most lines into the same number of cells, at least two."""
    best, found = (0.0, 0), ""
    tail = lines[-200:]
    for separator in SEPARATORS:
        # a separator that only ends lines separates nothing
        widths = Counter(len(_without_end(row)) for row in csv.reader(tail, delimiter=separator))
        width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
        if width < 2:
            continue
        # `;` and tabs before commas, which may be decimal signs
        share = count / len(tail) + (0.0 if separator == "," else 0.2)
        if (share, width) > best:
            best, found = (share, width), separator
    if not found and _is_spaced(tail):
        return SPACE
    if not found:
        raise DataError(
            f"{path} is no table: its lines have one cell each; separate cells by comma, semicolon or tab"
        )
    return found


def _without_end(row: list[str]) -> list[str]:
    return row[:-1] if row and not row[-1].strip() else row


def _is_spaced(lines: Sequence[str]) -> bool:
    """Whether lines are numbers set apart by spaces, in columns."""
    rows = [line.split() for line in lines]
    width, count = Counter(map(len, rows)).most_common(1)[0]
    cells = [cell for row in rows for cell in row]
    numeric = sum(is_number(cell) or cell in NULLS for cell in cells)
    return width > 1 and count >= 0.9 * len(rows) and numeric >= 0.5 * len(cells)


def _cells(line: str, separator: str) -> list[str]:
    return line.split() if separator == SPACE else next(csv.reader([line], delimiter=separator))


def _header_apart(cells: Sequence[str], body: Sequence[Sequence[str]], decimal: str) -> list[str]:
    """The header of rows that are a cell wider or narrower, as a last separator makes them; else empty."""
    width = len(body[0])
    if any(is_number(cell, decimal) for cell in cells) or not any(cell.strip() for cell in cells):
        return []
    if len(cells) == width + 1 and not cells[-1].strip():
        return [*cells[:-1]]
    if 2 <= len(cells) == width - 1:
        ends = all(not row[-1].strip() for row in body)
        return [*cells, ""] if ends else ["", *cells]  # names of rows come first, as R writes them
    return []


def _has_comma_numbers(body: Sequence[Sequence[str]]) -> bool:
    cells = [cell.strip() for row in body[1:] for cell in row]
    commas = sum(_COMMA_NUMBER.fullmatch(cell) is not None for cell in cells)
    points = sum("." in cell and is_number(cell) for cell in cells)
    return commas > points


def _has_units(body: Sequence[Sequence[str]], decimal: str) -> bool:
    """Whether the line below the header names units: no number in it, where the next lines have some."""
    if len(body) < 3 or any(is_number(cell, decimal) for cell in body[1]):
        return False
    columns = [i for i in range(len(body[0])) if sum(is_number(row[i], decimal) for row in body[2:12]) >= 1]
    named = [i for i in columns if body[1][i].strip() not in NULLS]
    return bool(columns) and len(named) >= max(1, len(columns) // 2)
