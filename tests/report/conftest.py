"""A story told by formulas: five sensors, a model that withstands pruning, a troubled stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from sentryfuse.planning.layout import AttentionRule, Block, Layout, Step
from sentryfuse.report import render_report
from sentryfuse.types import Budget, Cost, Modality, Plan

WORTH = {"torso": 0.05, "right_arm": 0.09, "left_arm": 0.06, "right_leg": 0.07, "left_leg": 0.03}
RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8)
LOSS = {"gate": 0.03, "magnitude": 0.35}


def accuracy(missing: Sequence[str], ratio: float, scorer: str) -> float:
    return 0.913 - sum(WORTH[name] for name in missing) - LOSS[scorer] * ratio**2


def tell_story(names: Sequence[str] = tuple(WORTH), scorers: Sequence[str] = ("gate",)) -> dict[str, Any]:
    """A results dictionary with every section; `names` replace the sensors' names one by one."""
    called = dict(zip(WORTH, names, strict=True))
    sets = [(), *((name,) for name in WORTH)]

    def on(missing: Sequence[str]) -> list[str]:
        return [called[name] for name in WORTH if name not in missing]

    def macs(missing: Sequence[str], ratio: float) -> int:
        return round(1e6 + 4.4e6 * (5 - len(missing)) * (1 - ratio))

    rows = [
        {
            "present": on(missing),
            "missing_rate": None,
            "ratio": ratio,
            "protocol": "present",
            "scorer": scorer,
            "accuracy": accuracy(missing, ratio, scorer),
            "macro_f1": accuracy(missing, ratio, scorer) - 0.01,
            "auroc": None,
            "macs": macs(missing, ratio),
            "params": round(2.1e5 + 9.4e5 * (1 - ratio)),
            "n_windows": 2280,
        }
        for scorer in scorers
        for ratio in RATIOS
        for missing in sets
    ]
    rows += [
        {
            "present": on(()),
            "missing_rate": rate,
            "ratio": ratio,
            "accuracy": accuracy((), ratio, "gate") - 0.2 * rate,
            "auroc": None,
        }
        for ratio in (0.0, 0.6)
        for rate in (0.2, 0.4)
    ]
    layout = make_layout(called)
    shown = [*sets, *((a, b) for a in ("torso", "left_arm") for b in ("right_leg", "left_leg"))]
    return {
        "title": "sentryfuse demo: five body-worn sensors",
        "made": {
            "command": "sentryfuse demo --out demo --data wearable",
            "date": "2026-03-02T10:20:30+00:00",
            "machine": "x86_64, 2 cores, 8 GB",
            "versions": {
                "python": "3.11.9",
                "torch": "2.13.0",
                "onnxruntime": "1.22.0",
                "numpy": "2.4.0",
            },
            "seconds": {
                "data": 1.2,
                "train": 118.4,
                "evaluate": 21.0,
                "export": 9.75,
                "replay": 6.1,
            },
            "sentryfuse": "0.1.0",
        },
        "data": {
            "name": "wearable",
            "n_windows": 9120,
            "modalities": [
                {
                    "name": name,
                    "rate_hz": 25.0,
                    "length": 125,
                    "channels": [f"{kind}_{axis}" for kind in ("acc", "gyro", "mag") for axis in "xyz"],
                }
                for name in called.values()
            ],
            "classes": {f"activity {number}": 480 for number in range(1, 20)},
            "n_subjects": 8,
            "splits": {
                "train": {"n_windows": 5700, "n_subjects": 5},
                "validation": {"n_windows": 1140, "n_subjects": 1},
                "test": {"n_windows": 2280, "n_subjects": 2},
            },
            "licence": "CC BY 4.0",
        },
        "model": {
            "backbone": "maestro",
            "preset": "small",
            "params": 1150000,
            "macs": 23000000,
            "attention": "sentry",
            "epochs": 16,
            "seed": 0,
            "elastic": "gate",
        },
        "training": [
            {
                "epoch": epoch,
                "loss": 0.25 + 2.6 * math.exp(-epoch / 4),
                "accuracy": 0.95 - 0.8 * math.exp(-epoch / 4),
                "validation": 0.9 - 0.75 * math.exp(-epoch / 3.5),
                "missing_rate": min(0.5, epoch / 16),
            }
            for epoch in range(1, 17)
        ],
        "evaluation": {
            "dataset": "wearable",
            "backbone": "maestro",
            "split": "test",
            "seed": 0,
            "rows": rows,
        },
        "layout": layout.to_json(),
        "plans": [
            make_plan(layout, on(missing), ratio).to_json() for ratio in (0.4, 0.6, 0.8) for missing in shown
        ],
        "bench": [
            {
                "name": f"r{ratio:g}" if ratio else "dense",
                "present": on(missing),
                "ratio": ratio,
                "engine": "onnxruntime",
                "threads": 1,
                "latency_ms": {
                    "p50": (2.4 - 0.35 * len(missing)) * (1 - 0.85 * ratio),
                    "p95": (2.6 - 0.35 * len(missing)) * (1 - 0.85 * ratio),
                    "p99": (3.1 - 0.35 * len(missing)) * (1 - 0.85 * ratio),
                },
                "weights_mb": 4.6 - 3.7 * ratio,
                "peak_rss_mb": 80.0,
                "macs": macs(missing, ratio),
                "switch_ms": {
                    "cold": {"p50": 16.0 - 6 * ratio, "p99": 24.0},
                    "warm": {"p50": 0.02, "p99": 0.05},
                },
            }
            for ratio in RATIOS
            for missing in sets
        ],
        "replay": make_replay(called),
    }


def make_layout(called: Mapping[str, str]) -> Layout:
    def layer(prefix: str, needs: tuple[str, ...]) -> Step:
        heads = Block(f"{prefix}.attn", "heads", 8, groups=(0, 0, 0, 0, 1, 1, 1, 1), head_dim=8)
        ffn = Block(f"{prefix}.ffn", "ffn", 256)
        return Step(prefix, "layer", (prefix,), prefix, needs=needs, blocks=(heads, ffn))

    steps = [layer(f"encoder.{name}.{n}", (name,)) for name in called.values() for n in (0, 1)]
    steps += [layer(f"fusion.{n}", ()) for n in (0, 1)]
    modalities = tuple(Modality(name, 25.0, 125, ("x",)) for name in called.values())
    return Layout(64, modalities, AttentionRule(), tuple(steps))


def make_plan(layout: Layout, present: Sequence[str], ratio: float) -> Plan:
    kept = {}
    for number, (name, block) in enumerate(layout.blocks.items()):
        step = next(s for s in layout.steps if block in s.blocks)
        if set(step.needs) <= set(present):
            share = (1 - ratio) * (1 + 0.6 * math.sin(1.7 * number + len(present)))
            count = max(1, min(block.units, round(share * block.units)))
            kept[name] = tuple(range(count))
    cost = Cost(macs=9_000_000, prunable_macs=8_000_000, params=586_000, weights_mb=2.344)
    return Plan(
        present=tuple(present),
        kept=kept,
        budget=Budget(ratio=ratio),
        scorer="gate",
        cost=cost,
        dense=cost,
    )


def make_replay(called: Mapping[str, str]) -> list[dict[str, Any]]:
    """200 windows of 5 s: sensors leave and come back, the budget shrinks, once none is left."""
    rows: list[dict[str, Any]] = []
    away = {
        "left_leg": (40, 90),
        "right_arm": (70, 130),
        "torso": (120, 150),
        "left_arm": (120, 128),
    }
    for n in range(200):
        gone = {name for name, (start, end) in away.items() if start <= n < end}
        if 160 <= n < 165:
            gone = set(called)
        ratio = 0.0 if n < 60 else 0.4 if n < 110 else 0.6 if n < 140 else 0.8
        status = "REFUSED" if len(gone) == 5 else "DEGRADED" if len(gone) > 2 else "OK"
        present = [called[name] for name in called if name not in gone]
        plan_id = f"{len(gone)}-{ratio}"
        rows.append(
            {
                "t_s": 5.0 * n,
                "present": present,
                "ratio": ratio,
                "status": status,
                "correct": None if status == "REFUSED" else n % (11 - 2 * len(gone)) != 3,
                "latency_ms": None
                if status == "REFUSED"
                else (2.4 - 0.35 * len(gone)) * (1 - 0.85 * ratio) + 0.08 * math.sin(n),
                "switched": bool(rows) and plan_id != rows[-1]["plan_id"],
                "plan_id": plan_id,
            }
        )
    return rows


@pytest.fixture
def story() -> Callable[..., dict[str, Any]]:
    return tell_story


@pytest.fixture(scope="session")
def full_page() -> str:
    """The whole story as a page, made once: figures take a second or two."""
    return render_report(tell_story())
