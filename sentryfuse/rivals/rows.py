"""Scores and costs of ours and of rivals, a row for each system and set of sensors.

Notation: N windows · K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.data import Windows
from sentryfuse.data.metrics import scores
from sentryfuse.engine.session import Session
from sentryfuse.progress import Progress
from sentryfuse.rivals.features import Table
from sentryfuse.rivals.models import SENSOR_SUM, Rival, Workshop
from sentryfuse.rivals.timing import Batch, at_most, median_ms
from sentryfuse.rivals.verdict import ALL, ONE_MISSING, OURS
from sentryfuse.runtime.score import score
from sentryfuse.types import Budget

SCORES = ("accuracy", "macro_f1", "auroc", "nll", "ece", "mae", "rmse", "r2", "map")
MEANS = (*SCORES, "time_ms", "size_mb", "macs")
TIMED = 8  # different windows

Sets = list[tuple[tuple[str, ...], NDArray[np.intp]]]  # sensors, and windows that have any of them


def our_rows(
    bundle: Bundle,
    windows: Windows,
    sets: Sets,
    budgets: Sequence[tuple[float, Budget]],
    threads: int,
    *,
    timed: bool,
) -> list[dict[str, Any]]:
    """A row for every ratio and set; without a time where none is asked for."""
    scored = score(
        bundle,
        windows,
        present=[names for names, _ in sets],
        budgets=[budget for _, budget in budgets],
        threads=threads,
    )
    found = []
    for at, (names, indices) in enumerate(sets):
        batches = _some_windows(windows, indices, names) if timed else []
        for number, (ratio, budget) in enumerate(budgets):
            row = scored[at * len(budgets) + number]
            plan = bundle.plan(names, budget)
            time_ms = None
            if timed:
                time_ms = median_ms(Session(bundle, plan, threads=1, batch=1).run, batches)
            found.append(
                {
                    "system": OURS,
                    "ratio": ratio,
                    "presence": ALL if at == 0 else ONE_MISSING,
                    **{key: row[key] for key in SCORES if key in row},
                    "time_ms": time_ms,
                    "size_mb": plan.cost.weights_mb,
                    "macs": row["macs"],
                    "n_models": 1,
                    "n_windows": row["n_windows"],
                    "n_refused": row["n_refused"],
                }
            )
    return found


def rival_rows(
    workshop: Workshop,
    windows: Windows,
    sets: Sets,
    rivals: Sequence[str],
    *,
    timed: bool,
) -> Iterator[dict[str, Any]]:
    """A row for every rival and set; without a time where none is asked for."""
    indices = windows.indices("test")
    table = Table.of_recording(windows, indices)
    with Progress("rivals", len(rivals) * len(sets), even=False) as bar:
        for number, rival in enumerate(rivals):
            for at, (names, answered) in enumerate(sets):
                model = workshop.fit(rival, names)
                part = table.rows(np.isin(indices, answered))
                time_ms = None
                if timed:
                    batches = _some_windows(windows, answered, names)
                    with at_most(1):
                        time_ms = median_ms(partial(_answer, model, windows), batches)
                yield {
                    "system": rival,
                    "ratio": None,
                    "presence": ALL if at == 0 else ONE_MISSING,
                    **scores(windows.y[answered], model.probabilities(part), windows.target),
                    "time_ms": time_ms,
                    "size_mb": model.n_bytes / 1e6,
                    "macs": None,
                    "n_models": 1,
                    "n_windows": len(answered),
                    "n_refused": len(indices) - len(answered),
                }
                bar.update(number * len(sets) + at + 1, rival)


def _answer(model: Rival, windows: Windows, batch: Batch) -> NDArray[np.float64]:
    return model.probabilities(Table.of_batch(windows.modalities, batch))


def _some_windows(windows: Windows, indices: NDArray[np.intp], names: Sequence[str]) -> list[Batch]:
    """Windows for timing, one at a time, those with all the sensors first."""
    columns = [windows.names.index(name) for name in names]
    lacking = (~windows.present[indices][:, columns]).sum(axis=1)
    chosen = indices[np.argsort(lacking, kind="stable")][:TIMED]
    return [windows.batch(chosen[i : i + 1], names) for i in range(len(chosen))]


def merged(found: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row for each system, ratio and kind of presence: means, and sums of what is counted."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for presence in (ALL, ONE_MISSING):
        for row in found:
            if row["presence"] == presence:
                groups.setdefault((presence, row["system"], row["ratio"]), []).append(row)
    for rows in groups.values():
        row = dict(rows[0])
        for key in MEANS:
            if key not in row:
                continue
            values = [one[key] for one in rows]
            row[key] = None if None in values else float(np.mean(values))
        for key in ("n_windows", "n_refused"):
            row[key] = sum(one[key] for one in rows)
        if row["system"] not in (OURS, SENSOR_SUM):  # one of those serves every set
            row["n_models"] = len(rows)
        if row["macs"] is not None:
            row["macs"] = round(row["macs"])
        yield row
