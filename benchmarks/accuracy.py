"""Train and score on the real recordings; one result file per training, nothing is done twice.

    python benchmarks/accuracy.py --data ../shared/data            everything, about three hours on two cores
    python benchmarks/accuracy.py --data ../shared/data --only dsads
    python benchmarks/accuracy.py --data ../shared/data --pairs    SentryAttend beside dense attention

Every training and evaluation is the command a user would type, in a process of its own. A killed run goes on
where it stopped. Results land in docs/results/accuracy, pairs in docs/results/attention_pairs: there both
sides must be of one recipe, so they are made anew together or not at all. `python benchmarks/readme.py` makes
the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sentryfuse.files import write_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
COMMAND = [sys.executable, "-m", "sentryfuse"]


@dataclass(frozen=True)
class Cell:
    """One training: data set, who chooses sub-networks, seed, fold of people, normalisation, model."""

    data: str
    elastic: str
    seed: int
    fold: str | None = None
    normalise: str = "train"
    backbone: str = "maestro"
    attention: str = "sentry"

    @property
    def name(self) -> str:
        """File name without suffix."""
        fold = f"-fold{self.fold.replace('/', 'of')}" if self.fold else ""
        dense = "-dense" if self.attention == "dense" else ""
        return f"{self.backbone}{dense}-{self.data}-{self.elastic}-seed{self.seed}{fold}"


SCORERS: list[tuple[str, tuple[float, ...]]] = [
    ("gate", (0, 0.4, 0.6, 0.8)),
    ("magnitude", (0.4, 0.6, 0.8)),
    ("taylor", (0.4, 0.6, 0.8)),
]
BACKBONES = ("maestro", "flexmoe", "mult")


def grid(turn: int, attentions: tuple[str, ...] = ("sentry",)) -> list[Cell]:
    """One turn over backbones, sets and attentions: a seed, or on wesad_wrist a fold of people."""
    made = []
    for backbone in BACKBONES:
        for attention in attentions:
            model = {"backbone": backbone, "attention": attention}
            made += [
                Cell("dsads", "gate", turn, **model),
                Cell("wesad_wrist", "gate", 0, f"{turn}/5", "subject", **model),
                Cell("physionet2012", "gate", turn, **model),
            ]
    return sorted(made, key=lambda cell: cell.data)


CELLS = [
    *grid(0),
    *(Cell("dsads", "none", seed) for seed in range(3)),
    *(Cell("room_occupancy", "gate", seed) for seed in range(3)),
    *grid(1),
    *grid(2),
    *(Cell("wesad_wrist", "gate", 0, f"{i}/5", "subject") for i in (3, 4)),
    *(Cell("dsads", "static", seed) for seed in range(3)),
]
PAIRS = [cell for turn in range(3) for cell in grid(turn, ("sentry", "dense"))]


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the npz files")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where models are kept")
    parser.add_argument(
        "--only", help="part of the names of the cells to run, such as dsads or flexmoe-dsads"
    )
    parser.add_argument(
        "--pairs", action="store_true", help="both kinds of attention, scored by the gate alone"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at once")
    options = parser.parse_args()
    # one thread per training: several small ones side by side finish sooner than one after the other
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // options.jobs))
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]

    def run(cell: Cell) -> None:
        target = RESULTS / ("attention_pairs" if options.pairs else "accuracy") / f"{cell.name}.json"
        if target.is_file() or (options.only or "") not in cell.name:
            return
        print(f"== {cell.name}", flush=True)
        scorers = SCORERS[:1] if options.pairs else SCORERS
        result = measure(cell, options.data / f"{cell.data}.npz", options.runs / cell.name, scorers)
        write_json(target, result)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run, PAIRS if options.pairs else CELLS))


def measure(
    cell: Cell, data: Path, run: Path, scorers: list[tuple[str, tuple[float, ...]]]
) -> dict[str, object]:
    """Train one cell and score it on the test people."""
    fold = ["--fold", cell.fold] if cell.fold else []
    started = time.perf_counter()
    if not (run / "metrics.json").is_file():
        train = ["train", "--data", str(data), "--out", str(run), "--seed", str(cell.seed)]
        train += ["--elastic", cell.elastic, "--normalise", cell.normalise, *fold]
        train += ["--backbone", cell.backbone, "--attention", cell.attention]
        call(train)
    with np.load(data) as file:
        names = [str(name) for name in file["modalities"]]
    sets = ["all", *(",".join(n for n in names if n != missing) for missing in names)]
    rows = []
    for scorer, ratios in scorers:
        scores = run / f"scores-{scorer}.json"
        evaluate = ["evaluate", str(run), "--data", str(data), "--json", str(scores), "--quiet", *fold]
        evaluate += ["--scorer", scorer]
        for names_on in sets:
            evaluate += ["--present", names_on]
        for ratio in ratios:
            evaluate += ["--ratio", str(ratio)]
        if not scores.is_file():
            call(evaluate)
        evaluation = json.loads(scores.read_text())
        rows += evaluation["rows"]
    metrics = json.loads((run / "metrics.json").read_text())
    return {
        **evaluation,
        "rows": rows,
        "elastic": cell.elastic,
        "normalise": cell.normalise,
        "attention": cell.attention,
        "fold": cell.fold,
        "train_seconds": round(metrics["seconds"]["train"], 1),
        "epochs": len(metrics["history"]),
        "wall_seconds": round(time.perf_counter() - started, 1),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
    }


def call(arguments: list[str]) -> None:
    """Run one command of sentryfuse; its progress is shown."""
    subprocess.run(COMMAND + arguments, check=True, cwd=ROOT, stdin=subprocess.DEVNULL)


def processor() -> str:
    """Name of the processor, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
