"""Windows from data frames: of pandas, polars, or anything that hands over Arrow columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentryfuse.data.windows import Windows
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.recordings.asked import Asked, finished
from sentryfuse.recordings.collect import Collector
from sentryfuse.recordings.guess import table_of
from sentryfuse.recordings.look import look
from sentryfuse.recordings.samples import Storage
from sentryfuse.recordings.tables import FrameTable


def is_frame(value: Any) -> bool:
    """Whether it is a table with named columns."""
    return hasattr(value, "__arrow_c_stream__") and hasattr(value, "columns")


def from_frames(frames: Mapping[str, Any], asked: Asked, split: Any) -> Windows:
    """Windows of frames, sensor -> frame, or one frame under "".

    Raises:
        ConfigError: a role that is not named by a column.
        DataError: a column that is not there, or a rate or unit that nothing tells.
    """
    tables = {
        key: FrameTable(frame, f"{asked.name}{'.' if key else ''}{key}") for key, frame in frames.items()
    }
    entries = []
    for key, table in tables.items():
        seen = look(table)
        for role, column in (("time", asked.time), ("label", asked.label), ("subject", asked.subject)):
            if column is None:
                continue
            if not isinstance(column, str):
                raise ConfigError(f"{role} of a frame is the name of a column, not {type(column).__name__}")
            if column in table.columns:
                seen.roles[role] = column
                seen.channels = [c for c in seen.channels if c != column]
            elif role != "label" or len(tables) == 1:
                raise DataError(
                    f"{table.name} has no column {column!r}; it has {', '.join(table.columns[:20])}"
                )
            else:
                seen.roles.pop(role, None)  # labels may stand in another sensor's frame
        entries.append(_entry_of(key, table, seen, asked))
    if isinstance(asked.label, str) and not any(entry["label"] for entry in entries):
        raise DataError(f"no frame of {asked.name} has the column {asked.label!r}; name the column of labels")
    recipe = asked.recipe(entries, split)
    storage = Storage()
    collector = Collector(recipe, storage)
    for number, table in enumerate(tables.values()):
        for _ in collector.take(number, table, {}):
            pass
    return finished(collector, storage)


def _entry_of(key: str, table: FrameTable, seen: Any, asked: Asked) -> dict[str, Any]:
    own = asked.sensors or {}
    chosen = {s: list(c) for s, c in own.items() if not key or s == key}
    if key and not chosen:
        chosen = {key: seen.channels}
    unknown = [c for columns in chosen.values() for c in columns if c not in table.columns]
    if unknown:
        raise DataError(f"{table.name} has no column {unknown[0]!r}; it has {', '.join(table.columns[:20])}")
    entry, doubts = table_of(seen, alone=key, chosen=chosen, unit=asked.unit)
    data: dict[str, Any] = entry.model_dump()
    for sensor in data["sensor"]:
        rate = asked.rate_of(sensor["name"])
        if rate is not None:
            sensor["rate_hz"] = rate
        elif any(sensor["name"] in doubt for doubt in doubts):
            raise DataError(
                f"nothing tells the rate of {sensor['name']} in {table.name}; give rate_hz, or a column of "
                "times"
            )
        sensor["resample"] = asked.resample
    units = [doubt for doubt in doubts if "`unit`" in doubt]
    if units and asked.unit is None:
        raise DataError(f"{units[0].split(':')[0]}; say unit='s' or unit='ms'")
    return data
