"""How well a device profile predicts, and whether a budget in milliseconds is kept.

    python benchmarks/budgets.py model.bundle       about two minutes; run it when nothing else runs

Profiles this device with a bundle, then draws other sub-networks (sensors, and a time between the fastest and
the dense model), plans for that time and measures them in turns. Writes docs/results/budgets.json.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from sentryfuse import Budget, Session, load_bundle
from sentryfuse.files import write_json
from sentryfuse.machine import machine
from sentryfuse.measure.bench import random_windows
from sentryfuse.measure.profiling import profile

ROOT = Path(__file__).resolve().parent.parent
PLANS, ROUNDS, WINDOWS = 50, 10, 30


def main() -> None:
    """Profile, plan, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "budgets.json")
    options = parser.parse_args()
    bundle = load_bundle(options.bundle)
    layout = bundle.layout
    device = profile(bundle, seconds=40.0)
    rng = np.random.default_rng(1)  # other plans than those of the profile
    asked = []
    for _ in range(PLANS):
        on = rng.random(len(bundle.names)) < 0.7
        on[rng.integers(len(on))] = True
        present = [name for name, is_on in zip(bundle.names, on, strict=True) if is_on]
        least = bundle.plan(present, Budget(ratio=0.97))
        ends = [device.median_ms(layout, present, kept) for kept in (least.kept, None)]
        limit = device.safe_factor * float(rng.uniform(1.02 * ends[0], ends[1]))
        asked.append((limit, bundle.plan(present, Budget(latency_ms=limit), device)))
    sessions = [Session(bundle, plan, batch=1) for _, plan in asked]
    windows = random_windows(bundle)
    times: list[list[float]] = [[] for _ in sessions]
    for _ in range(ROUNDS):
        for i in rng.permutation(len(sessions)):
            sessions[i].run(windows[0])
            for k in range(WINDOWS):
                started = time.perf_counter()
                sessions[i].run(windows[k % len(windows)])
                times[i].append(1e3 * (time.perf_counter() - started))
    p95 = np.array([np.percentile(t, 95) for t in times])
    predicted = np.array([device.p95_ms(layout, plan.present, plan.kept) for _, plan in asked])
    error = np.abs(predicted / p95 - 1)
    result = {
        **machine(),
        "bundle": bundle.about.get("backbone"),
        "plans": PLANS,
        "windows_each": ROUNDS * WINDOWS,
        "error": {f"p{q}": float(np.percentile(error, q)) for q in (50, 95)},
        "budget_kept": float(np.mean(p95 <= [limit for limit, _ in asked])),
        "p95_factor": device.p95_factor,
        "safe_factor": device.safe_factor,
    }
    print(result)
    write_json(options.out, result)


if __name__ == "__main__":
    main()
