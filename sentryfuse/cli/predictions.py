"""What `sentryfuse predict` reads, and what it shows of answers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.cli.options import check_split, open_windows
from sentryfuse.cli.output import Output
from sentryfuse.data import Windows
from sentryfuse.errors import ConfigError
from sentryfuse.runtime.answers import Answers
from sentryfuse.types import Budget, sensor_label

MOST_SETS = 8  # of sensors, shown


def open_unlabelled(
    bundle: Bundle, data: str, *, fold: str | None, hop_s: float | None, split: str | None
) -> tuple[Windows, NDArray[np.float64] | None]:
    """The windows behind `--data`, and where each one ends [s] if they were cut from a CSV file.

    Raises:
        ConfigError: an option that does not go with this kind of file, or a split without windows.
        DataError: a file that cannot be used.
    """
    if not data.lower().endswith(".csv"):
        if hop_s is not None:
            raise ConfigError(f"--hop-s is for CSV files, and {data} holds windows already; leave it out")
        windows = open_windows(data, fold)
        if split is not None:
            check_split(windows, split)
        return windows, None
    if fold is not None or split not in (None, "all"):
        raise ConfigError(f"{data} is of one person and has no splits; leave --split and --fold out")
    from sentryfuse.runtime.cutting import cut_csv

    return cut_csv(data, bundle, hop_s=hop_s)


def show_answers(
    output: Output, answers: Answers, facts: dict[str, Any], *, budget: Budget
) -> dict[str, Any]:
    """Windows by answer and by sensors.

    Returns:
        The same for `--json`: `n_windows`, `n_refused`, windows by `answers` and by `sensors`, `macs`.
    """
    names = [plan.present for plan in answers.plans]
    sets = Counter(names[k] for k in answers.plan if k >= 0)
    said = answers.answer
    kinds = Counter(kind for kind in said if isinstance(kind, str))
    refused = int((answers.plan < 0).sum())
    macs = [answers.plans[k].cost.macs for k in answers.plan if k >= 0]
    numbers = answers.probabilities[answers.plan >= 0]
    title = f"{facts['dataset']}, {facts['split']}"
    told: dict[str, Any] = {"answers": dict(kinds)}
    if answers.target.task == "regression":
        rows = [
            (name, *(float(of(numbers[:, k])) for of in (np.min, np.mean, np.max)), len(numbers))
            for k, name in enumerate(answers.classes)
        ]
        output.table(title, ("number", "smallest", "mean", "largest", "windows"), rows)
        told = {"values": {row[0]: dict(zip(("min", "mean", "max"), row[1:4], strict=True)) for row in rows}}
    else:
        order = answers.classes if answers.target.of_classes else sorted(kinds)
        shown = [(kind or "no label", kinds[kind]) for kind in order]
        output.table(title, ("answer", "windows"), shown + ([("none", refused)] if refused else []))
    every = max(names, key=len)
    output.table(
        "sensors they are made of",
        ("sensors", "windows"),
        [(sensor_label(on, every), n) for on, n in sets.most_common(MOST_SETS)],
    )
    return {
        "ratio": budget.ratio or 0.0,
        "n_windows": len(answers) - refused,
        "n_refused": refused,
        **told,
        "sensors": [{"present": list(on), "n_windows": n} for on, n in sets.most_common()],
        "macs": round(float(np.mean(macs))),
    }
