"""Accuracy: ways of training, data sets, backbones, kinds of attention."""

from __future__ import annotations

import json
from collections.abc import Iterable
from statistics import fmean

from tables.rows import BACKBONES, RATIOS, RESULTS, Row, result, results, scores, shown, table

# The simple baseline of every set: a random forest on statistics per channel (physionet2012: gradient
# boosting), all sensors; what it was measured on is in docs/results/README.md.
BASELINES = {
    "dsads": ("accuracy", 0.907),
    "wesad_wrist": ("accuracy", 0.756),
    "physionet2012": ("auroc", 0.870),
    "room_occupancy": ("accuracy", 0.911),
}


def answers_table() -> str:
    """Ours and the best rival of `compare`, mean over the folds or seeds that were run."""
    rows = []
    for data, (metric, baseline) in BASELINES.items():
        found = [json.loads(path.read_text()) for path in sorted((RESULTS / "answers").glob(f"{data}*.json"))]
        found = [run for run in found if run["backbone"] == "maestro"]
        if not found:
            continue
        score: dict[tuple[str, float | None, str], float] = {}
        for key in {(r["system"], r["ratio"], r["presence"]) for run in found for r in run["rows"]}:
            same = [
                r for run in found for r in run["rows"] if (r["system"], r["ratio"], r["presence"]) == key
            ]
            score[key] = 100 * fmean(row[metric] for row in same)
        cells = []
        for presence in ("all", "one missing"):
            value, name = max((v, k[0]) for k, v in score.items() if k[0] != "ours" and k[2] == presence)
            cells.append(f"{value:.1f} ({name})")
        row = [data, metric, str(len(found)), f"{100 * baseline:.1f}", " / ".join(cells)]
        for ratio in (0.0, 0.8, 1.0):
            ours = " / ".join(f"{score['ours', ratio, p]:.1f}" for p in ("all", "one missing"))
            macs = [
                r["macs"]
                for run in found
                for r in run["rows"]
                if (r["ratio"], r["presence"]) == (ratio, "all")
            ]
            row.append(f"{ours} ({fmean(macs) / 1e6:.3g} MMAC)")
        rows.append(row)
    heads = [
        "data",
        "score",
        "runs",
        "simple baseline",
        "best rival",
        "r = 0",
        "r = 0.8",
        "readout alone (r = 1)",
    ]
    return table(heads, rows)


def range_table() -> str:
    """Scores from the full network down to the readout."""
    steps = (0.0, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 1.0)
    rows = []
    for backbone in ("maestro", "flexmoe", "mult"):
        for data, (metric, _) in BASELINES.items():
            runs = [json.loads(path.read_text()) for path in sorted((RESULTS / "answers").glob("*.json"))]
            runs = [r for r in runs if (r["backbone"], r["dataset"]) == (backbone, data)]
            ours = {
                (r["ratio"], r["presence"]): [x for run in runs for x in run["rows"] if _same(x, r)]
                for run in runs
                for r in run["rows"]
                if r["system"] == "ours"
            }
            if not {(step, "all") for step in steps} <= ours.keys():
                continue
            row = [backbone, data, str(len(runs))]
            for step in steps:
                both = " / ".join(
                    f"{100 * fmean(r[metric] for r in ours[step, presence]):.1f}"
                    for presence in ("all", "one missing")
                )
                row.append(both)
            rows.append(row)
    return table(["backbone", "data", "runs", *(f"r = {step:g}" for step in steps)], rows)


def folds_table() -> str:
    """Dsads by folds of two people: ours at some ratios beside what one would fit instead."""
    runs = [json.loads(path.read_text()) for path in sorted((RESULTS / "folds").glob("dsads-*.json"))]
    systems = [
        ("ours", 0.0),
        ("ours", 0.8),
        ("ours", 0.95),
        ("ours", 1.0),
        ("random forest", None),
        ("LDA", None),
    ]
    rows = []
    for system, ratio in systems:
        of_run = [
            [
                100
                * next(
                    r["accuracy"]
                    for r in run["rows"]
                    if (r["system"], r["ratio"], r["presence"]) == (system, ratio, presence)
                )
                for presence in ("all", "one missing")
            ]
            for run in runs
        ]
        label = system if ratio is None else f"{system}, r = {ratio:g}"
        cells = [f"{one:.1f} / {other:.1f}" for one, other in of_run]
        mean = " / ".join(f"{fmean(column):.1f}" for column in zip(*of_run, strict=True))
        rows.append([label, mean, *cells])
    return table(["dsads", "mean", *(f"fold {run['fold']}" for run in runs)], rows)


def ways_table() -> str:
    """Ours beside other ways to reach the same budget, each with its readout; a table for each recording."""
    found = json.loads((RESULTS / "ranges.json").read_text())["rows"]
    return "\n\n".join(
        _ways_of(name, [row for row in found if row["dataset"] == name])
        for name in dict.fromkeys(row["dataset"] for row in found)
    )


def _ways_of(name: str, found: list[Row]) -> str:
    metric = "auroc" if name == "physionet2012" else "accuracy"
    ratios = sorted({row["ratio"] for row in found})
    rows = []
    for way in dict.fromkeys(row["way"] for row in found):
        own = {row["ratio"]: row for row in found if row["way"] == way}
        cells = [
            f"{100 * own[r][metric]:.1f} / {100 * own[r]['one_missing'][metric]:.1f}" if r in own else "-"
            for r in ratios
        ]
        rows.append([way, *cells])
    return table([f"{name}, {metric}", *(f"r = {ratio:g}" for ratio in ratios)], rows)


def first_windows_table() -> str:
    """Answers of a new person's first windows in a stream, mean over the recordings' folds."""
    found = json.loads((RESULTS / "first_windows.json").read_text())["rows"]
    rows = []
    for name in dict.fromkeys(row["dataset"] for row in found):
        for who in dict.fromkeys(row["who"] for row in found):
            own = [row for row in found if (row["dataset"], row["who"]) == (name, who)]
            cells = [
                f"{100 * fmean(row[key] for row in own):.1f}" for key in ("first_20", "first_100", "all")
            ]
            rows.append([name, who, str(len(own)), *cells])
    return table(["data", "who answers", "folds", "first 20", "first 100", "all"], rows)


def _same(one: Row, other: Row) -> bool:
    return all(one[key] == other[key] for key in ("system", "ratio", "presence"))


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
    found = result("conversion.json")
    if found is None:
        return ""
    rows = [
        [str(row["n_kv_heads"]), row["method"], *(f"{100 * value:.1f}" for value in row["accuracy"])]
        for row in found["rows"]
    ]
    return table(["key/value heads", "method", *(f"r = {r:g}" for r in found["ratios"])], rows)
