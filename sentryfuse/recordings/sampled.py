"""Windows from arrays of samples, with their times, people and labels beside them.

Notation: n samples of a sensor · C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.windows import Windows
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.recordings.asked import Asked, finished
from sentryfuse.recordings.collect import Collector, Recording
from sentryfuse.recordings.columns import UNITS, UNITS_NS, word
from sentryfuse.recordings.samples import Storage


def from_arrays(arrays: Mapping[str, NDArray[Any]], asked: Asked, split: Any) -> Windows:
    """Windows of arrays, sensor -> `(n,)` or `(n, C)`.

    Raises:
        ConfigError: nothing tells the times.
        DataError: arrays whose shapes do not fit each other.
    """
    entries = []
    shaped: dict[str, NDArray[np.float32]] = {}
    times: dict[str, NDArray[np.int64]] = {}
    for name, array in arrays.items():
        values = array[:, None] if array.ndim == 1 else array
        if values.ndim != 2 or values.dtype.kind not in "iufb":
            raise DataError(
                f"{asked.name}: {name} is {array.dtype} {array.shape}; give numbers of shape (samples, "
                "channels), or (windows, steps, channels) for all sensors"
            )
        shaped[name] = values.astype(np.float32)
        times[name], rate = _times_of(name, len(values), asked)
        columns = list((asked.sensors or {}).get(name, [f"c{i}" for i in range(values.shape[1])]))
        if len(columns) != values.shape[1]:
            raise DataError(f"{name} has {values.shape[1]} channels but {len(columns)} names; give one each")
        entries.append(
            {"sensor": [{"name": name, "columns": columns, "rate_hz": rate, "resample": asked.resample}],
             "time": "time", "unit": "ns", "label": "label" if asked.label is not None else ""}
        )  # fmt: skip
    recipe = asked.recipe(entries, split)
    storage = Storage()
    collector = Collector(recipe, storage)
    for name, values in shaped.items():
        counts = collector.counts.of(name)
        counts.rows += len(values)
        known = ~np.isnan(values).all(axis=1)
        counts.no_value += int((~known).sum())
        for person, rows in _persons(name, len(values), asked):
            recording = collector.found.setdefault((person, ""), Recording(person, ""))
            keep = rows & known
            if keep.any():
                samples = storage.samples(values.shape[1])
                samples.append(times[name][keep], values[keep])
                recording.sensors[name] = samples
    if asked.label is not None:
        _label_arrays(collector, times, asked)
    return finished(collector, storage)


def _times_of(name: str, n: int, asked: Asked) -> tuple[NDArray[np.int64], float]:
    rate = asked.rate_of(name)
    given = asked.time.get(name) if isinstance(asked.time, Mapping) else asked.time
    if given is None:
        if rate is None:
            raise ConfigError(f"{name} has no times and no rate; give rate_hz, or time")
        return np.rint(np.arange(n) * (1e9 / rate)).astype(np.int64) if rate else np.arange(n), rate
    at = np.asarray(given)
    if at.shape != (n,):
        raise DataError(f"time of {name} has shape {at.shape} but there are {n} samples; give one each")
    if at.dtype.kind == "M":
        moments = at.astype("datetime64[ns]").astype(np.int64)
    elif asked.unit in (None, "iso") or asked.unit not in UNITS:
        raise ConfigError(
            f"times of {name} are {at.dtype}; say unit='s', 'ms', 'us' or 'ns', or give datetime64"
        )
    elif at.dtype.kind in "iu":
        moments = at.astype(np.int64) * UNITS_NS[asked.unit]
    else:
        whole = np.floor(at.astype(np.float64))
        moments = whole.astype(np.int64) * UNITS_NS[asked.unit] + np.rint(
            (at - whole) * UNITS_NS[asked.unit]
        ).astype(np.int64)
    if rate is None:
        steps = np.diff(np.sort(moments))
        steps = steps[steps > 0]
        if not len(steps):
            raise DataError(f"time of {name} does not rise; give one time for each sample")
        near = steps[steps <= 1.6 * np.median(steps)]
        rate = float(f"{1e9 / near.mean():.5g}")
    return moments, rate


def _persons(name: str, n: int, asked: Asked) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    who = asked.subject.get(name) if isinstance(asked.subject, Mapping) else asked.subject
    if who is None or np.ndim(who) == 0:
        yield word(who), np.ones(n, bool)
        return
    names = np.array([word(value) for value in np.asarray(who).tolist()])
    if names.shape != (n,):
        raise DataError(
            f"subject has {len(names)} entries but {name} has {n} samples; give one each, or sensor -> "
            "subjects"
        )
    for person in dict.fromkeys(names.tolist()):
        yield person, names == person


def _label_arrays(collector: Collector, times: Mapping[str, NDArray[np.int64]], asked: Asked) -> None:
    label = asked.label
    if np.ndim(label) == 0 and not isinstance(label, Mapping):
        number = collector.labels.number(word(label))
        for recording in collector.found.values():
            recording.label = number
        return
    given = dict(label) if isinstance(label, Mapping) else {}
    if not given:
        values = np.asarray(label)
        owner = next((name for name, at in times.items() if len(at) == len(values)), None)
        if owner is None:
            lengths = ", ".join(f"{name} {len(at)}" for name, at in times.items())
            raise DataError(
                f"label has {len(values)} entries, the sensors have {lengths}; give one for each sample of "
                "one"
            )
        given = {owner: values}
    for name, values in given.items():
        if name not in times or len(values) != len(times[name]):
            raise DataError(
                f"label of {name!r} does not fit; give one for each sample of a sensor that is there"
            )
        names = [word(value) for value in np.asarray(values).tolist()]
        table = {text: collector.labels.number(text) if text else -1 for text in dict.fromkeys(names)}
        codes = np.array([table[text] for text in names], np.int32)
        for person, rows in _persons(name, len(codes), asked):
            owner_of = collector.found.get((person, ""))
            if owner_of is not None:
                if owner_of.labels is None:
                    owner_of.labels = collector.storage.samples(1, np.int32)
                owner_of.labels.append(times[name][rows], codes[rows][:, None])
