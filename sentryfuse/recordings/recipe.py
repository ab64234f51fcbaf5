"""The recipe: which files hold what, and how windows are cut; a TOML file that people read and mend.

name = "gym"
folder = "."                         # files below are looked for here, seen from the recipe
window_s = 2.0
hop_s = 1.0

[[table]]
files = ["*_acc.csv"]
pattern = '(?P<subject>p[0-9]+)_acc' # named groups: subject, recording, label, split
time = "time"
unit = "iso"                         # or s, ms, us, ns
label = "activity"                   # columns of names or numbers
[[table.sensor]]
name = "acc"
columns = ["x", "y", "z"]
rate_hz = 50.0
"""

from __future__ import annotations

import json
import re
import tomllib
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sentryfuse.data.checks import check_names
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.files import write_text

Unit = Literal["s", "ms", "us", "ns", "iso"]
Seconds = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
GROUPS = ("subject", "recording", "label", "split")
_WORDS = {
    "missing": "is missing; add it",
    "extra_forbidden": "is unknown; take it out or mend its spelling",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sensor(_Strict):
    """One sensor of a table.

    Attributes:
        name: of the modality.
        columns: its channels, in order.
        rate_hz: samples per second [Hz]; 0 for a value that does not change (one step).
        where: only rows whose `sensor_column` says so; all rows where it is empty.
        channels: names of the channels; those of the columns when empty.
        resample: whether values are interpolated linearly at even times; otherwise samples stay as they are.
    """

    name: str
    columns: Annotated[list[str], Field(min_length=1)]
    rate_hz: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
    where: str = ""
    channels: list[str] = []
    resample: bool = False


class TableRecipe(_Strict):
    """Files with the same columns.

    Attributes:
        files: names or patterns such as `*_acc.csv`, below the recipe's `folder`.
        pattern: regular expression searched in the path below `folder`; what its named groups `subject`,
            `recording`, `label` and `split` find counts for the whole file.
        date: column of dates, where they stand apart from the times of day; empty for none.
        time: column of times; empty where rows follow each other at the rate of the sensor.
        unit: of that column; `iso` for ISO 8601.
        repeats: rows of a sensor at one and the same time: `drop` all but the first, or `spread` them evenly
            until the next time, for clocks that tick slower than the sensor.
        label: column of labels, names or numbers; empty for none.
        until: column of the times at which labels end, for rows that are stretches of time; empty for none.
        empty_label: what rows without a label are: `unlabelled`, or the label before them `continues`.
        subject: column of subjects, names or numbers; empty for none.
        recording: column that tells recordings of one subject apart; empty for none.
        split: column of `train`, `validation`, `test` or 0, 1, 2; empty for none.
        sensor_column: column that names the sensor of each row; empty where a row holds all sensors.
        sensor: the sensors in it; none where the table holds labels only.
    """

    files: list[str] = []
    pattern: str = ""
    date: str = ""
    time: str = ""
    unit: Unit = "s"
    repeats: Literal["drop", "spread"] = "drop"
    label: str = ""
    until: str = ""
    empty_label: Literal["unlabelled", "continues"] = "unlabelled"
    subject: str = ""
    recording: str = ""
    split: str = ""
    sensor_column: str = ""
    sensor: list[Sensor] = []

    @property
    def columns(self) -> list[str]:
        """Every column it asks for, once."""
        named = [
            self.date,
            self.time,
            self.until,
            self.label,
            self.subject,
            self.recording,
            self.split,
            self.sensor_column,
        ]
        own = [column for sensor in self.sensor for column in sensor.columns]
        return list(dict.fromkeys(column for column in (*named, *own) if column))


class SplitRecipe(_Strict):
    """Who is in training, validation and test.

    Attributes:
        fractions: shares of the subjects for train, validation, test; they add up to 1.
        seed: of the draw.
        fold: `I/K` instead of shares: every K-th subject from I on is test, the next ones validation.
        train: names of subjects; with `validation` and `test` instead of a draw.
        validation: names of subjects.
        test: names of subjects.
        margin_s: where one subject has to be in several splits (fewer than three subjects), time between
            windows of different splits [s]; a window's length when not given.
    """

    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    seed: Annotated[int, Field(ge=0)] = 0
    fold: str = ""
    train: list[str] = []
    validation: list[str] = []
    test: list[str] = []
    margin_s: Annotated[float, Field(ge=0, le=1e9)] | None = None


class Recipe(_Strict):
    """All of it.

    Attributes:
        name: of the recording.
        folder: where the files are, seen from the recipe's own folder.
        licence: of the recording, kept in the npz.
        window_s: length of a window [s].
        hop_s: from one window's start to the next [s]; `window_s` when not given.
        max_gap_s: a longer silence of a sensor is a gap [s]; a tenth of a window, or two and a half steps
            where that is longer, when not given.
        gaps: windows in which a sensor has a gap: the sensor is `absent` from them (all NaN), they are
            dropped (`drop`), or they `keep` what was measured, NaN elsewhere.
        label_rule: `whole`: no window crosses a change of label; `majority`: the label of the largest share.
        label_share: least share of the window's time that the majority needs, above which it is kept.
        nulls: words that mean "not measured", beside NA, null, NaN and the like.
        label_names: label as it stands in the files -> name of the class; labels with the same name
            become one class.
        ignore_labels: labels that count as unlabelled.
        target: sensor of one channel whose mean over a window is what a regression answers; it is no input
            then, and windows without it are dropped. Takes the place of labels.
        unit: of that number.
        split: who is in training, validation and test.
        table: the files.
    """

    name: str = "recording"
    folder: str = "."
    licence: str = ""
    window_s: Seconds = 2.0
    hop_s: Seconds | None = None
    max_gap_s: Seconds | None = None
    gaps: Literal["absent", "drop", "keep"] = "absent"
    label_rule: Literal["whole", "majority"] = "whole"
    label_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    nulls: list[str] = []
    label_names: dict[str, str] = {}
    ignore_labels: list[str] = []
    target: str = ""
    unit: str = ""
    split: SplitRecipe = SplitRecipe()
    table: Annotated[list[TableRecipe], Field(min_length=1)]

    @model_validator(mode="after")
    def _agrees(self) -> Recipe:
        """Sensors have one rate and one set of channels, wherever they stand."""
        found: dict[str, Sensor] = {}
        for table in self.table:
            for sensor in table.sensor:
                same = found.setdefault(sensor.name, sensor)
                if (same.rate_hz, len(same.columns)) != (sensor.rate_hz, len(sensor.columns)):
                    raise DataError(
                        f"recipe {self.name}: the sensor {sensor.name!r} has two rates or numbers of columns "
                        "in two tables; make them agree, or name two sensors"
                    )
                if sensor.rate_hz and not table.time and table.unit != "s":
                    raise DataError(
                        f"recipe {self.name}: a table of {sensor.name!r} has a unit but no `time` column; "
                        "name it"
                    )
            _check_pattern(self.name, table.pattern)
        if not found:
            raise DataError(
                f"recipe {self.name} names no sensor; add [[table.sensor]] with name, columns, rate_hz"
            )
        check_names(f"recipe {self.name}", list(found))
        if self.target:
            self._check_target(found)
        return self

    def _check_target(self, found: dict[str, Sensor]) -> None:
        """A target is a sensor of one channel beside others."""
        if self.target not in found or len(found) < 2 or len(found[self.target].columns) != 1:
            others = ", ".join(name for name, s in found.items() if len(s.columns) == 1)
            raise DataError(
                f"recipe {self.name}: the target {self.target!r} must be a sensor of one column beside "
                f"others; of one column are: {others or 'none'}"
            )

    @property
    def hop(self) -> float:
        """From one window's start to the next [s]."""
        return self.window_s if self.hop_s is None else self.hop_s

    @property
    def sensors(self) -> list[Sensor]:
        """Every sensor once, in order."""
        return list({s.name: s for table in self.table for s in table.sensor}.values())


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Args:
        path: TOML file in the form above; its `folder` is resolved against the file's own.

    Raises:
        DataError: no such file, not TOML, or something in it that is unknown, missing or out of range.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(
            f"there is no recipe {path}; `sentryfuse data guess FOLDER --out {path}` makes one"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {(error.strerror or str(error)).lower()}; check it") from error
    # of ValueError: no TOML, no UTF-8, or a number of thousands of digits
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:160]
        raise DataError(f"{path} is not TOML ({reason}); mend it, or guess a new one") from error
    recipe = make_recipe(data, str(path))
    return recipe.model_copy(update={"folder": str((path.parent / recipe.folder).resolve())})


def make_recipe(data: dict[str, Any], source: str) -> Recipe:
    """Check what a recipe says.

    Raises:
        DataError: something unknown, missing or out of range; all of it is named.
    """
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        said = []
        for item in error.errors():
            place = ".".join(str(part + 1) if isinstance(part, int) else part for part in item["loc"]) or "it"
            said.append(f"{place} {_WORDS.get(item['type'], '(' + _short(item) + ')')}")
        raise DataError(f"{source}: {'; '.join(said[:5])}; see docs/recordings.md") from error


def write_recipe(path: Path, recipe: Recipe, *, remarks: list[str]) -> None:
    """Write a recipe as TOML with remarks at the top.

    Raises:
        InputError: the system refuses to write.
    """
    lines = ["# How files become windows; made by `sentryfuse data guess`. Look it through, mend it, then:"]
    lines.append(f"#     sentryfuse data make {path.name} --out {recipe.name}.npz")
    lines += [f"# {remark}" for remark in remarks]
    data = recipe.model_dump(exclude_defaults=True)
    tables = data.pop("table")
    head = {"name": recipe.name, "folder": recipe.folder, "window_s": recipe.window_s, "hop_s": recipe.hop}
    nested = {key: data.pop(key) for key in ("label_names", "split") if key in data}
    lines += _pairs({**head, **{k: v for k, v in data.items() if k not in head}})
    for key, inside in nested.items():
        lines += ["", f"[{key}]", *_pairs(inside)]
    if "split" not in nested:
        split = recipe.split
        lines += ["", "[split]", *_pairs({"fractions": list(split.fractions), "seed": split.seed})]
    for table in tables:
        sensors = table.pop("sensor", [])
        lines += ["", "[[table]]", *_pairs(table)]
        for sensor in sensors:
            lines += ["", "[[table.sensor]]", *_pairs(sensor)]
    write_text(path, "\n".join(lines) + "\n")


def _pairs(data: dict[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_toml(value)}" for key, value in data.items() if value is not None]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: Any) -> str:
    """A value as TOML writes it; strings of JSON are strings of TOML but for the character DEL."""
    if isinstance(value, str):
        if "\\" in value and "'" not in value and value.isprintable():
            return f"'{value}'"
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)


def _check_pattern(name: str, pattern: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python may read in another way one day
            groups = re.compile(pattern).groupindex
    except (re.error, Warning, RecursionError, OverflowError) as error:
        raise DataError(
            f"recipe {name}: the pattern {pattern!r:.200} is no regular expression ({error}); mend it"
        ) from error
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown:
        raise DataError(
            f"recipe {name}: the pattern {pattern!r} names {unknown[0]!r}; it may name {', '.join(GROUPS)}"
        )


def _short(item: Any) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def check_hop(recipe: Recipe) -> None:
    """Refuse windows that no sensor can fill.

    Raises:
        ConfigError: a window without one step of any sensor, or a hop below a step.
    """
    fastest = max(s.rate_hz for s in recipe.sensors)
    if fastest and recipe.window_s * fastest < 1:
        raise ConfigError(
            f"window_s {recipe.window_s:g} is shorter than one step of the fastest sensor ({fastest:g} Hz); "
            "make it longer"
        )
    if not fastest:
        raise ConfigError("every sensor has rate_hz = 0, which means it never changes; give the rates in Hz")
    if recipe.hop * fastest < 1:
        raise ConfigError(
            f"hop_s {recipe.hop:g} is below one step of the fastest sensor ({fastest:g} Hz); make it longer"
        )
