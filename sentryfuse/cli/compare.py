"""`sentryfuse compare`: is it worth it? On a bundle it never loads torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentryfuse.cli.options import Data, Fold, JsonFile, Quiet, Threads, fold_of, open_windows
from sentryfuse.cli.output import Output, score_columns
from sentryfuse.errors import ConfigError

if TYPE_CHECKING:
    from sentryfuse.rivals import Comparison


def compare(
    source: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_BUNDLE", help="Folder of `train` or `prune`, or a file of `export`."),
    ],
    data: Data,
    fold: Fold = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option(
            metavar="R",
            help="Share of our prunable MACs to remove; by default 0, 0.8 and 1. Repeats.",
        ),
    ] = None,
    rival: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only this rival; all by default, a wrong name lists them. Repeats."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the rivals.")] = 0,
    threads: Threads = 2,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Say whether it is worth it: ours beside what one would fit instead.

    Rivals (random forest, extra trees, gradient boosting, logistic regression, LDA, sum of LDAs per sensor)
    are fitted on statistics of the training and validation windows, because ours uses both, and fitted again
    for every sensor missing. Needs scikit-learn; a folder needs torch, too, a bundle does not. Without --fold
    people are split as the model was trained.
    """
    output = Output(json_to, quiet=quiet)
    from sentryfuse.bundle import Bundle
    from sentryfuse.machine import machine
    from sentryfuse.rivals import compare as compare_with_rivals
    from sentryfuse.rivals.comparison import FITTED_ON, bundle_of, opened
    from sentryfuse.rivals.models import need_scikit_learn
    from sentryfuse.types import Budget

    need_scikit_learn()
    for share in ratio or ():
        Budget(ratio=share)
    found_there = opened(source)
    about = found_there.about if isinstance(found_there, Bundle) else found_there.config.about
    fold = _fold(fold, about.get("fold"))  # before an export, which takes longer
    bundle = bundle_of(found_there)
    windows = open_windows(data, fold, split="test")
    found = compare_with_rivals(
        bundle, windows, ratios=ratio, rivals=rival or None, seed=seed, threads=threads
    )
    _show(output, f"{windows.name}, test", found)
    output.json(
        {
            "dataset": windows.name,
            "backbone": bundle.about.get("backbone"),
            "split": "test",
            "seed": bundle.about.get("seed"),
            "fold": fold,
            "rivals": {
                "seed": seed,
                "fitted_on": list(FITTED_ON),
                "n_windows": sum(len(windows.indices(word)) for word in FITTED_ON),
            },
            "measure": found.measure,
            "rows": list(found.rows),
            "verdict": found.verdict,
            **machine(),
        }
    )


def _fold(asked: str | None, trained: object) -> str | None:
    """The fold to compare on: that of the training.

    Raises:
        ConfigError: another one, whose test people were trained on.
    """
    if not isinstance(trained, str):
        return asked
    if asked is not None and fold_of(asked) != fold_of(trained):
        raise ConfigError(
            f"--fold {asked} would score people the model was trained on, its fold is {trained}; give that"
        )
    return trained


def _show(output: Output, title: str, found: Comparison) -> None:
    """The table and the verdict."""
    scores = score_columns(found.rows)
    if all(row["auroc"] is None for row in found.rows):
        scores.pop("AUROC", None)
    output.table(
        title,
        ("system", "sensors", *scores, "one window [ms]", "size [MB]", "models"),
        [
            (
                row["system"] if row["ratio"] is None else f"{row['system']}, r = {row['ratio']:g}",
                row["presence"],
                *(row[key] for key in scores.values()),
                row["time_ms"],
                row["size_mb"],
                row["n_models"],
            )
            for row in found.rows
        ],
    )
    output.line(found.verdict)
