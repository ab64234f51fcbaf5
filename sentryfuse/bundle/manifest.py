"""The manifest's text -> what it describes; one strict schema, which is the dataclasses themselves.

Types and ranges stand at the fields of `Layout`, `Step`, `Block` and `Modality`; nothing else is accepted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal

from annotated_types import Interval, Len
from pydantic import ConfigDict, TypeAdapter, ValidationError

from sentryfuse.bundle.container import Inconsistent
from sentryfuse.errors import ConfigError
from sentryfuse.planning.layout import Layout
from sentryfuse.target import CLASSES, Target
from sentryfuse.types import Name

Deviation = Annotated[float, Interval(gt=0, le=3e38)]
Positive = Annotated[tuple[Deviation, ...], Len(1, 4096)]
Mean = Annotated[float, Interval(ge=-3e38, le=3e38)]
Prior = tuple[Annotated[tuple[Mean, ...], Len(1, 4096)], Positive, Positive, Positive]


@dataclass(frozen=True)
class Manifest:
    """A manifest whose every field is of its type and in its range.

    Attributes:
        format: version of the format.
        layout: what the model computes; whether its steps fit together is not checked here.
        classes: names of the classes, numbers or labels.
        normalise: "train" (inside the model) or "subject" (each person's own statistics first).
        subject_floor: modality -> smallest deviation used per subject, `(C,)`.
        subject_prior: modality -> what is supposed of a person, `(4, C)`, of `subject_prior`.
        readout: settings of the readout beside the transformer; `None` = there is none.
        about: facts for people.
        digests: tensor name -> sha256 of its content.
        target: what is asked for; classes where nothing is said.
    """

    format: int
    layout: Layout
    classes: Annotated[tuple[Name, ...], Len(1, 10_000)]
    normalise: Literal["train", "subject"]
    subject_floor: Mapping[Name, Annotated[tuple[Deviation, ...], Len(1, 4096)]]
    readout: Mapping[str, Any] | None
    about: Mapping[str, Any]
    digests: Mapping[str, str]
    target: Target = CLASSES
    subject_prior: Mapping[Name, Prior] = field(default_factory=dict)


@cache
def _schema() -> TypeAdapter[tuple[Manifest]]:
    # a dataclass by itself would not take this configuration, inside of something it does
    return TypeAdapter(tuple[Manifest], config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))


def read_manifest(text: str) -> Manifest:
    """Check every field.

    Args:
        text: JSON, of a `Container`.

    Raises:
        Inconsistent: naming the first field that is missing, unknown or wrong.
    """
    try:
        (manifest,) = _schema().validate_json(f"[{text}]")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        at = ".".join(str(part) for part in first["loc"][1:]) or "it"
        raise Inconsistent(
            f"has an unusable manifest: {_shown(at)[1:-1]}: {first['msg']}, got {_shown(first['input'])}"
        ) from None
    except ConfigError as error:
        raise Inconsistent(f"has an unusable manifest: {error}") from None
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    """What no single field can say."""
    layout = manifest.layout
    for what, names in (
        ("modality", layout.names),
        ("step", tuple(step.name for step in layout.steps)),
        ("class", manifest.classes),
        ("block", tuple(block.name for step in layout.steps for block in step.blocks)),
    ):
        name, times = Counter(names).most_common(1)[0] if names else ("", 0)
        if times > 1:
            raise Inconsistent(f"has {what} {name} {times} times")
    for step in layout.steps:
        for block in step.blocks:
            if not block.name.startswith(f"{step.name}."):
                raise Inconsistent(f"has a block {block.name} in the step {step.name}")
            if block.capacity and not block.active:
                raise Inconsistent(f"has a block {block.name} with a capacity and without experts")
    sizes = {m.name: m.n_channels for m in layout.modalities}
    for m in layout.modalities:
        if m.rate_hz == 0 and m.length > 1:
            raise Inconsistent(f"has a modality {m.name} of {m.length} steps without a rate")
    target, n = manifest.target, len(manifest.classes)
    if n < target.least_outputs:
        raise Inconsistent(f"has {n} class")
    if not target.fits(n):
        raise Inconsistent(f"has {len(target.mean)} means and {len(target.std)} deviations of {n} outputs")
    for name, floor in manifest.subject_floor.items():
        if len(floor) != sizes.get(name):
            raise Inconsistent(f"has {len(floor)} numbers in subject_floor for {name}")
    for name, prior in manifest.subject_prior.items():
        if {len(row) for row in prior} != {sizes.get(name)}:
            raise Inconsistent(f"has {len(prior[0])} numbers in subject_prior for {name}")
    try:
        json.dumps(manifest.about, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # half of a character, or a number too large for a float
        raise Inconsistent("has facts about it that are not JSON") from None


def _shown(value: Any) -> str:
    """At most 40 characters of anything, as a terminal shows it."""
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 40 else f"{text[:37]}..."
