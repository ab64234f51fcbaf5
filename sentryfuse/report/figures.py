"""SVG made with matplotlib for a page that needs no network; same input, same bytes; text stays text.

Figures are drawn with fixed colours which are then replaced by the page's CSS variables, so one
drawing serves light, dark and print.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, cast

from sentryfuse.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1b1f24", "#5b6570", "#dfe3e8", "#fefefe"
BLUE, VERMILLION, GREEN, AMBER, PURPLE, SKY = (
    # Okabe and Ito: told apart by colour-blind readers
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#e69f00",
    "#cc79a7",
    "#56b4e9",
)
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, AMBER, SKY)
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    **{colour: f"--c{number}" for number, colour in enumerate(SERIES, start=1)},
}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same layout everywhere
    "font.size": 9.5,
    "text.parse_math": False,  # a sensor may be called "$x$"
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 8,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 2,
    "lines.markersize": 5.5,
    "figure.facecolor": "none",
    "hatch.linewidth": 0.7,
}
MISSING = "the report needs matplotlib and jinja2; run: pip install 'sentryfuse[report]'"
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def draw_svg(
    paint: Callable[[Figure], None],
    name: str,
    *,
    width: float,
    height: float,
    label: str,
    gap: float = 0.02,
) -> str:
    """Let `paint` fill a figure and return it as an `<svg>` element to be put into a page.

    Args:
        paint: draws on the figure; layout is taken care of.
        name: unique on the page; ids inside begin with it.
        width: of the drawing [inch]; the page scales it.
        height: of the drawing [inch].
        label: for screen readers.
        gap: room between panels beside each other, as a share of the width.

    Returns:
        The element: no prolog, no metadata, no links, text as text.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    return _for_page(_drawn(paint, name, width=width, height=height, gap=gap), name, label)


def draw_svg_file(
    paint: Callable[[Figure], None], name: str, *, width: float, height: float, gap: float = 0.02
) -> str:
    """The same as `draw_svg`, as a file of its own on white paper.

    Args:
        paint: draws on the figure; layout is taken care of.
        name: decides the ids inside.
        width: of the drawing [inch].
        height: of the drawing [inch].
        gap: room between panels beside each other, as a share of the width.

    Returns:
        What an `.svg` file holds; text as text.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    return _drawn(paint, name, width=width, height=height, gap=gap, paper="white")


def _drawn(
    paint: Callable[[Figure], None],
    name: str,
    *,
    width: float,
    height: float,
    gap: float,
    paper: str = "none",
) -> str:
    """What matplotlib writes."""
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ConfigError(MISSING) from error
    target = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # a browser has the letters that matplotlib's own font lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()  # no matplotlibrc changes the page
        matplotlib.rcParams.update(cast(Any, {**STYLE, "svg.hashsalt": name, "figure.facecolor": paper}))
        figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=gap))
        FigureCanvasSVG(figure)
        paint(figure)
        figure.savefig(target, format="svg", metadata=NO_METADATA)
    return target.getvalue()


def _for_page(svg: str, name: str, label: str) -> str:
    """Make a matplotlib SVG file into an element: unique ids, page colours, nothing to load."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None, "matplotlib always writes a viewBox"
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'(<[^<>]*\bid=")', rf"\g<1>{name}-", body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(
        r"(fill|stroke): (#[0-9a-f]{6})",
        lambda m: f"{m[1]}: var({VARIABLES[m[2]]})" if m[2] in VARIABLES else m[0],
        body,
    )
    return f'<svg {box[0]} role="img" aria-label="{escape(label)}" class="figure">{body.strip()}'


def shorten(text: str, limit: int = 24) -> str:
    """A name for an axis: printable, on one line, not too long."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def percent_axis(axes: Axes, ticks: Sequence[float] | None = None) -> None:
    """Write shares on the x axis as percentages.

    Args:
        axes: where.
        ticks: shares to name; by default matplotlib's own choice.
    """
    if ticks is not None:
        axes.set_xticks(list(ticks))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")


def legend_below(figure: Figure, handles: Sequence[Any], columns: int) -> None:
    """One legend under the whole figure, outside of every panel.

    Args:
        figure: where.
        handles: labelled artists.
        columns: entries per line.
    """
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, handlelength=2.2)
