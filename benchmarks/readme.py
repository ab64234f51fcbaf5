"""Put tables and the figure made from result files into README.md, between their markers.

python benchmarks/readme.py            rewrite
python benchmarks/readme.py --check    only say whether README.md is what the results give
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from sentryfuse.files import write_text
from sentryfuse.report import markdown_table
from sentryfuse.report.study import headline_table, read_study, summarize_study

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
RATIOS = (0.0, 0.4, 0.6, 0.8)
BACKBONES = ("maestro", "flexmoe", "mult")
Row = dict[str, Any]

# The simple baseline of every set: a random forest on statistics per channel (physionet2012: gradient
# boosting), all sensors; what it was measured on is in docs/results/README.md.
BASELINES = {
    "dsads": ("accuracy", 0.907),
    "wesad_wrist": ("accuracy", 0.756),
    "physionet2012": ("auroc", 0.870),
    "room_occupancy": ("accuracy", 0.911),
}


def main() -> int:
    """Rewrite or check; exit code 1 when --check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    readme = ROOT / "README.md"
    old = readme.read_text()
    new = filled(old)
    if options.check:
        return int(old != new)
    write_text(readme, new)
    draw(RESULTS / "accuracy.svg")
    return 0


def filled(text: str) -> str:
    """The README with every marked table made again."""
    tables = {
        "pruning": pruning_table,
        "sets": sets_table,
        "backbones": backbones_table,
        "dense": dense_table,
        "conversion": conversion_table,
        "attention": attention_table,
        "core": core_table,
        "speed": speed_table,
        "switching": switching_table,
        "absence": absence_table,
        "size": size_table,
        "study": study_table,
        "finetuned": finetuned_table,
        "cells": cells_table,
    }
    for name, make in tables.items():
        if f"<!-- {name} -->" not in text:
            continue  # some tables take long to make
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        made = make().replace("\\", "\\\\")
        text = pattern.sub(rf"\g<1>{made}\n\g<2>", text)
    return text


def results(data: str, elastic: str, *, model: str = "maestro", folder: str = "accuracy") -> list[Row]:
    """All result files of one model, data set and way of training, by name."""
    files = sorted((RESULTS / folder).glob(f"{model}-{data}-{elastic}-*.json"))
    return [json.loads(file.read_text()) for file in files]


def scores(runs: Sequence[Row], *, scorer: str, ratio: float, metric: str) -> tuple[list[float], list[float]]:
    """Per run: the score with all sensors, and the mean over the sets with one missing.

    Without pruning nobody ranks anything, so those rows are the gate's.
    """
    scorer = "gate" if ratio == 0 else scorer
    full, missing = [], []
    for run in runs:
        rows = [r for r in run["rows"] if r["scorer"] == scorer and r["ratio"] == ratio]
        most = max(len(r["present"]) for r in rows)
        full += [r[metric] for r in rows if len(r["present"]) == most]
        missing.append(fmean(r[metric] for r in rows if len(r["present"]) == most - 1))
    return full, missing


def shown(values: Sequence[float]) -> str:
    """Mean and, of several, deviation; in percent."""
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.1f}{spread}"


def pruning_table() -> str:
    """dsads: ways of training and scorers against the pruning ratio."""
    ways = [("gate", "gate", "**sentryfuse** (gate)")]
    ways += [("gate", s, f"same model, {s}") for s in ("magnitude", "taylor")]
    ways += [("static", "magnitude", "elastic by magnitude, magnitude")]
    ways += [("none", s, f"plain training, {s}") for s in ("gate", "magnitude", "taylor")]
    rows = []
    for elastic, scorer, label in ways:
        runs = results("dsads", elastic)
        if not runs:
            continue
        cells = []
        for ratio in RATIOS:
            full, missing = scores(runs, scorer=scorer, ratio=ratio, metric="accuracy")
            cells.append(f"{shown(full)} / {shown(missing)}")
        rows.append([label, *cells])
    return table(["training, who ranks the units", *(f"r = {r:g}" for r in RATIOS)], rows)


def sets_table() -> str:
    """Every data set beside its simple baseline."""
    rows = []
    for data, (metric, baseline) in BASELINES.items():
        runs = results(data, "gate")
        if not runs:
            continue
        cells = []
        for ratio in (0.0, 0.6, 0.8):
            full, missing = scores(runs, scorer="gate", ratio=ratio, metric=metric)
            cells.append(f"{shown(full)} / {shown(missing)}")
        rows.append([data, metric, str(len(runs)), f"{100 * baseline:.1f}", *cells])
    heads = ["data", "score", "runs", "simple baseline", "r = 0", "r = 0.6", "r = 0.8"]
    return table(heads, rows)


def backbones_table() -> str:
    """Every backbone on every set, and who ranks best on the same model."""
    rows = []
    for data, (metric, _) in BASELINES.items():
        for backbone in BACKBONES:
            runs = grid_runs(data, backbone)
            if not runs:
                continue
            cells = [pair(runs.values(), scorer="gate", ratio=r, metric=metric) for r in (0.0, 0.6, 0.8)]
            for scorer in ("magnitude", "taylor"):
                cells.append(pair(runs.values(), scorer=scorer, ratio=0.8, metric=metric))
            rows.append([data, backbone, str(len(runs)), *cells])
    heads = ["data", "backbone", "runs", "r = 0", "gate, r = 0.6", "gate, r = 0.8"]
    return table([*heads, "magnitude, r = 0.8", "Taylor, r = 0.8"], rows)


def dense_table() -> str:
    """SentryAttend minus dense multi-head attention, same seed and people, gate, points."""
    rows = []
    every: dict[float, list[float]] = {0.0: [], 0.6: []}
    for data, (metric, _) in BASELINES.items():
        for backbone in BACKBONES:
            ours, dense = (
                grid_runs(data, f"{backbone}{side}", folder="attention_pairs") for side in ("", "-dense")
            )
            both = sorted(ours.keys() & dense.keys())
            if not both:
                continue
            cells = []
            for ratio in every:
                of = [
                    scores([runs[k] for k in both], scorer="gate", ratio=ratio, metric=metric)
                    for runs in (ours, dense)
                ]
                by_run = [100 * (a - b) for a, b in zip(of[0][0], of[1][0], strict=True)]
                every[ratio] += by_run
                cells.append(f"{fmean(by_run):+.1f} ({', '.join(f'{x:+.1f}' for x in by_run)})")
            rows.append([data, backbone, *cells])
    if rows:
        rows.append(["mean of all", "", *(f"{fmean(values):+.2f}" for values in every.values())])
    return table(["data", "backbone", "r = 0 (by run)", "r = 0.6 (by run)"], rows)


def grid_runs(data: str, model: str, *, folder: str = "accuracy") -> dict[tuple[int, str | None], Row]:
    """Runs by seed and fold of people; of wesad_wrist the folds that every backbone was run on."""
    runs = {(run["seed"], run["fold"]): run for run in results(data, "gate", model=model, folder=folder)}
    return {key: run for key, run in runs.items() if key[1] in (None, "0/5", "1/5", "2/5")}


def pair(runs: Iterable[Row], *, scorer: str, ratio: float, metric: str) -> str:
    """All sensors / one missing; nothing where this was not scored."""
    runs = list(runs)
    wanted = "gate" if ratio == 0 else scorer
    if not all(any(r["scorer"] == wanted and r["ratio"] == ratio for r in run["rows"]) for run in runs):
        return ""
    full, missing = scores(runs, scorer=scorer, ratio=ratio, metric=metric)
    return f"{shown(full)} / {shown(missing)}"


def conversion_table() -> str:
    """What sharing keys and values after training costs, by method."""
    path = RESULTS / "conversion.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text())
    rows = [
        [str(row["n_kv_heads"]), row["method"], *(f"{100 * value:.1f}" for value in row["accuracy"])]
        for row in found["rows"]
    ]
    return table(["key/value heads", "method", *(f"r = {r:g}" for r in found["ratios"])], rows)


def attention_table() -> str:
    """MACs of the presets `paper` under three kinds of attention."""
    path = RESULTS / "attention.json"
    if not path.is_file():
        return ""
    rows = []
    for row in json.loads(path.read_text())["macs"]:
        for key, label in (("active_macs", "as papers count"), ("macs", "as executed")):
            dense, own, ours = (row[k][key] for k in ("dense multi-head", "sparse multi-head", "sentry"))
            if key == "active_macs" or row["sentry"]["active_macs"] != row["sentry"]["macs"]:
                cells = [f"{row['backbone']}, {row['sensors']} sensors", label]
                cells += [f"{value / 1e6:.1f}" for value in (dense, own, ours)]
                rows.append([*cells, f"{100 * (ours / dense - 1):.1f} %", f"{100 * (ours / own - 1):.1f} %"])
    heads = ["preset paper", "MMAC", "dense multi-head", "sparse multi-head", "SentryAttend"]
    return table([*heads, "against dense", "against sparse"], rows)


def core_table() -> str:
    """Latency of attention layers by number of tokens."""
    path = RESULTS / "attention.json"
    if not path.is_file():
        return ""
    rows: dict[str, list[str]] = {}
    for row in json.loads(path.read_text())["latency"]:
        cell = f"{row['latency_ms']['p50']:.2f} ms"
        if row["core"] != "dense multi-head":
            cell += f" ({row['speed_up']:.2f}x)"
        rows.setdefault(row["core"], [row["core"]]).append(cell)
    lengths = sorted({row["tokens"] for row in json.loads(path.read_text())["latency"]})
    return table(["four attention layers", *(f"{n} tokens" for n in lengths)], list(rows.values()))


def speed_table() -> str:
    """Latency against dense in the same engine, and against eager torch, by shape."""
    path = RESULTS / "speed.json"
    if not path.is_file():
        return ""
    ratios = (0.5, 0.6, 0.75)
    rows: dict[str, dict[str, str]] = {}
    for row in json.loads(path.read_text())["rows"]:
        made = rows.setdefault(row["shape"], {"sensors x tokens": row["shape"]})
        cell = f"{row['latency_ms']['p50']:.2f} ms"
        if row["engine"] == "torch":
            made["eager torch, dense"] = cell
        elif row["ratio"] == 0:
            made["dense"] = cell
        else:
            made[f"r = {row['ratio']:g}"] = (
                f"{cell} ({row['speed_up']:.1f}x, {row['speed_up_over_torch']:.1f}x)"
            )
    heads = ["sensors x tokens", "eager torch, dense", "dense", *(f"r = {r:g}" for r in ratios)]
    return table(heads, [[row.get(head, "") for head in heads] for row in rows.values()])


def switching_table() -> str:
    """What switching costs while a stream runs, and that nothing is lost."""
    path = RESULTS / "switching.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text())
    rows = []
    if "time" in found:
        part = found["time"]
        warm, cold, cpu = part["warm_ms"], part["cold_ms"], part["cold_processor_ms"]
        rows.append(
            [
                "warm switch, p50 / p99",
                f"{1e3 * warm['p50']:.1f} / {1e3 * warm['p99']:.1f} us",
                f"{part['swaps']:,} switches",
            ]
        )
        rows.append(
            [
                "cold switch (slice and build), p50 / p99",
                f"{cold['p50']:.1f} / {cold['p99']:.1f} ms",
                f"{part['builds']:,} builds",
            ]
        )
        rows.append(
            ["the same, processor time of the builder", f"{cpu['p50']:.1f} / {cpu['p99']:.1f} ms", ""]
        )
    if "memory" in found:
        part = found["memory"]
        rows.append(
            [
                "resident memory, many plans in turn",
                f"{part['ratio']:.2f} of one dense session",
                f"{part['plans']:,} plans",
            ]
        )
    if "growth" in found:
        part = found["growth"]
        first = part["inferences"] // 10
        rows.append(
            [
                f"growth from inference {first:,} on",
                f"{part['grown_bytes'] / 2**20:+.2f} MiB",
                f"{part['inferences']:,} inferences",
            ]
        )
    if "law" in found:
        part = found["law"]
        wrong = " / ".join(str(part[key]) for key in ("lost", "doubled", "mixed"))
        rows.append(["windows lost / doubled / mixed, 4 producers", wrong, f"{part['switches']:,} switches"])
    return table(["while the stream runs", "", "of"], rows)


def absence_table() -> str:
    """Time of a window without sensors, and with tokens kept."""
    path = RESULTS / "absence.json"
    if not path.is_file():
        return ""
    rows: dict[str, list[str]] = {}
    for row in json.loads(path.read_text())["rows"]:
        cell = f"{row['latency_ms']['p50']:.2f} ms ({100 * row['of_all']:.0f} %)"
        rows.setdefault(row["variant"], [row["variant"]]).append(cell)
    return table(["six sensors, three of them slow", "r = 0", "r = 0.6"], list(rows.values()))


def size_table() -> str:
    """What an environment without extras holds, the largest packages first."""
    path = RESULTS / "size.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text())
    largest = list(found["packages_mb"].items())[:3]
    heads = ["installed [MB]", *(name for name, _ in largest), "all others", "sentryfuse itself"]
    own = found["packages_mb"].get("sentryfuse", 0.0)
    rest = found["total_mb"] - own - sum(size for _, size in largest)
    cells = [found["total_mb"], *(size for _, size in largest), rest, own]
    return table(heads, [[f"{cell:.1f}" for cell in cells]])


def study_table(folder: Path = RESULTS / "study") -> str:
    """The comparison with the baselines, from the lines of the study."""
    files = sorted(folder.glob("*.jsonl.gz"))
    return headline_table(summarize_study(read_study(files))).rstrip("\n") if files else ""


def finetuned_table() -> str:
    """What a fine-tuned sub-network costs and scores beside one that needs none, at r = 0.8."""
    path = RESULTS / "study" / "finetuned.json"
    if not path.is_file():
        return ""
    rows = []
    for row in json.loads(path.read_text())["rows"]:
        if row["ratio"] != 0.8:
            continue
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
    path = RESULTS / "study" / "cells.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text())
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


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table from lists."""
    made = markdown_table([dict(zip(heads, row, strict=True)) for row in rows], heads)
    return made.rstrip("\n")


def draw(path: Path) -> None:
    """The README's figure: accuracy against pruning ratio on dsads."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "sentryfuse", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 2.9), sharey=True, layout="constrained")
    ways = [
        ("gate", "gate", "sentryfuse", "#0072b2"),
        ("none", "taylor", "plain training, Taylor", "#d55e00"),
        ("none", "magnitude", "plain training, magnitude", "#999999"),
    ]
    for elastic, scorer, label, colour in ways:
        runs = results("dsads", elastic)
        if not runs:
            continue
        points = [scores(runs, scorer=scorer, ratio=r, metric="accuracy") for r in RATIOS]
        for side, axis in enumerate(axes):
            means = [100 * fmean(point[side]) for point in points]
            spread = [100 * stdev(p[side]) if len(p[side]) > 1 else 0.0 for p in points]
            axis.errorbar([100 * r for r in RATIOS], means, spread, label=label, color=colour, marker="o")
    for axis, title in zip(axes, ("all sensors", "one sensor missing (mean of five)"), strict=True):
        axis.set(title=title, xlabel="pruned [% of prunable MACs]", ylim=(50, 100))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy, unseen people [%]")
    axes[0].legend(loc="lower left", frameon=False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
