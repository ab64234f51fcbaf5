"""`sentryfuse study`: the comparison with baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentryfuse.cli.options import JsonFile, Quiet
from sentryfuse.cli.output import Output
from sentryfuse.errors import ConfigError

if TYPE_CHECKING:
    from sentryfuse.study.design import StudyDesign


def study(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the study: its design and its results.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What is compared: quick (a few minutes) or full."),
    ] = None,
    design: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The same from a JSON file; not needed to go on with DIR."),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with the npz files.")] = None,
    runs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where trained models are found or made; DIR/runs by default."),
    ] = None,
    engine: Annotated[str, typer.Option(help="local (processes) or ray.")] = "local",
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A running Ray cluster; --engine ray.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Jobs at a time; one per core by default.")
    ] = None,
    only: Annotated[
        str, typer.Option(metavar="TEXT", help="Only trainings with this in their name, such as mult-dsads.")
    ] = "",
    trainings_only: Annotated[
        bool, typer.Option("--trainings-only", help="Make the models, score none.")
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="Say what the study consists of, and do nothing.")
    ] = False,
    verify: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Compute N random result lines again and compare."),
    ] = None,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Compare our pruning with baselines.

    After a kill the same command goes on; what has a result is never computed again.
    """
    output = Output(json_to, quiet=quiet, folders=[folder for folder in (out, runs) if folder])
    if list_:
        _list(output, _design(out, preset, design), only)
        return
    if out is None:
        raise ConfigError("a study needs a folder for its results; name it with --out")
    if data is not None and not data.is_dir():
        raise ConfigError(f"--data {data} is no folder; name the one that holds the npz files")
    chosen = None if verify else _design(out, preset, design)
    from sentryfuse.study.runner import Workers, refuse_failures, run_study

    # whole paths: the processes of a cluster were started elsewhere
    places = (data.resolve() if data else None, (runs or out / "runs").resolve())
    workers = Workers(*places, engine=engine, jobs=jobs, address=address, only=only)
    if chosen is None:
        from sentryfuse.study.verify import refuse_differences
        from sentryfuse.study.verify import verify as compute_again

        found = compute_again(out, workers, verify or 1)
        columns = [key for key in found[0] if key != "agree"]
        output.table("computed again", columns, [[line[key] for key in columns] for line in found])
        output.json({"rows": found})
        refuse_differences(found)
        return
    report = run_study(out, chosen, workers, trainings_only=trainings_only)
    failed = len(report.failed)
    output.line(f"{out}: {report.lines} new lines, {report.found} were there, {failed} jobs failed")
    output.json({"found": report.found, "lines": report.lines, "failed": report.failed})
    refuse_failures(report.failed)


def _design(out: Path | None, preset: str | None, file: Path | None) -> StudyDesign:
    """The design that was named, or that of the folder."""
    from sentryfuse.study.design import load_design, preset_names
    from sentryfuse.study.store import read_design

    if preset is not None and file is not None:
        raise ConfigError("--preset and --design both say what is compared; give one of them")
    if preset is not None and preset not in preset_names():
        raise ConfigError(f"preset {preset!r} is unknown; there is {', '.join(preset_names())}")
    if preset is not None or file is not None:
        return load_design(preset or file or "")
    found = read_design(out) if out is not None else None
    if found is None:
        raise ConfigError(
            f"nothing says what is compared; give --preset {' or '.join(preset_names())}, or --design FILE"
        )
    return found


def _list(output: Output, design: StudyDesign, only: str) -> None:
    """Every cell with its turns, and every training with its methods."""
    from sentryfuse.study.jobs import evaluations, trainings

    models = trainings(design, {}, only=only)
    of = {(model.backbone, model.dataset) for model in models}
    cells = [cell for cell in design.cells() if cell[:2] in of]
    turns = {name: dataset.turns for name, dataset in design.datasets.items()}
    output.table(
        f"{len(cells)} cells",
        (*cells[0]._fields, "turns"),
        [(*cell, ", ".join(turn.fold or str(turn.seed) for turn in turns[cell.dataset])) for cell in cells],
    )
    jobs = [(model, evaluations(design, model)) for model in models]
    output.table(
        f"{len(models)} trainings",
        ("training", "methods", "lines"),
        [(model.name, len(all_) - 1, sum(len(job.places) for job in all_)) for model, all_ in jobs],
    )
    output.json(
        {
            "cells": [
                {**cell._asdict(), **turn.model_dump()} for cell in cells for turn in turns[cell.dataset]
            ],
            "trainings": [
                {"name": model.name, "methods": [job.method_name for job in all_]} for model, all_ in jobs
            ],
            "lines": sum(len(job.places) for _, all_ in jobs for job in all_),
        }
    )
