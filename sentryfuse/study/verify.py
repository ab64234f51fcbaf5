"""Computes some lines of a study again and compares; needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sentryfuse.errors import ConfigError
from sentryfuse.progress import say
from sentryfuse.study.lines import COUNTS, IDENTITY, SCORES, line_files
from sentryfuse.study.runner import Workers, all_jobs, choose, refuse_failures, run_all
from sentryfuse.study.store import read_design, read_lines
from sentryfuse.study.tasks import Outcome, Task
from sentryfuse.training.folder import METRICS

TOLERANCE = 0.002  # of every score; threads and processors add up in other orders,
FLIPS = 1  # which may turn so many answers


def verify(folder: Path, workers: Workers, n: int) -> list[dict[str, Any]]:
    """Compute a random sample of lines again from the design and the trained models.

    Writes nothing into the folder. A model that is not there is trained again.

    Args:
        folder: of the study: its design and its lines, also compressed.
        workers: where jobs run.
        n: how many lines.

    Returns:
        A dictionary per line: its identity, `accuracy`, `again`, and whether they `agree`.

    Raises:
        ConfigError: no study, lines of another design or other data, or a job failed.
    """
    design = read_design(folder)
    files = line_files(folder)
    if design is None or not files:
        raise ConfigError(
            f"{folder} holds no results of a study; run `sentryfuse study --out {folder}` first"
        )
    lines = {line["key"]: line for line in read_lines(files)}
    ours = choose(all_jobs(design, workers), lines.__contains__)
    keys = [key for item in ours for task in item.evaluations for key in task.line_keys]
    if not keys:
        raise ConfigError(
            f"none of the lines in {folder} comes from its design and this data; give the files it was made "
            "with, and --only a name they have"
        )
    sample = np.random.default_rng().choice(keys, min(n, len(keys)), replace=False)
    wanted = choose(ours, {*sample.tolist()}.__contains__)
    there = sum((workers.runs / item.training.job.name / METRICS).is_file() for item in wanted)
    say(f"{there} of {len(wanted)} trained models are there; {len(wanted) - there} are trained again")
    found: list[dict[str, Any]] = []

    def take(task: Task, outcome: Outcome) -> None:
        for again in outcome.lines:
            line = lines[again["key"]]
            found.append(
                {
                    **{key: line[key] for key in IDENTITY},
                    "accuracy": line["accuracy"],
                    "again": again["accuracy"],
                    "agree": agree(line, again),
                }
            )

    with workers.open() as executor:
        refuse_failures(run_all(wanted, executor, take))
    return found


def agree(line: Mapping[str, Any], again: Mapping[str, Any]) -> bool:
    """Whether a line came out again: equal costs and windows, scores within an answer of it."""
    near = max(TOLERANCE, 1.001 * FLIPS / line["n_windows"])
    bounds = {"accuracy": near, "macro_f1": 3 * near, "auroc": near}
    same = all(again[key] == line[key] for key in COUNTS)
    return same and all(
        again[key] == line[key]
        if line[key] is None or again[key] is None
        else abs(again[key] - line[key]) <= bounds[key]
        for key in SCORES
    )


def refuse_differences(found: list[dict[str, Any]]) -> None:
    """Say which line did not come out again.

    Raises:
        ConfigError: one did not.
    """
    wrong = [line for line in found if not line["agree"]]
    if wrong:
        first = wrong[0]
        name = ", ".join(f"{key} {first[key]}" for key in IDENTITY if first[key] is not None)
        raise ConfigError(
            f"{len(wrong)} of {len(found)} lines did not come out again, the first is "
            f"{name}: {first['accuracy']:.4f} then, {first['again']:.4f} now; look whether the trained model "
            "is the one the lines were made with"
        )
