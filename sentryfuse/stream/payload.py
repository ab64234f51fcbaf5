"""Reading one MQTT message, whatever it holds.

| topic | payload |
| --- | --- |
| `<prefix>/<modality>` | JSON `{"t": seconds, "values": [[...], ...]}` |
| `<prefix>/<modality>/f32` | little-endian: the time of the first sample, float64, then float32 `n * C` |

`values` holds a row of C numbers for each sample, `null` for "not measured"; one row may come alone.
`t` is the time of the first sample on the sensor's clock, the others follow at the nominal rate; or a
list with the time of each; without it samples are taken to end on arrival. In binary, a time of NaN
stands for none.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.types import Modality

MAX_PAYLOAD = 1 << 18  # bytes of one message: 1 s of 16 channels at 1 kHz fits four times over
BINARY = "/f32"
_HEAD = struct.Struct("<d")

Samples = tuple[NDArray[np.float32], NDArray[np.float64] | None]


def read_payload(payload: bytes, modality: Modality, *, binary: bool) -> Samples | None:
    """Values `(n, C)` and times `(n,)` [s] of a message, `None` where it makes no sense."""
    if len(payload) > MAX_PAYLOAD:
        return None
    try:
        return _read_binary(payload, modality) if binary else _read_json(payload, modality)
    # json recurses into nested lists; an integer may be too long for text or too large for a float
    except (ValueError, TypeError, OverflowError, RecursionError, struct.error):
        return None


def _read_binary(payload: bytes, modality: Modality) -> Samples | None:
    (start,) = _HEAD.unpack_from(payload)
    flat = np.frombuffer(payload, dtype="<f4", offset=_HEAD.size).astype(np.float32)
    if not len(flat) or len(flat) % modality.n_channels:
        return None
    values = flat.reshape(-1, modality.n_channels)
    return values, None if np.isnan(start) else _from(start, len(values), modality)


def _read_json(payload: bytes, modality: Modality) -> Samples | None:
    message = json.loads(payload)
    if not isinstance(message, dict) or "values" not in message or not message.keys() <= {"t", "values"}:
        return None
    numbers = _numbers(message["values"])
    if numbers is None:
        return None
    if numbers.ndim == 1 and len(numbers) == modality.n_channels:
        numbers = numbers[None]
    if numbers.ndim != 2 or not len(numbers) or numbers.shape[1] != modality.n_channels:
        return None
    with np.errstate(over="ignore"):  # too large for float32 is infinite, which is judged later
        values = numbers.astype(np.float32)
    stamps = message.get("t")
    if stamps is None:
        return values, None
    times = _numbers(stamps)
    if times is None or times.shape not in ((), (len(values),)) or not np.isfinite(times).all():
        return None
    return values, times if times.ndim else _from(float(times), len(values), modality)


def _numbers(data: Any) -> NDArray[np.float64] | None:
    """Numbers and nulls as an array; `None` where anything else is among them."""
    array = np.array(data)
    if array.dtype == object:
        kinds = set(map(type, array.ravel().tolist()))
        if not kinds <= {int, float, type(None)}:
            return None
    elif array.dtype.kind not in "iuf":
        return None
    return array.astype(np.float64)


def _from(start_s: float, n: int, modality: Modality) -> NDArray[np.float64]:
    """Times of samples one after the other at the nominal rate, `(n,)` [s]."""
    period = 1 / modality.rate_hz if modality.rate_hz > 0 else 0.0
    return start_s + period * np.arange(n, dtype=np.float64)
