"""Options that several commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

import typer

from sentryfuse.errors import ConfigError
from sentryfuse.types import Budget

if TYPE_CHECKING:
    from sentryfuse.data import Windows
    from sentryfuse.planning.profile import DeviceProfile

JsonFile = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write the result as JSON; - is standard output, and nothing else is printed there.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no tables.")]
Data = Annotated[str, typer.Option(metavar="NAME_OR_FILE", help="A name of `data list`, or an npz file.")]
Split = Annotated[str, typer.Option(help="train, validation, test or all.")]
Fold = Annotated[
    str | None,
    typer.Option(
        metavar="I/K",
        help="Split by people instead: every K-th from I on is test, the next ones validation.",
    ),
]
Presents = Annotated[
    list[str] | None,
    typer.Option("--present", metavar="A,B", help="Sensors that are on; all by default. Repeats."),
]
Present = Annotated[str | None, typer.Option(metavar="A,B", help="Sensors that are on; all by default.")]
MissingRates = Annotated[
    list[float] | None,
    typer.Option(
        "--missing-rate",
        metavar="P",
        help="Share of the sensors missing in every window, drawn once. Repeats.",
    ),
]
Ratios = Annotated[
    list[float] | None,
    typer.Option(
        "--ratio",
        metavar="R",
        help="Share of the prunable MACs to remove, 0 <= R <= 1 (1: no layer); 0 by default. Repeats.",
    ),
]
Ratio = Annotated[
    float | None,
    typer.Option(metavar="R", help="Share of the prunable MACs to remove, 0 <= R <= 1 (1: no layer)."),
]
ProfileFile = Annotated[
    Path | None,
    typer.Option("--profile", metavar="FILE", help="Times of this device, of `sentryfuse profile`."),
]
Protocol = Annotated[
    str,
    typer.Option(
        help="What --ratio refers to: present (what runs with these sensors) or full (all sensors)."
    ),
]
LIMITS: dict[str, Any] = {  # of a budget, beside the ratio
    "macs": Annotated[int | None, typer.Option(metavar="N", help="Most MACs of one window.")],
    "latency_ms": Annotated[
        float | None,
        typer.Option(metavar="X", help="Longest time of one window [ms]; needs a device profile."),
    ],
    "memory_mb": Annotated[
        float | None, typer.Option(metavar="X", help="Most weights [MB, 1 MB = 10**6 bytes].")
    ],
    "energy_mj": Annotated[
        float | None,
        typer.Option(metavar="X", help="Most energy of one window [mJ]; needs a device profile."),
    ],
}
Threads = Annotated[int, typer.Option(min=1, max=1024, metavar="N", help="Threads of the engine.")]


def sensor_sets(values: list[str] | None) -> list[tuple[str, ...] | None]:
    """Sets of names from `--present`; `None` means all sensors."""
    return [sensor_set(value) for value in values] if values else [None]


def sensor_set(value: str | None) -> tuple[str, ...] | None:
    """Names from one `--present`; nothing and `all` mean all sensors."""
    if value is None or value.strip() == "all":
        return None
    return tuple(name.strip() for name in value.split(",") if name.strip())


def open_windows(data: str, fold: str | None = None, *, split: str | None = None) -> Windows:
    """The recording behind `--data`, split as `--fold` says; `split` must not be empty.

    Raises:
        ConfigError: a fold that cannot be read, or a split without windows.
        DataError: no such recording, or a file that cannot be used.
    """
    from sentryfuse import data as source

    part, parts = fold_of(fold) if fold is not None else (0, 0)
    windows = source.open_data(data)
    if parts:
        windows = windows.with_split(source.fold(windows.subject, part, parts))
    if split is not None:
        check_split(windows, split)
    return windows


def check_split(windows: Windows, split: str) -> None:
    """Refuse a split without windows.

    Raises:
        ConfigError: it has none, or there is no such split.
    """
    if not len(windows.indices(split)):
        raise ConfigError(f"{windows.name} has no window in split {split}; choose another --split")


def check_scored(windows: Windows, split: str) -> None:
    """Refuse a split that cannot be scored.

    Raises:
        ConfigError: it has no windows, or there is no such split.
        DataError: no labels, or no window with any sensor.
    """
    from sentryfuse.data.learnable import check_labelled, check_seen

    check_split(windows, split)
    check_labelled(windows, "scores compare answers with them; `predict` answers without")
    check_seen(windows, split)


def profile_of(path: Path | None) -> DeviceProfile | None:
    """The profile behind `--profile`, if one was named.

    Raises:
        ConfigError: a file that is not a profile.
    """
    from sentryfuse.planning.profile import DeviceProfile

    return None if path is None else DeviceProfile.load(path)


def fold_of(text: str) -> tuple[int, int]:
    """`I/K` as two numbers.

    Raises:
        ConfigError: another form.
    """
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or parts[1] == "0":
        raise ConfigError(f"--fold {text!r} cannot be read; give I/K, for example 0/5")
    return int(parts[0]), int(parts[1])


class Limits(NamedTuple):
    """What the options of a budget say.

    Attributes:
        budgets: one per `--ratio`, with the other limits in each; ratio 0 where nothing is limited.
        given: whether anything is limited.
    """

    budgets: list[Budget]
    given: bool


def takes_limits(ratio: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command: in place of its parameter `limits`, a `Limits`, it gets the options of a budget.

    Args:
        ratio: `Ratio`, or `Ratios` where there may be several.
    """
    options = {"ratio": ratio, **LIMITS, "protocol": Protocol}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters: list[Parameter] = []
        for own in signature(command).parameters.values():
            if own.name != "limits":
                parameters.append(own.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[own.name]))
                continue
            for name, kind in options.items():
                default = "present" if name == "protocol" else None
                parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind))

        @wraps(command)
        def run(**values: Any) -> None:
            command(limits=_limits_of(**{name: values.pop(name) for name in options}), **values)

        run.__annotations__ = {own.name: own.annotation for own in parameters}
        run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def _limits_of(ratio: float | list[float] | None, protocol: str, **limits: Any) -> Limits:
    given = ratio not in (None, []) or any(limit is not None for limit in limits.values())
    asked: Sequence[float | None] = ratio if isinstance(ratio, list) else [ratio]
    budgets = [
        Budget(ratio=share if given else 0.0, protocol=protocol, **limits) for share in asked or [None]
    ]
    return Limits(budgets, given)
