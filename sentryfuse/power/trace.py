"""A recorded course of power or charge, played back.

A CSV file with one line of names and one row per moment; every row holds until the next, the last one to
the end. Lines that begin with # are comments.

    time_s,charge
    0,1.0
    600,0.48
    1200,0.19

| column | meaning |
| --- | --- |
| `time_s` | after the reader was opened, rising, >= 0 [s] |
| `charge` | left in the battery, 0..1 |
| `cap_w` | what may be drawn [W] |
| `power_w` | what is drawn [W] |

An empty cell is "not known". Numbers are played as they stand, `nan` and impossible ones too, so that a
meter that lies can be rehearsed.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from pathlib import Path
from typing import cast

from sentryfuse.errors import ConfigError
from sentryfuse.power.reading import Quantity, Reading

_COLUMNS: tuple[Quantity, ...] = ("charge", "cap_w", "power_w")
_MAX_BYTES = 64_000_000


class TraceMeter:
    """Plays a trace from the moment it is opened.

    Args:
        now_s: monotonic time that is 0 in the trace [s].
        path: of the CSV file.

    Raises:
        ConfigError: the file is missing, too large, or not as this module says; with the line.
    """

    name = "trace"

    def __init__(self, now_s: float, *, path: Path) -> None:
        self._times, self._rows = _load(path)
        self._start_s, self._scope = now_s, path.name
        self.tells = frozenset(key for row in self._rows[:1] for key in row)

    def read(self, now_s: float) -> Reading:
        """The row in force at `now_s`; before the first row nothing is known."""
        position = bisect_right(self._times, now_s - self._start_s) - 1
        row = self._rows[position] if position >= 0 else {}
        return Reading(
            at_s=now_s,
            label="replayed",
            scope=self._scope,
            charge=row.get("charge"),
            cap_w=row.get("cap_w"),
            power_w=row.get("power_w"),
            updates=position + 1,
        )

    def close(self) -> None:
        """Nothing is held open."""


def _load(path: Path) -> tuple[list[float], list[dict[Quantity, float | None]]]:
    """Times and rows, checked."""
    if path.exists() and not (path.is_file() or path.is_dir()):  # a device or a pipe may have no end
        raise ConfigError(f"cannot read trace {path}: it is no file; give a CSV file")
    if path.is_file() and path.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"trace {path} is larger than {_MAX_BYTES} bytes; shorten it")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"cannot read trace {path}: {reason}; check the name") from error
    except ValueError as error:
        raise ConfigError(f"cannot read trace {path}: it is not text; give a CSV file") from error
    numbered = [(i, line) for i, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    try:
        table = list(csv.reader(line for _, line in numbered))
    except csv.Error as error:
        raise ConfigError(f"cannot read trace {path}: {error}; give a CSV file") from error
    columns = _columns(path, table[0] if table else [])
    times: list[float] = []
    rows: list[dict[Quantity, float | None]] = []
    for (line, _), cells in zip(numbered[1:], table[1:], strict=False):
        if len(cells) != len(columns):
            raise ConfigError(f"trace {path}, line {line}: {len(cells)} cells for {len(columns)} columns")
        row = {name: _number(path, line, name, cell) for name, cell in zip(columns, cells, strict=True)}
        time_s = row.pop("time_s")
        if time_s is None or not 0 <= time_s < math.inf or (times and time_s <= times[-1]):
            raise ConfigError(f"trace {path}, line {line}: time_s must rise from 0 on, got {time_s}")
        times.append(time_s)
        rows.append(cast(dict[Quantity, float | None], row))
    if not rows:
        raise ConfigError(f"trace {path} has no rows; give at least one below the names")
    return times, rows


def _columns(path: Path, names: list[str]) -> list[str]:
    names = [name.strip() for name in names]
    known = {"time_s", *_COLUMNS}
    if "time_s" not in names or len(names) < 2 or set(names) - known or len(set(names)) < len(names):
        raise ConfigError(
            f"trace {path} begins with {', '.join(names)[:60] or 'nothing'}; the first line must name time_s "
            f"and some of {', '.join(_COLUMNS)}"
        )
    return names


def _number(path: Path, line: int, name: str, cell: str) -> float | None:
    if not cell.strip():
        return None
    try:
        return float(cell)
    except ValueError:
        raise ConfigError(f"trace {path}, line {line}: {name} is {cell[:20]!r}, not a number") from None
