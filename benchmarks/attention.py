"""What SentryAttend saves: MACs of whole models, and latency of attention layers by number of tokens.

    python benchmarks/attention.py        about three minutes; run it when nothing else runs

MACs: presets `paper`, batch 1, against dense multi-head attention (and for maestro against its own sparse
attention without grouped queries). Latency: four attention layers, d_model 128, 8 heads, onnxruntime, one
thread, batch 1; dense multi-head, dense grouped and SentryAttend take turns. Weights are random: neither
depends on them. Writes docs/results/attention.json.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from sentryfuse import Modality, SentryModel, create_model
from sentryfuse.files import read_json, write_json
from sentryfuse.model.attention import SentryAttention
from sentryfuse.planning.cost import count, published_macs
from sentryfuse.planning.layout import AttentionRule

ROOT = Path(__file__).resolve().parent.parent
LAYERS, D_MODEL, HEADS, GROUPS = 4, 128, 8, 2
LENGTHS = (32, 64, 128, 256, 512)
CORES = {  # name -> key/value heads, rule
    "dense multi-head": (HEADS, AttentionRule("dense")),
    "dense grouped": (GROUPS, AttentionRule("dense")),
    "sentry": (GROUPS, AttentionRule()),
}
# backbone -> sensors, samples per window, options that undo grouped queries
PAPER: dict[str, tuple[int, int, dict[str, int]]] = {
    "maestro": (10, 256, {"n_kv_heads": 8}),
    "flexmoe": (10, 160, {"n_kv_heads": 4}),
    "mult": (5, 64, {"n_kv_heads": 4, "pair_kv_heads": 4}),
}


def main() -> None:
    """Count, time and write one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=200, help="timed answers; 0 only counts, and keeps the times"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "attention.json")
    options = parser.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    macs = [count_backbone(name) for name in PAPER]
    for row in macs:
        print(row, flush=True)
    if options.rounds == 0:
        write_json(options.out, {**read_json(options.out), "macs": macs})
        return
    latency = []
    for length in LENGTHS:
        latency += time_length(length, rounds=options.rounds)
        for row in latency[-len(CORES) :]:
            print(row, flush=True)
    result = {
        "engine": f"onnxruntime {onnxruntime.__version__}",
        "threads": 1,
        "batch": 1,
        "rounds": options.rounds,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "macs": macs,
        "latency": latency,
    }
    write_json(options.out, result)


def count_backbone(name: str) -> dict[str, Any]:
    """MACs of one preset `paper` under three kinds of attention."""
    sensors, length, ungrouped = PAPER[name]
    modalities = [Modality(f"s{i}", 32.0, length, ("x",)) for i in range(sensors)]

    def made(attention: str, options: dict[str, int]) -> SentryModel:
        return create_model(
            name,
            modalities=modalities,
            classes=list("abc"),
            preset="paper",
            attention=attention,
            options=options,
        )

    models = {
        "dense multi-head": made("dense", ungrouped),
        "sparse multi-head": made("sentry", ungrouped),
        "sentry": made("sentry", {}),
    }
    row: dict[str, Any] = {"backbone": name, "sensors": sensors}
    for key, model in models.items():
        row[key] = {"macs": count(model.layout).macs, "active_macs": published_macs(model.layout)}
    return row


class Stack(nn.Module):
    """Attention layers one after another, with residuals; `(1, L, D)` -> same."""

    def __init__(self, n_kv_heads: int, rule: AttentionRule) -> None:
        super().__init__()
        groups = [head * n_kv_heads // HEADS for head in range(HEADS)]
        self.layers = nn.ModuleList(
            SentryAttention(f"{i}", D_MODEL, groups=groups, head_dim=D_MODEL // HEADS, rule=rule)
            for i in range(LAYERS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform the tokens."""
        y = x.flatten(0, 1)
        for layer in self.layers:
            y = y + layer(y, (x.shape[0], x.shape[1]))
        return y


def time_length(length: int, *, rounds: int) -> list[dict[str, Any]]:
    """Time all cores at one length, in turns."""
    x = np.random.default_rng(0).standard_normal((1, length, D_MODEL), dtype=np.float32)
    sessions = {}
    for name, (n_kv_heads, rule) in CORES.items():
        torch.manual_seed(0)
        program = torch.onnx.export(
            Stack(n_kv_heads, rule).eval(), (torch.from_numpy(x),), dynamo=True, verbose=False
        )
        assert program is not None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        graph = program.model_proto.SerializeToString()
        sessions[name] = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    times: dict[str, list[float]] = {name: [] for name in CORES}
    for i in range(rounds + rounds // 5):
        for name, session in sessions.items():
            started = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: x})
            if i >= rounds // 5:
                times[name].append(1e3 * (time.perf_counter() - started))
    dense = statistics.median(times["dense multi-head"])
    return [
        {
            "tokens": length,
            "core": name,
            "latency_ms": {f"p{q}": float(np.percentile(values, q)) for q in (50, 95)},
            "speed_up": dense / statistics.median(values),
        }
        for name, values in times.items()
    ]


if __name__ == "__main__":
    main()
