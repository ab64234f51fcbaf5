"""What one answer of the readout costs: numpy beside the graph, one window, one thread.

The graph is timed twice: sorting the windows itself, and given them as numpy prepares them (that time
counts). Times are those of made windows of two made rigs; every head has a weight.

usage: python -m benchmarks.readout_speed [--repeats N] [--trees] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.graph.readout import alike, write_readout
from sentryfuse.readout import Readout, fit_readout
from sentryfuse.statistics import features, order_statistics
from sentryfuse.types import Modality

CLASSES = tuple("abcdef")
RIGS = {
    "five alike": tuple(Modality(f"s{i}", 25.0, 125, tuple("abcdefghi")) for i in range(5)),
    "mixed": (
        Modality("acc", 32.0, 1920, tuple("xyz")),
        Modality("bvp", 64.0, 3840, ("v",)),
        Modality("eda", 4.0, 240, ("v",)),
        Modality("temp", 4.0, 240, ("v",), may_miss=True),
    ),
}
Windows = dict[str, NDArray[np.float32]]


def fitted(modalities: tuple[Modality, ...], *, trees: bool) -> tuple[Readout, Windows]:
    """A readout of made windows, every head of which has a weight, and some of the windows."""
    rng = np.random.default_rng(0)
    n = 120
    y = np.arange(n) % len(CLASSES)
    x: Windows = {}
    for m in modalities:
        noise = rng.normal(size=(n, m.length, m.n_channels))
        x[m.name] = (noise * (1 + 0.1 * y[:, None, None])).astype(np.float32)
        if m.may_miss:
            x[m.name][rng.random(noise.shape) < 0.2] = np.nan
    table = {m.name: features(m, x[m.name]) for m in modalities}
    subject = np.arange(n) * 4 // n
    readout = fit_readout(table, y, subject, CLASSES, trees=trees, normalise="population").readout
    return replace(readout, pool=np.maximum(readout.pool, 0.1)), x


def timed(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median and shortest time [us]."""
    for _ in range(min(repeats, 50)):
        call()
    taken = np.empty(repeats)
    for i in range(repeats):
        start = time.perf_counter()
        call()
        taken[i] = time.perf_counter() - start
    return {"p50_us": float(np.median(taken)) * 1e6, "least_us": float(taken.min()) * 1e6}


def prepared(modalities: tuple[Modality, ...], one: Windows) -> Windows:
    """Inputs of the graph: what numpy prepares, sensors that are alike at once, and the other windows."""
    found: Windows = {}
    for sensors, outside in alike(modalities, 1):
        windows = [one[m.name] for m in sensors]
        if not outside:
            found |= {f"window.{m.name}": x for m, x in zip(sensors, windows, strict=True)}
            continue
        turned = np.ascontiguousarray(np.concatenate(windows).transpose(0, 2, 1))
        found[f"turned.{sensors[0].name}"] = turned
        found[f"order.{sensors[0].name}"] = order_statistics(turned, may_miss=sensors[0].may_miss)
    return found


def measure(modalities: tuple[Modality, ...], *, trees: bool, repeats: int) -> dict[str, Any]:
    """Every way to answer from one window."""
    readout, windows = fitted(modalities, trees=trees)
    solved = readout.solve(readout.sensors)
    one = {name: np.ascontiguousarray(x[:1]) for name, x in windows.items()}

    def by_numpy() -> NDArray[np.float64]:
        return readout.log_probabilities({m.name: features(m, one[m.name]) for m in modalities}, solved)

    feed: Mapping[str, NDArray[np.float32]] = {f"window.{name}": x for name, x in one.items()}
    found: dict[str, Any] = {"numpy": timed(by_numpy, repeats // 5)}
    for name, given in (("graph", False), ("graph given sorted windows", True)):
        start = time.perf_counter()
        model = write_readout(readout, solved, modalities, batch=1, fused=True, sorts=not given)
        written = time.perf_counter()
        answer = OnnxRuntime().build(model, threads=1, batch=1)
        built = time.perf_counter()

        def ask(answer: Any = answer, given: bool = given) -> Any:
            return answer(prepared(modalities, one) if given else feed)

        gap = float(np.abs(ask() - by_numpy()).max())
        size = {"write_ms": (written - start) * 1e3, "build_ms": (built - written) * 1e3, "bytes": len(model)}
        found[name] = {**timed(ask, repeats), **size, "largest_gap": gap}
        if given:
            fixed = prepared(modalities, one)

            def alone(answer: Any = answer, fixed: Any = fixed) -> Any:
                return answer(fixed)

            found["graph alone"] = timed(alone, repeats)
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=500)
    parser.add_argument("--trees", action="store_true", help="with trees; needs scikit-learn")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = {name: measure(rig, trees=given.trees, repeats=given.repeats) for name, rig in RIGS.items()}
    rows["load"] = {"one_minute": os.getloadavg()[0], "cores": os.cpu_count()}
    text = json.dumps(rows, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
