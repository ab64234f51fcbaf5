"""The figure of the stream: sensors, ratio, latency and wrong answers over time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from sentryfuse.report.figures import (
    AMBER,
    BLUE,
    GREEN,
    INK,
    MUTED,
    PAPER,
    PURPLE,
    VERMILLION,
    draw_svg,
    legend_below,
    shorten,
)
from sentryfuse.report.results import ReplayRow, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STATUS = {"OK": (GREEN, ""), "DEGRADED": (AMBER, "////"), "REFUSED": (VERMILLION, "xxxx")}
MOST_POINTS = 600


def replay_figure(results: Results) -> str | None:
    """What happened in the stream, window by window; `None` below two windows."""
    rows = sorted(results.replay, key=lambda row: row.t_s)
    if len(rows) < 2:
        return None
    gone = {name for row in rows for name in row.present}
    names = [*results.names, *sorted(gone - set(results.names))]
    step = _step(rows)
    has_ratio = any(row.ratio is not None for row in rows)
    has_latency = any(row.latency_ms is not None for row in rows)
    heights = [0.23 * (len(names) + 2) + 0.1] + [1.0] * has_ratio + [1.2] * has_latency

    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[
            :, 0
        ]
        _sensors(panels[0], rows, names, step)
        if has_ratio:
            _ratio(panels[1], rows, step)
        if has_latency:
            _latency(panels[-1], rows)
        panels[-1].set_xlabel("time [s]")
        panels[-1].set_xlim(rows[0].t_s, rows[-1].t_s + step)
        legend_below(figure, _handles(rows), columns=6)
        figure.align_ylabels()

    height = sum(heights) + 1.1
    return draw_svg(paint, "replay", width=9, height=height, label="the stream over time")


def _step(rows: Sequence[ReplayRow]) -> float:
    """Time from one window to the next [s]."""
    gaps = [b.t_s - a.t_s for a, b in itertools.pairwise(rows) if b.t_s > a.t_s]
    return median(gaps) if gaps else 1.0


def spans(rows: Sequence[ReplayRow], holds: Sequence[bool], step: float) -> list[tuple[float, float]]:
    """Stretches of windows for which a claim holds.

    Args:
        rows: windows by time.
        holds: whether the claim holds, one per window.
        step: time one window stands for [s].

    Returns:
        (start, duration) of every stretch [s].
    """
    found: list[tuple[float, float]] = []
    start: float | None = None
    for row, on in zip(rows, holds, strict=True):
        if on and start is None:
            start = row.t_s
        elif not on and start is not None:
            found.append((start, row.t_s - start))
            start = None
    if start is not None:
        found.append((start, rows[-1].t_s + step - start))
    return found


def _sensors(axes: Axes, rows: Sequence[ReplayRow], names: Sequence[str], step: float) -> None:
    """A bar for every sensor while it is present; below, the status and the wrong answers."""
    for y, name in enumerate(names):
        bars = spans(rows, [name in row.present for row in rows], step)
        axes.broken_barh(bars, (y + 0.16, 0.68), facecolor=BLUE, linewidth=0)
    y = len(names)
    for status, (colour, hatch) in STATUS.items():
        bars = spans(rows, [row.status == status for row in rows], step)
        axes.broken_barh(bars, (y + 0.16, 0.68), facecolor=colour, edgecolor=PAPER, hatch=hatch, linewidth=0)
    wrong = [row.t_s + step / 2 for row in rows if row.correct is False]
    axes.plot(wrong, [y + 1.5] * len(wrong), linestyle="", marker="x", color=VERMILLION, markersize=4)
    axes.axhline(y, color=MUTED, linewidth=0.8)
    axes.set_ylim(y + 2, 0)
    axes.set_yticks([n + 0.5 for n in range(y + 2)])
    axes.set_yticklabels([*(shorten(name) for name in names), "status", "wrong"])
    axes.grid(visible=False)
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)


def _ratio(axes: Axes, rows: Sequence[ReplayRow], step: float) -> None:
    """The pruning ratio as steps, with a mark at every switch of the sub-network."""
    known = [(row.t_s, row.ratio) for row in rows]
    times = [*(t for t, _ in known), known[-1][0] + step]
    values = [math.nan if r is None else 100 * r for _, r in known]
    axes.step(times, [*values, values[-1]], where="post", color=INK, linewidth=1.8)
    switches = [(row.t_s, 100 * row.ratio) for row in rows if row.switched and row.ratio is not None]
    axes.plot(
        [t for t, _ in switches],
        [r for _, r in switches],
        linestyle="",
        marker="D",
        markersize=4.5,
        color=PURPLE,
    )
    axes.set_ylim(-6, 100)
    axes.set_yticks([0, 50, 100])
    axes.set_ylabel("pruned [%]")


def _latency(axes: Axes, rows: Sequence[ReplayRow]) -> None:
    """Time of every answer; of very many windows the slowest of each stretch; gaps where none was."""
    size = -(-len(rows) // MOST_POINTS)
    times, values = [], []
    for start in range(0, len(rows), size):
        known = [r.latency_ms for r in rows[start : start + size] if r.latency_ms is not None]
        times.append(rows[start].t_s)
        values.append(max(known, default=math.nan))
    axes.plot(times, values, color=BLUE, linewidth=1.3)
    axes.set_ylim(bottom=0, top=1.15 * max(v for v in values if not math.isnan(v)) or 1)
    axes.set_ylabel("latency [ms]")


def _handles(rows: Sequence[ReplayRow]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(facecolor=BLUE, linewidth=0, label="sensor present")]
    for status, (colour, hatch) in STATUS.items():
        if any(row.status == status for row in rows):
            handles.append(
                Patch(
                    facecolor=colour,
                    edgecolor=PAPER,
                    hatch=hatch,
                    linewidth=0,
                    label=status.lower(),
                )
            )
    if any(row.correct is False for row in rows):
        handles.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker="x",
                markersize=5,
                color=VERMILLION,
                label="wrong answer",
            )
        )
    if any(row.switched for row in rows):
        handles.append(Line2D([], [], linestyle="", marker="D", markersize=5, color=PURPLE, label="switch"))
    return handles
