"""Faults F1-F21 put into a recording that runs through the real runtime: what is noticed, and when.

The recording and its model: `dsads.npz` in the folder that CAMPAIGN_DATA names, or the made recording
`wearable`; a model is trained for a few epochs the first time. Seconds are those of the stream.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability import fault_machine, fault_memory, fault_samples, fault_times, tables
from benchmarks.reliability.fault_stage import Case, Outcome, Stage
from benchmarks.reliability.record import ROOT, Record
from sentryfuse.bundle import load_bundle
from sentryfuse.data import Windows, open_data

FULL = 50  # trials of each row
EPOCHS = 4
MODELS = ROOT / "runs" / "reliability"
CASES: tuple[Case, ...] = (
    *fault_samples.CASES,
    *fault_times.CASES,
    *fault_machine.CASES,
    *fault_memory.CASES,
)
TOTAL = sum(max(1, round(FULL * case.share)) for case in CASES)  # trials of all rows


def run(out: Path, *, count: int = FULL, seed: int = 0, stage: Stage | None = None) -> dict[str, Any]:
    """Every fault so many times; a row that is complete is not done again.

    Args:
        out: the result file.
        count: trials of each row; rows that start programs take fewer.
        seed: of where, when and how much.
        stage: model and recording, in place of the usual ones.
    """
    with Record(out, "faults", count=count * len(CASES), seed=seed) as record:
        found = record.found
        rows: dict[str, Any] = found.setdefault("rows", {})
        name = "given" if stage is not None else recording_name()
        found["recording"] = name
        stage = stage or open_stage(name)
        for at, case in enumerate(CASES):
            key = f"{case.fault}: {case.what}"
            trials = max(1, round(count * case.share))
            if rows.get(key, {}).get("trials") != trials:
                made = [case.trial(stage, np.random.default_rng((seed, at, k))) for k in range(trials)]
                rows[key] = summary(case, stage, made)
            found["wrong"] = {name: row["wrong"] for name, row in rows.items()}
            record.advance(sum(row["trials"] for row in rows.values()))
    return found


def summary(case: Case, stage: Stage, made: Sequence[Outcome]) -> dict[str, Any]:
    """One row: trials, noticed, times, answers that must not be, means of what else was measured."""
    asked = [outcome.detected for outcome in made if outcome.detected is not None]
    times = [outcome.after_s for outcome in made if outcome.after_s is not None]
    names = {name: None for outcome in made for name in outcome.numbers}
    limit_s = case.limit_s(stage) if case.limit_s else None
    return {
        "fault": case.fault,
        "what": case.what,
        "wanted": case.wanted,
        "trials": len(made),
        "to notice": len(asked),
        "noticed": sum(asked),
        "after_s": {"p50": float(np.median(times)), "max": float(max(times))} if times else None,
        "limit_s": limit_s,
        "over the limit": None if limit_s is None else sum(time > limit_s for time in times),
        "wrong": int(sum(outcome.wrong for outcome in made)),
        "measured": {
            name: float(np.mean([o.numbers[name] for o in made if name in o.numbers])) for name in names
        },
    }


def recording_name() -> str:
    """The recording there is: a real one where it can be had."""
    return "dsads" if (Path(os.environ.get("CAMPAIGN_DATA", "")) / "dsads.npz").is_file() else "wearable"


def open_stage(name: str) -> Stage:
    """The recording and a model of it, trained now where there is none yet."""
    data = str(Path(os.environ["CAMPAIGN_DATA"]) / "dsads.npz") if name == "dsads" else name
    bundle = MODELS / f"{name}.bundle"
    if not bundle.is_file():
        MODELS.mkdir(parents=True, exist_ok=True)
        trained = MODELS / name
        options = ["--epochs", EPOCHS, "--normalise", "train", "--quiet"]
        for asked in (
            ["train", "--data", data, "--out", trained, *options],
            ["export", trained, "--out", bundle, "--quiet"],
        ):
            subprocess.run([sys.executable, "-m", "sentryfuse", *map(str, asked)], check=True, cwd=ROOT)
    return stage_of(open_data(data), bundle)


def stage_of(windows: Windows, bundle: Path) -> Stage:
    """The test windows one after the other, as a stream."""
    rows = windows.indices("test")
    loaded = load_bundle(bundle)
    values = windows.batch(rows, loaded.names)
    recorded = {name: x.reshape(-1, x.shape[-1]) for name, x in values.items()}
    return Stage(loaded, recorded, windows.y[rows])


def table(found: dict[str, Any]) -> str:
    """What docs/reliability.md shows."""
    return tables.faults(found)
