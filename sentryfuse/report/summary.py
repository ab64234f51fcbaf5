"""The sentences and the few large numbers at the top of the page, computed from the results."""

from __future__ import annotations

from typing import Any, NamedTuple

from sentryfuse.report.results import DataInfo, Results
from sentryfuse.report.tables import (
    accuracy_table,
    cost_rows,
    main_protocol,
    main_scorer,
    metric_of,
    percent,
)

KEPT_WITHIN = 0.02  # a loss up to this is called "keeps"; one seed cannot tell smaller ones apart
METRICS = {"accuracy": "accuracy", "auroc": "AUROC", "r2": "R2", "map": "mean average precision"}


class Tile(NamedTuple):
    """A large number: what it is, its value, and what to compare it with."""

    label: str
    value: str
    beside: str


class Chance(NamedTuple):
    """The score of an answer that ignores the sensors."""

    value: float
    label: str


def chance_level(metric: str, data: DataInfo | None) -> Chance | None:
    """Level of guessing: 0.5 for AUROC, 0 for R2, else the commonest class or 1 / classes, if known."""
    if metric == "r2":
        return Chance(0.0, "always the mean")
    if metric == "map":
        return None
    if metric == "auroc":
        return Chance(0.5, "chance")
    classes = data.classes if data is not None else None
    if isinstance(classes, dict) and sum(classes.values()) > 0:
        share = max(classes.values()) / sum(classes.values())
        even = share < 1.02 / len(classes)
        return Chance(share, "chance" if even else "always the commonest class")
    n_classes = classes if isinstance(classes, int) else len(classes or ())
    return Chance(1 / n_classes, "chance") if n_classes > 0 else None


class Choice(NamedTuple):
    """The rows the top of the page speaks of: unpruned, and at the ratio chosen by the rule.

    Attributes:
        dense: accuracy row at ratio 0, if evaluated with all sensors.
        pruned: accuracy row at the chosen ratio.
        last: accuracy row at the largest ratio.
        kept: whether `pruned` loses at most `KEPT_WITHIN` against `dense`.
    """

    dense: dict[str, Any] | None
    pruned: dict[str, Any] | None
    last: dict[str, Any] | None
    kept: bool


def choose(results: Results) -> Choice:
    """Pick the largest ratio that keeps the accuracy; where none does, the smallest tried."""
    scorer = main_scorer(row.scorer for row in results.evaluation.rows)
    protocol = main_protocol(results.evaluation)
    rows = [
        row
        for row in accuracy_table(results.evaluation, results.names)
        if (row["scorer"], row["protocol"]) == (scorer, protocol) and row["all_sensors"] is not None
    ]
    dense = next((row for row in rows if row["ratio"] == 0), None)
    pruned = [row for row in rows if row["ratio"] > 0]
    if not pruned:
        return Choice(dense, None, None, kept=False)
    if dense is None:
        return Choice(None, pruned[-1], pruned[-1], kept=False)
    limit = dense["all_sensors"] - KEPT_WITHIN - 1e-9
    good = [row for row in pruned if row["all_sensors"] >= limit]
    return Choice(dense, good[-1] if good else pruned[0], pruned[-1], kept=bool(good))


def headline(results: Results) -> list[str]:
    """The result in one to four plain sentences.

    Args:
        results: checked results.

    Returns:
        Sentences; the first states what pruning keeps or costs, the second what happens when one
        sensor is missing, one warns when the answer is no better than guessing, the last says what
        `sentryfuse compare` found.
    """
    name = METRICS[metric_of(results.evaluation)]
    dense, pruned, last, kept = choose(results)
    shown = pruned or dense
    if shown is None:
        return [f"No combination with all {len(results.names)} sensors was evaluated."]
    value = shown["all_sensors"]
    if pruned is None or last is None:
        first = f"Without pruning, the model reaches {value:.2f} {name} with all sensors."
    elif dense is None:
        first = (
            f"At {percent(pruned['ratio'])} pruning the model reaches {value:.2f} {name} with all "
            "sensors; the unpruned model was not evaluated."
        )
    else:
        before = f"{dense['all_sensors']:.2f}"
        at = f"at {percent(pruned['ratio'])} pruning"
        start = "A" + at[1:]
        ratio = pruned["ratio"]
        if not kept:
            first = f"Pruning costs {name} here: {at} it falls from {before} to {value:.2f}"
            if last["ratio"] > ratio:
                first += f", at {percent(last['ratio'])} it is {last['all_sensors']:.2f}"
            first += _time(results, ratio, clause=f"; {at} the model ")
        elif f"{value:.2f}" == before:
            first = f"{start} the model keeps its {before} {name}"
            first += _time(results, ratio, clause=" and ")
        elif value < dense["all_sensors"]:
            first = f"{start} the model keeps {value:.2f} of {before} {name}"
            first += _time(results, ratio, clause=" and ")
        else:
            first = f"{start} the model reaches {value:.2f} {name}, against {before} unpruned"
            first += _time(results, ratio, clause=", and ")
        first += "."
    sentences = [first]
    if shown["one_missing"] is not None:
        unpruned = ""
        if dense is not None and shown is not dense and dense["one_missing"] is not None:
            unpruned = f" (unpruned: {dense['one_missing']:.2f})"
        sentences.append(
            f"With one sensor missing it averages {shown['one_missing']:.2f}{unpruned}; the worst "
            f"is {shown['worst']:.2f}, without {shown['worst_missing']}."
        )
    chance = chance_level(metric_of(results.evaluation), results.data)
    if chance is not None and value <= chance.value + KEPT_WITHIN:
        sentences.append(f"That is no better than guessing ({chance.label}: {chance.value:.2f}).")
    if results.verdict:
        sentences.append(f"{results.verdict[0].upper()}{results.verdict[1:]}.")
    return sentences


def _time(results: Results, ratio: float, *, clause: str) -> str:
    """What pruning does to the time, or to the work where no time was measured; may be empty."""
    costs = {row["ratio"]: row for row in reversed(cost_rows(results))}
    dense, pruned = costs.get(0), costs.get(ratio)
    if dense is None or pruned is None:
        return ""
    if pruned["speed_up"] is not None:
        speed = pruned["speed_up"]
        times = f"(p95 {pruned['p95_ms']:.2f} ms instead of {dense['p95_ms']:.2f} ms)"
        if speed >= 1.05:
            return f"{clause}answers {speed:.1f} times as fast {times}"
        if speed > 0.95:
            return f"{clause}answers in about the same time {times}"
        return f"{clause}needs {1 / speed:.1f} times as long {times}"
    if dense["mmac"] and pruned["mmac"]:
        work = pruned["mmac"] / dense["mmac"]
        return f"{clause}needs {percent(round(work, 2))} of the multiply-accumulates"
    return ""


def tiles(results: Results) -> list[Tile]:
    """The large numbers: what the chosen ratio reaches and costs, beside the unpruned model."""
    dense, pruned, _, _ = choose(results)
    shown = pruned or dense
    if shown is None:
        return []
    name = METRICS[metric_of(results.evaluation)]
    name = name[0].upper() + name[1:]
    compare = dense if pruned is not None else None
    found = []

    def add(label: str, now: dict[str, Any] | None, was: dict[str, Any] | None, key: str) -> None:
        value = now.get(key) if now else None
        if value is None:
            return
        style, unit = FORMS[key]
        beside = was.get(key) if was else None
        text = "" if beside is None else f"{beside:{style}}{unit} unpruned"
        found.append(Tile(label, f"{value:{style}}{unit}", text))

    add(f"{name}, all sensors", shown, compare, "all_sensors")
    add(f"{name}, one missing", shown, compare, "one_missing")
    costs = {row["ratio"]: row for row in reversed(cost_rows(results))}
    now = costs.get(shown["ratio"])
    was = costs.get(0) if compare is not None else None
    add("Latency, p95", now, was, "p95_ms")
    add("Work per window", now, was, "mmac")
    add("Weights", now, was, "weights_mb")
    return found


FORMS = {
    "all_sensors": (".2f", ""),
    "one_missing": (".2f", ""),
    "p95_ms": (".2f", " ms"),
    "mmac": (".1f", " MMAC"),
    "weights_mb": (".2f", " MB"),
}


def replay_sentence(results: Results) -> str:
    """What happened in the stream, counted."""
    rows = results.replay
    count = {status: sum(row.status == status for row in rows) for status in ("DEGRADED", "REFUSED")}
    answered = len(rows) - count["REFUSED"]
    text = f"{len(rows)} windows streamed, {answered} answered"
    text += f" ({count['DEGRADED']} of them degraded)" if count["DEGRADED"] else ""
    text += f", {count['REFUSED']} refused, {sum(row.switched for row in rows)} switches of sub-network"
    known = [row.correct for row in rows if row.correct is not None and row.status != "REFUSED"]
    if known:
        text += f"; {sum(known)} of {len(known)} answers right ({sum(known) / len(known):.2f})"
    return text + "."
