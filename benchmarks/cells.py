"""Latency and memory of every cell of the study on this machine, beside the dense model of the same sensors.

    python benchmarks/cells.py --runs STUDY/runs          ten minutes; run it when nothing else runs

One training per backbone and data set (the lowest seed or fold found), batch 1, one thread, onnxruntime.
A missing rate stands for one set of sensors, the first that is left when so many are gone. Windows are
random: time does not depend on values. Peak memory is that of a fresh process that reads the bundle and
answers; `idle_rss_mb` is a process that has only loaded the same libraries. Writes
docs/results/study/cells.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sentryfuse import export_bundle, from_pretrained, load_bundle
from sentryfuse.files import write_json
from sentryfuse.machine import machine
from sentryfuse.measure.bench import bench
from sentryfuse.model.pretrained import SentryModel

ROOT = Path(__file__).resolve().parent.parent
RATIOS = (0.2, 0.4, 0.6, 0.8)
MISSING_RATES = (0.0, 0.2, 0.4, 0.6)
IDLE = "import onnxruntime; from sentryfuse.measure.bench import _own_peak_bytes as peak; print(peak())"


def main() -> None:
    """Measure every training found and write one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder of run folders, such as STUDY/runs")
    parser.add_argument("--repeats", type=int, default=300, help="windows timed per configuration")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "study" / "cells.json")
    options = parser.parse_args()
    done = subprocess.run([sys.executable, "-c", IDLE], capture_output=True, text=True, check=True)
    rows: list[dict[str, Any]] = []
    for model in models(options.runs):
        rows += measure(model, repeats=options.repeats)
        last = rows[-1]
        print(f"{last['backbone']} {last['dataset']}: {len(rows)} rows", flush=True)
        write_json(options.out, {"rows": rows, "idle_rss_mb": int(done.stdout) / 1e6, **machine()})


def models(runs: Path) -> list[SentryModel]:
    """One model trained elastically by the gate for every backbone and data set."""
    found: dict[tuple[str, str], SentryModel] = {}
    for config in sorted(runs.glob("*/config.json")):
        if not (config.parent / "metrics.json").is_file():
            continue
        model = from_pretrained(config.parent)
        about = model.config.about
        if about.get("elastic") == "gate" and model.config.attention.core == "sentry":
            found.setdefault((model.config.backbone, str(about["dataset"])), model)
    return list(found.values())


def measure(model: SentryModel, *, repeats: int) -> list[dict[str, Any]]:
    """All ratios for one set of sensors per missing rate; rates that leave the same set share its rows."""
    names = model.names
    sets = {rate: names[min(round(rate * len(names)), len(names) - 1) :] for rate in MISSING_RATES}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.bundle"
        export_bundle(model, path)
        made = bench(
            load_bundle(path),
            present=list(dict.fromkeys(sets.values())),
            ratios=RATIOS,
            repeats=repeats,
            builds=0,
            path=path,
        )
    about = {"backbone": model.config.backbone, "dataset": model.config.about["dataset"]}
    return [
        about
        | {"missing_rate": rate}
        | {key: row[key] for key in ("present", "ratio", "latency_ms", "peak_rss_mb", "weights_mb", "macs")}
        for rate, left in sets.items()
        for row in made
        if tuple(row["present"]) == left
    ]


if __name__ == "__main__":
    main()
