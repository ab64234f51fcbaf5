"""What a stream says of its channels, beside what the model knows of them: names, order, units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sentryfuse.errors import ConfigError
from sentryfuse.types import Modality

_WITH_UNIT = re.compile(r"(.*\S)\s*[\[(]([^\[\]()]+)[\])]")  # `x [m/s^2]`, `x (g)`
# Spellings of the same unit; XDF's recommendations write them out. Small and capital letters differ: mV, MV.
_SPELLINGS = {
    "m/s^2": ("m/s2", "m/s²", "m/s/s", "ms-2", "m*s^-2", "mps2", "meters/second^2", "meterspersecondsquared"),
    "g": ("gravity", "gees", "gforce"),
    "deg/s": ("°/s", "dps", "degrees/second", "degreespersecond"),
    "rad/s": ("rads/s", "radians/second", "radianspersecond"),
    "V": ("volt", "volts"),
    "mV": ("millivolt", "millivolts"),
    "uV": ("µV", "μV", "microvolt", "microvolts"),
    "S": ("siemens",),
    "uS": ("µS", "μS", "microsiemens"),
    "°C": ("C", "degC", "celsius", "degreescelsius"),
    "°F": ("F", "degF", "fahrenheit"),
    "K": ("kelvin",),
    "uT": ("µT", "μT", "microtesla"),
    "%": ("percent",),
    "bpm": ("beats/minute", "beatsperminute"),
}
_UNITS = {other: unit for unit, others in _SPELLINGS.items() for other in (unit, *others)}


@dataclass(frozen=True, slots=True)
class Description:
    """Channels of a stream as its sender describes them; an empty text is "not said".

    Attributes:
        labels: one for each channel, or none at all.
        units: one for each channel, or none at all.
    """

    labels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()


def units_asked(text: str, modalities: Sequence[Modality]) -> dict[str, str]:
    """Read what the model was trained in, from `acc:m/s^2,gyro.x:deg/s`.

    Args:
        text: a sensor, or one of its channels, and its unit; several divided by commas.
        modalities: the model's.

    Returns:
        "sensor" or "sensor.channel" -> unit.

    Raises:
        ConfigError: it reads otherwise, or names no sensor of the model.
    """
    known = {m.name for m in modalities} | {f"{m.name}.{c}" for m in modalities for c in m.channels}
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, unit = (word.strip() for word in part.rpartition(":"))
        if not (name and colon and unit):
            raise ConfigError(f"units: {part!r} names no sensor and unit; write acc:m/s^2 or acc.x:g")
        if name not in known:
            raise ConfigError(
                f"units: the model knows no {name!r}; it knows {', '.join(m.name for m in modalities)}"
            )
        found[name] = unit
    return found


def columns_of(
    stream: Description, n_channels: int, modality: Modality, *, units: Mapping[str, str], by_label: bool
) -> tuple[int, ...]:
    """Which channels of a stream are the model's, in the model's order.

    Args:
        stream: what is said of it.
        n_channels: how many channels it has.
        modality: as the model knows it.
        units: of `units_asked`; a unit in the name of a channel, such as `x [g]`, counts as well.
        by_label: whether labels decide; otherwise the order does.

    Returns:
        Positions in the stream, `(C,)`.

    Raises:
        ConfigError: too few or too many channels, other names, or another unit; one sentence that begins
            with a verb, as of "the stream".
    """
    wanted = [_parted(name) for name in modality.channels]
    said = [_parted(label) for label in stream.labels] if len(stream.labels) == n_channels else []
    if by_label and all(name for name, _ in said) and said:
        columns = _by_label([name for name, _ in said], [name for name, _ in wanted], modality)
    elif n_channels == modality.n_channels:
        columns = tuple(range(n_channels))
    else:
        raise ConfigError(
            f"has {n_channels} channels, the model knows {modality.n_channels} of {modality.name}; send the "
            "same channels, or label them"
        )
    for channel, (_, own), column in zip(modality.channels, wanted, columns, strict=True):
        asked = units.get(f"{modality.name}.{channel}") or units.get(modality.name) or own
        told = stream.units[column] if column < len(stream.units) else ""
        told = told or (said[column][1] if said else "")
        if asked and told and _unit(asked) != _unit(told):
            raise ConfigError(
                f"gives {channel} in {_shown(told)}, the model knows {modality.name} in {_shown(asked)}; "
                "send it in that unit"
            )
    return columns


def _by_label(labels: Sequence[str], wanted: Sequence[str], modality: Modality) -> tuple[int, ...]:
    plain = [_plain(label, modality) for label in labels]
    if len(wanted) == 1 == len(labels) and plain[0] == _bare(modality.name):
        return (0,)
    columns = []
    for name in wanted:
        at = [i for i, label in enumerate(plain) if label == _plain(name, modality)]
        if len(at) != 1:
            problem = f"has {len(at)} channels" if at else "has no channel"
            raise ConfigError(
                f"{problem} labelled {name!r}: it has {_shown(', '.join(labels))}, the model knows "
                f"{_shown(', '.join(wanted))} of {modality.name}; label them so, or say labels=ignore where "
                "the order is the same"
            )
        columns.append(at[0])
    return tuple(columns)


def _parted(name: str) -> tuple[str, str]:
    """A name, and the unit behind it."""
    match = _WITH_UNIT.fullmatch(name.strip())
    return (match[1], match[2]) if match else (name.strip(), "")


def _plain(label: str, modality: Modality) -> str:
    """A label without case, signs, and the sensor's name in front: `Acc/X` of acc is `x`."""
    bare, front = _bare(label), _bare(modality.name)
    short = bare.removeprefix(front).lstrip(".")
    return short if bare.startswith(f"{front}.") and short else bare


def _bare(name: str) -> str:
    return re.sub(r"[\s_./:\\-]+", ".", name.strip().lower())


def _unit(text: str) -> str:
    bare = re.sub(r"\s+", "", text)
    return _UNITS.get(bare) or _UNITS.get(bare.lower()) or bare


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
