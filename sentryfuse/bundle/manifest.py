"""The manifest's fields -> what they describe; each with its type and range. Nothing else is accepted."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args

from sentryfuse.bundle.container import Inconsistent, is_name
from sentryfuse.errors import ConfigError
from sentryfuse.planning.layout import KINDS, AttentionRule, Block, Layout, Op, Step
from sentryfuse.types import Modality

MAX_MODALITIES = 64
MAX_RATE_HZ = 1e7
MAX_LENGTH = 10**6  # time steps of a window
MAX_CHANNELS = 4096
MAX_CLASSES = 10_000
MAX_STEPS = 2000
MAX_WIDTH = 1 << 14  # d_model, units of a block, head_dim; the exporter allows no more
MAX_TOKENS = 1 << 16
MAX_MACS = 10**15
MAX_GRAPHS = 1000
FIELDS = {"layout", "classes", "normalise", "subject_floor", "graphs", "step_graphs", "about"}


@dataclass(frozen=True)
class Manifest:
    """A manifest whose every field is of its type and in its range.

    Attributes:
        layout: what the model computes; whether its steps fit together is not checked here.
        classes: names of the labels.
        normalise: "train" or "subject".
        subject_floor: modality -> smallest deviation used per subject, `(C,)`.
        graphs: keys of the templates, in the order of the tensors `graph.<i>`.
        step_graphs: step name -> {"dense": key, "sparse": key}.
        about: facts for people.
    """

    layout: Layout
    classes: tuple[str, ...]
    normalise: str
    subject_floor: Mapping[str, Sequence[float]]
    graphs: tuple[str, ...]
    step_graphs: Mapping[str, Mapping[str, str]]
    about: Mapping[str, Any]


def read_manifest(data: Mapping[str, Any]) -> Manifest:
    """Check every field. Fields that are not known are left to later versions.

    Args:
        data: of a `Container`.

    Raises:
        Inconsistent: naming the first field that is missing or wrong.
    """
    missing = sorted(FIELDS - data.keys())
    if missing:
        raise _wrong(missing[0], None, "there")
    layout = _layout(data["layout"])
    classes = _names(data["classes"], "classes", 2, MAX_CLASSES)
    if data["normalise"] not in ("train", "subject"):
        raise _wrong("normalise", data["normalise"], "train or subject")
    graphs = _names(data["graphs"], "graphs", 1, MAX_GRAPHS)
    if len(set(graphs)) < len(graphs):
        raise _wrong("graphs", graphs, "a list of different keys")
    about = _object(data["about"], "about")
    try:
        json.dumps(about, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _wrong("about", "halves of characters", "text") from None
    return Manifest(
        layout=layout,
        classes=classes,
        normalise=data["normalise"],
        subject_floor=_floors(data["subject_floor"], layout),
        graphs=graphs,
        step_graphs=_step_graphs(data["step_graphs"], layout, graphs),
        about=about,
    )


def _layout(data: Any) -> Layout:
    at = "layout"
    _known(data, at, Layout)
    modalities = tuple(
        _modality(m, f"{at}.modalities[{i}]")
        for i, m in enumerate(_list(data["modalities"], f"{at}.modalities", 1, MAX_MODALITIES))
    )
    steps = tuple(
        _step(s, f"{at}.steps[{i}]") for i, s in enumerate(_list(data["steps"], f"{at}.steps", 1, MAX_STEPS))
    )
    layout = Layout(
        d_model=_whole(data["d_model"], f"{at}.d_model", 1, MAX_WIDTH),
        modalities=modalities,
        attention=_attention(data["attention"], f"{at}.attention"),
        steps=steps,
    )
    for what, names in (
        ("modality", layout.names),
        ("step", tuple(s.name for s in steps)),
        ("block", tuple(b.name for s in steps for b in s.blocks)),
    ):
        name, times = Counter(names).most_common(1)[0] if names else ("", 0)
        if times > 1:
            raise Inconsistent(f"has {what} {name} {times} times")
    return layout


def _modality(data: Any, at: str) -> Modality:
    _known(data, at, Modality)
    made = Modality(
        name=_name(data["name"], f"{at}.name"),
        rate_hz=_number(data["rate_hz"], f"{at}.rate_hz", 0, MAX_RATE_HZ),
        length=_whole(data["length"], f"{at}.length", 1, MAX_LENGTH),
        channels=_names(data["channels"], f"{at}.channels", 1, MAX_CHANNELS),
        may_miss=_flag(data.get("may_miss", False), f"{at}.may_miss"),
    )
    if made.rate_hz == 0 and made.length > 1:
        raise _wrong(f"{at}.length", made.length, "1, as its rate_hz is 0")
    return made


def _attention(data: Any, at: str) -> AttentionRule:
    _known(data, at, AttentionRule)
    try:
        return AttentionRule(
            core=_name(data.get("core", "sentry"), f"{at}.core"),
            factor=_whole(data.get("factor", 5), f"{at}.factor", 1, MAX_WIDTH),
            sparse_from=_whole(data.get("sparse_from", 64), f"{at}.sparse_from", 2, 1 << 31),
        )
    except ConfigError as error:
        raise Inconsistent(f"has an unusable manifest: {error}") from None


def _step(data: Any, at: str) -> Step:
    _known(data, at, Step)
    op = data["op"]
    if op not in get_args(Op):
        raise _wrong(f"{at}.op", op, f"one of {', '.join(get_args(Op))}")
    name = _name(data["name"], f"{at}.name")
    blocks = tuple(
        _block(b, f"{at}.blocks[{i}]", name)
        for i, b in enumerate(_list(data.get("blocks", []), f"{at}.blocks", 0, 16))
    )
    more: dict[str, Any] = {
        key: _names(data.get(key, []), f"{at}.{key}", 0, MAX_STEPS)
        for key in ("reads", "needs", "lacks", "parts")
    }
    more |= {
        key: _whole(data.get(key, 0), f"{at}.{key}", 0, MAX_MACS)
        for key in ("macs_per_token", "macs_per_entering", "macs_fixed", "params_fixed")
    }
    tokens = 1 if op in ("embed", "bank") else 0
    return Step(
        name=name,
        op=op,
        writes=_name(data["writes"], f"{at}.writes"),
        blocks=blocks,
        tokens=_whole(data.get("tokens", 0), f"{at}.tokens", tokens, MAX_TOKENS),
        halves=_flag(data.get("halves", False), f"{at}.halves"),
        **more,
    )


def _block(data: Any, at: str, step: str) -> Block:
    _known(data, at, Block)
    kind = data["kind"]
    if kind not in KINDS:
        raise _wrong(f"{at}.kind", kind, f"one of {', '.join(KINDS)}")
    units = _whole(data["units"], f"{at}.units", 1, MAX_WIDTH)
    groups = tuple(
        _whole(group, f"{at}.groups", 0, units - 1)
        for group in _list(data.get("groups", []), f"{at}.groups", 0, MAX_WIDTH)
    )
    if len(groups) not in (0, units) or set(groups) != set(range(len(set(groups)))):
        raise _wrong(f"{at}.groups", groups, f"one per unit ({units}), numbered from 0 without holes")
    name = _name(data["name"], f"{at}.name")
    if not name.startswith(f"{step}."):
        raise _wrong(f"{at}.name", name, f"a name that begins with {step}.")
    heads = kind == "heads"
    # experts and heads have groups, and only experts answer in turn
    least = 1 if groups and not heads else 0
    made = Block(
        name=name,
        kind=kind,
        units=units,
        groups=groups,
        head_dim=_whole(data.get("head_dim", 0), f"{at}.head_dim", int(heads), MAX_WIDTH * heads),
        active=_whole(data.get("active", 0), f"{at}.active", least, MAX_WIDTH * least),
        capacity=_number(data.get("capacity", 0), f"{at}.capacity", 0, MAX_WIDTH * least),
    )
    if heads and not groups:
        raise _wrong(f"{at}.groups", groups, "the KV group of every head")
    return made


def _floors(data: Any, layout: Layout) -> dict[str, list[float]]:
    floors = _object(data, "subject_floor")
    sizes = {m.name: m.n_channels for m in layout.modalities}
    if not floors.keys() <= sizes.keys():
        raise _wrong("subject_floor", sorted(floors), f"for some of {', '.join(sizes)}")
    found = {}
    for name, values in floors.items():
        at = f"subject_floor.{name}"
        found[name] = [_number(v, at, 0, 3e38) for v in _list(values, at, sizes[name], sizes[name])]
        if not all(found[name]):
            raise _wrong(at, 0, "positive")
    return found


def _step_graphs(data: Any, layout: Layout, graphs: tuple[str, ...]) -> dict[str, dict[str, str]]:
    steps = {step.name: step.op for step in layout.steps}
    found = {}
    for name, cores in _object(data, "step_graphs").items():
        at = f"step_graphs.{name if is_name(name) else '?'}"
        if name not in steps:
            raise _wrong(at, cores, "of a step of the layout")
        for core, key in _object(cores, at).items():
            if core not in ("dense", "sparse") or key not in graphs:
                raise _wrong(at, key, "dense or sparse, with the key of a graph")
        found[name] = dict(cores)
    return found


def _known(data: Any, at: str, noun: type) -> None:
    """Refuse what is no object, lacks a field that has no default, or has one that nobody knows."""
    names = {f.name for f in fields(noun)}
    optional = {"may_miss", "core", "factor", "sparse_from"} if noun is not Step else set()
    if noun in (Step, Block):
        optional = names - {"name", "op", "writes", "kind", "units"}
    given = _object(data, at).keys()
    for name in sorted(names - optional - given):
        raise _wrong(f"{at}.{name}", None, "there")
    for name in sorted(given - names):
        raise Inconsistent(f"has {at}.{_shown(name)}, which this version does not know")


def _object(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(at, value, "an object")
    return value


def _list(value: Any, at: str, least: int, most: int) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise _wrong(at, value, f"a list of {least} to {most}")
    return value


def _names(value: Any, at: str, least: int, most: int) -> tuple[str, ...]:
    return tuple(_name(item, at) for item in _list(value, at, least, most))


def _name(value: Any, at: str) -> str:
    if not is_name(value):
        raise _wrong(at, value, "a short name")
    text: str = value
    return text


def _flag(value: Any, at: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(at, value, "true or false")
    return value


def _whole(value: Any, at: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise _wrong(at, value, f"a whole number from {least} to {most}")
    return value


def _number(value: Any, at: str, least: float, most: float) -> float:
    if type(value) not in (int, float) or not least <= value <= most or not math.isfinite(value):
        raise _wrong(at, value, f"a number from {least:g} to {most:g}")
    return float(value)


def _wrong(at: str, value: Any, wanted: str) -> Inconsistent:
    there = "missing" if value is None else f"{_shown(value)}, not {wanted}"
    return Inconsistent(f"has an unusable manifest: {at} is {there}")


def _shown(value: Any) -> str:
    """At most 40 characters of anything, as a terminal shows it."""
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 40 else f"{text[:37]}..."
