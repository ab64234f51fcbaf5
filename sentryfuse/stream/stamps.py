"""Times as people write them -> seconds: units by name, by size, by the rate of a sensor; ISO 8601."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import DataError

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
NAMES = ("t", "time", "ts", "timestamp", "datetime", "unix", "epoch", "uptime")
_UNIT = re.compile(r"[\[(]?(?<![a-z])(ns|us|µs|ms|s|sec|seconds|msec|millis)[\])]?$", re.IGNORECASE)
_TAIL = 12  # letters in which a unit stands, with its brackets and the letter before it
_SHORT = {"µs": "us", "sec": "s", "seconds": "s", "msec": "ms", "millis": "ms"}
_LARGE = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))  # seconds as large as that are the year 5138 and later
_NEAR = 2.0  # a step that differs less from a sensor's period is that period


def stamp_of(text: str) -> float:
    """Seconds since 1970 of a date and time in ISO 8601; without a zone it is taken as UTC.

    Raises:
        ValueError: it is none.
    """
    text = text.strip()
    if not re.match(r"\d{4}-?\d\d-?\d\d[T ]", text):
        raise ValueError(f"could not convert {text[:40]!r} to a time")
    moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def unit_in(name: str) -> tuple[str, str | None]:
    """A name without the unit at its end, and that unit: `time_ms`, `Time [s]`, `uptime (us)`."""
    name = name.strip()
    start = max(0, len(name) - _TAIL)  # a name may be a quarter of a megabyte of anything
    found = _UNIT.search(name, start)
    before = name[: found.start()].rstrip(" \t\r\n\f\v\xa0_.") if found else ""
    if found is None or not before:
        return name, None
    unit = found[1].lower()
    return before.strip(" _."), _SHORT.get(unit, unit)


def unit_of_size(largest: float) -> str | None:
    """The unit that only numbers so large can have; `None` where it may be several."""
    return next((unit for least, unit in _LARGE if abs(largest) >= least), None)


def time_column(path: Path, header: Sequence[str], asked: str | None) -> tuple[int, str | None]:
    """Which column holds the times, and their unit where it is told.

    Args:
        path: for the message.
        header: names of the columns.
        asked: `NAME` or `NAME:UNIT`; `None` looks for `time_s` and what loggers write in its place.

    Raises:
        DataError: there is no such column, or there are several.
    """
    if asked is not None:
        name, colon, unit = asked.rpartition(":")
        name, unit = (name, unit) if colon and unit in UNITS else (asked, "")
        if name not in header:
            raise DataError(f"{path} has no column {name!r} of times; it has {', '.join(header)[:200]}")
        return header.index(name), unit or unit_in(name)[1]
    if "time_s" in header:
        return header.index("time_s"), "s"
    found = [place for place, cell in enumerate(header) if unit_in(cell)[0].lower() in NAMES]
    if len(found) != 1:
        which = "several columns of times" if found else "no column time_s"
        raise DataError(
            f"{path} has {which} among {', '.join(header)[:200] or 'none'}; name it time_s, or say which one "
            "it is with ?time=NAME:s (or ms, us, ns)"
        )
    return found[0], unit_in(header[found[0]])[1]


def in_seconds(path: Path, name: str, unit: str | None, times: NDArray[np.float64], rate_hz: float) -> float:
    """What numbers of a column are to be multiplied by to be seconds.

    Args:
        path: for the message.
        name: of the column.
        unit: that it tells; `None` where it tells none.
        times: of one sensor, `(n,)`.
        rate_hz: its nominal rate [Hz]; 0 tells nothing.

    Raises:
        DataError: several units are possible.
    """
    finite = times[np.isfinite(times)]
    largest = float(abs(finite).max()) if len(finite) else 0.0
    told = unit_of_size(largest) if unit in (None, "s") else None
    if told is not None or unit is not None:
        return UNITS[told or str(unit)]
    steps = np.diff(finite)
    steps = steps[steps > 0]
    if rate_hz > 0 and len(steps):
        periods = float(np.median(steps)) * rate_hz
        fits = [u for u, factor in UNITS.items() if abs(math.log(periods * factor)) < math.log(_NEAR)]
        if len(fits) == 1:
            return UNITS[fits[0]]
    if largest >= 1e8:  # seconds since 1970
        return 1.0
    raise DataError(
        f"{path}: the column {name!r} does not tell its unit, and it does not follow from the rate; say it "
        f"with ?time={name}:s (or ms, us, ns)"
    )
