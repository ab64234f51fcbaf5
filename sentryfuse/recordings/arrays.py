"""`make_windows`: windows from what is in memory already: frames, dictionaries, arrays; or from files.

The same steps as for files, so the same samples give the same windows, to the last bit.

Notation: n samples of a sensor · C channels · N windows · T steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.data.windows import Windows
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.progress import say
from sentryfuse.recordings.cases import windows_of_arrays
from sentryfuse.recordings.collect import Collector, Recording
from sentryfuse.recordings.columns import UNITS, UNITS_NS, word
from sentryfuse.recordings.guess import guess, table_of
from sentryfuse.recordings.look import look
from sentryfuse.recordings.make import collect_files, cut_and_deal
from sentryfuse.recordings.recipe import Recipe, check_hop, load_recipe, make_recipe
from sentryfuse.recordings.samples import Storage
from sentryfuse.recordings.tables import FrameTable
from sentryfuse.target import Target, TaskName

Unit = Literal["s", "ms", "us", "ns", "iso"]
Rates = float | Mapping[str, float]


def make_windows(
    source: Any,
    *,
    window_s: float | None = None,
    hop_s: float | None = None,
    rate_hz: Rates | None = None,
    time: Any = None,
    unit: Unit | None = None,
    label: Any = None,
    subject: Any = None,
    sensors: Mapping[str, Sequence[str]] | None = None,
    split: Mapping[str, Sequence[str]] | ArrayLike | None = None,
    axes: str | None = None,
    resample: bool = False,
    gaps: Literal["absent", "drop", "keep"] = "absent",
    max_gap_s: float | None = None,
    label_rule: Literal["whole", "majority"] = "whole",
    label_share: float = 0.5,
    target: str | None = None,
    task: TaskName = "classification",
    target_unit: str = "",
    name: str = "recording",
    seed: int = 0,
) -> Windows:
    """Cut windows from recordings, never across gaps or changes of label; split them by subject.

    Args:
        source: one of
            a frame of pandas or polars (a row a sample, all people and sensors in it);
            a dictionary sensor -> frame, each with its own times;
            a dictionary sensor -> samples `(n, C)` or `(n,)`, or such an array alone;
            a dictionary sensor -> windows that are cut already, `(N, T, C)`, or such an array alone;
            the path of a recipe, or of files and folders that `sentryfuse data guess` can read.
        window_s: length of a window [s]; needed for all but windows that are cut and files.
        hop_s: from one window's start to the next [s]; `window_s` when not given.
        rate_hz: samples per second [Hz], one for all or sensor -> rate; found from times where there are
            some.
        time: column of times (frames), or times of the samples: `(n,)` or sensor -> `(n,)`, numbers in `unit`
            or datetime64; without it samples follow each other at `rate_hz`.
        unit: of times that are numbers: s, ms, us or ns; of a frame it is guessed when not given.
        label: column of labels (frames); labels of the samples `(n,)` of one of the sensors, or one for all;
            of the windows `(N,)` where they are cut already. Names or numbers.
        subject: likewise, whom the samples are of; one person when not given.
        sensors: sensor -> columns (frames); put together by their names when not given.
        split: "train", "validation", "test" -> subjects, instead of a draw; `(N,)` of 0, 1, 2 for windows
            that are cut already.
        axes: "NTC" or "NCT" for windows that are cut already; NTC when not given, if that is plausible.
        resample: interpolate linearly at even times, each sensor at its rate.
        gaps: windows in which a sensor has a gap: it is `absent` from them, they are `drop`ped, or they
            `keep` what was measured, NaN elsewhere.
        max_gap_s: a longer silence is a gap [s]; a tenth of a window, or two and a half steps where that is
            longer, when not given.
        label_rule: `whole`: no window crosses a change of label; `majority`: the label of the largest share.
        label_share: least share of the time that the majority needs.
        target: sensor of one channel whose mean over a window is what a regression answers, instead of
            labels; it is no input then.
        task: of windows that are cut already: what `label` is; "regression" takes numbers `(N,)` or `(N, K)`,
            "multilabel" 0 and 1, `(N, K)`.
        target_unit: of the numbers of a regression.
        name: of the recording.
        seed: of the split.

    Returns:
        The windows; what was dropped is said on standard error.

    Raises:
        DataError: something that cannot be read or cut; the message says what.
        ConfigError: arguments that do not go together.
    """
    rules = {
        "window_s": window_s,
        "hop_s": hop_s,
        "gaps": gaps,
        "max_gap_s": max_gap_s,
        "label_rule": label_rule,
        "label_share": label_share,
        "target": target,
        "unit": target_unit or None,
        "name": name,
    }
    asked = _Asked(rate_hz, time, unit, label, subject, sensors, resample, rules, {"seed": seed})
    if isinstance(source, str | os.PathLike):
        return _from_files(Path(source), asked, split)
    if _is_frame(source):
        return _from_frames({"": source}, asked, split)
    if isinstance(source, Mapping):
        if not source:
            raise DataError(f"{name} holds no sensor; give at least one")
        if all(_is_frame(value) for value in source.values()):
            return _from_frames({str(k): v for k, v in source.items()}, asked, split)
        arrays = {str(k): np.asarray(v) for k, v in source.items()}
    else:
        arrays = {"sensor": np.asarray(source)}
    cut_already = all(a.ndim == 3 for a in arrays.values())
    if task != "classification" and not cut_already:
        raise ConfigError(
            f"task {task!r} is for windows that are cut already; name the sensor asked for as target"
        )
    if cut_already:
        if target is not None:
            raise ConfigError("target is for recordings; give the numbers of windows as label, with a task")
        if label is None:
            raise ConfigError("label is missing; give the label of each window, (N,)")
        rates = {key: asked.rate_of(key) for key in arrays}
        channels = {key: list((sensors or {}).get(key, ())) for key in arrays}
        return windows_of_arrays(
            arrays, name=name, rates=rates, channels=channels, label=label, subject=subject, split=split,
            axes=axes, seed=seed, target=Target(task, target_unit),
        )  # fmt: skip
    if split is not None and not isinstance(split, Mapping):
        raise ConfigError(
            "split of recordings is given by subject: {'train': [...], 'validation': [...], 'test': [...]}"
        )
    return _from_arrays(arrays, asked, split)


@dataclass(frozen=True)
class _Asked:
    """What the caller said beside the source."""

    rate_hz: Rates | None
    time: Any
    unit: Unit | None
    label: Any
    subject: Any
    sensors: Mapping[str, Sequence[str]] | None
    resample: bool
    rules: dict[str, Any]
    split: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the recording."""
        return str(self.rules["name"])

    def rate_of(self, sensor: str) -> float | None:
        """The rate said for a sensor [Hz]."""
        if isinstance(self.rate_hz, Mapping):
            return None if sensor not in self.rate_hz else float(self.rate_hz[sensor])
        return None if self.rate_hz is None else float(self.rate_hz)

    def recipe(self, tables: list[dict[str, Any]], split: Any) -> Recipe:
        """A recipe of these tables and the rules.

        Raises:
            ConfigError: no length of a window.
        """
        if self.rules["window_s"] is None:
            raise ConfigError("window_s is missing; give the length of a window in seconds")
        rules = {key: value for key, value in self.rules.items() if value is not None}
        chosen = dict(self.split)
        if isinstance(split, Mapping):
            chosen |= {str(key): [word(v) for v in values] for key, values in split.items()}
        elif split is not None:
            raise ConfigError(
                "split of recordings is given by subject: {'train': [...], 'validation': [...], 'test': "
                "[...]}"
            )
        recipe = make_recipe({**rules, "split": chosen, "table": tables}, self.name)
        check_hop(recipe)
        return recipe


def _is_frame(value: Any) -> bool:
    return hasattr(value, "__arrow_c_stream__") and hasattr(value, "columns")


def _finished(collector: Collector, storage: Storage) -> Windows:
    store, dealt = cut_and_deal(collector, storage)
    for sentence in collector.counts.sentences():
        say(sentence)
    return store.windows(collector.recipe.name, dealt, licence=collector.recipe.licence or None)


def _from_files(path: Path, asked: _Asked, split: Any) -> Windows:
    if path.suffix.lower() == ".toml":
        recipe = load_recipe(path)
    else:
        found = guess([path], beside=Path.cwd())
        if found.doubts:
            raise DataError(
                f"{path}: {found.doubts[0]}; `sentryfuse data guess {path} --out recipe.toml` writes what to "
                "mend"
            )
        recipe = found.recipe.model_copy(update={"folder": str((Path.cwd() / found.recipe.folder).resolve())})
    rules = ("window_s", "hop_s", "max_gap_s", "target", "unit")
    said = {k: asked.rules[k] for k in rules if asked.rules[k] is not None}
    if "window_s" in said and "hop_s" not in said:
        said["hop_s"] = None
    if split is not None:
        raise ConfigError("split of files stands in their recipe, under [split]; leave the argument out")
    recipe = make_recipe({**recipe.model_dump(), **said}, str(path))
    check_hop(recipe)
    storage = Storage()
    return _finished(collect_files(recipe, storage), storage)


def _from_frames(frames: Mapping[str, Any], asked: _Asked, split: Any) -> Windows:
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
    return _finished(collector, storage)


def _entry_of(key: str, table: FrameTable, seen: Any, asked: _Asked) -> dict[str, Any]:
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


def _from_arrays(arrays: Mapping[str, NDArray[Any]], asked: _Asked, split: Any) -> Windows:
    entries = []
    shaped: dict[str, NDArray[np.float32]] = {}
    times: dict[str, NDArray[np.int64]] = {}
    for name, array in arrays.items():
        values = array[:, None] if array.ndim == 1 else array
        if values.ndim != 2 or values.dtype.kind not in "iufb":
            raise DataError(
                f"{asked.name}: {name} is {array.dtype} {array.shape}; give numbers of shape (samples, "
                "channels), or (windows, steps, channels) for all sensors"
            )
        shaped[name] = values.astype(np.float32)
        times[name], rate = _times_of(name, len(values), asked)
        columns = list((asked.sensors or {}).get(name, [f"c{i}" for i in range(values.shape[1])]))
        if len(columns) != values.shape[1]:
            raise DataError(f"{name} has {values.shape[1]} channels but {len(columns)} names; give one each")
        entries.append(
            {"sensor": [{"name": name, "columns": columns, "rate_hz": rate, "resample": asked.resample}],
             "time": "time", "unit": "ns", "label": "label" if asked.label is not None else ""}
        )  # fmt: skip
    recipe = asked.recipe(entries, split)
    storage = Storage()
    collector = Collector(recipe, storage)
    for name, values in shaped.items():
        counts = collector.counts.of(name)
        counts.rows += len(values)
        known = ~np.isnan(values).all(axis=1)
        counts.no_value += int((~known).sum())
        for person, rows in _persons(name, len(values), asked):
            recording = collector.found.setdefault((person, ""), Recording(person, ""))
            keep = rows & known
            if keep.any():
                samples = storage.samples(values.shape[1])
                samples.append(times[name][keep], values[keep])
                recording.sensors[name] = samples
    if asked.label is not None:
        _label_arrays(collector, times, asked)
    return _finished(collector, storage)


def _times_of(name: str, n: int, asked: _Asked) -> tuple[NDArray[np.int64], float]:
    rate = asked.rate_of(name)
    given = asked.time.get(name) if isinstance(asked.time, Mapping) else asked.time
    if given is None:
        if rate is None:
            raise ConfigError(f"{name} has no times and no rate; give rate_hz, or time")
        return np.rint(np.arange(n) * (1e9 / rate)).astype(np.int64) if rate else np.arange(n), rate
    at = np.asarray(given)
    if at.shape != (n,):
        raise DataError(f"time of {name} has shape {at.shape} but there are {n} samples; give one each")
    if at.dtype.kind == "M":
        moments = at.astype("datetime64[ns]").astype(np.int64)
    elif asked.unit in (None, "iso") or asked.unit not in UNITS:
        raise ConfigError(
            f"times of {name} are {at.dtype}; say unit='s', 'ms', 'us' or 'ns', or give datetime64"
        )
    elif at.dtype.kind in "iu":
        moments = at.astype(np.int64) * UNITS_NS[asked.unit]
    else:
        whole = np.floor(at.astype(np.float64))
        moments = whole.astype(np.int64) * UNITS_NS[asked.unit] + np.rint(
            (at - whole) * UNITS_NS[asked.unit]
        ).astype(np.int64)
    if rate is None:
        steps = np.diff(np.sort(moments))
        steps = steps[steps > 0]
        if not len(steps):
            raise DataError(f"time of {name} does not rise; give one time for each sample")
        near = steps[steps <= 1.6 * np.median(steps)]
        rate = float(f"{1e9 / near.mean():.5g}")
    return moments, rate


def _persons(name: str, n: int, asked: _Asked) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    who = asked.subject.get(name) if isinstance(asked.subject, Mapping) else asked.subject
    if who is None or np.ndim(who) == 0:
        yield word(who), np.ones(n, bool)
        return
    names = np.array([word(value) for value in np.asarray(who).tolist()])
    if names.shape != (n,):
        raise DataError(
            f"subject has {len(names)} entries but {name} has {n} samples; give one each, or sensor -> "
            "subjects"
        )
    for person in dict.fromkeys(names.tolist()):
        yield person, names == person


def _label_arrays(collector: Collector, times: Mapping[str, NDArray[np.int64]], asked: _Asked) -> None:
    label = asked.label
    if np.ndim(label) == 0 and not isinstance(label, Mapping):
        number = collector.labels.number(word(label))
        for recording in collector.found.values():
            recording.label = number
        return
    given = dict(label) if isinstance(label, Mapping) else {}
    if not given:
        values = np.asarray(label)
        owner = next((name for name, at in times.items() if len(at) == len(values)), None)
        if owner is None:
            lengths = ", ".join(f"{name} {len(at)}" for name, at in times.items())
            raise DataError(
                f"label has {len(values)} entries, the sensors have {lengths}; give one for each sample of "
                "one"
            )
        given = {owner: values}
    for name, values in given.items():
        if name not in times or len(values) != len(times[name]):
            raise DataError(
                f"label of {name!r} does not fit; give one for each sample of a sensor that is there"
            )
        names = [word(value) for value in np.asarray(values).tolist()]
        table = {text: collector.labels.number(text) if text else -1 for text in dict.fromkeys(names)}
        codes = np.array([table[text] for text in names], np.int32)
        for person, rows in _persons(name, len(codes), asked):
            owner_of = collector.found.get((person, ""))
            if owner_of is not None:
                if owner_of.labels is None:
                    owner_of.labels = collector.storage.samples(1, np.int32)
                owner_of.labels.append(times[name][rows], codes[rows][:, None])
