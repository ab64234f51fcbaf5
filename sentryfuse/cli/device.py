"""Commands that a device can run: plan, predict, profile, bench. On a bundle they never load torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentryfuse.cli.apart import check_apart
from sentryfuse.cli.options import (
    Data,
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
    Split,
    Threads,
    open_windows,
    profile_of,
    sensor_set,
    sensor_sets,
    takes_limits,
)
from sentryfuse.cli.output import Output, score_table
from sentryfuse.types import sensor_label

if TYPE_CHECKING:
    from sentryfuse.bundle import Bundle
    from sentryfuse.planning.profile import DeviceProfile

BundleFile = Annotated[Path, typer.Argument(metavar="BUNDLE", help="File written by `sentryfuse export`.")]
EngineName = Annotated[str, typer.Option("--engine", help="onnxruntime, or openvino where it is installed.")]


def open_bundle(path: Path, device: DeviceProfile | None = None) -> Bundle:
    """A bundle, with the attention core that is the faster one on the device, if there is a profile of it."""
    from sentryfuse.bundle import load_bundle

    bundle = load_bundle(path)
    if device is None:
        return bundle

    return bundle.with_break_even(device.sparse_from)


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
    data: Data,
    split: Split = "test",
    present: Presents = None,
    missing_rate: MissingRates = None,
    *,
    limits: Limits,
    profile: ProfileFile = None,
    fold: Fold = None,
    threads: Threads = 2,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Score a bundle on a recording, without torch."""
    output = Output(json_to, quiet=quiet)
    from sentryfuse.runtime.predict import predict as predict_windows
    from sentryfuse.types import check_present

    device = profile_of(profile)
    loaded = open_bundle(bundle, device)
    sets = sensor_sets(present)
    for names in sets:
        check_present(names, loaded.names)
    windows = open_windows(data, fold, split=split)
    rows = predict_windows(
        loaded,
        windows,
        split=split,
        present=sets,
        missing_rates=missing_rate or (None,),
        budgets=limits.budgets,
        threads=threads,
        profile=device,
    )
    score_table(output, f"{windows.name}, {split}", rows, loaded.names)
    output.json(
        {
            "dataset": windows.name,
            "backbone": loaded.about.get("backbone"),
            "split": split,
            "seed": loaded.about.get("seed"),
            "fold": fold,
            "rows": rows,
        }
    )


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
