"""`sentryfuse demo` and `sentryfuse report`: the whole path, and pages made of result files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sentryfuse.cli.options import JsonFile, Quiet
from sentryfuse.cli.output import Output

PAGE = "report.html"


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results.")] = Path("demo"),
    data: Annotated[
        str, typer.Option(metavar="NAME_OR_FILE", help="A name of `data list`, or an npz file.")
    ] = "wearable",
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the training windows.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of everything random.")] = 0,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Run the whole path once, in two minutes.

    Train, export, score, plan, time and replay with sensors dropping out and the budget shrinking.
    """
    output = Output(json_to, quiet=quiet, folders=[out])
    from sentryfuse.demo import run_demo, summary

    results = run_demo(out, data=data, epochs=epochs, seed=seed)
    columns, rows = summary(results)
    output.table(f"{data}: all sensors, and the mean over one sensor missing", columns, rows)
    output.line(f"wrote results.json, report.html and model.bundle to {out}")
    output.json(results)


def report(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULT.json...", help="Files of `demo`, or of --json."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page; in a folder, report.html is written."),
    ] = None,
    markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print the tables as markdown, too; without --out only."),
    ] = False,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Make a page of result files.

    Several files of the same dataset and backbone are put together.
    """
    page = out if out is not None or markdown else Path(PAGE)
    if page is not None and page.is_dir():
        page = page / PAGE
    output = Output(json_to, quiet=quiet, files=[page] if page else [])
    from sentryfuse.report import (
        accuracy_rows,
        markdown_table,
        merge_results,
        parse_results,
        write_report,
    )
    from sentryfuse.report import cost_rows as costs

    merged = merge_results(results)
    if page is not None:
        write_report(merged, page)
    if markdown:
        checked = parse_results(merged)
        for rows in (accuracy_rows(merged["evaluation"], checked.names), costs(checked)):
            columns = [key for key in rows[0] if any(row[key] is not None for row in rows)]
            output.line(markdown_table(rows, columns))
    if page is not None:
        output.line(f"wrote {page}")
    output.json(merged)
