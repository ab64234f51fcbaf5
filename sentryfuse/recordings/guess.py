"""A recipe from what files look like: columns, units, rates, labels, people.

The beginning of every file is read. Whatever could be otherwise becomes a remark in the recipe; what cannot
be known (a unit of time that fits two ways, no labels) becomes a doubt, and `data make` without a recipe
refuses.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sentryfuse.errors import DataError
from sentryfuse.recordings.columns import word
from sentryfuse.recordings.look import (
    Look,
    empty_means,
    find_rate,
    find_unit,
    is_measured,
    is_zoned,
    look,
    nice_rate,
)
from sentryfuse.recordings.names import read_file_names, safe_name, sensors_of
from sentryfuse.recordings.recipe import Recipe, Sensor, TableRecipe, make_recipe
from sentryfuse.recordings.tables import PARQUET, TEXTS, open_table
from sentryfuse.recordings.waiting import Waiting

if TYPE_CHECKING:
    pass

_WINDOWS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0, 21600.0, 86400.0)
_STEPS = 60  # of the fastest sensor in a window, at least
_MOST_SINGLES = 24  # columns that share no name with another: more of them are one sensor
_MOST_WORDS = 20  # that mean "not measured"
_NOTES = frozenset({".txt", ".dat", ".tab"})  # in a folder these may be anything
AS_OTHERS = "as others"  # unit of times that tell nothing themselves, of labels beside sensors
CUT_ALREADY = frozenset({".ts", ".npz", ".npy"})


@dataclass
class Guess:
    """A recipe and what is uncertain about it.

    Attributes:
        recipe: complete.
        remarks: what was decided, a sentence each.
        length: why windows are as long as they are.
        doubts: what has to be looked at before it is used.
    """

    recipe: Recipe
    remarks: list[str] = field(default_factory=list)
    length: str = ""
    doubts: list[str] = field(default_factory=list)


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
                    f"the folder {source} holds no table ({', '.join(sorted(TEXTS | PARQUET))}); give "
                    f"another folder{hint}"
                )
            found += tables
        elif _suffix(source) in CUT_ALREADY and source.exists():
            raise DataError(
                f"{source} is no table and needs no recipe; cut it at once: sentryfuse data make {source} "
                "--out mine.npz"
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
    given, left_out = set(sources), dict[Path, str]()
    looks = []
    with Waiting("look at files", len(paths)) as bar:
        for number, path in enumerate(paths, start=1):
            try:
                looks.append(look(open_table(path)))
            except DataError as error:
                if path in given or path.suffix.lower() not in _NOTES:
                    raise
                left_out[path] = str(error)
            bar.update(number, path.name)
    paths = [p for p in paths if p not in left_out]
    if not paths:
        raise DataError(next(iter(left_out.values())))
    names = [p.resolve().relative_to(folder).as_posix() for p in paths]
    label = next((w.roles["label"] for w in looks if "label" in w.roles), "")
    subject = all("subject" in w.roles for w in looks)
    kinds: dict[tuple[str, ...], int] = {}
    signature = {name: kinds.setdefault(w.columns, len(kinds)) for name, w in zip(names, looks, strict=True)}
    told = read_file_names(names, signature, labelled=bool(label), peopled=subject)
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        groups[signature[name], told.sensor[name]].append(i)
    result = Guess(Recipe.model_construct(), remarks=list(told.remarks))
    if left_out:
        result.remarks.append(
            f"left out, since they are no tables: {', '.join(p.name for p in left_out)[:200]}"
        )
    tables = []
    taken: dict[str, Sensor] = {}
    for (kind, token), members in groups.items():
        own = [names[i] for i in members]
        table = _table([looks[i] for i in members], own, token, taken, result)
        pattern = told.pattern.get(kind, "") if told.roles else ""
        tables.append(table.model_copy(update={"pattern": pattern, "files": _files(own, names)}))
    units = [t.unit for t in tables if t.sensor and t.time and t.unit != "iso"]
    tables = [
        t.model_copy(update={"unit": units[0] if units else "s"}) if t.unit == AS_OTHERS else t
        for t in tables
    ]
    where = os.path.relpath(folder, beside.resolve())
    rates = [s.rate_hz for t in tables for s in t.sensor if s.rate_hz > 0]
    fastest = max(rates, default=1.0)
    long = [w for w in _WINDOWS_S if fastest * w >= _STEPS] or [_WINDOWS_S[-1]]
    even = [w for w in long[:3] if abs(fastest * w - round(fastest * w)) < 1e-6]  # a whole number of steps
    window_s = (even or long)[0]
    if not any(t.sensor for t in tables):
        raise DataError(
            f"{looks[0].name} has no column of numbers beside its time and labels; it has "
            f"{', '.join(looks[0].columns[:20])}; give tables with measurements"
        )
    result.recipe = make_recipe(
        {
            "name": safe_name(folder.name if len(paths) > 1 else re.sub(r"\..*$", "", paths[0].name)).replace(
                " ", "_"
            ),
            "folder": Path(where).as_posix(),
            "window_s": window_s,
            "hop_s": window_s / 2,
            "nulls": list(dict.fromkeys(w for seen in looks for w in seen.words))[:_MOST_WORDS],
            "table": [t.model_dump() for t in tables],
        },
        "what was guessed",
    )
    if result.recipe.nulls:
        result.remarks.append(
            f"among numbers, {', '.join(result.recipe.nulls[:5])} is taken for 'not measured'"
        )
    result.length = (
        f"window_s = {window_s:g} gives the fastest sensor ({fastest:g} Hz) "
        f"{round(window_s * fastest)} steps; choose what the task needs"
    )
    if {zoned for w in looks if (zoned := is_zoned(w)) is not None} == {True, False}:
        result.doubts.append(
            "times of some files have a zone and of some have none, which are then taken for UTC: write them "
            "alike"
        )
    if not label and "label" not in told.roles:
        result.doubts.append(
            "no column of labels was found: name it as `label`, or windows can only be predicted"
        )
    if not subject and "subject" not in told.roles and "subject" not in {r for w in looks for r in w.roles}:
        result.remarks.append("nothing says whom the data is of, so all of it is taken for one person")
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
    channels = [c for c in first.columns if any(c in w.channels and is_measured(w, c) for w in looks)]
    channels = [c for c in channels if c not in roles.values()]
    unit, remark, doubt = find_unit(first, time, unit) if time else ("s", "", "")
    if not channels and (remark or doubt):
        unit = AS_OTHERS
    else:
        result.remarks += [remark] if remark else []
        result.doubts += [doubt] if doubt else []
    if not channels and "label" not in roles:
        raise DataError(
            f"{first.name} has no column of numbers beside its time; it has "
            f"{', '.join(first.columns[:20])}; leave it out"
        )
    if channels and "c0" in first.columns and "c1" in first.columns:
        result.doubts.append(f"{_where(names)} has no header: say what its columns c0, c1, ... are")
    named = {column for role, column in roles.items() if role != "index"}
    ignored = [c for c in first.columns if c not in channels and c not in named]
    if ignored:
        result.remarks.append(
            f"not used of {_where(names)}: {', '.join(ignored[:8])}{', ...' if len(ignored) > 8 else ''}"
        )
    grouped = chosen or sensors_of(channels, alone=token)
    if not chosen and sum(len(columns) == 1 for columns in grouped.values()) > _MOST_SINGLES:
        grouped = {safe_name(token or "sensor"): channels}
        result.remarks.append(
            f"the {len(channels)} columns of {_where(names)} are taken for one sensor; divide them as you "
            "like"
        )
    if "sensor" in roles and not chosen:
        return _long_table(first, roles, unit, channels, names, result)
    sensors = []
    repeats = "drop"
    for name, columns in grouped.items():
        rates, repeated, anew = [], 0.0, False
        for w in looks[:5]:
            rate, share, again = find_rate(w, time, unit, columns)
            rates += [rate] if rate else []
            repeated, anew = max(repeated, share), anew or again
        if repeated > 0.2 and anew:
            result.doubts.append(
                f"times in {first.name} begin anew, as of several people: name the column of `subject` or "
                "`recording`"
            )
        elif repeated > 0.2:
            repeats = "spread"
            result.remarks.append(
                f"many rows of {name} share a time, as of a slow clock; they are spread evenly over its ticks"
            )
        rate = nice_rate(float(np.median(rates))) if rates else 0.0
        if not rate:
            rate = 1.0
            result.doubts.append(f"nothing tells the rate of {name}; write its rate_hz (1 stands there now)")
        sensor = Sensor.model_construct(name=name, columns=columns, rate_hz=rate)
        if name in taken and (taken[name].rate_hz, len(taken[name].columns)) != (rate, len(columns)):
            near = taken[name].columns and abs(taken[name].rate_hz / rate - 1) < 0.03
            if near and len(taken[name].columns) == len(columns):
                sensor = sensor.model_copy(update={"rate_hz": taken[name].rate_hz})
            else:
                sensor = sensor.model_copy(update={"name": safe_name(f"{token or len(taken)}_{name}")})
        taken[sensor.name] = sensor
        sensors.append(sensor)
    return _entry(roles, unit, names, sensors, first).model_copy(update={"unit": unit, "repeats": repeats})


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
        rate, _, _ = find_rate(first, roles.get("time", ""), unit, own, rows)
        if not rate:
            result.doubts.append(f"nothing tells the rate of {kind}; write its rate_hz (1 stands there now)")
        sensors.append(
            Sensor.model_construct(
                name=safe_name(kind), columns=own, rate_hz=nice_rate(rate) if rate else 1.0, where=kind
            )
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
            "date": roles.get("date", ""),
            "time": roles.get("time", ""),
            "unit": "s" if unit == AS_OTHERS else unit,
            "label": label,
            "until": roles.get("until", ""),
            "empty_label": empty_means(first.head[label]) if label else "unlabelled",
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
    end = _shared([name[::-1] for name in own])[::-1]
    if any("/" in name for name in own):
        end = end.split("/")[-1]
        matching = [name for name in every if name.rsplit("/", 1)[-1].endswith(end)]
        pattern = f"**/*{end}"
    else:
        begin = _shared([name[: len(name) - len(end)] for name in own])
        matching = [n for n in every if "/" not in n and n.startswith(begin) and n.endswith(end)]
        pattern = f"{begin}*{end}"
    plain = not any(c in "[]?*" for c in pattern.replace("*", ""))
    return [pattern] if plain and sorted(matching) == sorted(own) else own


def _shared(names: list[str]) -> str:
    """What all names begin with."""
    low, high = min(names), max(names)
    n = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:n]


def _where(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} like it"


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _suffix(path: Path) -> str:
    return (Path(path.stem).suffix if path.suffix == ".gz" else path.suffix).lower()
