"""What fine-tuning after pruning costs and gives, beside a sub-network that needs none.

    python benchmarks/finetuned.py --data DATA --runs STUDY/runs          about an hour on two cores

For one training per backbone and recording (the lowest seed or fold found): the plainly trained model is
planned by static Taylor, cut and fine-tuned for five epochs; the elastic model's sub-network is planned by
the gate and used as it is. Processor seconds of fine-tuning are counted against those of one decision (gate
and plan); those of both trainings stand beside. Writes docs/results/study/finetuned.json.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from sentryfuse import Budget, from_pretrained, plan
from sentryfuse.baselines import make_planner, make_scorer
from sentryfuse.checkpoint import SentryModel
from sentryfuse.data import Windows, fold, load_windows
from sentryfuse.evaluation import evaluate
from sentryfuse.files import read_json, write_json
from sentryfuse.pruning import prune
from sentryfuse.run.bench import machine
from sentryfuse.training import fine_tune

ROOT = Path(__file__).resolve().parent.parent
RATIOS = (0.6, 0.8)
MISSING_RATES = (None, 0.4)
EPOCHS = 5
DECISIONS = 50


def main() -> None:
    """Measure every pair of trainings found and write one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the npz files")
    parser.add_argument("--runs", type=Path, required=True, help="folder of run folders, such as STUDY/runs")
    parser.add_argument("--only", default="", help="part of the names of the trainings wanted")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "study" / "finetuned.json")
    options = parser.parse_args()
    rows = read_json(options.out)["rows"] if options.out.is_file() else []
    done = {(row["backbone"], row["dataset"]) for row in rows}
    for plain in sorted(options.runs.glob("*-plain-seed0*")):
        elastic = plain.with_name(plain.name.replace("-plain-", "-gate-"))
        if options.only not in plain.name or not (elastic / "metrics.json").is_file():
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
        scorer = make_scorer("taylor", static, windows)
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


def decision_ms(model: SentryModel) -> float:
    """Median time from the sensors present to a plan [ms]."""
    times = []
    for _ in range(DECISIONS):
        started = time.perf_counter()
        plan(model, None, Budget(ratio=0.6))
        times.append(1000 * (time.perf_counter() - started))
    return sorted(times)[DECISIONS // 2]


if __name__ == "__main__":
    main()
