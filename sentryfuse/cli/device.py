"""Commands that a device can run: plan, predict, profile, bench. On a bundle they never load torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentryfuse.cli.apart import check_apart
from sentryfuse.cli.options import (
    Fold,
    JsonFile,
    Limits,
    MissingRates,
    Present,
    Presents,
    ProfileFile,
    Quiet,
    Ratio,
    Ratios,
    Threads,
    check_scored,
    profile_of,
    sensor_set,
    sensor_sets,
    takes_limits,
)
from sentryfuse.cli.output import Output, score_table
from sentryfuse.errors import ConfigError
from sentryfuse.types import sensor_label

if TYPE_CHECKING:
    from sentryfuse.bundle import Bundle
    from sentryfuse.data import Windows
    from sentryfuse.planning.profile import DeviceProfile

BundleFile = Annotated[Path, typer.Argument(metavar="BUNDLE", help="File written by `sentryfuse export`.")]
Verify = Annotated[
    Path | None,
    typer.Option(
        "--verify",
        metavar="KEY.pub.pem",
        help="Refuse a bundle that is not signed with this key; see docs/signing.md.",
    ),
]
EngineName = Annotated[str, typer.Option("--engine", help="onnxruntime, or openvino where it is installed.")]


def open_bundle(path: Path, device: DeviceProfile | None = None, *, verify: Path | None = None) -> Bundle:
    """A bundle, with the attention core that is the faster one on the device, if there is a profile of it."""
    from sentryfuse.bundle import load_bundle

    bundle = load_bundle(path, verify)
    if device is None:
        return bundle
    return bundle.with_break_even(device.sparse_from)


def facts_of(bundle: Bundle, windows: Windows, *, split: str, fold: str | None) -> dict[str, Any]:
    """What stands beside the rows of scores or answers."""
    return {
        "dataset": windows.name,
        "backbone": bundle.about.get("backbone"),
        "split": split,
        "seed": bundle.about.get("seed"),
        "fold": fold,
    }


def show_scores(
    output: Output, bundle: Bundle, windows: Windows, *, fold: str | None, split: str, **asked: Any
) -> None:
    """Score a bundle and show the rows.

    Args:
        output: where to.
        bundle: what to score.
        windows: on which recording.
        fold: as it was asked for.
        split: which part.
        asked: the other arguments of `sf.score`.
    """
    from sentryfuse.data.learnable import weak_split
    from sentryfuse.runtime import score

    rows = score(bundle, windows, split=split, **asked)
    weak = weak_split(windows, split)
    score_table(output, f"{windows.name}, {split}", rows, bundle.names, weak=weak)
    output.json({**facts_of(bundle, windows, split=split, fold=fold), "rows": rows})


@takes_limits(Ratio)
def plan(
    source: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_BUNDLE", help="Folder of `train` or `prune`, or a file of `export`."),
    ],
    present: Present = None,
    *,
    limits: Limits,
    profile: ProfileFile = None,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Say what a budget would keep.

    A dry run: which units stay for these sensors, what they cost, which limit binds.
    """
    output = Output(json_to, quiet=quiet)
    check_apart({"--json": json_to}, {"the bundle": source, "the profile": profile})
    from sentryfuse.cli.plans import plan_json, show_plan

    budget = limits.budgets[0]
    names, device = sensor_set(present), profile_of(profile)
    if source.is_file():
        bundle = open_bundle(source, device)
        layout, made = bundle.layout, bundle.plan(names, budget, device)
    else:
        from sentryfuse.training.folder import open_run

        model = open_run(source, sparse_from=None if device is None else device.sparse_from)
        from sentryfuse.pruning import make_plan

        layout, made = model.layout, make_plan(model, names, budget, profile=device)
    facts = plan_json(made, layout, device)
    show_plan(output, facts, layout)
    output.json(facts)


@takes_limits(Ratios)
def predict(
    bundle: BundleFile,
    data: Annotated[
        str,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="A name of `data list`, an npz file, with labels or without, or a CSV file of samples.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the answers, a row per window: .csv, .jsonl or .parquet."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, validation, test or all; all are answered by default, and those of test scored."
        ),
    ] = None,
    present: Presents = None,
    missing_rate: MissingRates = None,
    *,
    limits: Limits,
    profile: ProfileFile = None,
    fold: Fold = None,
    hop_s: Annotated[
        float | None,
        typer.Option(metavar="S", help="Of a CSV file: from one window to the next [s]; a window's length."),
    ] = None,
    threads: Threads = 2,
    verify: Verify = None,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Answer windows, without torch and without labels.

    Where there are labels and no --out, the answers are scored, one row per combination as in `evaluate`.
    """
    output = Output(json_to, quiet=quiet, files=[] if out is None else [out])
    from sentryfuse.types import check_present

    sets = sensor_sets(present)
    if out is not None:
        from sentryfuse.runtime.answers import check_file

        check_file(out)
        if len(sets) > 1 or len(limits.budgets) > 1 or missing_rate:
            raise ConfigError(
                "--out takes the answers of one set of sensors and one budget; give --present and --ratio "
                "once, and no --missing-rate"
            )
    device = profile_of(profile)
    loaded = open_bundle(bundle, device, verify=verify)
    for names in sets:
        check_present(names, loaded.names)
    from sentryfuse.cli.predictions import open_unlabelled, show_answers

    windows, end_s = open_unlabelled(loaded, data, fold=fold, hop_s=hop_s, split=split)
    chosen = split or ("test" if out is None and windows.labelled else "all")
    if out is None and windows.labelled:
        check_scored(windows, chosen)
        show_scores(
            output,
            loaded,
            windows,
            fold=fold,
            split=chosen,
            present=sets,
            missing_rates=missing_rate or (None,),
            budgets=limits.budgets,
            threads=threads,
            profile=device,
        )
        return
    facts = facts_of(loaded, windows, split=chosen, fold=fold)
    if missing_rate:
        raise ConfigError(f"{windows.name} has no labels, so --missing-rate scores nothing; leave it out")
    from sentryfuse.runtime import answer_windows
    from sentryfuse.runtime.answers import save_answers

    told = []
    for names in sets:
        for budget in limits.budgets:
            answers = answer_windows(
                loaded,
                windows,
                split=chosen,
                present=names,
                budget=budget,
                threads=threads,
                profile=device,
            )
            answers = answers if end_s is None else replace(answers, time_s=end_s[answers.window])
            if out is not None:
                save_answers(out, answers)
            told.append(show_answers(output, answers, facts, budget=budget))
    if out is not None:
        output.line(f"wrote {out}")
    output.json({**facts, "out": None if out is None else str(out), "answers": told})


def profile(
    bundle: BundleFile,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the profile.")],
    engine: EngineName = "onnxruntime",
    threads: Threads = 1,
    seconds: Annotated[float, typer.Option(metavar="S", help="Time spent on timing [s].")] = 50.0,
    power: Annotated[
        str | None,
        typer.Option(metavar="METER", help="Measure energy as well: auto, rapl, ...; see docs/power.md."),
    ] = None,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Measure this device, so that plans can hold a budget in milliseconds.

    Times sub-networks of the bundle side by side; takes about a minute. Run it when nothing else runs.
    """
    output = Output(json_to, quiet=quiet, files=[out])
    check_apart({"--out": out, "--json": json_to}, {"the bundle": bundle})
    from sentryfuse.bundle import load_bundle
    from sentryfuse.measure.profiling import profile as measure

    loaded = load_bundle(bundle)
    reader = None
    if power is not None:
        from sentryfuse.power import open_reader

        reader = open_reader(power, needs="energy_j")
    try:
        made = measure(loaded, threads=threads, seconds=seconds, path=bundle, engine=engine, reader=reader)
    finally:
        if reader is not None:
            reader.close()
    made.save(out)
    dense = made.median_ms(loaded.layout, None)
    output.line(
        f"{out}: dense {dense:.2f} ms, error of the fit {100 * made.about['error']['p50']:.1f} % (median), "
        f"p95 {made.p95_factor:.2f} times the median, cold switch {made.cold_switch_ms:.1f} ms"
    )
    if made.mj_per_ms is not None:
        output.line(f"energy above idle {made.mj_per_ms:.3g} mJ per ms of work ({made.energy['label']})")
    elif power is not None:
        output.line(f"no energy: {made.energy['refused']}")
    output.json(made.to_json())


def bench(
    bundle: BundleFile,
    present: Presents = None,
    ratio: Ratios = None,
    engine: EngineName = "onnxruntime",
    threads: Threads = 1,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Windows timed per sub-network.")] = 300,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Time sub-networks on this machine.

    Latency, memory and switching, beside the dense model.
    """
    output = Output(json_to, quiet=quiet)
    check_apart({"--json": json_to}, {"the bundle": bundle})
    from sentryfuse.bundle import load_bundle
    from sentryfuse.machine import machine
    from sentryfuse.measure.bench import bench as bench_bundle

    loaded = load_bundle(bundle)
    rows = bench_bundle(
        loaded,
        present=sensor_sets(present),
        ratios=ratio or [],
        threads=threads,
        repeats=repeats,
        path=bundle,
        engine=engine,
    )
    output.table(
        f"{bundle.name}, one window per call, {engine}, threads: {threads}",
        ("name", "sensors", "p50 [ms]", "p95 [ms]", "p99 [ms]", "MMAC", "weights [MB]",
         "peak RSS [MB]", "cold switch p50 [ms]", "warm [us]"),
        [
            (
                row["name"],
                sensor_label(row["present"], loaded.names),
                *row["latency_ms"].values(),
                row["macs"] / 1e6,
                row["weights_mb"],
                row["peak_rss_mb"],
                row["switch_ms"]["cold"]["p50"],
                1e3 * row["switch_ms"]["warm"]["p50"],
            )
            for row in rows
        ],
    )  # fmt: skip
    output.json({"bundle": bundle.name, **machine(), "rows": rows})
