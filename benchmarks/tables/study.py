"""The study: gain over the baselines, what fine-tuning costs, latency and memory of the cells."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from sentryfuse.study.report import headline_table, read_study, summarize_study
from tables.rows import BACKBONES, RESULTS, result, table


def study_table(folder: Path = RESULTS / "study") -> str:
    """The comparison with the baselines, from the lines of the study."""
    files = sorted(folder.glob("*.jsonl.gz"))
    return headline_table(summarize_study(read_study(files))).rstrip("\n") if files else ""


def finetuned_table() -> str:
    """What a fine-tuned sub-network costs and scores beside one that needs none, at r = 0.8."""
    found = result("study/finetuned.json")
    if found is None:
        return ""
    rows = []
    by_pair = {(row["dataset"], row["backbone"]): row for row in found["rows"] if row["ratio"] == 0.8}
    for row in (by_pair[pair] for pair in sorted(by_pair)):
        tuning, decision, extra = (
            row["fine_tuning_cpu_s"],
            row["decision_ms"],
            row["elastic_cpu_s"] - row["plain_cpu_s"],
        )
        cells = [" / ".join(f"{100 * x:.1f}" for x in row[key]) for key in ("pruned", "fine_tuned", "ours")]
        cells += [f"{tuning:.1f}", f"{decision['p50']:.1f} / {decision['p95']:.1f}"]
        cells += [f"{1000 * tuning / decision['p50']:,.0f}x"]
        cells += [f"{row['elastic_cpu_s'] / row['plain_cpu_s']:.2f}x", f"{extra / tuning:.1f}"]
        rows.append([row["dataset"], row["backbone"], *cells])
    heads = ["data", "backbone", "static Taylor", "fine-tuned", "ours", "fine-tuning [CPU s]"]
    heads += [
        "our decision, p50 / p95 [ms]",
        "fine-tuning against it",
        "elastic / plain training",
        "paid after [fine-tunings]",
    ]
    return table(heads, rows)


def cells_table() -> str:
    """Latency and memory of the study's cells against the dense model of the same sensors, medians."""
    found = result("study/cells.json")
    if found is None:
        return ""
    dense = {(r["backbone"], r["dataset"], tuple(r["present"])): r for r in found["rows"] if r["ratio"] == 0}
    rows = []
    for backbone in BACKBONES:
        for ratio in (0.2, 0.4, 0.6, 0.8):
            pairs = [
                (row, dense[row["backbone"], row["dataset"], tuple(row["present"])])
                for row in found["rows"]
                if row["backbone"] == backbone and row["ratio"] == ratio
            ]
            if not pairs:
                continue
            faster = [was["latency_ms"]["p50"] / row["latency_ms"]["p50"] for row, was in pairs]
            cells = [f"{median(faster):.2f}x ({min(faster):.2f} to {max(faster):.2f})"]
            for key, idle in (("macs", 0.0), ("weights_mb", 0.0), ("peak_rss_mb", found["idle_rss_mb"])):
                left = median((row[key] - idle) / (was[key] - idle) for row, was in pairs)
                cells.append(f"{100 * (left - 1):+.1f} %")
            rows.append([backbone, f"{ratio:g}", str(len(pairs)), *cells])
    return table(
        ["backbone", "r", "cells", "faster", "MACs", "weights", "peak memory above the idle process"], rows
    )
