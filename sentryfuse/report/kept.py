"""The heat map of kept units: their share in every block, for each set of sensors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from sentryfuse.planning.layout import Block
from sentryfuse.report.figures import BLUE, INK, MUTED, PAPER, draw_svg, shorten
from sentryfuse.report.results import Results
from sentryfuse.report.tables import main_scorer, percent
from sentryfuse.types import Plan, sensor_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KIND_TITLES = {"heads": "heads", "ffn": "FFN channels"}
MOST_FIGURES, MOST_ROWS, MOST_COLUMNS, MOST_BESIDE, MOST_NUMBERS = 3, 24, 48, 28, 30


class KeptFigure(NamedTuple):
    """A heat map and its title."""

    svg: str
    title: str


class Column(NamedTuple):
    """One block, or several of the same name in different layers when there are very many."""

    name: str
    blocks: tuple[Block, ...]

    def share(self, plan: Plan) -> float | None:
        """Share of the units that stay; `None` when nothing of it runs."""
        live = [block for block in self.blocks if block.name in plan.kept and block.units]
        if not live:
            return None
        return sum(len(plan.kept[b.name]) for b in live) / sum(b.units for b in live)


def kept_figures(results: Results) -> list[KeptFigure]:
    """One heat map for each pruning ratio among the plans, at most three; none without a layout."""
    if results.layout is None or not results.plans:
        return []
    blocks = list(results.layout.blocks.values())
    scorer = main_scorer(plan.scorer for plan in results.plans)
    by_ratio: dict[float, dict[frozenset[str], Plan]] = {}
    for plan in results.plans:
        if plan.scorer == scorer and plan.budget.ratio:
            by_ratio.setdefault(plan.budget.ratio, {}).setdefault(frozenset(plan.present), plan)
    ratios = sorted(by_ratio)
    if len(ratios) > MOST_FIGURES:
        ratios = [ratios[0], ratios[len(ratios) // 2], ratios[-1]]
    columns = {kind: _columns([b for b in blocks if b.kind == kind]) for kind in KIND_TITLES}
    columns = {kind: found for kind, found in columns.items() if found}
    figures = []
    for ratio in ratios if columns else ():
        plans = sorted(by_ratio[ratio].values(), key=lambda plan: -len(plan.present))
        title = f"At {percent(ratio)} pruning"
        if len(plans) > MOST_ROWS:
            title += f"; {MOST_ROWS} of {len(plans)} sensor sets"
        figures.append(KeptFigure(_heat_map(results, ratio, plans[:MOST_ROWS], columns), title))
    return figures


def _columns(blocks: Sequence[Block]) -> list[Column]:
    """Blocks under short names; layers of the same place together when there are very many."""
    short = [re.sub(r"\.(attn|attention|ffn|feed_forward)$", "", block.name) for block in blocks]
    if len(set(short)) < len(blocks):
        short = [block.name for block in blocks]
    if len(blocks) > MOST_COLUMNS:
        short = [re.sub(r"\.\d+(?=\.|$)", "", name) for name in short]
    found: dict[str, list[Block]] = {}
    for name, block in zip(short, blocks, strict=True):
        found.setdefault(name, []).append(block)
    return [Column(name, tuple(members)) for name, members in found.items()]


def _heat_map(results: Results, ratio: float, plans: Sequence[Plan], columns: dict[str, list[Column]]) -> str:
    """Draw one ratio: kinds beside each other, or below each other when there are many blocks."""
    beside = sum(map(len, columns.values())) <= MOST_BESIDE
    labels = [shorten(sensor_label(plan.present, results.names), 30) for plan in plans]
    longest = max(len(shorten(c.name)) for found in columns.values() for c in found)
    panel = 0.3 * len(plans) + 0.068 * longest + 0.45
    height = 0.55 + panel * (1 if beside else len(columns))

    def paint(figure: Figure) -> None:
        widths = [len(found) for found in columns.values()]
        panels: Any = (
            figure.subplots(1, len(columns), squeeze=False, width_ratios=widths)[0]
            if beside
            else figure.subplots(len(columns), 1, squeeze=False)[:, 0]
        )
        for number, (axes, (kind, found)) in enumerate(zip(panels, columns.items(), strict=True)):
            _cells(axes, plans, found, numbers=max(len(found), sum(widths) * beside) <= MOST_NUMBERS)
            axes.set_title(KIND_TITLES[kind])
            if beside and number:
                axes.set_yticklabels([])
            else:
                axes.set_yticklabels(labels)
        _legend(figure)

    name = f"kept-{round(1000 * ratio)}"
    label = f"share of units kept at {percent(ratio)} pruning, per sensor set and block"
    return draw_svg(paint, name, width=9, height=height, label=label)


def _cells(axes: Axes, plans: Sequence[Plan], columns: Sequence[Column], *, numbers: bool) -> None:
    """A rectangle per plan and block: the more stays, the fuller the colour; hatched: not run."""
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    cells, colours = [], []
    for y, plan in enumerate(plans):
        shares = [column.share(plan) for column in columns]
        for x, share in enumerate(shares):
            if share is None:
                continue
            cells.append(Rectangle((x + 0.03, y + 0.04), 0.94, 0.92))
            colours.append(to_rgba(BLUE, _opacity(share)))
            if numbers:
                axes.text(
                    x + 0.5,
                    y + 0.52,
                    f"{100 * share:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=PAPER if share > 0.78 else INK,
                ).set_in_layout(False)  # it is inside its cell, measuring it takes seconds
        for absent, run in groupby(enumerate(shares), key=lambda pair: pair[1] is None):
            if absent:
                xs = [x for x, _ in run]
                place, width = (xs[0] + 0.03, y + 0.04), len(xs) - 0.06
                hatched = Rectangle(place, width, 0.92, edgecolor=MUTED, alpha=0.7, hatch="/////")
                hatched.set(facecolor="none", linewidth=0, in_layout=False)
                axes.add_artist(hatched)
    axes.add_collection(PatchCollection(cells, facecolors=colours, linewidths=0), autolim=False)
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(plans), 0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    size = 8.5 if len(columns) <= 32 else 6.5
    axes.set_xticks([x + 0.5 for x in range(len(columns))])
    axes.set_xticklabels([shorten(c.name) for c in columns], rotation=90, fontsize=size)
    axes.set_yticks([y + 0.5 for y in range(len(plans))])


def _opacity(share: float) -> float:
    """A little colour even where almost nothing stays, so that it differs from an empty cell."""
    return 0.06 + 0.94 * share


def _legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=BLUE, alpha=_opacity(share), linewidth=0, label=f"{100 * share:.0f} % kept")
        for share in (0.1, 0.4, 0.7, 1.0)
    ]
    patches.append(
        Patch(
            facecolor="none",
            edgecolor=MUTED,
            alpha=0.7,
            hatch="/////",
            linewidth=0,
            label="not run",
        )
    )
    figure.legend(handles=patches, loc="outside lower center", ncols=5, handlelength=1.6)
