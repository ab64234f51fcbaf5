"""Rows of numbers computed from results, and their markdown; no plotting library needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from sentryfuse.report.results import (
    BenchRow,
    Evaluation,
    EvaluationRow,
    Results,
    parse_evaluation,
    sensor_names,
)

NOTHING = "\u2013"  # an en dash, where there is no number


def metric_of(evaluation: Evaluation) -> str:
    """The first of `r2`, `map` and `auroc` that every row has, otherwise `accuracy`."""
    for name in ("r2", "map", "auroc"):
        if all(getattr(row, name) is not None for row in evaluation.rows):
            return name
    return "accuracy"


def main_scorer(scorers: Iterable[str]) -> str:
    """The scorer the report speaks of: the gate where it was evaluated, otherwise the first."""
    found = list(dict.fromkeys(scorers))
    return "gate" if "gate" in found else found[0]


def main_protocol(evaluation: Evaluation) -> str:
    """The protocol the report speaks of: "present" where it was evaluated, otherwise the first."""
    found = [row.protocol for row in evaluation.rows]
    return "present" if "present" in found else found[0]


def missing_of(present: Iterable[str], names: Sequence[str]) -> tuple[str, ...]:
    """Names that are not present, in the model's order."""
    on = set(present)
    return tuple(name for name in names if name not in on)


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of the numbers that are there; `None` when there is none."""
    found = [value for value in values if value is not None]
    return fmean(found) if found else None


def accuracy_rows(evaluation: Mapping[str, Any], names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Accuracy with all sensors and with one missing, per protocol, scorer and ratio.

    Rows of random missing (`missing_rate`) are left out; several rows of the same set, such as those
    of several seeds, are averaged first. The number is AUROC when every row has one.

    Args:
        evaluation: what `sentryfuse evaluate --json` writes.
        names: every sensor of the model; by default every sensor that occurs in the rows.

    Returns:
        Dictionaries with `ratio`, `scorer`, `protocol`, `metric`, `all_sensors`, `one_missing` (mean
        over the sets with one sensor missing), `worst` and `worst_missing` (the lowest of them and
        the sensor it lacks), `n_sets` (how many such sets), and with all sensors `macs` [MAC] and
        `params`. `None` where nothing was evaluated. Scorers in the order they occur, ratios
        ascending.

    Raises:
        InputError: a key is missing or has a wrong type; the message names it.
    """
    return accuracy_table(parse_evaluation(evaluation), names)


def accuracy_table(evaluation: Evaluation, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """`accuracy_rows` of a checked evaluation."""
    rows = [row for row in evaluation.rows if row.missing_rate is None]
    names = tuple(names or sensor_names(evaluation.rows))
    metric = metric_of(evaluation)
    groups: dict[tuple[str, str], dict[float, list[EvaluationRow]]] = {}
    for row in rows:
        groups.setdefault((row.protocol, row.scorer), {}).setdefault(row.ratio, []).append(row)
    result = []
    for (protocol, scorer), ratios in groups.items():
        for ratio in sorted(ratios):
            full = [row for row in ratios[ratio] if not missing_of(row.present, names)]
            without = without_one(ratios[ratio], names, metric)
            worst = min(without, key=lambda name: without[name]) if without else None
            macs = mean_of(row.macs for row in full)
            params = mean_of(row.params for row in full)
            result.append(
                {
                    "ratio": ratio,
                    "scorer": scorer,
                    "protocol": protocol,
                    "metric": metric,
                    "all_sensors": mean_of(getattr(row, metric) for row in full),
                    "one_missing": mean_of(without.values()),
                    "worst": without[worst] if worst is not None else None,
                    "worst_missing": worst,
                    "n_sets": len(without),
                    "macs": None if macs is None else round(macs),
                    "params": None if params is None else round(params),
                }
            )
    return result


def without_one(rows: Iterable[EvaluationRow], names: Sequence[str], metric: str) -> dict[str, float]:
    """The one sensor missing -> the metric, averaged over equal sets, in the model's order."""
    found: dict[str, list[float]] = {}
    for row in rows:
        missing = missing_of(row.present, names)
        if len(missing) == 1:
            found.setdefault(missing[0], []).append(getattr(row, metric))
    return {name: fmean(found[name]) for name in names if name in found}


def random_missing_rows(results: Results) -> list[dict[str, Any]]:
    """Accuracy when each sensor is missing at random: one row per ratio, one column per rate."""
    evaluation = results.evaluation
    metric, scorer = metric_of(evaluation), main_scorer(row.scorer for row in evaluation.rows)
    protocol = main_protocol(evaluation)
    found: dict[float, dict[float, list[float]]] = {}
    for row in evaluation.rows:
        if row.missing_rate is not None and (row.scorer, row.protocol) == (scorer, protocol):
            rates = found.setdefault(row.ratio, {})
            rates.setdefault(row.missing_rate, []).append(getattr(row, metric))
    return [
        {"ratio": ratio, **{percent(rate): fmean(rates[rate]) for rate in sorted(rates)}}
        for ratio, rates in sorted(found.items())
    ]


def cost_rows(results: Results) -> list[dict[str, Any]]:
    """What each ratio costs, for every engine and number of threads that was measured.

    Args:
        results: checked results.

    Returns:
        Dictionaries with `engine`, `threads`, `ratio`; with all sensors `mmac` [10**6 MAC],
        `params`, `weights_mb` [MB], `p50_ms`, `p95_ms` [ms], `speed_up` (dense p95 over this p95);
        `one_p50_ms`, `one_p95_ms` (mean over the sets with one sensor missing) and `warm_ms`,
        `cold_ms` (time to change to it, p50). `None` where nothing was measured.
    """
    names = results.names
    accuracy = {
        row["ratio"]: row
        for row in accuracy_table(results.evaluation, names)
        if row["scorer"] == main_scorer(item.scorer for item in results.evaluation.rows)
        and row["protocol"] == main_protocol(results.evaluation)
    }
    setups: list[tuple[str, int | None] | None] = list(
        dict.fromkeys((row.engine, row.threads) for row in results.bench)
    )
    result = []
    for setup in setups or [None]:
        bench = [row for row in results.bench if (row.engine, row.threads) == setup]
        dense = _quantile(_with_all(bench, 0.0, names), "p95")
        for ratio in sorted({row.ratio for row in bench} or set(accuracy)):
            full = _with_all(bench, ratio, names)
            one = [r for r in bench if r.ratio == ratio and len(missing_of(r.present, names)) == 1]
            counted = accuracy.get(ratio, {})
            planned = [
                plan.cost
                for plan in results.plans
                if plan.budget.ratio == ratio
                and plan.budget.protocol == main_protocol(results.evaluation)
                and not missing_of(plan.present, names)
            ][:1]
            macs = _first(mean_of(r.macs for r in full), counted.get("macs"), *(c.macs for c in planned))
            p95 = _quantile(full, "p95")
            result.append(
                {
                    "engine": setup[0] if setup else None,
                    "threads": setup[1] if setup else None,
                    "ratio": ratio,
                    "mmac": None if macs is None else macs / 1e6,
                    "params": _first(counted.get("params"), *(c.params for c in planned)),
                    "weights_mb": _first(
                        mean_of(r.weights_mb for r in full), *(c.weights_mb for c in planned)
                    ),
                    "p50_ms": _quantile(full, "p50"),
                    "p95_ms": p95,
                    "speed_up": dense / p95 if dense and p95 else None,
                    "one_p50_ms": _quantile(one, "p50"),
                    "one_p95_ms": _quantile(one, "p95"),
                    "warm_ms": mean_of(_switch(row, "warm") for row in full),
                    "cold_ms": mean_of(_switch(row, "cold") for row in full),
                }
            )
    return result


def _with_all(bench: Iterable[BenchRow], ratio: float, names: Sequence[str]) -> list[BenchRow]:
    return [row for row in bench if row.ratio == ratio and not missing_of(row.present, names)]


def _quantile(bench: Iterable[BenchRow], which: str) -> float | None:
    return mean_of(getattr(row.latency_ms, which) for row in bench)


def _switch(row: BenchRow, which: str) -> float | None:
    if row.switch_ms is None:
        return None
    if isinstance(row.switch_ms, float | int):
        return float(row.switch_ms) if which == "cold" else None
    times = getattr(row.switch_ms, which)
    return None if times is None else times.p50


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def percent(share: float) -> str:
    """A share as a percentage without needless digits: 0.6 -> "60 %"."""
    return f"{round(100 * share, 1):g} %"


def cell(value: object) -> str:
    """One value as text: three significant digits or so, thousands apart, a dash for nothing."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        size = abs(value)
        if size and size < 0.001:
            return f"{value:.2g}"
        return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size > 1 else 3}f}"
    return str(value)


FORMATS: dict[str, Callable[[Any], str]] = {
    "ratio": percent,
    "speed_up": lambda value: f"{value:.1f}x",
    "mmac": lambda value: f"{value:,.1f}",
    "cold_ms": lambda value: f"{value:.1f}",
    "warm_ms": lambda value: f"{value:.2g}",
    **dict.fromkeys(
        ("weights_mb", "p50_ms", "p95_ms", "one_p50_ms", "one_p95_ms"),
        lambda value: f"{value:,.2f}",
    ),
}


def format_value(key: str, value: object) -> str:
    """`cell`, with the shapes that belong to a column: ratios in percent, equal digits."""
    return FORMATS[key](value) if value is not None and key in FORMATS else cell(value)


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | Mapping[str, str]) -> str:
    """Write rows as a GitHub markdown table.

    Args:
        rows: one dictionary per line; a missing key is shown as a dash.
        columns: keys to show, in order; or key -> heading.

    Returns:
        The table, one line per row, with a final newline; numbers are right-aligned.
    """
    headings = dict(columns) if isinstance(columns, Mapping) else {key: key for key in columns}
    lines = [[_markdown(text) for text in headings.values()]]
    numeric = [
        any(isinstance(row.get(key), int | float) for row in rows)
        and all(isinstance(row.get(key), int | float | None) for row in rows)
        for key in headings
    ]
    lines.append(["---:" if number else "---" for number in numeric])
    lines.extend([_markdown(format_value(key, row.get(key))) for key in headings] for row in rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _markdown(text: str) -> str:
    """Keep a text inside its cell, and out of HTML."""
    for old, new in (("\\", "\\\\"), ("|", "\\|"), ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(old, new)
    return " ".join(text.split())
