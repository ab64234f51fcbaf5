"""The tables as markdown, from the summary alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sentryfuse.report.tables import NOTHING, markdown_table, percent
from sentryfuse.study.report.bootstrap import DRAWS
from sentryfuse.study.report.comparison import REGIONS

Row = Mapping[str, Any]
ALL_CELLS = REGIONS[0].name
NAMES = {region.name: region.name.replace(">=", "\u2265") for region in REGIONS}
OPTIMISTIC = (
    "The best baseline of a cell is picked among all of them by the test data themselves, so luck counts for "
    "it: an optimistic bar, higher than what anyone could choose beforehand. The best single baseline is the "
    "one with the highest mean over all cells, also picked by the test data."
)


def gain_table(comparison: Row) -> str:
    """Gains of one comparison, a row for each region of cells.

    Args:
        comparison: one of `comparisons` of the summary.

    Returns:
        Markdown.
    """
    rows = []
    for row in comparison["regions"]:
        rows.append(
            {
                "cells": NAMES[row["cells"]],
                "n": row["n_cells"],
                "ours": _score(row["ours"]),
                "best of each cell": _score(row["best"]),
                "gain [points]": _gain(row["over_best"], row["over_best_interval"]),
                "relative": _percent(row["over_best_relative"]),
                "best single": _score(row["single"]),
                "gain over it [points]": _gain(row["over_single"], row["over_single_interval"]),
                "relative to it": _percent(row["over_single_relative"]),
                "won / tied / lost": _shares(row),
            }
        )
    return markdown_table(rows, list(rows[0]))


def group_table(comparison: Row) -> str:
    """Gains over the best baseline of each cell, per data set, backbone and pair.

    Args:
        comparison: one of `comparisons` of the summary.

    Returns:
        Markdown.
    """
    found: dict[tuple[str | None, str | None], dict[str, str]] = {}
    for row in comparison["groups"]:
        if not row["n_cells"]:
            continue
        made = found.setdefault(
            (row["dataset"], row["backbone"]),
            {"data": row["dataset"] or "all", "backbone": row["backbone"] or "all"},
        )
        made[NAMES[row["cells"]]] = _gain(row["over_best"])
        if row["cells"] == ALL_CELLS:
            made["over best single"] = _gain(row["over_single"])
            made["won / tied / lost"] = _shares(row)
    heads = ["data", "backbone", *NAMES.values()]
    return markdown_table(list(found.values()), [*heads, "over best single", "won / tied / lost"])


def loss_table(comparison: Row) -> str:
    """The cells lost by most.

    Args:
        comparison: one of `comparisons` of the summary.

    Returns:
        Markdown; empty where no cell is lost.
    """
    rows = [
        {
            "data": row["dataset"],
            "backbone": row["backbone"],
            "r": f"{row['ratio']:g}",
            "missing": percent(row["missing_rate"]),
            "ours": _score(row["ours"]),
            "best baseline": _score(row["best"]),
            "gain [points]": _gain(row["gain"]),
            "which": row["baseline"],
        }
        for row in comparison["losses"]
    ]
    return markdown_table(rows, list(rows[0])) if rows else ""


def no_loss_table(rows: Sequence[Row]) -> str:
    """Ours at high ratios against the unpruned model with the same sensors.

    Args:
        rows: `no_loss` of the summary.

    Returns:
        Markdown; empty without rows.
    """
    made = [
        {
            "protocol": row["protocol"],
            "r": f"{row['ratio']:g}",
            "missing": "all rates" if row["missing_rate"] is None else percent(row["missing_rate"]),
            "cells": row["n_cells"],
            "r = 0": _score(row["dense"]),
            "ours": _score(row["ours"]),
            "change [points]": _gain(row["change"], row["change_interval"]),
        }
        for row in rows
        if row["n_cells"]
    ]
    return markdown_table(made, list(made[0])) if made else ""


def ablation_table(rows: Sequence[Row]) -> str:
    """What each part of the method is worth: ours less the same with one part changed.

    Args:
        rows: `ablation` of the summary, of one protocol.

    Returns:
        Markdown; empty without rows.
    """
    made: list[dict[str, Any]] = [
        {
            "part": row["part"],
            "ours": row["ours"],
            "instead": row["other"],
            "n": row["n_cells"],
            "score": _score(row["score"]),
            **{NAMES[name]: _gain(found["gain"], found["interval"]) for name, found in row["gains"].items()},
        }
        for row in rows
    ]
    return markdown_table(made, list(made[0])) if made else ""


def system_table(rows: Sequence[Row]) -> str:
    """The mean score of every system.

    Args:
        rows: `systems` of the summary, of one protocol.

    Returns:
        Markdown; empty without rows.
    """
    made = [
        {
            "method": row["method"],
            "training": row["training"],
            "": "" if row["baseline"] else "no baseline",
            "n": row["n_cells"],
            **{NAMES[name]: _score(score) for name, score in row["scores"].items()},
        }
        for row in rows
    ]
    return markdown_table(made, list(made[0])) if made else ""


def headline_table(summary: Row) -> str:
    """The README's table: every comparison, over the cells that are claimed.

    Args:
        summary: what `summarize_study` gives.

    Returns:
        Markdown, a row for each comparison and protocol.
    """
    rows = []
    for item in summary["comparisons"]:
        regions = {row["cells"]: row for row in item["regions"]}
        rows.append(
            {
                "compared": item["title"],
                "protocol": item["protocol"],
                "cells": f"{item['n_present']} of {item['n_cells']}",
                **{
                    f"{NAMES[name]} [points]": _gain(row["over_best"], row["over_best_interval"])
                    for name, row in regions.items()
                },
                "relative": _percent(regions[ALL_CELLS]["over_best_relative"]),
                "over best single": _gain(
                    regions[ALL_CELLS]["over_single"], regions[ALL_CELLS]["over_single_interval"]
                ),
                "won / tied / lost": _shares(regions[ALL_CELLS]),
            }
        )
    return markdown_table(rows, list(rows[0])) if rows else ""


def all_tables(summary: Row) -> list[tuple[str, str]]:
    """Every table with its heading, those without rows left out.

    Args:
        summary: what `summarize_study` gives.

    Returns:
        (heading, markdown), in the order of the page.
    """
    made = []
    for item in summary["comparisons"]:
        head = f"{item['title']} (protocol {item['protocol']})"
        made.append((head, gain_table(item)))
        made.append((f"{head}, by data set and backbone", group_table(item)))
        made.append((f"{head}, cells lost by most", loss_table(item)))
    made.append(("No loss", no_loss_table(summary["no_loss"])))
    for name, table in (("Ablation", ablation_table), ("Every system", system_table)):
        rows = summary["ablation" if name == "Ablation" else "systems"]
        for protocol in summary["study"]["protocols"]:
            chosen = [row for row in rows if row["protocol"] == protocol]
            made.append((f"{name} (protocol {protocol})", table(chosen)))
    return [(head, text) for head, text in made if text]


def interval_note(summary: Row) -> str:
    """What the intervals were drawn over, in a sentence."""
    overs = {
        row[key]["over"]
        for item in summary["comparisons"]
        for row in item["regions"]
        for key in ("over_best_interval", "over_single_interval")
        if row[key]
    }
    said = " or, where answers were not kept for all lines, over ".join(sorted(overs, reverse=True))
    return (
        f"In brackets: 95 % percentile intervals, {DRAWS} draws over {said}; a chosen baseline stays chosen."
    )


def _shown(format_one: Callable[[float], str]) -> Callable[[float | None], str]:
    return lambda value: NOTHING if value is None else format_one(value)


_score = _shown(lambda value: f"{value:.1f}")
_percent = _shown(lambda value: f"{value:+.1f} %")


def _gain(value: float | None, interval: Row | None = None) -> str:
    if value is None:
        return NOTHING
    span = f" ({interval['low']:+.1f} to {interval['high']:+.1f})" if interval else ""
    return f"{value:+.1f}{span}"


def _shares(row: Row) -> str:
    """Cells won, tied and lost, with their shares."""
    counts = [row["won"], row["tied"], row["lost"]]
    n = sum(counts)
    if not n:
        return NOTHING
    return f"{' / '.join(map(str, counts))} ({' / '.join(f'{100 * c / n:.0f}' for c in counts)} %)"
