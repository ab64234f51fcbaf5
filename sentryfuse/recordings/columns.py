"""Cells become numbers, moments and words.

A moment is a whole number of nanoseconds, since 1970 or since the recording began; int64 holds both to the
last digit, which a float of seconds since 1970 would not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

NO_TIME = np.iinfo(np.int64).min  # of a row without a time
UNITS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
UNITS = (*UNITS_NS, "iso")
_ZONE = r"(?:[Zz]|[+-]\d{2}(?::?\d{2})?)$"
_LARGEST_S = 9.0e9  # int64 nanoseconds end in the year 2262


def numbers(source: str, name: str, column: pa.Array) -> NDArray[np.float32]:
    """A column of numbers, NaN where there is none, `(n,)`.

    Raises:
        DataError: text that is no number.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan, np.float32)
    try:
        if pa.types.is_boolean(kind):
            column = column.cast(pa.uint8())
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(_no_number(source, name, str(error))) from error
    with np.errstate(over="ignore"):
        narrow: NDArray[np.float32] = values.astype(np.float32)
    narrow[np.isinf(narrow)] = np.nan  # beyond what the model can take: not measured
    return narrow


def moments(source: str, name: str, column: pa.Array, unit: str) -> NDArray[np.int64]:
    """A column of times [ns], `NO_TIME` where there is none, `(n,)`.

    Args:
        source: of the table, for messages.
        name: of the column.
        column: numbers in `unit`, texts of numbers, ISO 8601 texts, or moments.
        unit: one of `UNITS`; without meaning where the column itself is of moments.

    Raises:
        DataError: a text that is no time, moments with a zone beside moments without one, or times
            beyond the year 2262.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_null(kind):
        return np.full(len(column), NO_TIME, np.int64)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _filled(_nanoseconds(source, name, column))
    if pa.types.is_duration(kind):
        return _filled(column.cast(pa.duration("ns")).cast(pa.int64()))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view":
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
        if unit == "iso":
            return _filled(_iso(source, name, text))
        text = pc.replace_substring(text, ",", ".")
        try:
            column = text.cast(pa.int64())
        except pa.ArrowInvalid:
            try:
                column = text.cast(pa.float64())
            except pa.ArrowInvalid as error:
                raise DataError(
                    f"{source}: the time column {name!r} holds {_value(error)}, which is no number of "
                    f"{unit}; "
                    'mend that row, or say unit = "iso" if times are ISO 8601'
                ) from error
        kind = column.type
    if unit == "iso":
        raise DataError(
            f"{source}: the time column {name!r} holds numbers, not ISO 8601; say their unit: s, ms, us or ns"
        )
    factor = UNITS_NS[unit]
    if pa.types.is_integer(kind):
        whole = _filled(column.cast(pa.int64(), safe=False))
        known = whole != NO_TIME
        limit = int(_LARGEST_S * 1e9) // factor
        if (np.abs(whole[known]) > limit).any():
            raise DataError(_too_late(source, name, unit))
        return np.where(known, whole * factor, NO_TIME)
    parts = numbers_wide(source, name, column)
    known = np.isfinite(parts)
    if (np.abs(parts[known]) > _LARGEST_S * 1e9 / factor).any():
        raise DataError(_too_late(source, name, unit))
    result = np.full(len(parts), NO_TIME, np.int64)
    # whole units apart from the fraction: a float of nanoseconds since 1970 is good to 256 ns only
    floor = np.floor(parts[known])
    fraction = np.rint((parts[known] - floor) * factor)
    result[known] = floor.astype(np.int64) * factor + fraction.astype(np.int64)
    return result


def joined_moments(source: str, date: str, time: str, columns: Mapping[str, pa.Array]) -> NDArray[np.int64]:
    """Times [ns] of a column of dates and one of times of day, both as ISO 8601 writes them, `(n,)`.

    Raises:
        DataError: what they give together is not ISO 8601.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = [pc.utf8_trim_whitespace(columns[name].cast(pa.string())) for name in (date, time)]
    return moments(source, f"{date} {time}", pc.binary_join_element_wise(*parts, "T"), "iso")


def numbers_wide(source: str, name: str, column: pa.Array) -> NDArray[np.float64]:
    """A column of numbers in double precision, NaN where there is none, `(n,)`.

    Raises:
        DataError: text that is no number.
    """
    import pyarrow as pa

    try:
        values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(_no_number(source, name, str(error))) from error
    return values


def words(column: pa.Array) -> tuple[NDArray[np.int32], list[str]]:
    """A column of names or numbers as codes `(n,)`, -1 for empty cells, and the names they stand for.

    Whole numbers are written without a point, so that 1 and 1.0 are one name.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if not pa.types.is_dictionary(kind):
        column = column.dictionary_encode()
    codes = column.indices.cast(pa.int32())
    codes = pc.fill_null(codes, -1).to_numpy(zero_copy_only=False)
    names = [word(value) for value in column.dictionary.to_pylist()]
    unique = list(dict.fromkeys(name for name in names if name))
    places = {name: i for i, name in enumerate(unique)}
    table = np.array([*(places.get(name, -1) for name in names), -1], np.int32)
    return table[codes], unique


def word(value: Any) -> str:
    """How a label or a subject is called; empty for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            return ""
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return text
    # only what is written as a float: "007" may be a name
    return str(int(number)) if "." in text and number.is_integer() and abs(number) < 1e15 else text


def first_line(error: BaseException) -> str:
    """The first line of a message that may be long, or empty."""
    lines = str(error).strip().splitlines()
    return lines[0][:100] if lines else type(error).__name__


def by_size(name: str) -> tuple[int, float, str]:
    """Sorts names: numbers by size, before words by letter."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _iso(source: str, name: str, text: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.replace_substring_regex(text, r"\s+([+-]\d{2}:?\d{2}|[Zz]|UTC|GMT)$", r"\1")
    plain = pc.replace_substring_regex(plain, r"(UTC|GMT|z)$", "Z")
    plain = pc.replace_substring_regex(plain, r"(\d{2}:\d{2}:\d{2})[.,](\d{1,9})\d*", r"\1.\2")
    plain = pc.replace_substring_regex(plain, r"^(\d{4})/(\d{2})/(\d{2})", r"\1-\2-\3")
    zoned = pc.and_(pc.match_substring_regex(plain, _ZONE), pc.match_substring(plain, ":"))
    share = pc.sum(pc.fill_null(zoned, False)).as_py() or 0
    known = len(plain) - plain.null_count
    if 0 < share < known:
        raise DataError(
            f"{source}: some times of the column {name!r} have a zone and some have none; write all of them "
            "alike"
        )
    try:
        moment = plain.cast(pa.timestamp("ns", "UTC") if share else pa.timestamp("ns"))
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{source}: the time column {name!r} holds {_value(error)}, which is not ISO 8601 such as "
            "2024-05-31T12:00:00.250+02:00; mend it, or say the unit of its numbers (s, ms, us, ns)"
        ) from error
    return moment.cast(pa.int64())


def _nanoseconds(source: str, name: str, column: pa.Array) -> pa.Array:
    import pyarrow as pa

    zone = getattr(column.type, "tz", None)
    try:
        return column.cast(pa.timestamp("ns", zone)).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(_too_late(source, name, "its unit")) from error


def _filled(column: pa.Array) -> NDArray[np.int64]:
    import pyarrow.compute as pc

    values: NDArray[np.int64] = pc.fill_null(column, NO_TIME).to_numpy(zero_copy_only=False)
    return values


def _value(error: Exception) -> str:
    """The value an Arrow message complains about."""
    text = str(error)
    parts = text.split("'")
    return repr(parts[1][:60]) if len(parts) > 2 else first_line(error)


def _no_number(source: str, name: str, message: str) -> str:
    parts = message.split("'")
    value = repr(parts[-2][:60]) if len(parts) > 2 else "text"
    return (
        f"{source}: the column {name!r} holds {value}, which is no number; leave the column out of the "
        f"recipe, or list that word under `nulls` if it means 'not measured'"
    )


def _too_late(source: str, name: str, unit: str) -> str:
    return (
        f"{source}: the time column {name!r} holds a time beyond the year 2262 if its numbers are {unit}; "
        "give the unit they have (s, ms, us or ns)"
    )
