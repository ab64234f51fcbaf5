"""The command line: every command parses, calls one function and prints.

Nothing heavy is imported here; a command loads what it needs when it runs. `main` turns every error
a user can cause into one line and exit code 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from sentryfuse.cli import compare, device, keys, model, recordings, results, stream, study
from sentryfuse.errors import SentryFuseError
from sentryfuse.machine import machine
from sentryfuse.progress import drop_stdout, set_quiet, visible

# Usage errors of typer, by way of a public name: where their base lives differs between versions.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

EXTRAS = {
    "torch": "train",
    "sklearn": "compare",
    "matplotlib": "report",
    "jinja2": "report",
    "paho": "mqtt",
    "pylsl": "lsl",
    "openvino": "openvino",
    "starlette": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "polars": "data",
    "pyarrow": "data",
    "ray": "ray",
    "cryptography": "sign",
}

app = typer.Typer(
    name="sentryfuse",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Look at recordings, and make windows of them.", rich_markup_mode=None)


def _say_versions(asked: bool) -> None:
    if asked:
        versions = machine()["versions"]
        own = versions.pop("sentryfuse")
        typer.echo(f"sentryfuse {own} ({', '.join(f'{name} {each}' for name, each in versions.items())})")
        raise typer.Exit


@app.callback()
def _program(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_versions, is_eager=True, help="Say which versions run here, and end."
        ),
    ] = False,
) -> None:
    """Train once; become the right smaller model for the sensors present and the budget left."""


app.command()(results.demo)
app.add_typer(data, name="data")
data.command("list")(recordings.list_)
data.command("describe")(recordings.describe)
data.command("guess")(recordings.guess)
data.command("make")(recordings.make)
app.command()(model.train)
app.command()(model.evaluate)
app.command()(device.plan)
app.command()(model.prune)
app.command()(model.export)
app.command()(keys.keys)
app.command()(device.predict)
app.command()(compare.compare)
app.command()(device.profile)
app.command()(device.bench)
app.command()(stream.run)
app.command()(study.study)
app.command()(results.report)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments after the program's name; `None` means those of this process.

    Returns:
        The exit code: 0, 2 for bad input, 130 when stopped by hand.
    """
    # Threads of torch that spin while they wait make a busy machine ten times slower; it reads this
    # when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    with _streams():
        return _run(arguments)


@contextmanager
def _streams() -> Iterator[None]:
    """Standard streams that end no command: there, and with an escape for every letter they do not know."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for the rest of the process
    ours = [each for each in (sys.stdout, sys.stderr) if isinstance(each, TextIOWrapper)]
    before = [each.errors for each in ours]
    for each in ours:
        each.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for each, errors in zip(ours, before, strict=True):
            each.reconfigure(errors=errors)


def _run(arguments: Sequence[str]) -> int:
    try:
        code = app(args=arguments, prog_name="sentryfuse", standalone_mode=False)
        _flush()
    except SystemExit as stop:  # typer's way out when nobody reads our output any more
        _flush()
        return 0 if _is_of_pipe(stop) else stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        return 130
    except SentryFuseError as error:
        return _complain(str(error))
    except ModuleNotFoundError as error:
        return _complain(_missing(error))
    except ImportError as error:  # there, but broken, or no memory is left to load it
        return _complain(f"a package cannot be loaded ({error}); free some memory, or install it again")
    except MemoryError as error:
        return _complain(f"the memory does not suffice ({str(error) or 'none is left'}); free some")
    except OSError as error:
        return _complain(f"{error.filename or 'the system'}: {(error.strerror or str(error)).lower()}")
    except UsageError as error:
        return _complain(_usage(error))
    finally:
        set_quiet(False)  # --quiet was for this command, not for whoever called it
    return code if isinstance(code, int) else 0


def _is_of_pipe(stop: SystemExit) -> bool:
    """Whether a command was ended because the reader of its output has gone."""
    return isinstance(stop.__context__, BrokenPipeError)


def _flush() -> None:
    """Write what is left; the interpreter would do it later, with a traceback if nobody reads."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()


def _complain(sentence: str) -> int:
    with suppress(OSError):  # nobody reads it
        print("error: " + visible(" ".join(sentence.split())), file=sys.stderr, flush=True)
    return 2


def _missing(error: ModuleNotFoundError) -> str:
    name = (error.name or str(error)).split(".")[0]
    if name in EXTRAS:
        return f"this needs {name}, which is not here; pip install 'sentryfuse[{EXTRAS[name]}]'"
    return f"the package {name} is not here; install sentryfuse again"


def _usage(error: BaseException) -> str:
    """What is wrong, and where the help is."""
    say = getattr(error, "format_message", None)
    sentence = str(say() if callable(say) else error).strip().rstrip(".?")
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "sentryfuse")
    return f"{sentence}; see `{command} --help`"
