"""Conditioning and tokens: what each test of an idea measured, and what it says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev

from tables.rows import Row, result, table

ANSWERS = ("alone", "with readout")
BEST = 1.5  # points within which of the control's best a sub-network is worth having
Point = tuple[float, float]  # time [ms], accuracy [%]


def norms_table() -> str:
    """Private norms beside constant and ordinary ones."""
    found = _rows("private_norms.json")
    ways = {"plain": "ordinary", "constant": "constant input", "private": "sensors and budget"}
    ratios = sorted({row["ratio"] for row in found})
    made = []
    for recording, answer in _groups(found):
        for way, label in ways.items():
            cells = []
            for ratio in ratios:
                rows = _like(found, recording=recording, answer=answer, way=way, ratio=ratio)
                cells.append(" / ".join(_mean(row[key] for row in rows) for key in ("all", "one missing")))
            made.append([recording, answer, label, *cells])
        cells = []
        for ratio in ratios:
            rows = _like(found, recording=recording, answer=answer, ratio=ratio)
            cells.append(_gains(rows, "private", "constant", lambda row: _half(row)))
        made.append([recording, answer, "gain over constant, each run", *cells])
    return table(["recording", "answer", "norms", *(f"r = {r:g}" for r in ratios)], made)


def norms_verdict() -> str:
    """Gain over the control, mean over r > 0, all sensors and one missing."""
    found = [row for row in _rows("private_norms.json") if row["ratio"] > 0]
    made = []
    for recording, answer in _groups(found):
        rows = _like(found, recording=recording, answer=answer)
        cells = []
        for control in ("constant", "plain"):
            gains = _gain(rows, "private", control, _half)
            cells.append(_spread(gains))
        made.append([recording, answer, str(len({row["run"] for row in rows})), *cells])
    heads = ["recording", "answer", "runs", "over constant input", "over ordinary norms"]
    return table(heads, made)


QUALITY_WAYS = {
    "quality": "quality to the gate",
    "shared": "quality shares the budget",
    "spoilt": "today's gate, same training",
    "plain": "today's gate, ordinary training",
    "spoilt, absent": "bad sensor absent, same training",
    "plain, absent": "bad sensor absent, ordinary training",
}


def quality_table() -> str:
    """Accuracy with one sensor spoilt, at r = 0.8 / 0.95."""
    found = _rows("quality.json")
    made = []
    for recording, answer in _groups(found):
        for kind in ("none", "noisy", "stuck", "clipped"):
            rows = _like(found, recording=recording, answer=answer, kind=kind)
            if not rows:
                continue
            cells = []
            for way in QUALITY_WAYS:
                of_way = _like(rows, way=way)
                ratios = sorted({row["ratio"] for row in of_way})
                cells.append(
                    " / ".join(_mean(row["accuracy"] for row in _like(of_way, ratio=r)) for r in ratios)
                )
            quality = _mean((100 * row["quality"] for row in rows if row["way"] == "quality"), "{:.0f} %")
            made.append([recording, answer, kind, quality, *cells])
    heads = ["recording", "answer", "one sensor is", "its quality", *QUALITY_WAYS.values()]
    return table(heads, made)


def quality_verdict() -> str:
    """Gain of both treatments over every control, mean over sensors, kinds and ratios."""
    found = [row for row in _rows("quality.json") if row["kind"] != "none"]
    made = []
    controls = [way for way in QUALITY_WAYS if way not in ("quality", "shared")]
    for recording, answer in _groups(found):
        rows = _like(found, recording=recording, answer=answer)
        for way in ("quality", "shared"):
            cells = [_spread(_gain(rows, way, c, lambda row: float(row["accuracy"]))) for c in controls]
            made.append([recording, answer, QUALITY_WAYS[way], *cells])
    return table(["recording", "answer", "gain of", *(f"over {QUALITY_WAYS[c]}" for c in controls)], made)


def tokens_table() -> str:
    """Time and accuracy of every number of tokens and ratio."""
    found = _rows("tokens.json")
    made = []
    for recording in _values(found, "recording"):
        for way, merged, label in _token_ways(found):
            for ratio in _values(found, "ratio"):
                rows = _like(found, recording=recording, way=way, merged=merged, ratio=ratio)
                if not rows:
                    continue
                macs = _mean((row["macs"] / 1e6 for row in rows), "{:.1f}")
                cells = [" / ".join(_mean(row[key][i] for row in rows) for i in (0, 1)) for key in ANSWERS]
                ms = " / ".join(_mean((row["ms"][i] for row in rows), "{:.2f}") for i in (0, 1))
                made.append([recording, label, f"{ratio:g}", macs, ms, *cells])
    heads = ["recording", "tokens", "r of what runs", "MMAC", "ms", *ANSWERS]
    return table(heads, made)


def tokens_verdict() -> str:
    """The best that merged tokens reach against the best of heads and channels alone."""
    found = _rows("tokens.json")
    made = []
    for recording in _values(found, "recording"):
        for answer in ANSWERS:
            for i, sensors in enumerate(("all", "one missing")):
                rows = _like(found, recording=recording)
                gain, speed = _best(rows, answer, i)
                each = [_best(_like(rows, run=run), answer, i) for run in _values(rows, "run")]
                made.append(
                    [
                        recording,
                        answer,
                        sensors,
                        f"{gain:+.1f} ({', '.join(f'{g:+.1f}' for g, _ in each)})",
                        f"{speed:.2f}x ({', '.join(f'{s:.2f}x' for _, s in each)})",
                    ]
                )
    heads = ["recording", "answer", "sensors", "best gain at equal time (each run)"]
    return table([*heads, "best speed at equal accuracy (each run)"], made)


def _best(rows: Sequence[Row], answer: str, i: int) -> tuple[float, float]:
    """Largest gain [points] and speed [times] of merged tokens where the control is within `BEST`."""

    def curve(merged: Callable[[int], bool]) -> list[Point]:
        keys = {(row["way"], row["merged"], row["ratio"]) for row in rows if merged(row["merged"])}
        points = []
        for way, m, ratio in keys:
            same = _like(rows, way=way, merged=m, ratio=ratio)
            points.append((fmean(row["ms"][i] for row in same), fmean(row[answer][i] for row in same)))
        return sorted(points)

    control = _rising(curve(lambda m: m == 1))
    best = control[-1][1]
    gains, speeds = [], []
    for ms, accuracy in curve(lambda m: m > 1):
        if accuracy < best - BEST:
            continue
        gains.append(accuracy - _accuracy_at(control, ms))
        speeds.append(_time_of(control, accuracy) / ms)
    return (max(gains), max(speeds)) if gains else (-math.inf, 0.0)


def _rising(points: Sequence[Point]) -> list[Point]:
    """Those that are better than all cheaper ones."""
    kept: list[Point] = []
    for point in points:
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept


def _accuracy_at(control: Sequence[Point], ms: float) -> float:
    """Accuracy of the control at a time, along straight lines; before its cheapest point, of that."""
    before = [p for p in control if p[0] <= ms]
    after = [p for p in control if p[0] > ms]
    if not before or not after:
        return (before or after)[-1 if before else 0][1]
    (t0, a0), (t1, a1) = before[-1], after[0]
    return a0 + (a1 - a0) * (ms - t0) / (t1 - t0)


def _time_of(control: Sequence[Point], accuracy: float) -> float:
    """Time at which the control reaches an accuracy; of its best point where it never does."""
    after = [p for p in control if p[1] >= accuracy]
    before = [p for p in control if p[1] < accuracy]
    if not after:
        return control[-1][0]
    if not before:
        return after[0][0]
    (t0, a0), (t1, a1) = before[-1], after[0]
    return t0 + (t1 - t0) * (accuracy - a0) / (a1 - a0)


def _token_ways(found: Sequence[Row]) -> list[tuple[str, int, str]]:
    labels = [("plain", 1, "all, ordinary training")]
    merged = sorted({row["merged"] for row in found if row["way"] == "merged"})
    return labels + [("merged", m, "all" if m == 1 else f"every {m} merged") for m in merged]


def _rows(name: str) -> list[Row]:
    found = result(name)
    return [] if found is None else list(found["rows"])


def _like(rows: Iterable[Row], **key: object) -> list[Row]:
    return [row for row in rows if all(row[k] == v for k, v in key.items())]


def _values(rows: Iterable[Row], key: str) -> list[object]:
    return list(dict.fromkeys(row[key] for row in rows))


def _groups(rows: Sequence[Row]) -> list[tuple[object, str]]:
    return [(recording, answer) for recording in _values(rows, "recording") for answer in ANSWERS]


def _half(row: Row) -> float:
    return 0.5 * float(row["all"] + row["one missing"])


def _mean(values: Iterable[float], form: str = "{:.1f}") -> str:
    found = list(values)
    return form.format(fmean(found)) if found else ""


def _gain(rows: Sequence[Row], way: str, control: str, score: Callable[[Row], float]) -> list[float]:
    """Treatment minus control of every run that has both."""
    gains = []
    for run in _values(rows, "run"):
        both = [_like(rows, run=run, way=w) for w in (way, control)]
        if all(both):
            gains.append(fmean(map(score, both[0])) - fmean(map(score, both[1])))
    return gains


def _gains(rows: Sequence[Row], way: str, control: str, score: Callable[[Row], float]) -> str:
    return ", ".join(f"{gain:+.1f}" for gain in _gain(rows, way, control, score))


def _spread(gains: Sequence[float]) -> str:
    if len(gains) < 2:
        return f"{gains[0]:+.2f}" if gains else ""
    return f"{fmean(gains):+.2f} ± {stdev(gains):.2f}"
