"""Conditioning and tokens: what each test of an idea measured, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from tables.rows import Row, result, table

ANSWERS = ("alone", "with readout")
NEAR = 0.5  # points below the control's best that count as equally accurate
Point = tuple[float, float]  # time [ms], accuracy [%]


def norms_table() -> str:
    """Private norms beside constant and ordinary ones."""
    found = _rows("private_norms.json")
    ways = {
        "plain": "ordinary",
        "constant": "constant input",
        "private": "sensors and budget",
        "strong constant": "constant input, ten times as fast",
        "strong private": "sensors and budget, ten times as fast",
    }
    ratios = sorted({row["ratio"] for row in found})
    made = []
    for recording, answer in _groups(found):
        for way, label in ways.items():
            if not _like(found, recording=recording, answer=answer, way=way):
                continue
            cells = []
            for ratio in ratios:
                rows = _like(found, recording=recording, answer=answer, way=way, ratio=ratio)
                cells.append(" / ".join(_mean(row[key] for row in rows) for key in ("all", "one missing")))
            made.append([recording, answer, label, *cells])
    return table(["recording", "answer", "norms", *(f"r = {r:g}" for r in ratios)], made)


def norms_verdict() -> str:
    """Gain over the control, mean over r > 0, all sensors and one missing."""
    found = [row for row in _rows("private_norms.json") if row["ratio"] > 0]
    made = []
    for recording, answer in _groups(found):
        rows = _like(found, recording=recording, answer=answer)
        pairs = (("private", "constant"), ("private", "plain"), ("strong private", "strong constant"))
        made.append([recording, answer, *(_spread(_gain(rows, *pair, _half)) for pair in pairs)])
    heads = ["over constant input", "over ordinary norms", "over constant input, ten times as fast"]
    return table(["recording", "answer", *heads], made)


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


def spoilt_verdict() -> str:
    """Gain of training with spoilt sensors, with today's gate: where one is bad, and where none is."""
    found = _rows("quality.json")
    made = []
    for recording, answer in _groups(found):
        rows = _like(found, recording=recording, answer=answer)
        some = ([r for r in rows if (r["kind"] == "none") == fine] for fine in (False, True))
        cells = [_spread(_gain(part, "spoilt", "plain", lambda row: float(row["accuracy"]))) for part in some]
        made.append([recording, answer, *cells])
    return table(["recording", "answer", "one sensor bad", "all sensors fine"], made)


def tokens_table() -> str:
    """Time and accuracy of every number of tokens and ratio."""
    everything = _rows("tokens.json")
    found = [row for row in everything if row["merged"]]
    ratios = _values(found, "ratio")
    made = []
    for recording in _values(found, "recording"):
        for way, merged, label in _token_ways(found):
            cells = []
            for ratio in ratios:
                rows = _like(found, recording=recording, way=way, merged=merged, ratio=ratio)
                ms = _mean((fmean(row["ms"]) for row in rows), "{:.2f}")
                scores = " / ".join(_mean(fmean(row[key]) for row in rows) for key in ANSWERS)
                cells.append(f"{ms} ms: {scores}" if rows else "")
            alone = _like(everything, recording=recording, way="readout")
            made.append([recording, label, *cells, _mean(fmean(row["with readout"]) for row in alone)])
        cells = []
        for ratio in ratios:
            rows = _like(everything, recording=recording, way="weighed", ratio=ratio)
            cells.append(_mean(fmean(row["alone"]) for row in rows))
        made.append([recording, "all, weighed in the head as if 4 were merged", *cells, ""])
    return table(["recording", "tokens", *(f"r = {r:g}" for r in ratios), "readout alone"], made)


def tokens_verdict() -> str:
    """What merged tokens gain over heads and channels alone at equal time, and at equal accuracy."""
    found = [row for row in _rows("tokens.json") if row["merged"]]
    ratios = [r for r in _values(found, "ratio") if r]
    made = []
    for recording in _values(found, "recording"):
        for answer in ANSWERS:
            for merged in sorted({row["merged"] for row in found if row["merged"] > 1}):
                rows = _like(found, recording=recording)
                runs = [_like(rows, run=run) for run in _values(rows, "run")]
                cells = []
                for ratio in ratios:
                    each = [_gain_at(own, answer, merged, ratio) for own in runs]
                    cells.append(", ".join(f"{gain:+.1f}" for gain in each))
                found_speeds = [_speed(own, answer, merged) for own in runs]
                speeds = ", ".join(f"{speed:.2f}x" if speed else "never" for speed in found_speeds)
                made.append([recording, answer, f"every {merged}", *cells, speeds])
    heads = ["recording", "answer", "merged", *(f"r = {r:g}" for r in ratios), "at equal accuracy"]
    return table(heads, made)


def _gain_at(rows: Sequence[Row], answer: str, merged: int, ratio: object) -> float:
    """Merged tokens at one ratio against the control at their time [points]."""
    control = _rising(_curve(rows, answer, lambda row: row["merged"] == 1))
    at = (merged, ratio)
    ((ms, accuracy),) = _curve(rows, answer, lambda row: (row["merged"], row["ratio"]) == at)
    return accuracy - _accuracy_at(control, ms)


def _speed(rows: Sequence[Row], answer: str, merged: int) -> float:
    """How many times sooner merged tokens come near the control's best; 0 where they never do."""
    control = _rising(_curve(rows, answer, lambda row: row["merged"] == 1))
    ours = _rising(_curve(rows, answer, lambda row: row["merged"] == merged))
    wanted = control[-1][1] - NEAR
    return _time_of(control, wanted) / _time_of(ours, wanted) if ours[-1][1] >= wanted else 0.0


def _curve(rows: Sequence[Row], answer: str, wanted: Callable[[Row], bool]) -> list[Point]:
    """Time and accuracy of the rows wanted, each a mean over runs and sets of sensors, by time."""
    some = [row for row in rows if wanted(row)]
    points = []
    for key in {(row["way"], row["merged"], row["ratio"]) for row in some}:
        same = [row for row in some if (row["way"], row["merged"], row["ratio"]) == key]
        points.append((fmean(fmean(r["ms"]) for r in same), fmean(fmean(r[answer]) for r in same)))
    return sorted(points)


def _rising(points: Sequence[Point]) -> list[Point]:
    """The rising curve nearest to the points: one that falls is pooled with its neighbours."""
    pools: list[tuple[list[float], float]] = []
    for ms, accuracy in points:
        times, value = [ms], accuracy
        while pools and pools[-1][1] >= value:
            before, other = pools.pop()
            value = (len(before) * other + len(times) * value) / (len(before) + len(times))
            times = before + times
        pools.append((times, value))
    return [(ms, value) for times, value in pools for ms in dict.fromkeys((times[0], times[-1]))]


def _accuracy_at(curve: Sequence[Point], ms: float) -> float:
    """Accuracy at a time, along straight lines; beyond its ends, of the nearer one."""
    before, after = [p for p in curve if p[0] <= ms], [p for p in curve if p[0] > ms]
    if not before or not after:
        return (before or after)[-1 if before else 0][1]
    (t0, a0), (t1, a1) = before[-1], after[0]
    return a0 + (a1 - a0) * (ms - t0) / (t1 - t0)


def _time_of(curve: Sequence[Point], accuracy: float) -> float:
    """Least time at which an accuracy that it has is reached."""
    after, before = [p for p in curve if p[1] >= accuracy], [p for p in curve if p[1] < accuracy]
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


def _spread(gains: Sequence[float]) -> str:
    """Mean gain, and that of each run."""
    if not gains:
        return ""
    return f"{fmean(gains):+.2f} ({', '.join(f'{gain:+.2f}' for gain in gains)})"
