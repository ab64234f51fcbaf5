"""Result files -> rows, scores and markdown tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from sentryfuse.report import markdown_table

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
RATIOS = (0.0, 0.4, 0.6, 0.8)
BACKBONES = ("maestro", "flexmoe", "mult")
Row = dict[str, Any]


def result(name: str) -> Row | None:
    """One result file; `None` where it has not been made."""
    path = RESULTS / name
    return json.loads(path.read_text()) if path.is_file() else None


def results(data: str, elastic: str, *, model: str = "maestro", folder: str = "accuracy") -> list[Row]:
    """All result files of one model, data set and way of training, by name."""
    files = sorted((RESULTS / folder).glob(f"{model}-{data}-{elastic}-*.json"))
    return [json.loads(file.read_text()) for file in files]


def scores(runs: Sequence[Row], *, scorer: str, ratio: float, metric: str) -> tuple[list[float], list[float]]:
    """Per run: the score with all sensors, and the mean over the sets with one missing.

    Without pruning nobody ranks anything, so those rows are the gate's.
    """
    scorer = "gate" if ratio == 0 else scorer
    full, missing = [], []
    for run in runs:
        rows = [r for r in run["rows"] if r["scorer"] == scorer and r["ratio"] == ratio]
        most = max(len(r["present"]) for r in rows)
        full += [r[metric] for r in rows if len(r["present"]) == most]
        missing.append(fmean(r[metric] for r in rows if len(r["present"]) == most - 1))
    return full, missing


def shown(values: Sequence[float]) -> str:
    """Mean and, of several, deviation; in percent."""
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.1f}{spread}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table from lists."""
    made = markdown_table([dict(zip(heads, row, strict=True)) for row in rows], heads)
    return made.rstrip("\n")
