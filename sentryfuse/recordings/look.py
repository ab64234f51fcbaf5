"""The beginning of one table: what its columns are, in which unit its times, how fast its sensors.

Notation: n rows of the beginning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import DataError
from sentryfuse.recordings.columns import NO_TIME, UNITS_NS, joined_moments, moments, word
from sentryfuse.recordings.dialect import is_number
from sentryfuse.recordings.names import SPLIT_WORDS, role_of, unit_of
from sentryfuse.recordings.tables import Table

if TYPE_CHECKING:
    import pyarrow as pa

_DAY = re.compile(r"\d{4}[-/]\d{2}[-/]\d{2}")
_CLOCK = re.compile(r"\d{2}:\d{2}(:\d{2}([.,]\d+)?)?")
_ZONE = re.compile(r"([Zz]|UTC|GMT|[+-]\d{2}(:?\d{2})?)$")
HEAD_ROWS = 20_000  # looked at
_MOST_LABELS = 100
_EPOCH_S = (6.3e8, 4.1e9)  # from 1990 to 2100, since 1970 [s]
_NEVER_EMPTY = frozenset({"sensor", "label", "split", "subject", "recording"})
_ROWS_OF_A_PERSON = 20  # at least, on average
_CELLS = 2000  # looked at to tell numbers from words
_MOST = 0.9  # of the cells of a column of numbers are numbers, at least
_LONGEST_NAME = 500  # letters of a column
_NICE = 0.003  # a rate this near to a whole number is one, relative


@dataclass
class Look:
    """The beginning of one table.

    Attributes:
        name: for messages.
        columns: of the table.
        head: column -> its first cells.
        roles: role -> column; `channels` apart.
        channels: columns of numbers.
        words: in columns of numbers.
        decimal: sign of numbers in texts.
    """

    name: str
    columns: tuple[str, ...]
    head: dict[str, pa.Array]
    roles: dict[str, str] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    decimal: str = "."


def look(table: Table) -> Look:
    """Read the beginning of a table and find out what its columns are.

    Raises:
        DataError: it cannot be read, has no column of numbers, or one whose name is none.
    """
    import pyarrow as pa

    endless = next((name for name in table.columns if len(name) > _LONGEST_NAME), None)
    if endless is not None:
        raise DataError(
            f"{table.name} has a column whose name is {len(endless)} letters long; give it one of at most "
            f"{_LONGEST_NAME}"
        )
    first = next(iter(table.blocks(dict.fromkeys(table.columns, "text"))), None)
    if first is None or not first.num_rows:
        raise DataError(f"{table.name} holds no row; leave it out or record it again")
    head = {name: first.column(i).slice(0, HEAD_ROWS) for i, name in enumerate(first.schema.names)}
    dialect = getattr(table, "dialect", None)
    result = Look(table.name, tuple(table.columns), head, decimal=dialect.decimal if dialect else ".")
    numeric = {name: _is_numeric(column, result.decimal) for name, column in head.items()}
    timed = [name for name in table.columns if pa.types.is_timestamp(head[name].type)]
    for name in table.columns:
        role = "time" if name in timed else _role(name, head, numeric, result.decimal)
        if role and role not in result.roles and not (role == "time" and _is_constant(head[name])):
            result.roles[role] = name
    if "until" in result.roles and not {"label", "time"} <= result.roles.keys():
        del result.roles["until"]
    _find_dates(result, numeric)
    if "time" not in result.roles:
        # without a header any column may be the one that rises
        places = table.columns if dialect and not dialect.named else table.columns[:1]
        free = [c for c in places if numeric[c] and c not in result.roles.values()]
        rising = next((c for c in free if _rises(head[c], result.decimal)), None)
        if rising is not None:
            result.roles["time"] = rising
    if "label" not in result.roles:
        texts = [
            n
            for n in table.columns
            if not numeric[n] and n not in result.roles.values() and _is_class(head[n], named=False)
        ]
        if len(texts) == 1:
            result.roles["label"] = texts[0]
    used = set(result.roles.values())
    result.channels = [
        n for n in table.columns if numeric[n] and n not in used and role_of(n) not in ("time", "index")
    ]
    if "until" in result.roles:
        result.channels = []  # stretches of time with a label, no samples
    for name in result.channels:
        result.words += [w for w in _words_among(head[name], result.decimal) if w not in result.words]
    return result


def _role(name: str, head: dict[str, pa.Array], numeric: dict[str, bool], decimal: str) -> str | None:
    """What a column is by its name, if its cells agree."""
    role, column = role_of(name), head[name]
    empty = column.null_count == len(column)
    if role == "index" and name.strip().lower() == "id":
        # a few, each many times: people
        role = "subject" if not empty and len(column.unique()) <= len(column) // _ROWS_OF_A_PERSON else role
    if role == "label":
        axis = name.lower() == "y" and any(other.lower() == "x" for other in head)
        fits = not axis and (_is_class(column, named=True) or _is_code(column, decimal))
    elif role == "sensor":
        fits = not numeric[name]
    elif role == "split":
        numbers = {"0", "1", "2"} if name.strip().lower() == "split" else set[str]()
        fits = {word(value).lower() for value in column.unique().to_pylist()} <= SPLIT_WORDS | numbers | {""}
    else:
        fits = True
    return role if fits and not (empty and role in _NEVER_EMPTY) else None


def _find_dates(seen: Look, numeric: dict[str, bool]) -> None:
    """Dates and times of day in two columns."""
    texts = {name: _first_text(column) for name, column in seen.head.items() if not numeric[name]}
    days = [name for name, text in texts.items() if _DAY.fullmatch(text)]
    clocks = [name for name, text in texts.items() if _CLOCK.fullmatch(text)]
    if len(days) == 1 and len(clocks) == 1:
        seen.roles |= {"date": days[0], "time": clocks[0]}


def _first_text(column: pa.Array) -> str:
    first = column.drop_null().slice(0, 1).to_pylist()
    return str(first[0]).strip() if first and _is_text(column.type) else ""


def times_of(seen: Look, unit: str) -> NDArray[np.int64]:
    """Times of the beginning [ns], `(n,)`.

    Raises:
        DataError: cells that are no times.
    """
    time = seen.roles["time"]
    if "date" in seen.roles:
        return joined_moments(seen.name, seen.roles["date"], time, seen.head)
    return moments(seen.name, time, seen.head[time], unit)


def is_zoned(seen: Look) -> bool | None:
    """Whether times of a table have a zone; `None` where they are no texts of dates."""
    time = seen.roles.get("time")
    text = _first_text(seen.head[time]) if time else ""
    return bool(_ZONE.search(text)) if ":" in text else None


def find_unit(first: Look, time: str, known: str | None) -> tuple[str, str, str]:
    """The unit of a column of times.

    Args:
        first: the table.
        time: name of the column.
        known: what somebody said, if so.

    Returns:
        One of `UNITS`; a remark and a doubt about it, both mostly empty.

    Raises:
        DataError: texts that are no times, or nothing in it.
    """
    import pyarrow as pa

    column = first.head[time]
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "iso", "", ""
    if "date" in first.roles:
        times_of(first, "iso")
        return "iso", "", ""
    if not _is_numeric(column, first.decimal):
        moments(first.name, time, column, "iso")  # says what is wrong with it
        return "iso", "", ""
    said = known or unit_of(time)
    values = _floats(column, first.decimal)
    values = values[np.isfinite(values)]
    if said:
        return said, "", ""
    if not len(values):
        raise DataError(f"{first.name}: the time column {time!r} is empty; name another column")
    size = float(np.median(np.abs(values)))
    for unit, factor in UNITS_NS.items():
        if _EPOCH_S[0] <= size * factor / 1e9 < _EPOCH_S[1]:
            return unit, "", ""  # since 1970: the size tells
    steps = np.diff(np.unique(values))
    step = float(np.median(steps)) if len(steps) else 0.0
    if (values != np.round(values)).any() and step < 1:
        return "s", "", ""
    unit = "ms" if step < 2e3 else "us" if step < 2e6 else "ns"
    if "timestamp" in time.lower() or "milli" in time.lower():
        return unit, "", ""
    if step >= 2:
        return unit, f"the column {time!r} of {first.name} is taken for {unit}, by the size of its steps", ""
    doubt = f"the column {time!r} of {first.name} rises by {step:g}, which may be s or ms: write its `unit`"
    return "s", "", doubt


def find_rate(
    look_: Look, time: str, unit: str, columns: list[str], rows: NDArray[np.bool_] | None = None
) -> tuple[float, float, bool]:
    """Samples per second by the steps between times.

    Args:
        look_: the table.
        time: column of times; empty for none.
        unit: of them.
        columns: of the sensor.
        rows: that are of the sensor, `(n,)`; `None` for all.

    Returns:
        Rate [Hz], 0 where nothing tells it; share of times that are there twice; whether times begin anew.
    """
    if not time:
        return 0.0, 0.0, False
    at = times_of(look_, unit)
    known = at != NO_TIME
    measured = np.zeros(len(at), bool)
    for c in columns:
        if c in look_.head:
            measured |= np.array(look_.head[c].is_valid().to_numpy(zero_copy_only=False), bool)
    known &= measured
    if rows is not None:
        known &= rows
    owners = _owners(look_)[known]
    at = at[known]
    best = (0.0, 0.0, False)
    most = 1
    for owner in np.unique(owners):
        own = at[owners == owner]
        if len(own) <= most:
            continue
        most = len(own)
        anew = bool((np.diff(own) < 0).any())
        own = np.sort(own)
        steps = np.diff(own)
        repeated = float((steps == 0).mean())
        if repeated > 0.2:
            ticks, counts = np.unique(own, return_counts=True)
            rate = float(np.median(counts) / np.median(np.diff(ticks)) * 1e9) if len(ticks) > 1 else 0.0
            best = (rate, repeated, anew)
            continue
        steps = steps[steps > 0]
        if not len(steps):
            continue
        near = steps[steps <= 1.6 * np.median(steps)]
        best = (1e9 / float(near.mean()), repeated, anew)
    return best


def _owners(look_: Look) -> NDArray[np.int64]:
    """A number for each subject and recording of the rows."""
    n = len(next(iter(look_.head.values())))
    result = np.zeros(n, np.int64)
    for role in ("subject", "recording"):
        if role in look_.roles:
            _, place = np.unique(
                np.array([word(v) for v in look_.head[look_.roles[role]].to_pylist()]), return_inverse=True
            )
            result = result * (int(place.max()) + 1) + place
    return result


def nice_rate(rate: float) -> float:
    """A rate rounded to what was meant."""
    for value in (float(round(rate)), round(rate, 1), 1 / max(1, round(1 / rate)) if rate < 1 else 0.0):
        if value > 0 and abs(value / rate - 1) <= _NICE:
            return value
    return float(f"{rate:.5g}")


def _is_numeric(column: pa.Array, decimal: str) -> bool:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return True
    if pa.types.is_dictionary(kind) or pa.types.is_boolean(kind) or not _is_text(kind):
        return False
    cells = [cell for cell in column.drop_null().slice(0, _CELLS).to_pylist() if cell.strip()]
    return bool(cells) and sum(is_number(cell, decimal) for cell in cells) >= _MOST * len(cells)


def _words_among(column: pa.Array, decimal: str) -> list[str]:
    """Words in a column of numbers, such as OVF."""
    if not _is_text(column.type):
        return []
    cells = (cell.strip() for cell in column.drop_null().to_pylist())
    return list(dict.fromkeys(cell for cell in cells if cell and not is_number(cell, decimal)))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view")


def _floats(column: pa.Array, decimal: str) -> NDArray[np.float64]:
    if _is_text(column.type):
        cells = [cell or "" for cell in column.to_pylist()]
        # separators that are white space to Python are none to numpy
        known = [cell.strip().replace(",", ".") if is_number(cell, decimal) else "nan" for cell in cells]
        return np.array(known, np.float64)
    return np.array([np.nan if v is None else float(v) for v in column.to_pylist()])


def _rises(column: pa.Array, decimal: str) -> bool:
    values = _floats(column, decimal)
    values = values[np.isfinite(values)]
    return len(values) > 2 and bool((np.diff(values) > 0).mean() > 0.95)


def _is_constant(column: pa.Array) -> bool:
    return len(column) > 1 and len(column.unique()) == 1


def _is_class(column: pa.Array, *, named: bool) -> bool:
    """Whether words may stand for classes: few of them; where no name says so, each of them often."""
    import pyarrow as pa

    text = _is_text(column.type) or pa.types.is_dictionary(column.type) or pa.types.is_boolean(column.type)
    most = _MOST_LABELS if named else min(_MOST_LABELS, max(2, len(column) // 4))
    return text and 1 <= len(column.drop_null().unique()) <= most


def _is_code(column: pa.Array, decimal: str) -> bool:
    """Whether numbers may stand for classes: whole ones, few of them."""
    if not _is_numeric(column, decimal):
        return False
    values = np.unique(_floats(column.drop_null(), decimal))
    return 0 < len(values) <= _MOST_LABELS and bool((values == np.round(values)).all())


def is_measured(look_: Look, column: str) -> bool:
    """Whether a column has any value."""
    return bool(look_.head[column].null_count < len(look_.head[column]))


def empty_means(column: pa.Array) -> str:
    """Whether the label before empty cells goes on: they are short holes between equal labels."""
    values = [word(value) for value in column.to_pylist()]
    runs: list[list[Any]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    inner = [(runs[i - 1][0], run, runs[i + 1][0]) for i, run in enumerate(runs[1:-1], start=1) if not run[0]]
    same = [run for before, run, after in inner if before == after]
    return "continues" if len(inner) > 2 and len(same) >= 0.8 * len(inner) else "unlabelled"
