"""The command that makes the keys bundles are signed with: keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sentryfuse.cli.options import JsonFile, Quiet
from sentryfuse.cli.output import Output


def keys(
    out: Annotated[
        Path,
        typer.Option(
            metavar="NAME", help="NAME.pem signs and stays where models are made; NAME.pub.pem verifies."
        ),
    ],
    json_to: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Make a pair of keys, for `export --sign` and `run --verify`.

    Only their owner may read the private one. Keys that exist are not replaced.
    """
    output = Output(json_to, quiet=quiet)
    from sentryfuse.bundle.signature import write_keys

    private, public, key_id = write_keys(out)
    output.line(f"{private}: signs; keep it secret and off the devices")
    output.line(f"{public}: verifies; key {key_id[:16]}")
    output.json({"private": private.name, "public": public.name, "key_id": key_id})
