"""Latency of pruned sub-networks against the dense model of the same engine and of eager torch, by tokens.

    python benchmarks/speed.py            about a minute; run it when nothing else runs

Batch 1, one thread; onnxruntime and, as what a user would start from, the dense model in eager torch.
Configurations take turns, so that drift hits all alike. Weights are random: speed does not depend on them.
Writes docs/results/speed.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from sentryfuse import Budget, Modality, create_model, export_bundle, load_bundle
from sentryfuse.engine.session import Session
from sentryfuse.machine import machine

ROOT = Path(__file__).resolve().parent.parent
RATIOS = (0.0, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98)
EAGER = "eager torch, dense"
SHAPES = {  # sensors, patches per sensor, width
    "5 x 17 tokens, d 64 (preset small)": (5, 16, 64),
    "2 x 65 tokens, d 64": (2, 64, 64),
    "5 x 65 tokens, d 64": (5, 64, 64),
    "1 x 129 tokens, d 128": (1, 128, 128),
    "2 x 65 tokens, d 128": (2, 64, 128),
    "2 x 129 tokens, d 128": (2, 128, 128),
    "2 x 129 tokens, d 192": (2, 128, 192),
}


def main() -> None:
    """Measure every shape and write one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300, help="timed answers per configuration")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "speed.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, shape in SHAPES.items():
        for row in measure(name, *shape, rounds=options.rounds):
            rows.append(row)
            print(
                f"{row['shape']:36s} {row['engine']:12s} r={row['ratio']:.2f}  {row['macs'] / 1e6:6.1f} MMAC "
                f"p50 {row['latency_ms']['p50']:7.3f} ms  p95 {row['latency_ms']['p95']:7.3f} ms  "
                f"{row['speed_up']:.2f}x",
                flush=True,
            )
    result = {
        "engine": f"onnxruntime {onnxruntime.__version__}",
        "torch": torch.__version__,
        "threads": 1,
        "batch": 1,
        "rounds": options.rounds,
        "rows": rows,
        **machine(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(name: str, sensors: int, patches: int, d_model: int, *, rounds: int) -> list[dict[str, Any]]:
    """Time dense and pruned sessions of one shape, in turns."""
    torch.manual_seed(0)
    length = 8 * patches
    modalities = [Modality(f"s{i}", 25.0, length, tuple("xyz")) for i in range(sensors)]
    options = {"tokens": patches, "d_model": d_model, "head_dim": d_model // 8, "d_ff": 4 * d_model}
    model = create_model("maestro", modalities=modalities, classes=list("abcde"), options=options)
    with torch.no_grad():  # an untrained gate finds all units equal; this one has opinions
        model.gate.units.bias.normal_(0, 0.5)
    with tempfile.TemporaryDirectory() as folder:
        export_bundle(model, Path(folder) / "model.bundle")
        bundle = load_bundle(Path(folder) / "model.bundle")
    rng = np.random.default_rng(0)
    windows = {m.name: rng.standard_normal((1, length, 3), dtype=np.float32) for m in modalities}
    sessions = {r: Session(bundle, bundle.plan(None, Budget(ratio=r)), batch=1) for r in RATIOS}
    tensors = {name: torch.from_numpy(x) for name, x in windows.items()}
    model.eval()

    def eager() -> None:
        with torch.inference_mode():
            model(tensors).softmax(1).numpy()

    answers: dict[Any, Callable[[], Any]] = {r: partial(s.run, windows) for r, s in sessions.items()}
    answers[EAGER] = eager
    times: dict[Any, list[float]] = {key: [] for key in answers}
    for i in range(rounds + rounds // 5):
        for key, answer in answers.items():
            started = time.perf_counter()
            answer()
            if i >= rounds // 5:
                times[key].append(1e3 * (time.perf_counter() - started))
    dense, slow = statistics.median(times[0.0]), statistics.median(times[EAGER])
    return [
        {
            "shape": name,
            "engine": "torch" if key == EAGER else "onnxruntime",
            "ratio": 0.0 if key == EAGER else key,
            "macs": sessions[0.0 if key == EAGER else key].plan.cost.macs,
            "weights_mb": sessions[0.0 if key == EAGER else key].plan.cost.weights_mb,
            "latency_ms": {f"p{q}": float(np.percentile(took, q)) for q in (25, 50, 75, 95, 99)},
            "speed_up": dense / statistics.median(took),
            "speed_up_over_torch": slow / statistics.median(took),
        }
        for key, took in times.items()
    ]


if __name__ == "__main__":
    main()
