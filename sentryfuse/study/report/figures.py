"""Two kinds of figures of a study: scores against the ratio, and the gain in every cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sentryfuse.report.figures import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    VERMILLION,
    draw_svg_file,
    legend_below,
    percent_axis,
)
from sentryfuse.report.tables import percent
from sentryfuse.study.report.cells import Floats, Grid, mean_over_replicates
from sentryfuse.study.report.comparison import OWN_TRAINING, PLAIN, Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_RATE = 0.4
DARK = 0.55  # beyond this share of the colour scale numbers are white
STYLES: dict[str, dict[str, Any]] = {
    "ours": {"label": "ours", "color": BLUE, "marker": "o", "linewidth": 2.4, "zorder": 5},
    "dense": {"label": "ours, nothing pruned", "color": MUTED, "marker": "", "linestyle": (0, (4, 2))},
    "plain": {"label": "best baseline, plain training", "color": VERMILLION, "marker": "s"},
    "elastic": {"label": "best baseline, elastic training", "color": GREEN, "marker": "D"},
}


def ratio_figure(grid: Grid, items: Sequence[Comparison], protocol: str) -> str | None:
    """Scores against the pruning ratio, a column per data set, all sensors and some missing.

    The best baseline is picked for each cell; cells are averaged over backbones.

    Args:
        grid: where the lines stand.
        items: the comparisons; `headline` or `B` must be among them.
        protocol: what the ratio refers to.

    Returns:
        An SVG file, `None` without our full system.
    """
    if not any(item.name in ("headline", "B") for item in items):
        return None
    rates = [rate for rate in (0.0, SHOWN_RATE) if rate in grid.missing_rates] or [grid.missing_rates[0]]
    ratios = (0.0, *grid.ratios)
    n_sets = len(grid.datasets)

    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(len(rates), n_sets, sharex=True, sharey="col", squeeze=False)
        handles: dict[str, Any] = {}
        for line, rate in zip(panels, rates, strict=True):
            found = series(grid, items, protocol, rate)
            for number, axes in enumerate(line):
                for name, values in found.items():
                    handles[name] = axes.plot(ratios, 100 * values[number], **STYLES[name])[0]
                dataset = grid.datasets[number]
                if rate == rates[0]:
                    axes.set_title(dataset)
                axes.set_ylabel({"auroc": "AUROC [%]"}.get(grid.metrics[dataset], "accuracy [%]"))
                said = "all sensors" if rate == 0 else f"{percent(rate)} of the sensors missing"
                axes.annotate(said, (0.03, 0.04), xycoords="axes fraction", color=MUTED, fontsize=8.5)
                percent_axis(axes, ratios)
        for axes in panels[-1]:
            axes.set_xlabel(f"pruned, of prunable MACs ({protocol})")
        legend_below(figure, list(handles.values()), columns=2 if n_sets < 3 else 4)

    return draw_svg_file(
        paint,
        f"study-ratio-{protocol}",
        width=max(3.2 * n_sets, 5.0),
        height=0.8 + 2.3 * len(rates),
        gap=0.04,
    )


def gain_figure(comparison: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """The gain over the best baseline in every cell, as coloured numbers.

    Args:
        comparison: one of `comparisons` of the summary.
        study: what the summary says was run.

    Returns:
        An SVG file.
    """
    sides = [(name, item["name"]) for item in study["datasets"] for name in study["backbones"]]
    tops = [(ratio, rate) for ratio in study["ratios"] for rate in study["missing_rates"]]
    values = np.full((len(sides), len(tops)), np.nan)
    for row in comparison["gains"]:
        side = sides.index((row["backbone"], row["dataset"]))
        values[side, tops.index((row["ratio"], row["missing_rate"]))] = row["gain"]
    limit = max(1.0, float(np.nanmax(np.abs(values), initial=0.0)))
    n_rates = len(study["missing_rates"])

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        edges = np.arange(len(tops) + 1) - 0.5, np.arange(len(sides) + 1) - 0.5
        drawn = axes.pcolormesh(
            *edges, values, cmap="PuOr", vmin=-limit, vmax=limit, edgecolor="white", linewidth=0.6
        )
        for side, top in np.argwhere(~np.isnan(values)):
            value = values[side, top]
            axes.text(
                top, side, f"{value:+.0f}" if abs(value) >= 9.95 else f"{value:+.1f}",
                ha="center", va="center", fontsize=8,
                color="white" if abs(value) > DARK * limit else INK,
            )  # fmt: skip
        for edge in range(n_rates, len(tops), n_rates):
            axes.axvline(edge - 0.5, color=INK, linewidth=1)
        for edge in range(len(study["backbones"]), len(sides), len(study["backbones"])):
            axes.axhline(edge - 0.5, color=INK, linewidth=1)
        axes.set_xticks(range(len(tops)), [f"{100 * rate:.0f}" for _, rate in tops])
        axes.set_yticks(range(len(sides)), [f"{backbone}, {dataset}" for backbone, dataset in sides])
        axes.set_xlabel("sensors missing [%]")
        ratios = axes.secondary_xaxis("top")
        middles = [number * n_rates + (n_rates - 1) / 2 for number in range(len(study["ratios"]))]
        ratios.set_xticks(middles, [f"r = {ratio:g}" for ratio in study["ratios"]])
        ratios.spines["top"].set_visible(False)
        axes.invert_yaxis()
        axes.grid(visible=False)
        bar = figure.colorbar(drawn, ax=axes, fraction=0.025, pad=0.015)
        bar.set_label("gain over the best baseline [points]")
        bar.outline.set_visible(False)

    return draw_svg_file(
        paint,
        f"study-gain-{comparison['name']}-{comparison['protocol']}",
        width=3.2 + 0.42 * len(tops),
        height=1.3 + 0.29 * len(sides),
    )


def series(grid: Grid, items: Sequence[Comparison], protocol: str, rate: float) -> dict[str, Floats]:
    """Scores against the ratio, mean over backbones, for the figure.

    Args:
        grid: where the lines stand.
        items: the comparisons `headline` and `B`.
        protocol: what the ratio refers to.
        rate: missing rate; one of the grid.

    Returns:
        Name of the line -> scores, `(D, 1 + R)`, the first at ratio 0, NaN where nothing is.
    """
    plane, column = grid.protocols.index(protocol), grid.missing_rates.index(rate)
    by_name = {item.name: item for item in items}
    main = by_name.get("headline") or by_name["B"]

    def dense(trainings: Sequence[str]) -> Floats:
        picked = [grid.trainings.index(t) for t in trainings if t in grid.trainings]
        scores = mean_over_replicates(grid.scores(grid.dense_at[picked][..., column, :]))
        return _mean(_max(scores), axis=0)[:, None]  # (D, 1)

    def best(numbers: Sequence[int]) -> Floats:
        scores = mean_over_replicates(grid.scores(grid.at[list(numbers), plane][..., column, :]))
        return _mean(_max(scores), axis=0)  # (D, R)

    own = dense([OWN_TRAINING])
    found = {
        "ours": np.hstack([own, best([main.ours])]),
        "dense": np.repeat(own, 1 + len(grid.ratios), axis=1),
    }
    every = by_name["B"].baselines if "B" in by_name else ()
    for name, of_plain in (("plain", True), ("elastic", False)):
        numbers = [n for n in every if (grid.systems[n].training == PLAIN) == of_plain]
        if numbers:
            used = sorted({grid.systems[n].training for n in numbers})
            found[name] = np.hstack([dense(used), best(numbers)])
    return found


def _max(values: Floats) -> Floats:
    """Highest over the first axis, NaN where nothing is."""
    top = np.where(np.isnan(values), -np.inf, values).max(axis=0, initial=-np.inf)
    return np.where(np.isinf(top), np.nan, top)


def _mean(values: Floats, axis: int) -> Floats:
    return mean_over_replicates(np.moveaxis(values, axis, -1))
