"""`sentryfuse data`: what can be used, what is in it, and windows from files of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentryfuse.cli.options import JsonFile, Quiet
from sentryfuse.cli.output import Output
from sentryfuse.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sentryfuse.data import Windows
    from sentryfuse.recordings import Recipe


def list_(json_to: JsonFile = None, quiet: Quiet = False) -> None:
    """List the recordings that are known by name."""
    output = Output(json_to, quiet=quiet)
    from sentryfuse.data import list_data

    found = list_data()
    output.table(
        "recordings",
        ("name", "sensors", "licence", "origin", "description"),
        [(d["name"], len(d["modalities"]), d["licence"], d["origin"], d["description"]) for d in found],
    )
    output.json({"recordings": found})


def describe(
    data: Annotated[
        str, typer.Argument(metavar="FILE_OR_NAME", help="A name of `data list`, or an npz file.")
    ],
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also draw it: sensors, classes by split, what is missing (.png, .svg, .pdf).",
        ),
    ] = None,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Describe one recording: sensors, rates, classes, people, splits, licence."""
    output = Output(json_to, quiet=quiet, files=[] if plot is None else [plot])
    from sentryfuse import data as source

    if plot is not None:
        from sentryfuse.recordings.picture import check_picture, plot_windows

        check_picture(plot)
    windows = source.open_data(data)
    facts = source.describe(windows)
    if plot is not None:
        plot_windows(windows, plot)
    people = "nobody says whose" if facts["n_subjects"] is None else f"{facts['n_subjects']} subjects"
    output.line(
        f"{facts['name']}: {facts['n_windows']} windows, {people}, {_asked(windows)}; licence: "
        f"{facts['licence'] or 'not named'}"
    )
    output.table(
        "sensors",
        ("name", "rate [Hz]", "steps", "channels", "absent", "not measured"),
        [
            (
                m["name"],
                float(m["rate_hz"]),
                m["length"],
                len(m["channels"]),
                m["share_absent"],
                m["share_missing_values"],
            )
            for m in facts["modalities"]
        ],
    )
    kinds = [*facts["classes"]]
    if kinds:
        word = "class" if windows.target.of_classes else "label"
        shares = [[split["classes"].get(kind, 0) for split in facts["splits"].values()] for kind in kinds]
        output.table(
            "classes" if windows.target.of_classes else "labels",
            (word, "windows", *facts["splits"]),
            [(kind, facts["classes"][kind], *row) for kind, row in zip(kinds, shares, strict=True)],
        )
    for name, values in facts["splits"].get("train", {}).get("values", {}).items():
        unit = f" {facts['unit']}" if facts["unit"] else ""
        output.line(f"{name} in train: {values['min']:g} to {values['max']:g}{unit}, mean {values['mean']:g}")
    output.table(
        "splits",
        ("split", "windows", "subjects"),
        [(name, s["n_windows"], s["n_subjects"]) for name, s in facts["splits"].items()],
    )
    output.json(facts)


def _asked(windows: Windows) -> str:
    """How many classes, numbers or labels."""
    n, task = len(windows.classes), windows.target.task
    if not windows.labelled:
        return "no labels"
    if task == "classification":
        return f"{n} classes"
    return f"{n} {'number' if task == 'regression' else 'label'}{'' if n == 1 else 's'}"


def guess(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FOLDER_OR_FILES...", help="Tables: CSV, TSV, any text, Parquet.")
    ],
    out: Annotated[Path, typer.Option(metavar="RECIPE.toml", help="The recipe to write.")],
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Look at recordings and write a recipe for `data make`: columns, times, rates, labels, people."""
    output = Output(json_to, quiet=quiet, files=[out])
    from sentryfuse import recordings

    if out.suffix.lower() != ".toml":
        raise ConfigError(f"--out {out}: a recipe ends in .toml; give such a name")
    found = recordings.guess(sources, beside=out.absolute().parent)
    remarks = [*found.remarks, found.length]
    recordings.write_recipe(out, found.recipe, remarks=[*remarks, *(f"TO DO: {d}" for d in found.doubts)])
    output.table(
        "sensors",
        ("name", "rate [Hz]", "columns", "files"),
        [
            (s.name, s.rate_hz, ", ".join(s.columns), ", ".join(table.files)[:60])
            for table in found.recipe.table
            for s in table.sensor
        ],
    )
    for remark in remarks:
        output.line(remark)
    for doubt in found.doubts:
        output.line(f"to do: {doubt}")
    output.line(
        f"wrote {out}; look it through, then: sentryfuse data make {out} --out {found.recipe.name}.npz"
    )
    output.json({"recipe": found.recipe.model_dump(), "remarks": remarks, "doubts": found.doubts})


def make(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="A recipe (.toml); or tables; or NAME_TRAIN.ts and NAME_TEST.ts; or arrays (.npz, .npy).",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.npz", help="The windows to write.")],
    window_s: Annotated[float | None, typer.Option(metavar="X", help="Length of a window [s].")] = None,
    hop_s: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="From one window's start to the next [s]; its share of a window stays if not given.",
        ),
    ] = None,
    rate_hz: Annotated[
        float | None, typer.Option(metavar="X", help="Samples per second [Hz]; .ts, .npz and .npy only.")
    ] = None,
    lengths: Annotated[
        str,
        typer.Option(
            help="Unequal cases of .ts files: pad (with NaN, to the longest) or cut (to the shortest)."
        ),
    ] = "pad",
    sensor: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=0,1,2", help="A sensor and its channels, from 0 on; .ts only. Repeats."),
    ] = None,
    axes: Annotated[
        str | None, typer.Option(help="Windows of .npz and .npy: NTC (windows, steps, channels) or NCT.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="SENSOR",
            help="Answer the mean of this sensor of one column over a window, not a class; tables only.",
        ),
    ] = None,
    target_unit: Annotated[str | None, typer.Option(metavar="TEXT", help="Unit of that number.")] = None,
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Cut windows from recordings and write them as npz; everything that is dropped is counted and named."""
    output = Output(json_to, quiet=quiet, files=[out])
    from sentryfuse import recordings
    from sentryfuse.data import describe, save_windows

    if out.suffix.lower() != ".npz":
        raise ConfigError(f"--out {out}: windows are written as .npz; give such a name")
    suffixes = {path.suffix.lower() for path in sources}
    if suffixes & recordings.CUT_ALREADY:
        if len(suffixes) > 1:
            raise DataError(f"{', '.join(sorted(suffixes))} do not go together; give files of one kind")
        _refuse("windows that are cut already", target=target, target_unit=target_unit)
        if suffixes == {".ts"}:
            _refuse(".ts files, which are cut already", window_s=window_s, hop_s=hop_s, axes=axes)
            windows, said = recordings.make_cases(
                sources,
                lengths=lengths,
                rate_hz=1.0 if rate_hz is None else rate_hz,
                sensors=_sensors(sensor),
            )
        else:
            _refuse("arrays", sensor=sensor)
            windows, said = recordings.windows_of_files(
                sources, window_s=window_s, hop_s=hop_s, rate_hz=rate_hz, axes=axes
            )
        save_windows(out, windows)
        facts = describe(windows)
        splits = {word: s["n_windows"] for word, s in facts["splits"].items()}
        _tell(output, out, facts["n_windows"], facts["n_subjects"], facts["classes"], splits, said)
        output.json({"path": str(out), **facts, "remarks": said})
        return
    _refuse("tables, where the recipe says it", rate_hz=rate_hz, sensor=sensor, axes=axes)
    recipe, remarks = _recipe(sources, window_s, hop_s)
    if target is not None or target_unit is not None:
        asked = {"target": target or recipe.target, "unit": target_unit or recipe.unit}
        recipe = recordings.make_recipe({**recipe.model_dump(), **asked}, recipe.name)
    made = recordings.make_file(recipe, out)
    facts = made.plain()
    splits = {word: s["n_windows"] for word, s in facts["splits"].items()}
    said = [*remarks, *made.counts.sentences()]
    _tell(output, out, facts["n_windows"], len(facts["subjects"]), facts["classes"], splits, said)
    output.json(facts)


def _recipe(sources: list[Path], window_s: float | None, hop_s: float | None) -> tuple[Recipe, list[str]]:
    """The recipe that was given, or one that leaves nothing open and what was guessed; with other lengths."""
    from sentryfuse import recordings

    for name, value in (("window_s", window_s), ("hop_s", hop_s)):
        if value is not None and not 0 < value <= 1e6:
            raise ConfigError(f"{name} {value:g} must be a positive number of seconds, up to a million")
    if any(path.suffix.lower() == ".toml" for path in sources):
        if len(sources) > 1:
            raise DataError(
                f"{len(sources)} sources were given, one of them a recipe; give one recipe, or tables"
            )
        recipe, remarks = recordings.load_recipe(sources[0]), []
    else:
        found = recordings.guess(sources, beside=Path.cwd())
        if found.doubts:
            names = " ".join(map(str, sources[:3]))
            raise DataError(
                f"{found.doubts[0]}; write a recipe and mend it: sentryfuse data guess {names} --out "
                "recipe.toml"
            )
        folder = (Path.cwd() / found.recipe.folder).resolve()
        recipe, remarks = found.recipe.model_copy(update={"folder": str(folder)}), found.remarks
        remarks += [found.length] if window_s is None else []
    changed: dict[str, Any] = {}
    if window_s is not None:
        changed = {"window_s": window_s, "hop_s": recipe.hop / recipe.window_s * window_s}
    if hop_s is not None:
        changed["hop_s"] = hop_s
    return recipe.model_copy(update=changed), remarks


def _sensors(values: list[str] | None) -> dict[str, list[int]] | None:
    """`NAME=0,1,2` as a name and its channels."""
    found = {}
    for value in values or []:
        name, _, places = value.partition("=")
        parts = [part.strip() for part in places.split(",")]
        if not name.strip() or not all(part.isdecimal() for part in parts):
            raise ConfigError(f"--sensor {value!r} cannot be read; give NAME=0,1,2")
        found[name.strip()] = [int(part) for part in parts]
    return found or None


def _refuse(what: str, **options: object) -> None:
    """Refuse options that would do nothing."""
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"--{name.replace('_', '-')} means nothing for {what}; leave it out")


def _tell(
    output: Output,
    out: Path,
    n_windows: int,
    n_subjects: int,
    classes: dict[str, int],
    splits: dict[str, int],
    said: list[str],
) -> None:
    if classes:
        output.table("classes", ("class", "windows"), classes.items())
    output.table("splits", ("split", "windows"), splits.items())
    for sentence in said:
        output.line(sentence)
    output.line(f"{n_windows} windows of {n_subjects} subjects; wrote {out}")
