"""Result lines of a study: reading them back, each once, all of one design."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sentryfuse.errors import ConfigError, InputError
from sentryfuse.files import read_json, read_json_lines
from sentryfuse.study.lines import ANSWERS, COUNTS, DESIGN, SCORES, SUFFIXES, TRAINING, Line, line_files

# What a design may say about how it was run; two parts of one study may differ in it.
CIRCUMSTANCES = {"made", "machine", "versions", "seconds", "date", "command", "sentryfuse"}


@dataclass(frozen=True)
class Study:
    """Everything that was read.

    Attributes:
        lines: every evaluation once, in the order read.
        design: `design.json`, empty where there is none.
        answers: folders that may hold the answers behind the lines.
        n_repeated: lines left out because they repeat another.
        n_torn: last lines left out because they were half written.
    """

    lines: tuple[Line, ...]
    design: dict[str, Any]
    answers: tuple[Path, ...]
    n_repeated: int
    n_torn: int


def is_study(path: Path) -> bool:
    """Whether a path is a folder of a study or a file of its lines.

    Args:
        path: a folder with `design.json` or result lines, or a file.

    Returns:
        `False` for anything else, also for what does not exist.
    """
    if path.is_dir():
        return (path / DESIGN).is_file() or bool(_files(path))
    if not path.name.endswith(SUFFIXES) or not path.is_file():
        return False
    if path.name.endswith(".gz"):
        return True
    with path.open("rb") as file:  # a trace of `run` has lines, too
        return b'"training"' in (first := file.readline()) and b'"method"' in first


def read_study(paths: Sequence[str | Path]) -> Study:
    """Read the lines of one study from folders and files.

    A line that occurs twice with equal numbers is taken once. A half-written last line, as a run
    leaves it that was killed or is still going on, is left out.

    Args:
        paths: folders of `sentryfuse study --out`, or files of lines (`.jsonl`, `.jsonl.gz`); a
            `design.json` and a folder `answers` beside them belong to them.

    Returns:
        The lines of all of them.

    Raises:
        ConfigError: designs differ, a line is not of the design, or one evaluation has two results.
        InputError: a file cannot be read, holds no line, or a line is not of this form.
    """
    files = list(dict.fromkeys(file for path in paths for file in _files_of(Path(path))))
    folders = tuple(dict.fromkeys(file.parent for file in files))
    design = _one_design([folder / DESIGN for folder in folders if (folder / DESIGN).is_file()])
    found: dict[tuple[object, ...], tuple[Line, str]] = {}
    keys: dict[str, Line] = {}
    windows: dict[tuple[object, ...], tuple[int | None, str]] = {}
    models: dict[tuple[object, ...], tuple[str, str]] = {}
    n_repeated = n_torn = 0
    for file in files:
        for line, place in _parse(file):
            if line is None:
                n_torn += 1
                continue
            before = found.setdefault(line.identity, (line, place))
            if before[0] is not line:
                _refuse_another_result(before, (line, place))
                n_repeated += 1
                continue
            if keys.setdefault(line.key, line) is not line:
                raise ConfigError(
                    f"{place} has the key {line.key!r} of another evaluation; a key is of one "
                    "evaluation, so give the lines as the study wrote them"
                )
            count = windows.setdefault((line.dataset, line.seed, line.fold), (line.n_windows, place))
            if count[0] != line.n_windows:
                raise ConfigError(
                    f"{count[1]} was scored on {count[0]} windows of {line.dataset} and {place} on "
                    f"{line.n_windows}; these are two designs, make one report for each"
                )
            if line.model is not None:
                model, at = models.setdefault(line.identity[: len(TRAINING)], (line.model, place))
                if model != line.model:
                    raise ConfigError(
                        f"{at} and {place} are of one training but of two models, {model} and {line.model}; "
                        "keep the lines of one of them and run the study again"
                    )
            _refuse_strangers(line, place, design)
    if not found:
        raise InputError(f"{_said(paths)} holds no result line; run `sentryfuse study` first")
    answers = tuple(folder / ANSWERS for folder in folders if (folder / ANSWERS).is_dir())
    return Study(tuple(line for line, _ in found.values()), design, answers, n_repeated, n_torn)


def _files(folder: Path) -> list[Path]:
    """Files named `lines*`, otherwise every file of lines."""
    return line_files(folder) or sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = _files(path)
    if not files:
        raise InputError(f"{path} holds no lines*.jsonl; run `sentryfuse study` first, or name a file")
    return files


def _parse(file: Path) -> Iterable[tuple[Line | None, str]]:
    """Every line with the place it stands; `None` for a half-written last one."""
    lines, torn = read_json_lines(file)
    for number, data in lines:
        place = f"{file.name} line {number}"
        try:
            yield Line.model_validate(data), place
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"]) or "(all)"
            raise InputError(
                f"{place} is no result line of a study: key {key!r}, {first['msg'].lower()}; give "
                "the lines that `sentryfuse study` wrote"
            ) from error
    if torn:
        yield None, file.name


def _one_design(paths: Sequence[Path]) -> dict[str, Any]:
    """The design all parts share."""
    design: dict[str, Any] = {}
    for path in paths:
        read = read_json(path)
        if not isinstance(read, dict) or not isinstance(read.get("datasets", {}), dict):
            raise InputError(f"{path} is no design of a study; give the one that `sentryfuse study` wrote")
        if not design:
            design = read
        elif (key := _difference(design, read)) is not None:
            raise ConfigError(
                f"{paths[0]} and {path} are two designs, {key!r} differs; make one report for each"
            )
    return design


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    keys = sorted((one.keys() | other.keys()) - CIRCUMSTANCES)
    return next((key for key in keys if one.get(key) != other.get(key)), None)


def _refuse_strangers(line: Line, place: str, design: dict[str, Any]) -> None:
    """A line whose cell is not among those of the design."""
    for key, value in (
        ("backbones", line.backbone),
        ("datasets", line.dataset),
        ("ratios", line.ratio),
        ("missing_rates", line.missing_rate),
    ):
        wanted = design.get(key)
        if wanted and value not in wanted and not (key == "ratios" and line.is_dense):
            raise ConfigError(
                f"{place} has {value!r}, which is not among the {key} of {DESIGN}; these are two "
                "designs, make one report for each"
            )


def _refuse_another_result(before: tuple[Line, str], now: tuple[Line, str]) -> None:
    """Equal numbers may be there twice, as when parts of a study overlap."""
    for name in (*SCORES, *COUNTS):
        one, other = getattr(before[0], name), getattr(now[0], name)
        if one != other:
            raise ConfigError(
                f"{before[1]} and {now[1]} are the same evaluation with {name} {json.dumps(one)} and "
                f"{json.dumps(other)}; find out which is right and give only that"
            )


def _said(paths: Sequence[str | Path]) -> str:
    return ", ".join(str(path) for path in paths) or "nothing"
