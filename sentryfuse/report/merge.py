"""Put single result files together into one results dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sentryfuse.errors import ConfigError, InputError
from sentryfuse.files import read_json, read_json_lines
from sentryfuse.report.results import parse_results

SAME = ("dataset", "backbone", "split")
ONE_RUN = ("title", "made", "data", "model", "training", "layout", "replay")


def merge_results(paths: Sequence[Path]) -> dict[str, Any]:
    """Put several result files of the same dataset and backbone together.

    Files may be whole `results.json`, the JSON of `evaluate`, `bench`, `plan` and `data describe`,
    a layout, or the trace of `run` (JSON or one JSON object per line). Rows of evaluations, plans
    and bench are collected, equal ones once; rows of different seeds stay apart and are averaged in
    tables and figures. Sections that describe one run (made, data, model, training, layout, replay)
    are those of the first file that has them.

    Args:
        paths: the files, in the order of their precedence.

    Returns:
        A dictionary that `write_report` accepts.

    Raises:
        ConfigError: no file, or evaluations of different datasets, backbones or splits.
        InputError: a file cannot be read, is of no known kind, or no file holds an evaluation.
    """
    if not paths:
        raise ConfigError("no result file was given; name at least one JSON file of `sentryfuse evaluate`")
    merged: dict[str, Any] = {}
    known: dict[str, tuple[str, Path]] = {}
    rows: list[dict[str, Any]] = []
    seeds: list[int] = []
    collected: dict[str, list[Any]] = {"plans": [], "bench": []}
    for path in map(Path, paths):
        sections = _sections(path)
        try:
            parse_results({"evaluation": {"rows": [_ANY_ROW]}, **sections})
        except InputError as error:
            raise InputError(f"{path.name}: {error}") from error
        for key in ONE_RUN:
            if sections.get(key) is not None:
                merged.setdefault(key, sections[key])
        for key, values in collected.items():
            values.extend(item for item in sections.get(key) or () if item not in values)
        evaluation = sections.get("evaluation")
        if evaluation is None:
            continue
        for key in SAME:
            _agree(key, evaluation.get(key), path, known)
        seed = evaluation.get("seed")
        found = seed if isinstance(seed, list) else [] if seed is None else [seed]
        seeds.extend(item for item in found if item not in seeds)
        for row in evaluation["rows"]:
            marked = row if seed is None or isinstance(seed, list) else {"seed": seed, **row}
            if marked not in rows:
                rows.append(marked)
    if not rows:
        raise InputError(
            f"none of the {len(paths)} files holds an evaluation; add one that `sentryfuse "
            "evaluate --json` wrote"
        )
    one_seed = seeds[0] if len(seeds) == 1 else seeds or None
    about = {key: value for key, (value, _) in known.items()}
    merged["evaluation"] = {**about, "seed": one_seed, "rows": rows}
    merged.update({key: values for key, values in collected.items() if values})
    return merged


_ANY_ROW = {"present": ["any"], "ratio": 0.0, "accuracy": 0.0}


def _agree(key: str, value: str | None, path: Path, known: dict[str, tuple[str, Path]]) -> None:
    """Keep the value of the first file and refuse another file with another value."""
    if value is None:
        return
    before = known.setdefault(key, (value, path))
    if before[0] != value:
        raise ConfigError(
            f"{before[1].name} has {key} {before[0]!r} and {path.name} has {value!r}; "
            "make one report for each"
        )


def _sections(path: Path) -> dict[str, Any]:
    """Read one file and find out which sections it holds."""
    found = _read(path)
    if isinstance(found, dict) and "evaluation" not in found:
        if isinstance(found.get("rows"), list):
            rows = found["rows"]
            if rows and all(isinstance(row, dict) and "accuracy" in row for row in rows):
                return {"evaluation": found}
            found = rows
        elif "kept" in found and "present" in found:
            found = [found]
        elif "steps" in found and "d_model" in found:
            return {"layout": found}
        elif "modalities" in found and "n_windows" in found:
            return {"data": found}
    if isinstance(found, list) and found and all(isinstance(row, dict) for row in found):
        for mark, section in (("latency_ms", "bench"), ("kept", "plans"), ("epoch", "training")):
            if all(mark in row and "t_s" not in row for row in found):
                return {section: found}
        if all("t_s" in row for row in found):
            return {"replay": found}
    if isinstance(found, dict) and set(found) & {"evaluation", "bench", "plans", *ONE_RUN}:
        return found
    raise InputError(
        f"{path.name} is no result file: it has neither rows of evaluate, bench, plan or run nor "
        "the sections of results.json; give a file that sentryfuse wrote with --json"
    )


def _read(path: Path) -> Any:
    """JSON, or one JSON object per line."""
    try:
        return read_json(path)
    except InputError:
        lines: list[tuple[int, Any]] = []
        torn = False
        with suppress(InputError):  # what is wrong with the file as a whole is the better message
            lines, torn = read_json_lines(path)
        if torn or len(lines) < 2:
            raise
        return [line for _, line in lines]
