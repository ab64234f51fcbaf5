"""The command that answers a stream: run. It never loads torch."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from sentryfuse.cli.device import BundleFile, open_bundle
from sentryfuse.cli.options import (
    Limits,
    ProfileFile,
    Quiet,
    Ratio,
    Threads,
    profile_of,
    takes_limits,
)
from sentryfuse.cli.output import STDOUT, Output, json_text, plain
from sentryfuse.errors import ConfigError

_log = logging.getLogger("sentryfuse.runtime")

if TYPE_CHECKING:
    from sentryfuse.cli.live import Tally
    from sentryfuse.runtime import Runtime


@takes_limits(Ratio)
def run(
    bundle: BundleFile,
    source: Annotated[
        str,
        typer.Option(metavar="URL", help="replay:FILE, mqtt://HOST/PREFIX or lsl:; see docs/streams.md."),
    ],
    *,
    limits: Limits,
    profile: ProfileFile = None,
    policy: Annotated[
        str | None,
        typer.Option(metavar="TEXT_OR_FILE", help="What is left -> budget; see docs/power.md."),
    ] = None,
    power: Annotated[
        str | None, typer.Option(metavar="METER", help="auto, rapl, battery, ...; see docs/power.md.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Recorded power or charge, CSV, in place of a meter."),
    ] = None,
    hop_s: Annotated[
        float | None,
        typer.Option(metavar="S", help="From one window to the next [s]; a window's length by default."),
    ] = None,
    wait_s: Annotated[
        float, typer.Option(metavar="S", help="How long a window waits for late samples [s].")
    ] = 0.1,
    deadline_ms: Annotated[
        float | None,
        typer.Option(metavar="MS", help="How long a window waits for its sub-network [ms]; half a hop."),
    ] = None,
    windows: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after so many windows.")
    ] = None,
    engine: Annotated[str, typer.Option(help="onnxruntime or openvino.")] = "onnxruntime",
    threads: Threads = 1,
    events: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append what happens as JSON lines.")
    ] = None,
    json_to: Annotated[
        str | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="One JSON line per window and one at the end; - is standard output, and nothing else is "
            "printed there.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Answer a stream, window by window, with the sensors and the power that are left.

    Goes on until the source ends, --windows are answered, or it is stopped by hand.
    """
    output = Output(json_to, quiet=quiet, files=[] if events is None else [events])
    if trace is not None and power is not None:
        raise ConfigError("--trace and --power both name a meter; give one of them")
    from sentryfuse.cli.live import Tally, live
    from sentryfuse.power import open_reader, read_policy
    from sentryfuse.runtime import Events, Runtime
    from sentryfuse.stream import open_source

    budget = limits.budgets[0]
    if policy is not None and limits.given:
        raise ConfigError("--policy and a limit both say what a window may take; give one of them")
    rules, device = None if policy is None else read_policy(policy), profile_of(profile)
    meter = f"trace:{trace}" if trace is not None else power
    if rules is not None and meter is None:
        meter = "auto"
    loaded = open_bundle(bundle, device)
    tally = Tally(loaded.names)
    with ExitStack() as opened:
        lines = _lines(json_to, opened)
        log = opened.enter_context(Events(events))
        stream = opened.enter_context(open_source(source, loaded.layout.modalities))
        reader = None
        if meter is not None:
            needs = None if rules is None else rules.watch
            reader = open_reader(meter, needs=needs, now_s=stream.now_s())
            opened.callback(reader.close)
        runtime = opened.enter_context(
            Runtime(
                loaded,
                stream,
                budget=budget if rules is None else None,
                profile=device,
                policy=rules,
                reader=reader,
                hop_s=hop_s,
                wait_s=wait_s,
                deadline_ms=deadline_ms,
                threads=threads,
                engine=engine,
                events=log,
            )
        )
        with live(runtime, tally):
            _answer_all(runtime, tally, lines, windows)
        summary = {**tally.to_json(), **runtime.counters()}
        _write(lines, {"kind": "summary", **summary})
    tally.show(output, summary)


def _answer_all(runtime: Runtime, tally: Tally, lines: TextIO | None, most: int | None) -> None:
    """Until the source ends, enough windows are answered, or it is stopped by hand."""
    try:
        for result in runtime:
            tally.take(result)
            _write(lines, {"kind": "window", **result.to_json()})
            if most is not None and tally.windows >= most:
                return
    except KeyboardInterrupt:  # stopped by hand: say what there is
        return


def _lines(json_to: str | None, opened: ExitStack) -> TextIO | None:
    if json_to in (None, STDOUT):
        return sys.stdout if json_to == STDOUT else None
    path = Path(str(json_to))
    path.parent.mkdir(parents=True, exist_ok=True)
    return opened.enter_context(path.open("w", encoding="utf-8", buffering=1))


def _write(lines: TextIO | None, row: dict[str, Any]) -> None:
    """One line; a disk that is full must not end the stream, a reader that has gone must."""
    if lines is None:
        return
    try:
        print(json_text(plain(row), lines), file=lines, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _log.error("a line of JSON could not be written: %s", error)
