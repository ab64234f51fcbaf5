"""The folder a study leaves for its readers: a page in markdown, its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sentryfuse.errors import ConfigError
from sentryfuse.files import write_text
from sentryfuse.report.tables import percent
from sentryfuse.study.report.cells import make_grid
from sentryfuse.study.report.comparison import comparisons
from sentryfuse.study.report.figures import gain_figure, ratio_figure
from sentryfuse.study.report.lines import Study
from sentryfuse.study.report.summary import Row
from sentryfuse.study.report.tables import (
    OPTIMISTIC,
    ablation_table,
    gain_table,
    group_table,
    headline_table,
    interval_note,
    loss_table,
    no_loss_table,
    system_table,
)

PAGE = "README.md"
MAPPED = ("headline", "B")  # comparisons that get a figure of all cells


def write_study_page(study: Study, summary: Row, out: str | Path) -> Path:
    """Write the page and its figures; the same lines give the same bytes.

    Args:
        study: what was read.
        summary: what `summarize_study` made of it.
        out: a folder, which gets `README.md`, or the name of a page that ends in `.md`; the
            figures are put beside it.

    Returns:
        The page.

    Raises:
        ConfigError: another kind of page was asked for, or matplotlib is not installed.
        InputError: the system refuses to write.
    """
    page = page_of(out)
    drawn = study_figures(study, summary)
    for name, svg in drawn.items():
        write_text(page.parent / name, svg)
    write_text(page, render_study_page(summary, list(drawn)))
    return page


def page_of(out: str | Path) -> Path:
    """The page behind `--out`: a folder gets `README.md`.

    Raises:
        ConfigError: a name that is neither a folder's nor ends in `.md`.
    """
    path = Path(out)
    if path.is_dir() or not path.suffix:
        return path / PAGE
    if path.suffix != ".md":
        raise ConfigError(f"the page of a study is markdown, not {path.name}; give a folder or a name.md")
    return path


def study_figures(study: Study, summary: Row) -> dict[str, str]:
    """File name -> SVG of every figure the lines allow."""
    grid = make_grid(study.lines, study.design)
    items = comparisons(grid, summary["study"]["ours"])
    drawn = {}
    for protocol in grid.protocols:
        svg = ratio_figure(grid, items, protocol)
        if svg is not None:
            drawn[f"ratio-{protocol}.svg"] = svg
    for item in summary["comparisons"]:
        if item["name"] in MAPPED and item["n_present"]:
            drawn[f"gain-{item['name'].lower()}-{item['protocol']}.svg"] = gain_figure(item, summary["study"])
    return drawn


def render_study_page(summary: Row, figures: Sequence[str] = ()) -> str:
    """The page as markdown.

    Args:
        summary: what `summarize_study` gives.
        figures: names of figure files beside the page.

    Returns:
        The text; all of it comes from the summary.
    """
    about = summary["study"]
    parts = [
        "# The study: pruning against the strongest baselines",
        "Made by `sentryfuse report` from result lines; no number on this page is typed.",
        "## What was run",
        _about(about),
        "## Gains over the best baseline of each cell",
        headline_table(summary) or "The lines hold no comparison.",
        f"{OPTIMISTIC} {interval_note(summary) if summary['comparisons'] else ''}".strip(),
        _reading(about),
    ]
    for name in (name for name in figures if name.startswith("ratio-")):
        parts.append(f"![Score against the pruning ratio, {name}]({name})")
    for item in summary["comparisons"]:
        parts += [f"## {item['title']}, protocol {item['protocol']}", _said(item), gain_table(item)]
        name = f"gain-{item['name'].lower()}-{item['protocol']}.svg"
        if name in figures:
            parts.append(f"![Gain in every cell]({name})")
        parts += [
            "By data set and backbone, gain over the best baseline of each cell [points]:",
            group_table(item),
        ]
    losses = [(item, loss_table(item)) for item in summary["comparisons"]]
    parts += ["## Where the method loses", "Ties, within 0.5 points, are left out."]
    for item, table in losses:
        lost = item["regions"][0]["lost"]
        parts.append(
            f"**{item['title']}, protocol {item['protocol']}: {lost} of {item['n_present']} cells.**"
        )
        parts.append(table)
    if no_loss := no_loss_table(summary["no_loss"]):
        parts += [
            "## No loss",
            "Our method against the same model with nothing pruned and the same sensors, mean over "
            "backbones and data sets.",
            no_loss,
        ]
    for protocol in about["protocols"]:
        ablation = ablation_table([row for row in summary["ablation"] if row["protocol"] == protocol])
        if ablation:
            parts += [
                f"## What each part is worth, protocol {protocol}",
                "Ours less the same system with one part changed [points]; below zero the other is better.",
                ablation,
            ]
    for protocol in about["protocols"]:
        systems = system_table([row for row in summary["systems"] if row["protocol"] == protocol])
        if systems:
            parts += [
                f"## Every system, protocol {protocol}",
                "Mean score over the cells that were run.",
                systems,
            ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _about(about: Mapping[str, Any]) -> str:
    """The study as a list of facts."""
    facts = [
        f"cells: {about['n_cells']} = {len(about['backbones'])} backbones ({', '.join(about['backbones'])}) "
        f"x {len(about['datasets'])} data sets x {len(about['ratios'])} ratios "
        f"({', '.join(f'{r:g}' for r in about['ratios'])}) x {len(about['missing_rates'])} missing rates "
        f"({', '.join(percent(m) for m in about['missing_rates'])})",
        f"lines: {about['n_lines']:,} of {about['n_systems']} systems and {about['n_trainings']} trainings "
        f"({', '.join(about['trainings'])})",
        f"our method: `{about['ours']}`",
    ]
    for item in about["datasets"]:
        windows = " or ".join(f"{n:,}" for n in item["n_windows"]) or "unknown"
        runs = ", ".join(
            f"seed {seed}" + ("" if fold is None else f" fold {fold}") for seed, fold in item["replicates"]
        )
        short = len(item["replicates"]) < item["replicates_wanted"]
        missing = f", of {item['replicates_wanted']} wanted" if short else ""
        facts.append(f"{item['name']}: {item['score']}, {windows} test windows, {runs}{missing}")
    if about["not_run"]:
        facts.append(f"of the design not run: {', '.join(about['not_run'])}")
    if about["n_torn"]:
        facts.append(f"half-written last lines left out: {about['n_torn']}")
    facts += [f"{key}: {_flat(value)}" for key, value in _made(about["design"]).items()]
    return "\n".join(f"- {fact}" for fact in facts)


def _made(design: Mapping[str, Any]) -> dict[str, Any]:
    """How it was run, from the design; without its lists of cells, which stand elsewhere."""
    said = (
        "backbones", "datasets", "ratios", "missing_rates", "protocols", "trainings", "methods",
    )  # fmt: skip
    return {key: value for key, value in design.items() if key not in said and _flat(value)}


def _flat(value: Any) -> str:
    """A value in words; what is too long for a line stays in the design."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    elif isinstance(value, list):
        text = ", ".join(_flat(item) for item in value)
    else:
        text = str(value)
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:299] + "…"


def _reading(about: Mapping[str, Any]) -> str:
    """How to read the tables."""
    auroc = [item["name"] for item in about["datasets"] if item["score"] == "auroc"]
    score = "Scores are accuracy" + (f", for {', '.join(auroc)} AUROC" if auroc else "") + ", in percent"
    return (
        f"{score}; gains are differences of them in points, relative gains the mean difference over the "
        "baseline's mean. A cell is the mean over its replicates (seeds, folds of people), won beyond 0.5 "
        "points, tied within. A baseline is every method whose units are not ranked by the gate; oracles and "
        "fine-tuned references are shown among the systems and are no bar. Protocol `present` prunes a share "
        "of what runs with the sensors that are there, `full` of the model with all sensors."
    )


def _said(item: Mapping[str, Any]) -> str:
    """What one comparison holds, and how much of it is there."""
    n, short = item["n_present"], item["n_present"] - item["n_whole"]
    whole = (
        f"{short} of them incomplete (a replicate or a baseline is missing)"
        if short
        else "all with every replicate of every baseline"
    )
    return (
        f"{item['ours']} against {item['n_baselines']} baselines; {n} of {item['n_cells']} cells, {whole}. "
        f"Best single baseline: {item['best_single']}."
    )
