"""What fine-tuning after pruning costs and gives, beside a sub-network that needs none.

    python benchmarks/finetuned.py --data DATA --runs STUDY/runs          ten minutes on one core

For one training per backbone and recording (the lowest seed or fold found): the plainly trained model is
planned by static Taylor, cut and fine-tuned for five epochs; the elastic model's sub-network is planned by
the gate and used as it is. Processor seconds of fine-tuning are counted against the time of one decision
(gate and plan, for sensors and a budget not seen before); those of both trainings stand beside. One
thread, as in the study. Writes docs/results/study/finetuned.json and resumes.
"""

from __future__ import annotations

import argparse
import random
import time
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentryfuse import Budget, from_pretrained, plan
from sentryfuse.data import Windows, fold, load_windows
from sentryfuse.files import read_json, write_json
from sentryfuse.machine import machine
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.pruning import prune
from sentryfuse.pruning.calibration import Calibrator
from sentryfuse.pruning.evaluation import evaluate
from sentryfuse.pruning.planner import make_planner
from sentryfuse.pruning.scorers import make_scorer
from sentryfuse.training import fine_tune

ROOT = Path(__file__).resolve().parent.parent
RATIOS = (0.6, 0.8)
MISSING_RATES = (None, 0.4)
EPOCHS = 5
DECISION_RATIOS = (0.2, 0.4, 0.6, 0.8)
DECISIONS = 200  # at most


def main() -> None:
    """Measure every pair of trainings found and write one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the npz files")
    parser.add_argument("--runs", type=Path, required=True, help="folder of run folders, such as STUDY/runs")
    parser.add_argument("--only", default="", help="part of the names of the trainings wanted")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "study" / "finetuned.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = read_json(options.out)["rows"] if options.out.is_file() else []
    done = {(row["backbone"], row["dataset"]) for row in rows}
    for plain in sorted(options.runs.glob("*-plain-seed*")):
        elastic = plain.with_name(plain.name.replace("-plain-", "-gate-"))
        if options.only not in plain.name or not all(
            (run / "metrics.json").is_file() for run in (plain, elastic)
        ):
            continue
        model = from_pretrained(plain)
        if (model.config.backbone, str(model.config.about["dataset"])) in done:
            continue
        rows += measure(plain, elastic, options.data)
        done.add((rows[-1]["backbone"], rows[-1]["dataset"]))
        print(f"{plain.name}: done", flush=True)
        write_json(options.out, {"rows": rows, "epochs": EPOCHS, **machine()})


def measure(plain: Path, elastic: Path, data: Path) -> list[dict[str, Any]]:
    """Both ways at every ratio."""
    static, ours = from_pretrained(plain), from_pretrained(elastic)
    windows = load_windows(data / f"{static.config.about['dataset']}.npz")
    if "fold" in static.config.about:
        i, k = (int(number) for number in static.config.about["fold"].split("/"))
        windows = windows.with_split(fold(windows.subject, i, k))
    cost = {
        "plain_cpu_s": training_seconds(plain),
        "elastic_cpu_s": training_seconds(elastic),
        "decision_ms": decision_ms(ours),
    }
    rows = []
    for ratio in RATIOS:
        scorer = make_scorer("taylor", Calibrator(static, windows))
        planned = make_planner(static, scorer, Budget(ratio=ratio))(static.names)
        small = prune(static, planned)
        before = scores(small, windows, 0.0)
        history = fine_tune(small, windows, epochs=EPOCHS)
        rows.append(
            {
                "backbone": static.config.backbone,
                "dataset": static.config.about["dataset"],
                "ratio": ratio,
                "pruned": before,
                "fine_tuned": scores(small, windows, 0.0),
                "ours": scores(ours, windows, ratio),
                "fine_tuning_cpu_s": sum(row["cpu_seconds"] for row in history),
                **cost,
            }
        )
    return rows


def scores(model: SentryModel, windows: Windows, ratio: float) -> list[float]:
    """Test accuracy (AUROC for two classes) with all sensors, and with 0.4 of them missing."""
    rows = evaluate(model, windows, missing_rates=MISSING_RATES, ratios=(ratio,))
    return [row["accuracy"] if row["auroc"] is None else row["auroc"] for row in rows]


def training_seconds(run: Path) -> float:
    """Processor seconds of a training."""
    return float(sum(row["cpu_seconds"] for row in read_json(run / "metrics.json")["history"]))


def decision_ms(model: SentryModel) -> dict[str, float]:
    """Time from the sensors present to a plan [ms], over sets of sensors and budgets in a random order."""
    sets = [on for n in range(1, len(model.names) + 1) for on in combinations(model.names, n)]
    asked = list(product(sets, DECISION_RATIOS))
    random.Random(0).shuffle(asked)
    times = []
    for present, ratio in asked[:DECISIONS]:
        started = time.perf_counter()
        plan(model, present, Budget(ratio=ratio))
        times.append(1000 * (time.perf_counter() - started))
    return {f"p{q}": float(np.percentile(times, q)) for q in (50, 95)}


if __name__ == "__main__":
    main()
