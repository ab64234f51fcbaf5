"""`sentryfuse data`: what can be used, and what is in it."""

from __future__ import annotations

from typing import Annotated

import typer

from sentryfuse.cli.options import JsonFile, Quiet
from sentryfuse.cli.output import Output


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
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Describe one recording: sensors, rates, classes, people, splits, licence."""
    output = Output(json_to, quiet=quiet)
    from sentryfuse import data as source

    facts = source.describe(source.open_data(data))
    people, classes = facts["n_subjects"], len(facts["classes"])
    output.line(
        f"{facts['name']}: {facts['n_windows']} windows, {people} subjects, {classes} classes; "
        f"licence: {facts['licence'] or 'not named'}"
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
    output.table("classes", ("class", "windows"), facts["classes"].items())
    output.table(
        "splits",
        ("split", "windows", "subjects"),
        [(name, s["n_windows"], s["n_subjects"]) for name, s in facts["splits"].items()],
    )
    output.json(facts)
