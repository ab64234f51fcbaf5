"""`sentryfuse demo` and `sentryfuse report`: the whole path, and pages made of result files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sentryfuse.cli.options import JsonFile, Quiet
from sentryfuse.cli.output import Output
from sentryfuse.errors import ConfigError

PAGE = "report.html"
STUDY_PAGE = "study-report"


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
    from sentryfuse.cli.demo import run_demo, summary

    results = run_demo(out, data=data, epochs=epochs, seed=seed)
    columns, rows = summary(results)
    output.table(f"{data}: all sensors, and the mean over one sensor missing", columns, rows)
    if results["verdict"]:
        output.line(results["verdict"])
    output.line(f"wrote results.json, report.html and model.bundle to {out}")
    output.json(results)


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT.json|STUDY...",
            help="Files of `demo` or of --json; or folders of `study`, or its lines (.jsonl, .jsonl.gz).",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The page; in a folder, report.html is written, and of a study README.md with its figures.",
        ),
    ] = None,
    ours: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="Of a study: the method that is ours; gate/aware by default."),
    ] = None,
    markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print the tables as markdown, too; without --out only."),
    ] = False,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Make a page of result files.

    Several files of the same dataset and backbone are put together; of a study, all its parts.
    """
    from sentryfuse.study.report import is_study

    if any(map(is_study, results)):
        _report_study(results, out=out, ours=ours, markdown=markdown, json_to=json_to, quiet=quiet)
        return
    if ours is not None:
        raise ConfigError("--ours is for the lines of a study, and none was given; leave it out")
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


def _report_study(
    paths: list[Path],
    *,
    out: Path | None,
    ours: str | None,
    markdown: bool,
    json_to: str | None,
    quiet: bool,
) -> None:
    """`report` of the lines of a study."""
    from sentryfuse.study.report import all_tables, page_of, read_study, summarize_study, write_study_page

    page = page_of(out or STUDY_PAGE) if out is not None or not markdown else None
    output = Output(json_to, quiet=quiet, files=[page] if page else [])
    study = read_study(paths)
    summary = summarize_study(study, ours=ours)
    if markdown:
        for head, text in all_tables(summary):
            output.line(f"## {head}\n\n{text}")
    if page is not None:
        write_study_page(study, summary, page)
        output.line(f"wrote {page} and its figures")
    output.json(summary)
