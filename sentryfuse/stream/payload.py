"""Reading one MQTT message, whatever it holds.

| topic | payload |
| --- | --- |
| `<prefix>/<modality>` | JSON `{"t": seconds, "values": [[...], ...]}` |
| `<prefix>/<modality>/f32` | little-endian: the time of the first sample, float64, then float32 `n * C` |

`values` holds a row of C numbers for each sample, `null` for "not measured"; one row may come alone.
`t` is the time of the first sample on the sensor's clock, the others follow at the nominal rate; or a
list with the time of each; without it samples are taken to end on arrival. In binary, a time of NaN
stands for none.

What people send in place of that is read where it means one thing only: other names of the two keys and
further keys, numbers as text, times in ms, us or ISO 8601, rows as dictionaries of channels, one after the
other without brackets, or one row per channel, and a bare number of a sensor with one channel.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.stream.stamps import NAMES, UNITS, stamp_of, unit_in, unit_of_size
from sentryfuse.types import Modality

MAX_PAYLOAD = 1 << 18  # bytes of one message: 1 s of 16 channels at 1 kHz fits four times over
BINARY = "/f32"
_HEAD = struct.Struct("<d")
_VALUES = ("values", "value", "data", "samples")
_NOTHING = {"", "na", "n/a", "nan", "null", "none", "unknown", "unavailable"}
_SHOWN = 100

Samples = tuple[NDArray[np.float32], NDArray[np.float64] | None]


class UnreadableError(ValueError):
    """A message that is not understood; says why, in a few words."""


class Fields(NamedTuple):
    """Names of the two parts of a message, where they are others than those known.

    Attributes:
        time: key of the times; `None` finds it, empty says that there is none.
        unit: of the times, "s", "ms", "us" or "ns"; `None` follows from name and size.
        values: key of the values; `None` finds it.
    """

    time: str | None = None
    unit: str | None = None
    values: str | None = None

    @classmethod
    def of(cls, time: str | None, values: str | None) -> Fields:
        """From `KEY`, `KEY:UNIT` or `:UNIT`, and the key of the values."""
        if time is None:
            return cls(values=values)
        name, colon, unit = time.rpartition(":")
        if colon and unit in UNITS:
            return cls(name or None, unit, values)
        return cls(time, None, values)


def read_payload(
    payload: bytes,
    modality: Modality,
    *,
    binary: bool,
    fields: Fields = Fields(),  # noqa: B008  frozen
) -> Samples:
    """Values `(n, C)` and times `(n,)` [s] of a message, `None` for times that it does not tell.

    Raises:
        UnreadableError: it makes no sense, or may mean several things.
    """
    if len(payload) > MAX_PAYLOAD:
        raise UnreadableError(f"{len(payload)} bytes, more than the limit {MAX_PAYLOAD}")
    try:
        return _read_binary(payload, modality) if binary else _read_json(payload, modality, fields)
    except UnreadableError:
        raise
    except struct.error:
        raise UnreadableError("no time of 8 bytes at its beginning") from None
    except json.JSONDecodeError as error:
        raise UnreadableError(f"not JSON ({error.msg} at {error.pos})") from None
    # json recurses into nested lists; an integer may be too long for text or too large for a float
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UnreadableError(f"not understood ({type(error).__name__})") from None


def shown(payload: bytes | str) -> str:
    """The beginning of a message, as a terminal may show it."""
    text = payload if isinstance(payload, str) else payload[: 4 * _SHOWN].decode("utf-8", "replace")
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _read_binary(payload: bytes, modality: Modality) -> Samples:
    (start,) = _HEAD.unpack_from(payload)
    rest = len(payload) - _HEAD.size
    if not rest or rest % (4 * modality.n_channels):
        raise UnreadableError(
            f"{rest} bytes after the time are not float32 rows of {modality.n_channels} channels"
        )
    flat = np.frombuffer(payload, dtype="<f4", offset=_HEAD.size).astype(np.float32)
    values = flat.reshape(-1, modality.n_channels)
    if np.isnan(start):
        return values, None
    if np.isinf(start):
        raise UnreadableError("an infinite time")
    return values, _from(start * UNITS[unit_of_size(start) or "s"], len(values), modality)


def _read_json(payload: bytes, modality: Modality, fields: Fields) -> Samples:
    message = json.loads(payload)
    if not isinstance(message, dict):
        message = {"values": message}
    time_key, values_key = _time_key(message, fields), _values_key(message, fields)
    if values_key is not None:
        data = message[values_key]
    else:
        data = _channels(message, modality)
        if data is None:
            keys = ", ".join(map(str, message))[:_SHOWN] or "nothing"
            raise UnreadableError(
                f"no key {fields.values or 'values'!r} nor one per channel; there is {keys}"
            )
    with np.errstate(over="ignore"):  # too large for float32 is infinite, which is judged later
        values = _rows(data, modality).astype(np.float32)
    stamps = None if time_key is None else message[time_key]
    if stamps is None:
        return values, None
    times = _times(stamps, fields.unit or unit_in(str(time_key))[1])
    if times.ndim == 0:
        return values, _from(float(times), len(values), modality)
    if times.shape != (len(values),):
        raise UnreadableError(f"{times.size} times for {len(values)} samples")
    return values, times


def _time_key(message: Mapping[str, Any], fields: Fields) -> str | None:
    if fields.time is not None:
        if fields.time not in message:
            raise UnreadableError(f"no key {fields.time!r} of the time")
        return fields.time
    if "t" in message:
        return "t"
    found = [key for key in message if unit_in(key)[0].lower() in NAMES]
    if len(found) > 1:
        raise UnreadableError(f"several times: {', '.join(found)[:_SHOWN]}; say which with t=KEY")
    return found[0] if found else None


def _values_key(message: Mapping[str, Any], fields: Fields) -> str | None:
    if fields.values is not None:
        return fields.values if fields.values in message else None
    if "values" in message:
        return "values"
    found = [key for key in message if key.lower() in _VALUES]
    if len(found) > 1:
        raise UnreadableError(f"several values: {', '.join(found)[:_SHOWN]}; say which with values=KEY")
    return found[0] if found else None


def _channels(data: Mapping[str, Any], modality: Modality) -> list[Any] | None:
    """Values that stand under the names of the channels, one row or one list per channel."""
    loose = {str(key).lower(): value for key, value in data.items()}
    names = [channel.lower() for channel in modality.channels]
    if len(set(names)) < len(names) or not loose.keys() >= set(names):
        return None
    found = [loose[name] for name in names]
    if any(isinstance(value, list) for value in found):
        if not all(isinstance(value, list) and len(value) == len(found[0]) for value in found):
            raise UnreadableError("channels of different lengths")
        return [list(row) for row in zip(*found, strict=True)]
    return [found]


def _rows(data: Any, modality: Modality) -> NDArray[np.float64]:
    """A row for each sample, `(n, C)`."""
    n_channels = modality.n_channels
    if isinstance(data, dict):
        named = _channels(data, modality)
        if named is None:
            raise UnreadableError(f"not the channels {', '.join(modality.channels)[:_SHOWN]}")
        return _numbers(named)
    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        named = [_channels(row, modality) for row in data]
        if any(row is None or len(row) != 1 for row in named):
            raise UnreadableError(f"not the channels {', '.join(modality.channels)[:_SHOWN]}")
        return _numbers([row[0] for row in named if row])
    if not isinstance(data, list):
        if n_channels > 1 or data is None:
            raise UnreadableError(f"one value for {n_channels} channels")
        return _numbers([[data]])
    numbers = _numbers(data)
    if numbers.ndim == 1 and numbers.size and numbers.size % n_channels == 0:
        return numbers.reshape(-1, n_channels)
    if numbers.ndim == 2 and numbers.size:
        if numbers.shape[1] == n_channels:
            return numbers
        if numbers.shape[0] == n_channels:  # a row per channel
            return numbers.T
    shape = " x ".join(map(str, numbers.shape))
    raise UnreadableError(f"{shape} values, not rows of {n_channels} channels")


def _numbers(data: list[Any]) -> NDArray[np.float64]:
    """Numbers, numbers as text and nulls as an array of at most two axes."""
    deep = any(isinstance(row, list) for row in data)
    if not deep:
        return np.array([_number(value) for value in data], np.float64)
    rows = [[_number(value) for value in row] for row in data if isinstance(row, list)]
    if len(rows) < len(data) or len({len(row) for row in rows}) > 1:
        raise UnreadableError("rows of different lengths")
    return np.array(rows, np.float64)


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _NOTHING:
            return math.nan
        try:
            return float(text)
        except ValueError:
            raise UnreadableError(f"{text[:20]!r} is not a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnreadableError(f"{str(value)[:20]!r} is not a number")
    return float(value)


def _times(stamps: Any, unit: str | None) -> NDArray[np.float64]:
    """One time or one for each sample [s]."""
    many = isinstance(stamps, list)
    told = [_stamp(stamp) for stamp in (stamps if many else [stamps])]
    times = np.array([time for time, _ in told], np.float64)
    if not len(times) or not np.isfinite(times).all():
        raise UnreadableError("a time that is no number")
    if not all(dated for _, dated in told):
        # a number that only another unit can have is in that unit, whatever "t" usually is
        size = unit_of_size(float(abs(times).max())) if unit in (None, "s") else None
        times = times * UNITS[size or unit or "s"]
    return times if many else times.reshape(())


def _stamp(stamp: Any) -> tuple[float, bool]:
    """A number, and whether it was a date, which is in seconds."""
    if isinstance(stamp, str):
        try:
            return float(stamp), False
        except ValueError:
            pass
        try:
            return stamp_of(stamp), True
        except ValueError:
            raise UnreadableError(f"the time {stamp[:40]!r} is not understood") from None
    if isinstance(stamp, bool) or not isinstance(stamp, int | float):
        raise UnreadableError(f"the time {str(stamp)[:40]!r} is not understood")
    return float(stamp), False


def _from(start_s: float, n: int, modality: Modality) -> NDArray[np.float64]:
    """Times of samples one after the other at the nominal rate, `(n,)` [s]."""
    period = 1 / modality.rate_hz if modality.rate_hz > 0 else 0.0
    return start_s + period * np.arange(n, dtype=np.float64)
