"""What the fuzzing needs to know of a parser."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.reliability.mutate import Mutator
from benchmarks.reliability.record import ROOT

GOLDEN = ROOT / "tests" / "golden"
Try = Callable[[bytes], object]


class Opened(NamedTuple):
    """A parser, ready.

    Attributes:
        seeds: whole inputs.
        attempt: gives one input to it, and looks at what it lets through.
        raises: what it may raise.
        tokens: words of its format.
        inputs: makes the next input; `None` = the mutator's own.
    """

    seeds: Sequence[bytes]
    attempt: Try
    raises: tuple[type[BaseException], ...]
    tokens: Sequence[bytes] = ()
    inputs: Callable[[Mutator, random.Random], bytes] | None = None


def modalities() -> tuple[Any, ...]:
    """Three sensors: three channels, one that may miss, one without a rate."""
    from sentryfuse.types import Modality

    return (
        Modality("acc", 16.0, 64, ("x", "y", "z")),
        Modality("temp", 4.0, 13, ("skin",), may_miss=True),
        Modality("age", 0.0, 1, ("years", "weight")),
    )


def of_files(room: Path, name: str, read: Callable[[Path], object]) -> Try:
    """An attempt that writes a file of that name and reads it."""
    path = room / name

    def attempt(content: bytes) -> None:
        path.write_bytes(content)
        read(path)

    return attempt
