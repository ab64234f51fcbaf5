"""Figures made of lines: accuracy against the pruning ratio and against time, and training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sentryfuse.report.figures import (
    AMBER,
    BLUE,
    INK,
    MUTED,
    SERIES,
    VERMILLION,
    draw_svg,
    legend_below,
    percent_axis,
    shorten,
)
from sentryfuse.report.results import Epoch, Results
from sentryfuse.report.summary import METRICS, chance_level
from sentryfuse.report.tables import (
    accuracy_table,
    cost_rows,
    main_protocol,
    main_scorer,
    metric_of,
    percent,
    without_one,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = list[tuple[float, float]]


def pruning_figure(results: Results) -> str | None:
    """Accuracy (or AUROC) against the pruning ratio; `None` when there is only one ratio.

    One scorer: all sensors, the mean over one sensor missing, and a light line for each such set.
    Several: one panel for all sensors, one for the mean over one sensor missing, a colour for each
    scorer. The axis runs from 0 to 1.
    """
    evaluation, names = results.evaluation, results.names
    protocol = main_protocol(evaluation)
    rows = [r for r in accuracy_table(evaluation, names) if r["protocol"] == protocol]
    ratios = sorted({row["ratio"] for row in rows})
    if len(ratios) < 2:
        return None
    main = main_scorer(row["scorer"] for row in rows)
    found = dict.fromkeys(row["scorer"] for row in rows)
    scorers = [main, *(name for name in found if name != main)][: len(SERIES)]
    metric = METRICS[metric_of(evaluation)]
    each = _each_set(results, main, protocol)
    chance = chance_level(metric_of(evaluation), results.data)

    def points(scorer: str, key: str) -> Points:
        mine = [row for row in rows if row["scorer"] == scorer and row[key] is not None]
        return [(row["ratio"], row[key]) for row in mine]

    def decorate(axes: Axes) -> None:
        axes.set_ylim(0, 1.02)
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        spread = max(ratios) - min(ratios)
        axes.set_xlim(min(ratios) - 0.04 * spread, max(ratios) + 0.04 * spread)
        percent_axis(axes, _readable(ratios))
        axes.set_xlabel("pruned")
        if chance is not None:
            axes.axhline(chance.value, color=MUTED, linestyle=(0, (1, 2)), linewidth=1.3)
            above = chance.value < 0.9
            axes.annotate(
                f"{chance.label} {chance.value:.2f}",
                (max(ratios), chance.value),
                xytext=(0, 3 if above else -3),
                textcoords="offset points",
                ha="right",
                va="bottom" if above else "top",
                color=MUTED,
                fontsize=9,
            )

    def paint_one(figure: Figure) -> None:
        axes = figure.subplots()
        decorate(axes)
        axes.set_ylabel(metric)
        for line in each.values():
            _line(axes, line, color=VERMILLION, linewidth=1, alpha=0.35, marker="")
        handles = [_line(axes, points(main, "all_sensors"), color=BLUE, label="all sensors")]
        one = points(main, "one_missing")
        if one:
            handles.append(_line(axes, one, color=VERMILLION, marker="s", label="one sensor missing, mean"))
        if len(each) > 1:
            handles.append(
                _line(
                    axes,
                    [],
                    color=VERMILLION,
                    linewidth=1,
                    alpha=0.5,
                    marker="",
                    label="each set with one sensor missing",
                )
            )
        legend_below(figure, handles, columns=3)

    def paint_several(figure: Figure) -> None:
        from matplotlib.patches import Patch

        keys = ["all_sensors", *(["one_missing"] if each else [])]
        panels: Any = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
        handles = []
        for axes, key in zip(panels, keys, strict=True):
            decorate(axes)
            axes.set_title("all sensors" if key == "all_sensors" else "one sensor missing, mean")
            handles = [
                _line(
                    axes,
                    points(scorer, key),
                    color=SERIES[number],
                    marker="osD^vP"[number],
                    linewidth=2.4 if scorer == main else 1.5,
                    zorder=4 if scorer == main else 3,
                    label=shorten(scorer),
                )
                for number, scorer in enumerate(scorers)
            ]
            if key == "one_missing" and len(each) > 1:
                low, high = _band(each)
                axes.fill_between(
                    [x for x, _ in low],
                    [y for _, y in low],
                    [y for _, y in high],
                    color=SERIES[0],
                    alpha=0.13,
                    linewidth=0,
                )
                handles.append(
                    Patch(
                        facecolor=SERIES[0],
                        alpha=0.13,
                        label=f"{shorten(main)}, lowest to highest with one missing",
                    )
                )
        panels[0].set_ylabel(metric)
        legend_below(figure, handles, columns=min(len(handles), 6))

    return draw_svg(
        paint_one if len(scorers) == 1 else paint_several,
        "pruning",
        width=9,
        height=4.1,
        gap=0.07,
        label=f"{metric} against the pruning ratio",
    )


def time_figure(results: Results) -> str | None:
    """Accuracy (or AUROC) against the median time of one window, from the full network to what is left of it.

    One line with all sensors, one for the mean over one sensor missing; every point is a pruning ratio that
    was both scored and timed. `None` where fewer than two were. Of several engines the first is drawn.
    """
    scored = {
        row["ratio"]: row
        for row in accuracy_table(results.evaluation, results.names)
        if row["protocol"] == main_protocol(results.evaluation)
        and row["scorer"] == main_scorer(r.scorer for r in results.evaluation.rows)
    }
    timed = cost_rows(results)
    first = [row for row in timed if all(row[key] == timed[0][key] for key in ("engine", "threads"))]

    def points(time: str, score: str) -> list[tuple[float, float, float]]:
        rows = [(row[time], scored.get(row["ratio"], {}).get(score), row["ratio"]) for row in first]
        return [(x, y, ratio) for x, y, ratio in rows if x is not None and y is not None]

    whole, one = points("p50_ms", "all_sensors"), points("one_p50_ms", "one_missing")
    if len(whole) < 2:
        return None
    metric = METRICS[metric_of(results.evaluation)]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, 1.08 * max(x for x, _, _ in whole))
        axes.set_xlabel("one window, median [ms]")
        axes.set_ylabel(metric)
        handles = [_line(axes, [p[:2] for p in whole], color=BLUE, label="all sensors")]
        if one:
            style = {"color": VERMILLION, "marker": "s", "label": "one sensor missing, mean"}
            handles.append(_line(axes, [p[:2] for p in one], **style))
        for x, y, ratio in whole:
            axes.annotate(
                percent(ratio),
                (x, y),
                xytext=(0, -12),
                textcoords="offset points",
                ha="center",
                va="top",
                color=MUTED,
                fontsize=9,
            )
        legend_below(figure, handles, columns=2)

    return draw_svg(paint, "time", width=9, height=3.6, gap=0.07, label=f"{metric} against time")


def _each_set(results: Results, scorer: str, protocol: str) -> dict[str, Points]:
    """The one sensor missing -> its line."""
    evaluation, names = results.evaluation, results.names
    lines: dict[str, Points] = {}
    for ratio in sorted({row.ratio for row in evaluation.rows}):
        rows = [
            row
            for row in evaluation.rows
            if (row.ratio, row.scorer, row.protocol, row.missing_rate) == (ratio, scorer, protocol, None)
        ]
        for name, value in without_one(rows, names, metric_of(evaluation)).items():
            lines.setdefault(name, []).append((ratio, value))
    return lines


def _band(lines: dict[str, Points]) -> tuple[Points, Points]:
    """Lowest and highest value at every ratio."""
    values: dict[float, list[float]] = {}
    for line in lines.values():
        for ratio, value in line:
            values.setdefault(ratio, []).append(value)
    ordered = sorted(values.items())
    return [(r, min(v)) for r, v in ordered], [(r, max(v)) for r, v in ordered]


def _line(axes: Axes, points: Sequence[tuple[float, float]], **style: Any) -> Any:
    """One series with a marker at each measured value."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return axes.plot(xs, ys, **{"marker": "o", "zorder": 3, **style})[0]


def _readable(ratios: Sequence[float]) -> list[float]:
    """Ratios to name on the axis: all of them unless they would collide."""
    least = (max(ratios) - min(ratios)) / 12
    ticks: list[float] = []
    for ratio in ratios:
        if not ticks or ratio - ticks[-1] >= least:
            ticks.append(ratio)
    return ticks


def training_figure(epochs: Sequence[Epoch]) -> str | None:
    """Loss, and accuracy beside the rate of missing sensors, per epoch; `None` below two epochs."""
    if len(epochs) < 2:
        return None

    def series(key: str) -> Points:
        values = [(e.epoch, getattr(e, key)) for e in epochs]
        return [(float(x), y) for x, y in values if y is not None]

    left = [("loss", "loss", INK, "-")]
    right = [
        ("validation", "accuracy, validation", BLUE, "-"),
        ("accuracy", "accuracy, training", AMBER, "-"),
        ("missing_rate", "rate of missing sensors", MUTED, (0, (4, 2))),
    ]
    groups = [[item for item in group if series(item[0])] for group in (left, right)]
    groups = [group for group in groups if group]
    if not groups:
        return None

    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(1, len(groups), squeeze=False)[0]
        handles = []
        for axes, group in zip(panels, groups, strict=True):
            for key, label, colour, dashes in group:
                marker = "o" if len(epochs) <= 40 and key != "missing_rate" else ""
                handles.append(
                    _line(
                        axes,
                        series(key),
                        color=colour,
                        linestyle=dashes,
                        marker=marker,
                        markersize=3.5,
                        label=label,
                    )
                )
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            if group[0][0] == "loss":
                axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
            else:
                axes.set_ylim(0, 1.02)
        legend_below(figure, handles, columns=4)

    return draw_svg(paint, "training", width=9, height=3.3, gap=0.07, label="training, per epoch")
