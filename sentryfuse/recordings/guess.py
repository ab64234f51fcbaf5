"""A recipe from what files look like: columns, units, rates, labels, people.

The beginning of every file is read. Whatever could be otherwise becomes a remark in the recipe; what cannot be
known (a unit of time that fits two ways, no labels) becomes a doubt, and `data make` without a recipe refuses.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import DataError
from sentryfuse.progress import Progress
from sentryfuse.recordings.columns import NO_TIME, moments, word
from sentryfuse.recordings.dialect import is_number
from sentryfuse.recordings.names import read_file_names, role_of, safe_name, sensors_of, unit_of
from sentryfuse.recordings.recipe import Recipe, Sensor, TableRecipe
from sentryfuse.recordings.tables import PARQUET, TEXTS, Table, open_table

if TYPE_CHECKING:
    import pyarrow as pa

HEAD_ROWS = 20_000  # looked at
_WINDOWS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0, 21600.0, 86400.0)
_STEPS = 60  # of the fastest sensor in a window, at least
_MOST_LABELS = 100
_MOST_SINGLES = 24  # columns that share no name with another: more of them are one sensor
_NICE = 0.003  # a rate this near to a whole number is one, relative
CUT_ALREADY = frozenset({".ts", ".npz", ".npy"})


@dataclass
class Guess:
    """A recipe and what is uncertain about it.

    Attributes:
        recipe: complete.
        remarks: what was decided, a sentence each.
        doubts: what has to be looked at before it is used.
    """

    recipe: Recipe
    remarks: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


@dataclass
class Look:
    """The beginning of one table.

    Attributes:
        name: for messages.
        columns: of the table.
        head: column -> its first cells.
        roles: role -> column; `channels` apart.
        channels: columns of numbers.
        decimal: sign of numbers in texts.
    """

    name: str
    columns: tuple[str, ...]
    head: dict[str, pa.Array]
    roles: dict[str, str] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)
    decimal: str = "."


def find_files(sources: Iterable[Path]) -> list[Path]:
    """Every table among files and in folders, sorted; folders are searched to the bottom.

    Raises:
        DataError: a source that is not there, or nothing to read.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            inside = [p for p in sorted(source.rglob("*")) if p.is_file() and not _hidden(p, source)]
            tables = [p for p in inside if _suffix(p) in TEXTS | PARQUET]
            if not tables:
                cut = next((p for p in inside if _suffix(p) in CUT_ALREADY), None)
                hint = (
                    f"; {cut.name} needs no recipe: `sentryfuse data make {cut} --out mine.npz`"
                    if cut
                    else ""
                )
                raise DataError(
                    f"the folder {source} holds no table ({', '.join(sorted(TEXTS | PARQUET))}); give another folder{hint}"
                )
            found += tables
        elif _suffix(source) in CUT_ALREADY and source.exists():
            raise DataError(
                f"{source} is no table and needs no recipe; cut it at once: sentryfuse data make {source} --out mine.npz"
            )
        elif not source.exists():
            raise DataError(f"there is no file or folder {source}; check the name")
        else:
            found.append(source)
    return list(dict.fromkeys(found))


def guess(sources: Sequence[Path], *, beside: Path) -> Guess:
    """Look at files and write down what they seem to be.

    Args:
        sources: files and folders.
        beside: folder the recipe will be in; its `folder` is seen from there.

    Raises:
        DataError: a file that cannot be read, or one without any column of numbers.
    """
    paths = find_files(sources)
    folder = Path(os.path.commonpath([p.resolve().parent for p in paths]))
    names = [p.resolve().relative_to(folder).as_posix() for p in paths]
    looks = []
    with Progress("look at files", len(paths)) as bar:
        for number, path in enumerate(paths, start=1):
            looks.append(look(open_table(path)))
            bar.update(number, path.name)
    label = next((w.roles["label"] for w in looks if "label" in w.roles), "")
    subject = all("subject" in w.roles for w in looks)
    kinds: dict[tuple[str, ...], int] = {}
    signature = {name: kinds.setdefault(w.columns, len(kinds)) for name, w in zip(names, looks, strict=True)}
    told = read_file_names(names, signature, labelled=bool(label), peopled=subject)
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        groups[signature[name], told.sensor[name]].append(i)
    result = Guess(Recipe.model_construct(), remarks=list(told.remarks))
    tables = []
    taken: dict[str, Sensor] = {}
    for (kind, token), members in groups.items():
        own = [names[i] for i in members]
        table = _table([looks[i] for i in members], own, token, taken, result)
        pattern = told.pattern.get(kind, "") if told.roles else ""
        tables.append(table.model_copy(update={"pattern": pattern, "files": _files(own, names)}))
    where = os.path.relpath(folder, beside.resolve())
    rates = [s.rate_hz for t in tables for s in t.sensor if s.rate_hz > 0]
    window_s = next((w for w in _WINDOWS_S if max(rates, default=1.0) * w >= _STEPS), _WINDOWS_S[-1])
    result.recipe = Recipe(
        name=safe_name(folder.name if len(paths) > 1 else re.sub(r"\..*$", "", paths[0].name)).replace(
            " ", "_"
        ),
        folder=Path(where).as_posix(),
        window_s=window_s,
        hop_s=window_s / 2,
        table=tables,
    )
    result.remarks.append(
        f"window_s = {window_s:g} gives the fastest sensor ({max(rates, default=0):g} Hz) "
        f"{round(window_s * max(rates, default=0))} steps; choose what the task needs"
    )
    if not label and "label" not in told.roles:
        result.doubts.append(
            "no column of labels was found: name it as `label`, or windows can only be predicted"
        )
    if not subject and "subject" not in told.roles and "subject" not in {r for w in looks for r in w.roles}:
        result.remarks.append("nothing says whom the data is of, so all of it is taken for one person")
    return result


def look(table: Table) -> Look:
    """Read the beginning of a table and find out what its columns are.

    Raises:
        DataError: it cannot be read, or has no column of numbers.
    """
    import pyarrow as pa

    first = next(iter(table.blocks(dict.fromkeys(table.columns, "text"))), None)
    if first is None or not first.num_rows:
        raise DataError(f"{table.name} holds no row; leave it out or record it again")
    head = {name: first.column(i).slice(0, HEAD_ROWS) for i, name in enumerate(first.schema.names)}
    dialect = getattr(table, "dialect", None)
    result = Look(table.name, tuple(table.columns), head, decimal=dialect.decimal if dialect else ".")
    numeric = {name: _is_numeric(column, result.decimal) for name, column in head.items()}
    timed = [name for name in table.columns if pa.types.is_timestamp(head[name].type)]
    for name in table.columns:
        role = "time" if name in timed else role_of(name)
        if role in ("sensor", "label", "split", "subject", "recording") and head[name].null_count == len(
            head[name]
        ):
            continue
        if role == "sensor" and numeric[name]:
            role = None
        if role == "label" and not (_is_class(head[name]) or _is_code(head[name], result.decimal)):
            role = None
        if role == "label" and name.lower() == "y" and any(other.lower() == "x" for other in table.columns):
            role = None  # an axis
        if role and role not in result.roles and not (role == "time" and _is_constant(head[name])):
            result.roles[role] = name
    if "time" not in result.roles:
        first_column = table.columns[0]
        if (
            numeric[first_column]
            and first_column not in result.roles.values()
            and _rises(head[first_column], result.decimal)
        ):
            result.roles["time"] = first_column
    if "label" not in result.roles:
        texts = [
            n
            for n in table.columns
            if not numeric[n] and n not in result.roles.values() and _is_class(head[n])
        ]
        if len(texts) == 1:
            result.roles["label"] = texts[0]
    used = set(result.roles.values())
    result.channels = [
        n for n in table.columns if numeric[n] and n not in used and role_of(n) not in ("time", "index")
    ]
    return result


def table_of(
    seen: Look, *, alone: str, chosen: dict[str, list[str]], unit: str | None
) -> tuple[TableRecipe, list[str]]:
    """The entry of one table that is no file, and the doubts about it.

    Args:
        seen: its beginning.
        alone: name of the sensor, if it holds one only.
        chosen: sensor -> columns; put together by names where empty.
        unit: of times that are numbers, if known.

    Raises:
        DataError: it has no column of numbers, or times that cannot be read.
    """
    result = Guess(Recipe.model_construct())
    table = _table([seen], [seen.name], alone, {}, result, chosen=chosen, unit=unit)
    return table.model_copy(update={"files": []}), result.doubts


def _table(
    looks: list[Look],
    names: list[str],
    token: str,
    taken: dict[str, Sensor],
    result: Guess,
    *,
    chosen: dict[str, list[str]] | None = None,
    unit: str | None = None,
) -> TableRecipe:
    first = looks[0]
    roles = dict(first.roles)
    time = roles.get("time", "")
    unit = _unit(first, time, result, unit) if time else "s"
    channels = [c for c in first.channels if any(_measured(w, c) for w in looks if c in w.head)]
    if not channels and "label" not in roles:
        raise DataError(
            f"{first.name} has no column of numbers beside its time; it has {', '.join(first.columns[:20])}; leave it out"
        )
    ignored = [c for c in first.columns if c not in channels and c not in roles.values()]
    if ignored:
        result.remarks.append(
            f"not used of {_where(names)}: {', '.join(ignored[:8])}{', ...' if len(ignored) > 8 else ''}"
        )
    grouped = chosen or sensors_of(channels, alone=token)
    if not chosen and sum(len(columns) == 1 for columns in grouped.values()) > _MOST_SINGLES:
        grouped = {safe_name(token or "sensor"): channels}
        result.remarks.append(
            f"the {len(channels)} columns of {_where(names)} are taken for one sensor; divide them as you like"
        )
    if "sensor" in roles and not chosen:
        return _long_table(first, roles, unit, channels, names, result)
    sensors = []
    repeats = "drop"
    for name, columns in grouped.items():
        rates, repeated = [], 0.0
        for w in looks[:5]:
            rate, share = _rate(w, time, unit, columns)
            rates += [rate] if rate else []
            repeated = max(repeated, share)
        if repeated > 0.2:
            repeats = "spread"
            result.remarks.append(
                f"many rows of {name} share a time, as of a slow clock; they are spread evenly over its ticks"
            )
        rate = _nice(float(np.median(rates))) if rates else 0.0
        if not rate:
            rate = 1.0
            result.doubts.append(f"nothing tells the rate of {name}; write its rate_hz (1 stands there now)")
        sensor = Sensor(name=name, columns=columns, rate_hz=rate)
        if name in taken and (taken[name].rate_hz, len(taken[name].columns)) != (rate, len(columns)):
            near = taken[name].columns and abs(taken[name].rate_hz / rate - 1) < 0.03
            if near and len(taken[name].columns) == len(columns):
                sensor = sensor.model_copy(update={"rate_hz": taken[name].rate_hz})
            else:
                sensor = sensor.model_copy(update={"name": safe_name(f"{token or len(taken)}_{name}")})
        taken[sensor.name] = sensor
        sensors.append(sensor)
    return _entry(roles, unit, names, sensors, first).model_copy(update={"repeats": repeats})


def _long_table(
    first: Look, roles: dict[str, str], unit: str, channels: list[str], names: list[str], result: Guess
) -> TableRecipe:
    """A table whose rows say which sensor they are of."""
    column = first.head[roles["sensor"]].to_pylist()
    kinds = list(dict.fromkeys(word(value) for value in column if word(value)))
    sensors = []
    for kind in kinds:
        rows = np.array([word(value) == kind for value in column])
        own = [
            c
            for c in channels
            if any(v is not None for v in np.array(first.head[c].to_pylist(), object)[rows])
        ]
        if not own:
            continue
        rate, _ = _rate(first, roles.get("time", ""), unit, own, rows)
        if not rate:
            result.doubts.append(f"nothing tells the rate of {kind}; write its rate_hz (1 stands there now)")
        sensors.append(
            Sensor(name=safe_name(kind), columns=own, rate_hz=_nice(rate) if rate else 1.0, where=kind)
        )
    result.remarks.append(
        f"sensors are those in the first {len(column)} rows of {first.name}; add those that come later only"
    )
    return _entry(roles, unit, names, sensors, first).model_copy(update={"sensor_column": roles["sensor"]})


def _entry(
    roles: dict[str, str], unit: str, names: list[str], sensors: list[Sensor], first: Look
) -> TableRecipe:
    label = roles.get("label", "")
    return TableRecipe.model_validate(
        {
            "files": names,
            "time": roles.get("time", ""),
            "unit": unit,
            "label": label,
            "empty_label": _empty(first.head[label]) if label else "unlabelled",
            "subject": roles.get("subject", ""),
            "recording": roles.get("recording", ""),
            "split": roles.get("split", ""),
            "sensor": sensors,
        }
    )


def _files(own: list[str], every: list[str]) -> list[str]:
    """One pattern for many files, where it finds no others; else their names."""
    if len(own) < 4:
        return own
    end = os.path.commonprefix([name[::-1] for name in own])[::-1]
    if any("/" in name for name in own):
        end = end.split("/")[-1]
        matching = [name for name in every if name.rsplit("/", 1)[-1].endswith(end)]
        pattern = f"**/*{end}"
    else:
        begin = os.path.commonprefix([name[: len(name) - len(end)] for name in own])
        matching = [n for n in every if "/" not in n and n.startswith(begin) and n.endswith(end)]
        pattern = f"{begin}*{end}"
    plain = not any(c in "[]?*" for c in pattern.replace("*", ""))
    return [pattern] if plain and sorted(matching) == sorted(own) else own


def _unit(first: Look, time: str, result: Guess, known: str | None) -> str:
    import pyarrow as pa

    column = first.head[time]
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "iso"
    if not _is_numeric(column, first.decimal):
        moments(first.name, time, column, "iso")  # says what is wrong with it
        return "iso"
    said = known or unit_of(time)
    values = _floats(column, first.decimal)
    values = values[np.isfinite(values)]
    if said:
        return said
    if not len(values):
        raise DataError(f"{first.name}: the time column {time!r} is empty; name another column")
    size = float(np.median(np.abs(values)))
    for unit, low in (("ns", 1e17), ("us", 1e14), ("ms", 1e11), ("s", 3e8)):
        if low <= size < low * 1e3 if unit != "s" else low <= size < 1e10:
            return unit  # since 1970: the size tells
    steps = np.diff(np.unique(values))
    step = float(np.median(steps)) if len(steps) else 0.0
    if (values != np.round(values)).any() and step < 1:
        return "s"
    unit = "ms" if step < 2e3 else "us" if step < 2e6 else "ns"
    if "timestamp" in time.lower() or "milli" in time.lower():
        return unit
    if step >= 2:
        result.remarks.append(
            f"the column {time!r} of {first.name} is taken for {unit}, by the size of its steps"
        )
        return unit
    result.doubts.append(
        f"the column {time!r} of {first.name} rises by {step:g}, which may be 1 s or 1 ms: write its `unit`"
    )
    return "s"


def _rate(
    look_: Look, time: str, unit: str, columns: list[str], rows: NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """Samples per second by the steps between times, and the share of times that are there twice."""
    if not time:
        return 0.0, 0.0
    at = moments(look_.name, time, look_.head[time], unit)
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
    best: tuple[float, float] = (0.0, 0.0)
    most = 1
    for owner in np.unique(owners):
        own = np.sort(at[owners == owner])
        if len(own) <= most:
            continue
        most = len(own)
        steps = np.diff(own)
        repeated = float((steps == 0).mean())
        if repeated > 0.2:
            span = own[-1] - own[0]
            best = (len(own) / span * 1e9 if span else 0.0, repeated)
            continue
        steps = steps[steps > 0]
        if not len(steps):
            continue
        near = steps[steps <= 1.6 * np.median(steps)]
        best = (1e9 / float(near.mean()), repeated)
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


def _nice(rate: float) -> float:
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
    cells = [cell for cell in column.drop_null().slice(0, 2000).to_pylist() if cell.strip()]
    return bool(cells) and all(is_number(cell, decimal) for cell in cells)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view")


def _floats(column: pa.Array, decimal: str) -> NDArray[np.float64]:
    if _is_text(column.type):
        cells = column.to_pylist()
        return np.array(
            [
                float(c.replace(",", ".") if decimal == "," else c) if c and c.strip() else np.nan
                for c in cells
            ]
        )
    return np.array([np.nan if v is None else float(v) for v in column.to_pylist()])


def _rises(column: pa.Array, decimal: str) -> bool:
    values = _floats(column, decimal)
    values = values[np.isfinite(values)]
    return len(values) > 2 and bool((np.diff(values) > 0).mean() > 0.95)


def _is_constant(column: pa.Array) -> bool:
    return len(column) > 1 and len(column.unique()) == 1


def _is_class(column: pa.Array) -> bool:
    import pyarrow as pa

    text = _is_text(column.type) or pa.types.is_dictionary(column.type) or pa.types.is_boolean(column.type)
    return text and 1 <= len(column.drop_null().unique()) <= min(_MOST_LABELS, max(2, len(column) // 4))


def _is_code(column: pa.Array, decimal: str) -> bool:
    """Whether numbers may stand for classes: whole ones, few of them."""
    if not _is_numeric(column, decimal):
        return False
    values = np.unique(_floats(column.drop_null(), decimal))
    return 0 < len(values) <= _MOST_LABELS and bool((values == np.round(values)).all())


def _measured(look_: Look, column: str) -> bool:
    return bool(look_.head[column].null_count < len(look_.head[column]))


def _empty(column: pa.Array) -> str:
    """Whether empty cells of a label column mean that the label before them goes on: short holes between equals."""
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


def _where(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} like it"


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _suffix(path: Path) -> str:
    return (Path(path.stem).suffix if path.suffix == ".gz" else path.suffix).lower()
