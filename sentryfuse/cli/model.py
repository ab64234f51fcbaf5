"""Commands of the workstation: train, evaluate, prune, export. They need torch, but to evaluate a bundle."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentryfuse.cli.apart import check_apart
from sentryfuse.cli.device import open_bundle, show_scores
from sentryfuse.cli.options import (
    Data,
    Fold,
    JsonFile,
    Limits,
    MissingRates,
    Present,
    Presents,
    Protocol,
    Quiet,
    Ratio,
    Ratios,
    Split,
    check_scored,
    open_windows,
    sensor_set,
    sensor_sets,
    takes_limits,
)
from sentryfuse.cli.output import Output, score_table
from sentryfuse.errors import ConfigError

if TYPE_CHECKING:
    from sentryfuse.data import Windows

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder written by `sentryfuse train` or `prune`.")]
Device = Annotated[str, typer.Option(help="cpu, the reference, or cuda.")]


def train(
    data: Data,
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder for the trained model.")],
    backbone: Annotated[str, typer.Option(help="maestro, flexmoe or mult.")] = "maestro",
    preset: Annotated[str, typer.Option(help="Sizes: small or paper.")] = "small",
    attention: Annotated[str, typer.Option(help="sentry, or dense multi-head.")] = "sentry",
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the training windows.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of everything random.")] = 0,
    elastic: Annotated[
        str,
        typer.Option(
            help="Who chooses the sub-networks that are trained along: gate; static (by magnitude) or "
            "taylor, one order for all sensors; or none (plain training with sensor dropout)."
        ),
    ] = "gate",
    augment: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Size of the random gain and noise on training windows, as a share of what varies inside "
            "them; 0 switches it off.",
        ),
    ] = None,
    balance: Annotated[
        bool,
        typer.Option("--balance", help="Count every class alike, however rare it is in the recording."),
    ] = False,
    normalise: Annotated[
        str,
        typer.Option(
            help="Statistics of the training windows (train), of each person (subject), or what folds of "
            "training people choose (auto)."
        ),
    ] = "auto",
    device: Device = "cpu",
    fold: Fold = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model that RUN holds.")] = False,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Train a model and its gate.

    After a kill the same command goes on from the last epoch. Started by `torchrun -m sentryfuse train`,
    several processes share the work.
    """
    from sentryfuse.training.folder import Recipe, check_free, train_into

    leads = "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["RANK"] == "0"
    if leads:
        output = Output(json_to, quiet=quiet, folders=[out])
        check_free(out, overwrite=overwrite)
    else:  # the leading process alone writes and speaks
        output = Output(None, quiet=True)
    from sentryfuse.training import TrainSettings
    from sentryfuse.training.distributed import process_group

    with process_group(device) as group:
        kinds = {"train": "population", "subject": "person"}
        readout = kinds.get(normalise, "auto")
        settings = TrainSettings(seed=seed, elastic=elastic, epochs=epochs, readout=readout, balance=balance)
        if augment is not None:
            settings = replace(settings, augment=augment)
        windows = open_windows(data, fold)
        recipe = Recipe(
            settings=settings,
            backbone=backbone,
            preset=preset,
            attention=attention,
            normalise=normalise,
            fold=fold,
        )
        metrics = train_into(out, windows, recipe, group=group, overwrite=overwrite)
    if not leads:
        return
    metrics["verdict"] = _verdict(out, windows)
    for split in ("validation", "test"):
        score_table(output, split, metrics.get(split, ()), windows.names)
    if metrics["worth"]:
        output.line(f"{metrics['worth']}; the scores of validation above are of people the readout knows")
    if metrics["verdict"]:
        output.line(f"on test windows, {metrics['verdict']} (`sentryfuse compare` has more rivals)")
    output.line(f"{len(metrics['history'])} epochs, {metrics['seconds']['train']:.0f} s; wrote {out}")
    output.json(metrics)


def _verdict(run: Path, windows: Windows) -> str | None:
    """Whether the model is worth it; `None` where nobody can tell."""
    from sentryfuse.model.pretrained import from_pretrained
    from sentryfuse.progress import say
    from sentryfuse.rivals.comparison import quick_verdict

    say("fitting a forest and LDA to compare with")
    return quick_verdict(from_pretrained(run), windows)


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_BUNDLE", help="Folder of `train` or `prune`, or a file of `export`."),
    ],
    data: Data,
    split: Split = "test",
    present: Presents = None,
    missing_rate: MissingRates = None,
    ratio: Ratios = None,
    protocol: Protocol = "present",
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Who ranks the units: gate, magnitude, taylor, or another one of docs/baselines.md; a wrong "
            "name lists them. Repeats.",
        ),
    ] = None,
    device: Device = "cpu",
    fold: Fold = None,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Score a trained model, or a bundle without torch.

    One row per combination of sensors, missing rate, ratio and scorer.
    """
    output = Output(json_to, quiet=quiet)
    from sentryfuse.types import Budget, check_present

    sets = sensor_sets(present)
    budgets = [Budget(ratio=share, protocol=protocol) for share in ratio or [0.0]]
    asked: dict[str, Any] = {"split": split, "present": sets, "missing_rates": missing_rate or (None,)}
    if run.is_file():
        if set(scorer or ()) - {"gate"} or device != "cpu":
            raise ConfigError(
                f"{run} is a bundle, which ranks by its gate on the CPU; leave --scorer and --device out, or "
                "give the folder of `train`"
            )
        bundle = open_bundle(run)
        for names in sets:
            check_present(names, bundle.names)
        windows = open_windows(data, fold)
        check_scored(windows, split)
        show_scores(output, bundle, windows, fold=fold, budgets=budgets, **asked)
        return
    from sentryfuse.training.folder import open_run

    model = open_run(run)
    for names in sets:
        check_present(names, model.names)
    from sentryfuse.pruning.scorers import check_scorer

    for name in scorer or ():
        check_scorer(name)
    windows = open_windows(data, fold)
    check_scored(windows, split)
    from sentryfuse.pruning.evaluation import evaluate as evaluate_model
    from sentryfuse.training.distributed import check_device

    rows = evaluate_model(
        model,
        windows,
        ratios=ratio or [0.0],
        protocol=protocol,
        scorers=scorer or ("gate",),
        device=check_device(device),
        **asked,
    )
    from sentryfuse.data.learnable import weak_split

    title, weak = f"{windows.name}, {split}", weak_split(windows, split)
    score_table(output, title, rows, model.names, weak=weak)
    about = model.config.about
    output.json(
        {
            "dataset": windows.name,
            "backbone": model.config.backbone,
            "split": split,
            "seed": about.get("seed"),
            "fold": fold,
            "rows": rows,
        }
    )


@takes_limits(Ratio)
def prune(
    run: Run,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the smaller model.")],
    present: Present = None,
    *,
    limits: Limits,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder as a whole.")] = False,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Write the smaller model of a plan.

    An ordinary model: same kind, smaller numbers, without fine-tuning.
    """
    output = Output(json_to, quiet=quiet, folders=[out])
    from sentryfuse.cli.plans import plan_json, show_plan
    from sentryfuse.files import folder_atomically, write_json
    from sentryfuse.training.folder import open_run

    budget = limits.budgets[0]
    model = open_run(run)
    from sentryfuse.pruning import make_plan
    from sentryfuse.pruning import prune as prune_model

    plan = make_plan(model, sensor_set(present), budget)
    facts = plan_json(plan, model.layout)
    with folder_atomically(out, overwrite=overwrite) as folder:
        prune_model(model, plan).write_into(folder)
        write_json(folder / "plan.json", facts)
    show_plan(output, facts, model.layout)
    output.line(f"wrote {out}")
    output.json(facts)


def export(
    run: Run,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The bundle, the one file a device needs.")],
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY.pem", help="Write FILE.sig beside it; see docs/signing.md."),
    ] = None,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Write the bundle for the device.

    It is checked against torch before it gets its name: seconds for a few sensors, minutes for dozens.
    """
    signature = None if sign is None else Path(f"{out}.sig")
    output = Output(json_to, quiet=quiet, files=[out] if signature is None else [out, signature])
    check_apart({"--out": out, "the signature": signature, "--json": json_to}, {"the key": sign})
    if sign is not None:
        from sentryfuse.bundle.signature import read_signer

        read_signer(sign)  # before the model is read
    from sentryfuse.training.folder import open_run

    model = open_run(run)
    from sentryfuse.export import export_bundle

    checked = export_bundle(model, out, sign)
    size = out.stat().st_size
    output.line(
        f"{out}: {size / 1e6:.1f} MB; {checked['plans']} plans checked against torch, largest "
        f"difference of a probability {checked['max_difference']:.1e}"
    )
    if signature is not None:
        output.line(f"{signature}: signed with the key {checked['signed_by'][:16]}")
    output.json({"bundle": out.name, "bytes": size, **checked})
