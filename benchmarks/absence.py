"""What absence and slowness save: time of a window without sensors, and with tokens of slow sensors kept.

    python benchmarks/absence.py        about a minute; run it when nothing else runs

Preset `small` of maestro with random weights, six sensors of which three are slow; dense and r = 0.6; one
thread, batch 1, onnxruntime. All variants take turns in one run. Writes docs/results/absence.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import sentryfuse as sf
from sentryfuse.files import write_json
from sentryfuse.machine import machine

ROOT = Path(__file__).resolve().parent.parent
FAST, SLOW = ("acc", "gyro", "ppg"), ("temp", "eda", "chest_temp")


def main() -> None:
    """Export, time, write one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1500, help="timed windows per variant")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "absence.json")
    options = parser.parse_args()
    modalities = [sf.Modality(name, 25.0, 125, ("x", "y", "z")) for name in FAST]
    modalities += [sf.Modality(name, 1.0, 128, ("v",)) for name in SLOW]
    model = sf.create_model("maestro", modalities=modalities, classes=list("abcd"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.bundle"
        sf.export_bundle(model, path)
        bundle = sf.load_bundle(path)
    rows = [row for ratio in (0.0, 0.6) for row in measure(bundle, ratio, options.rounds)]
    for row in rows:
        print(row, flush=True)
    write_json(options.out, {**machine(), "threads": 1, "rounds": options.rounds, "rows": rows})


def measure(bundle: sf.Bundle, ratio: float, rounds: int) -> list[dict[str, Any]]:
    """Variants of one ratio, in turns."""
    budget = sf.Budget(ratio=ratio)
    everything = bundle.plan(None, budget)
    # the same kept units without the slow sensors: what the present part costs by itself
    alone = bundle.plan(FAST, budget)
    whole = sf.Session(bundle, everything, batch=1)
    parts = sf.Session(bundle, everything, batch=1, apart=SLOW)
    absent = sf.Session(bundle, alone, batch=1)
    rng = np.random.default_rng(0)
    windows = {
        m.name: rng.standard_normal((1, m.length, m.n_channels)).astype(np.float32)
        for m in bundle.layout.modalities
    }
    kept: dict[str, Any] = {}
    parts.run(windows, kept)
    variants = {
        "all sensors": lambda: whole.run(windows),
        "all sensors, in parts": lambda: parts.run(windows),
        "all sensors, slow ones kept": lambda: parts.run(windows, kept),
        "slow sensors absent": lambda: absent.run(windows),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, answer in variants.items():
            started = time.perf_counter_ns()
            answer()
            times[name].append((time.perf_counter_ns() - started) / 1e6)
    base = statistics.median(times["all sensors"])
    return [
        {
            "variant": name,
            "ratio": ratio,
            "macs": alone.cost.macs if name == "slow sensors absent" else everything.cost.macs,
            "latency_ms": {f"p{q}": float(np.percentile(t, q)) for q in (25, 50, 75, 95)},
            "of_all": statistics.median(t) / base,
        }
        for name, t in times.items()
    ]


if __name__ == "__main__":
    main()
