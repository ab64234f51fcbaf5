"""The whole path in one call: train, export, score, plan, time, replay, report.

Every score and every time comes from the bundle, as a device would use it; torch only trains and
checks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.data import Windows, describe, leave_one_out, open_data
from sentryfuse.data.learnable import check_training
from sentryfuse.errors import ConfigError
from sentryfuse.files import write_json
from sentryfuse.machine import machine, own_version
from sentryfuse.measure.bench import bench
from sentryfuse.progress import say
from sentryfuse.runtime.replay import Change, replay
from sentryfuse.runtime.score import score
from sentryfuse.types import Budget

if TYPE_CHECKING:
    from sentryfuse.model.pretrained import SentryModel

EPOCHS = 8  # enough to see the effect; about half of the demo's time on two cores
RATIOS = (0.0, 0.4, 0.6, 0.8)
BENCH_REPEATS = 150
BENCH_BUILDS = 20
REPLAY_WINDOWS = 216


def run_demo(
    out: str | Path, *, data: str = "wearable", epochs: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Train on a recording and show what its bundle can do.

    Args:
        out: folder for `results.json`, `report.html` and `model.bundle`; files of an earlier demo
            are replaced one by one, each as a whole.
        data: a name of `list_data`, or an npz file.
        epochs: of training; `None` means few.
        seed: of training.

    Returns:
        What `results.json` holds.

    Raises:
        ModuleNotFoundError: torch, matplotlib or jinja2 is not installed.
        DataError: the recording cannot be used.
    """
    for name in ("torch", "matplotlib", "jinja2"):
        if find_spec(name) is None:  # better now than after a minute of training
            raise ModuleNotFoundError(f"the demo needs {name}", name=name)
    from sentryfuse.report import write_report

    out = Path(out)
    seconds: dict[str, float] = {}
    with _stage("data", seconds):
        windows = open_data(data)
        check_training(windows)
        for split in ("train", "validation", "test"):
            if not len(windows.indices(split)):
                raise ConfigError(f"{windows.name} has no {split} windows; give a recording with all splits")
    with _stage("train", seconds):
        model, history = _train(windows, epochs=epochs, seed=seed)
    with _stage("export", seconds):
        from sentryfuse.export import export_bundle

        checked = export_bundle(model, out / "model.bundle")
        bundle = load_bundle(out / "model.bundle")
    sets = [bundle.names, *leave_one_out(bundle.names)]
    with _stage("evaluate", seconds):
        rows = _score(bundle, windows, sets)
    with _stage("compare", seconds):
        from sentryfuse.rivals.comparison import quick_verdict

        verdict = quick_verdict(bundle, windows)
    with _stage("plan", seconds):
        plans = [bundle.plan(names, Budget(ratio=r)).to_json() for r in RATIOS[1:] for names in sets]
    with _stage("bench", seconds):
        timed = bench(
            bundle,
            ratios=RATIOS,
            repeats=BENCH_REPEATS,
            builds=BENCH_BUILDS,
            path=out / "model.bundle",
        )
        if sets[1:]:
            timed += bench(bundle, present=sets[1:], ratios=RATIOS, repeats=BENCH_REPEATS, builds=0)
    with _stage("replay", seconds):
        stream = replay_stream(bundle, windows)
    with _stage("report", seconds):
        results = {
            "title": f"sentryfuse demo: {windows.name}",
            "verdict": verdict,
            "made": {
                "command": f"sentryfuse demo --data {Path(data).name} --epochs {len(history)} --seed {seed}",
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                **machine(),
                "seconds": dict(seconds),
                "sentryfuse": own_version(),
            },
            "data": describe(windows),
            "model": _model_facts(model, bundle, checked),
            "training": history,
            "evaluation": {
                "dataset": windows.name,
                "backbone": model.config.backbone,
                "split": "test",
                "seed": seed,
                "rows": rows,
            },
            "layout": bundle.layout.to_json(),
            "plans": plans,
            "bench": timed,
            "replay": stream,
        }
        write_json(out / "results.json", results)
        write_report(results, out / "report.html")
    return results


def replay_stream(bundle: Bundle, windows: Windows) -> list[dict[str, Any]]:
    """The demo's stream: test windows in order while sensors drop out and the budget shrinks."""
    indices = windows.indices("test")[:REPLAY_WINDOWS]
    return replay(bundle, windows, indices=indices, schedule=trouble(bundle.names, len(indices)))


def trouble(names: Sequence[str], n: int) -> list[Change]:
    """A schedule of `n` windows: a shrinking budget, sensors that go and come back, once all gone.

    Args:
        names: every sensor, in order.
        n: windows in the stream.
    """

    def without(*gone: int) -> tuple[str, ...]:
        left = tuple(name for i, name in enumerate(names) if i not in {g % len(names) for g in gone})
        return left or tuple(names)

    shares: list[tuple[float, tuple[str, ...], float]] = [
        (0.00, tuple(names), 0.0),
        (0.12, tuple(names), 0.4),
        (0.24, without(0), 0.4),
        (0.36, without(0, 2), 0.6),
        (0.50, tuple(names), 0.6),
        (0.60, tuple(names), 0.8),
        (0.70, without(1), 0.8),
        (0.82, without(0, 1, 2), 0.8),
        (0.90, (), 0.8),
        (0.93, tuple(names), 0.6),
    ]
    at = {int(share * n): (on, ratio) for share, on, ratio in shares}  # short streams skip some
    return [Change(start, on, ratio) for start, (on, ratio) in sorted(at.items())]


def summary(results: Mapping[str, Any]) -> tuple[list[str], list[list[float | str | None]]]:
    """The demo's table: headings and one row per ratio.

    Args:
        results: of `run_demo`.
    """
    headings = [
        "", "accuracy", "one missing", "MMAC", "one missing", "weights [MB]", "p50 [ms]",
        "one missing",
    ]  # fmt: skip
    n_names = len(results["layout"]["modalities"])
    rows: list[list[float | str | None]] = []
    for ratio in RATIOS:
        scored = [r for r in results["evaluation"]["rows"] if r["ratio"] == ratio]
        timed = [r for r in results["bench"] if r["ratio"] == ratio]

        def mean(rows: list[dict[str, Any]], key: str, *, missing: int, scale: float = 1.0) -> float | None:
            found = [
                row[key]["p50"] if key == "latency_ms" else row[key] * scale
                for row in rows
                if len(row["present"]) == n_names - missing
            ]
            return fmean(found) if found else None

        rows.append(
            [
                "dense" if ratio == 0 else f"r={ratio:g}",
                mean(scored, "accuracy", missing=0),
                mean(scored, "accuracy", missing=1),
                mean(timed, "macs", missing=0, scale=1e-6),
                mean(timed, "macs", missing=1, scale=1e-6),
                mean(timed, "weights_mb", missing=0),
                mean(timed, "latency_ms", missing=0),
                mean(timed, "latency_ms", missing=1),
            ]
        )
    return headings, rows


def _train(windows: Windows, *, epochs: int | None, seed: int) -> tuple[SentryModel, list[dict[str, Any]]]:
    from sentryfuse.training import TrainSettings, train
    from sentryfuse.training.folder import Recipe

    settings = TrainSettings(seed=seed, epochs=EPOCHS if epochs is None else epochs)
    model = Recipe(settings=settings).make_model(windows)
    history = train(model, windows, settings=settings)
    return model.with_about({"epochs": len(history)}), history


def _score(bundle: Bundle, windows: Windows, sets: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
    """Rows of every set and ratio; sets share the cores, each with an engine of one thread."""
    budgets = [Budget(ratio=ratio) for ratio in RATIOS]

    def rows_of(names: tuple[str, ...]) -> list[dict[str, Any]]:
        return score(bundle, windows, present=[names], budgets=budgets, threads=1)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return [row for rows in pool.map(rows_of, sets) for row in rows]


def _model_facts(model: SentryModel, bundle: Bundle, checked: Mapping[str, Any]) -> dict[str, Any]:
    dense = bundle.plan().dense
    return {
        **model.config.about,
        "backbone": model.config.backbone,
        "preset": model.config.preset,
        "attention": model.config.attention.core,
        "params": dense.params,
        "macs": dense.macs,
        "checked_plans": checked["plans"],
        "largest_difference_from_torch": checked["max_difference"],
    }


@contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Say what is being done and how long it took."""
    started = time.perf_counter()
    say(f"[{name}]")
    yield
    seconds[name] = round(time.perf_counter() - started, 2)
