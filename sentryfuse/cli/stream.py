"""The command that answers a stream: run. It never loads torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from sentryfuse.cli.apart import check_apart
from sentryfuse.cli.device import BundleFile, Verify, open_bundle
from sentryfuse.cli.logs import logged
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
from sentryfuse.cli.stopping import Stop, stoppable
from sentryfuse.errors import ConfigError, InputError

if TYPE_CHECKING:
    from sentryfuse.cli.live import Tally
    from sentryfuse.runtime import Events, Result, Runtime
    from sentryfuse.runtime.rotation import Rotation
    from sentryfuse.runtime.service import Service
    from sentryfuse.stream.publishing import Publisher

LEAST_MB, MOST_MB = 0.001, 1e6  # of one file


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
    max_age_ms: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            help="Largest age of an answer [ms]; older windows are dropped, later answers STALE. Two hops, a "
            "second at least.",
        ),
    ] = None,
    health: Annotated[
        str | None,
        typer.Option(metavar="TEXT_OR_FILE", help="When a sensor is used, such as good_windows=1; or JSON."),
    ] = None,
    publish: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Send the answers to mqtt://HOST/PREFIX as well; see docs/streams.md."
        ),
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Page, health, metrics and answers over HTTP; see docs/serve.md."
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Serve what takes the place of the bundle's file, without a pause; docs/runtime.md.",
        ),
    ] = False,
    windows: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after so many windows.")
    ] = None,
    need_answers: Annotated[
        bool, typer.Option("--need-answers", help="Exit with 2 unless a window was answered.")
    ] = False,
    engine: Annotated[str, typer.Option(help="onnxruntime or openvino.")] = "onnxruntime",
    threads: Threads = 1,
    ahead_mb: Annotated[
        float,
        typer.Option(
            metavar="X",
            help="Memory for sub-networks built before they are needed on a live source [MB]; 0 builds none.",
        ),
    ] = 32.0,
    scrub_s: Annotated[
        float,
        typer.Option(
            metavar="S",
            help="Look once in S seconds at all that is in memory, whether it has changed since; 0 never.",
        ),
    ] = 60.0,
    verify: Verify = None,
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
    append: Annotated[
        bool, typer.Option("--append", help="Append to the file of --json too; otherwise it begins anew.")
    ] = False,
    rotate_mb: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Files of --events and --json that reach X MB become FILE.1, FILE.2, ...; both are appended "
            "to.",
        ),
    ] = None,
    rotate_keep: Annotated[
        int | None, typer.Option(metavar="N", help="Older files that are kept of each; 5.")
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            "--log", metavar="LEVEL", help="What is said on standard error: debug, info, warning or error."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Answer a stream, window by window, with the sensors and the power that are left.

    Goes on until the source ends, --windows are answered, or it is stopped: by hand or a service manager.
    """
    output = Output(json_to, quiet=quiet, files=[] if events is None else [events])
    rotation = _rotation(rotate_mb, rotate_keep)
    check_apart(
        _written(json_to, events, rotation),
        {
            "the bundle": bundle,
            "the recording": _file_of(source),
            "the profile": profile,
            "the trace": trace,
            "the policy": policy,
            "the file of --health": health,
        },
    )
    if trace is not None and power is not None:
        raise ConfigError("--trace and --power both name a meter; give one of them")
    from sentryfuse.cli.live import Tally, live
    from sentryfuse.power import open_reader, read_policy
    from sentryfuse.runtime import Events, Runtime
    from sentryfuse.runtime.service import Notifier, Service
    from sentryfuse.runtime.watching import BundleWatch
    from sentryfuse.stream import open_publisher, open_source, read_rules

    budget = limits.budgets[0]
    if policy is not None and limits.given:
        raise ConfigError("--policy and a limit both say what a window may take; give one of them")
    rules, device = None if policy is None else read_policy(policy), profile_of(profile)
    healthy = None if health is None else read_rules(health)
    meter = f"trace:{trace}" if trace is not None else power
    if rules is not None and meter is None:
        meter = "auto"
    load = partial(open_bundle, device=device, verify=verify)
    watching = BundleWatch(bundle) if watch else None  # before it is read, so that no change is missed
    loaded = load(bundle)
    tally = Tally(loaded.names)
    with ExitStack() as opened:
        stop = opened.enter_context(stoppable())
        opened.enter_context(logged(log_level, quiet=quiet))
        lines = _lines(json_to, opened, append=append, rotation=rotation)
        log = opened.enter_context(Events(events, rotation=rotation))
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
                rules=healthy,
                wait_s=wait_s,
                deadline_ms=deadline_ms,
                max_age_ms=max_age_ms,
                threads=threads,
                engine=engine,
                ahead_mb=ahead_mb,
                scrub_s=scrub_s,
                events=log,
            )
        )
        if publish is not None:
            lines = _Published(lines, opened.enter_context(open_publisher(publish, stamp=log.stamp)), log)
        if serve is not None:
            from sentryfuse.serve import open_server

            lines = opened.enter_context(open_server(serve, runtime, lines, load))
        if watching is not None:
            opened.enter_context(watching.start(runtime, load))
        notifier = opened.enter_context(closing(Notifier()))
        with live(runtime, tally), Service(runtime, notifier) as service:
            _answer_all(runtime, tally, lines, windows, stop, service)
        summary = {**tally.to_json(), **runtime.counters(), "stopped": stop.asked or None}
        lines.write({"kind": "summary", **runtime.events.stamp, **summary})
    tally.show(output, summary)
    _complain(tally, [(events, log.unwritten), (json_to, lines.unwritten)], need_answers=need_answers)


def _answer_all(
    runtime: Runtime, tally: Tally, lines: _Lines, most: int | None, stop: Stop, service: Service
) -> None:
    """Until the source ends, enough windows are answered, or somebody asks to stop."""
    stamp = {name: value for name, value in runtime.events.stamp.items() if name != "bundle"}
    results: Sequence[Result] = ()
    while not stop:
        ended = runtime.source.ended
        results = runtime.finish() if ended else runtime.step()
        for result in results:
            tally.take(result)
            lines.write({"kind": "window", **stamp, **result.to_json()})
            if most is not None and tally.windows >= most:
                return
        service.see(results)
        if ended and not results:
            return


def _complain(tally: Tally, files: Sequence[tuple[str | Path | None, int]], *, need_answers: bool) -> None:
    """What must not pass for a good end.

    Raises:
        InputError: lines that a file did not take, or no answer where one is needed.
    """
    for path, unwritten in files:
        if unwritten:
            raise InputError(
                f"{path} did not take {unwritten} lines; free some space or choose another place"
            )
    if need_answers and not tally.answers:
        raise InputError(
            f"none of {tally.windows} windows was answered; see the table of sensors for the reasons"
        )


def _file_of(source: str) -> str | None:
    """The file that a source plays."""
    kind, _, rest = source.partition(":")
    return rest.partition("?")[0] if kind == "replay" else None


class _Lines(Protocol):
    """Takes lines of JSON."""

    @property
    def unwritten(self) -> int:
        """Lines that were not taken."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Add one."""


class _Nothing:
    """No lines are asked for."""

    unwritten = 0

    def write(self, row: Mapping[str, Any]) -> None:
        """Leave it."""


class _StandardOutput:
    """Lines for a reader behind a pipe; one that has gone ends the run, as it does for every program."""

    unwritten = 0

    def write(self, row: Mapping[str, Any]) -> None:
        """Print one line."""
        print(json_text(plain(row), sys.stdout), flush=True)


class _Published:
    """Lines that go to a broker as well."""

    def __init__(self, lines: _Lines, publisher: Publisher, events: Events) -> None:
        self._lines, self._publisher, self._events = lines, publisher, events

    @property
    def unwritten(self) -> int:
        """Lines that the file did not take; what a broker did not is no fault of a file."""
        return self._lines.unwritten

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one line and publish it."""
        self._lines.write(row)
        for facts in self._publisher.news():
            self._events.tell(**facts)
        if row["kind"] == "window":
            self._publisher.answer(plain(row))


def _rotation(rotate_mb: float | None, keep: int | None) -> Rotation | None:
    """What --rotate-mb and --rotate-keep ask for.

    Raises:
        ConfigError: they mean nothing, or the second one is given alone.
    """
    from sentryfuse.runtime.rotation import KEPT, Rotation

    if rotate_mb is None:
        if keep is not None:
            raise ConfigError("--rotate-keep says how many full files stay; give --rotate-mb as well")
        return None
    if not LEAST_MB <= rotate_mb <= MOST_MB:
        raise ConfigError(
            f"--rotate-mb {rotate_mb:g} is out of range; give {LEAST_MB:g} to {MOST_MB:g} MB for one file"
        )
    return Rotation(int(rotate_mb * 1e6), KEPT if keep is None else keep)


def _written(json_to: str | None, events: Path | None, rotation: Rotation | None) -> dict[str, Path]:
    """Every file that lines may get into, by what it is called."""
    given = {"--json": json_to, "--events": events}
    files = {option: Path(file) for option, file in given.items() if file is not None and str(file) != STDOUT}
    if rotation is not None:
        files |= {
            f"full file {i} of {option},": name
            for option, file in files.items()
            for i, name in enumerate(rotation.older(file), 1)
        }
    return files


def _lines(json_to: str | None, opened: ExitStack, *, append: bool, rotation: Rotation | None) -> _Lines:
    if json_to is None:
        return _Nothing()
    if json_to == STDOUT:
        if sys.stdout is None or sys.__stdout__ is None:  # closed when the program began
            raise ConfigError("--json - writes to standard output, which is closed; give the name of a file")
        return _StandardOutput()
    from sentryfuse.runtime.lines import LineFile

    file = LineFile(json_to, anew=not append and rotation is None, rotation=rotation)
    opened.callback(file.close)
    return file
