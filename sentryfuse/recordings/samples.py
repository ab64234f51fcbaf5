"""Samples of one sensor in order of time, in memory or in two files; read by range.

What comes in is appended as it is read. `in_order` then sorts it, also where it is larger than memory, and
sees to times that are there twice.

Notation: n samples · C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sentryfuse.errors import InputError

AT_ONCE = 1 << 20  # samples read together
SORTED_AT_ONCE = 1 << 23  # samples sorted in memory: 64 MB of times
STRIDE = 1 << 14  # samples between two entries of the index of times


class Column(Protocol):
    """Rows that are appended and read by range."""

    def append(self, rows: NDArray[Any]) -> None:
        """Put rows at the end."""
        ...

    def read(self, low: int, high: int) -> NDArray[Any]:
        """Rows from `low` up to `high`, not included."""
        ...

    def drop(self) -> None:
        """Free the room."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...


class MemoryColumn:
    """A column that is held; see `Column`.

    Args:
        dtype: of one value.
        width: values of a row; 0 for rows that are one value, without an axis.
    """

    def __init__(self, dtype: DTypeLike, width: int) -> None:
        self._parts: list[NDArray[Any]] = [np.empty((0, width) if width else (0,), dtype)]
        self._rows = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Put rows at the end."""
        self._parts.append(np.asarray(rows, self._parts[0].dtype))
        self._rows += len(rows)

    def read(self, low: int, high: int) -> NDArray[Any]:
        """Rows from `low` up to `high`, not included."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0][low:high]

    def drop(self) -> None:
        """Free the room."""
        self._parts, self._rows = self._parts[:1], 0

    def __len__(self) -> int:
        """Number of rows."""
        return self._rows


class FileColumn:
    """A column in a file of its own; see `Column`.

    Args:
        path: the file; made when the first row comes.
        dtype: of one value.
        width: values of a row; 0 for rows that are one value, without an axis.
    """

    def __init__(self, path: Path, dtype: DTypeLike, width: int) -> None:
        self._path = path
        self._dtype = np.dtype(dtype)
        self._width = width
        self._rows = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Put rows at the end."""
        if not len(rows):
            return
        try:
            with self._path.open("ab") as file:
                file.write(np.ascontiguousarray(rows, self._dtype).data)
        except OSError as error:
            raise InputError(
                f"cannot write {self._path}: {(error.strerror or str(error)).lower()}; about half the size "
                "of the recordings is needed beside --out while they are cut: free some space or choose "
                "another place"
            ) from error
        self._rows += len(rows)

    def read(self, low: int, high: int) -> NDArray[Any]:
        """Rows from `low` up to `high`, not included."""
        low, high = max(low, 0), min(high, self._rows)
        shape = (max(0, high - low), self._width) if self._width else (max(0, high - low),)
        if high <= low:
            return np.empty(shape, self._dtype)
        width = max(1, self._width)
        values = np.fromfile(
            self._path, self._dtype, (high - low) * width, offset=low * width * self._dtype.itemsize
        )
        return values.reshape(shape)

    def drop(self) -> None:
        """Free the room."""
        self._path.unlink(missing_ok=True)
        self._rows = 0

    def __len__(self) -> int:
        """Number of rows."""
        return self._rows


class Storage:
    """Where columns are kept: a folder, or memory.

    Args:
        folder: an existing, empty folder; `None` keeps all in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._made = 0

    def column(self, dtype: DTypeLike, width: int = 0) -> Column:
        """A new, empty column."""
        self._made += 1
        if self._folder is None:
            return MemoryColumn(dtype, width)
        return FileColumn(self._folder / f"{self._made}.raw", dtype, width)

    def samples(self, width: int, dtype: DTypeLike = np.float32) -> Samples:
        """New, empty samples of `width` channels."""
        return Samples(self.column(np.int64), self.column(dtype, width))


@dataclass
class Samples:
    """Times [ns] and values of one sensor; times rise once `in_order` has given them.

    Attributes:
        times: `(n,)` int64.
        values: `(n, C)`.
        index: every `STRIDE`-th time, `None` before it is needed.
    """

    times: Column
    values: Column
    index: NDArray[np.int64] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """Number of samples, `n`."""
        return len(self.times)

    def append(self, times: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Put samples at the end."""
        self.times.append(times)
        self.values.append(values)

    def chunks(self, size: int = AT_ONCE) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Position of the first, and times, of one stretch after the other."""
        for low in range(0, len(self), size):
            yield low, self.times.read(low, low + size)

    def find(self, moment: int) -> int:
        """How many samples are before a moment [ns]."""
        if self.index is None:
            self.index = np.array(
                [self.times.read(i, i + 1)[0] for i in range(0, len(self), STRIDE)], np.int64
            )
        block = max(0, int(np.searchsorted(self.index, moment)) - 1)
        inside = self.times.read(block * STRIDE, (block + 1) * STRIDE)
        return block * STRIDE + int(np.searchsorted(inside, moment))

    def drop(self) -> None:
        """Free the room."""
        self.times.drop()
        self.values.drop()


def in_order(samples: Samples, storage: Storage, *, repeats: str) -> tuple[Samples, int, bool]:
    """The same samples by rising time.

    Args:
        samples: as they were read; given up.
        storage: where the result is kept.
        repeats: `drop` all but the first sample of a time, or `spread` them evenly until the next time.

    Returns:
        The samples, how many were dropped for their time, and whether they had to be sorted.
    """
    last = None
    rises, sorted_ = True, True
    for _, times in samples.chunks():
        if last is not None and len(times) and times[0] <= last:
            rises = False
            sorted_ = sorted_ and times[0] == last
        steps = np.diff(times)
        rises = rises and bool((steps > 0).all())
        sorted_ = sorted_ and bool((steps >= 0).all())
        last = times[-1] if len(times) else last
    if rises:
        return samples, 0, False
    if not sorted_:
        samples = _sorted(samples, storage)
    before = len(samples)
    result = _spread(samples, storage) if repeats == "spread" else _first_of_each(samples, storage)
    samples.drop()
    return result, before - len(result), not sorted_


def _sorted(samples: Samples, storage: Storage) -> Samples:
    """By time; samples of one time stay in the order they came."""
    result = _like(samples, storage)
    if len(samples) <= SORTED_AT_ONCE:
        _append_sorted(samples, result)
        samples.drop()
        return result
    # into stretches of time that can be sorted at once
    sampled = np.sort(np.concatenate([times[::64] for _, times in samples.chunks()]))
    n_parts = math.ceil(2 * len(samples) / SORTED_AT_ONCE)
    edges = np.unique(sampled[np.linspace(0, len(sampled) - 1, n_parts + 1).astype(int)[1:-1]])
    parts = [_like(samples, storage) for _ in range(len(edges) + 1)]
    for low, times in samples.chunks():
        values = samples.values.read(low, low + len(times))
        place = np.searchsorted(edges, times, side="right")
        for k in np.unique(place):
            rows = place == k
            parts[k].append(times[rows], values[rows])
    samples.drop()
    for part in parts:
        _append_sorted(part, result)
        part.drop()
    return result


def _append_sorted(samples: Samples, to: Samples) -> None:
    times = samples.times.read(0, len(samples))
    order = np.argsort(times, kind="stable")
    to.append(times[order], samples.values.read(0, len(samples))[order])


def _first_of_each(samples: Samples, storage: Storage) -> Samples:
    result = _like(samples, storage)
    last = None
    for low, times in samples.chunks():
        keep = np.ones(len(times), bool)
        keep[1:] = np.diff(times) > 0
        if last is not None:
            keep[0] = times[0] > last
        last = times[-1]
        result.append(times[keep], samples.values.read(low, low + len(times))[keep])
    return result


def _spread(samples: Samples, storage: Storage) -> Samples:
    """Samples of one tick of a coarse clock, laid evenly until the next tick."""
    result = _like(samples, storage)
    tick = _tick(samples)
    held_times: NDArray[np.int64] = np.empty(0, np.int64)
    held_values: NDArray[Any] = samples.values.read(0, 0)
    n = len(samples)
    for low, times in samples.chunks():
        times = np.concatenate([held_times, times])
        values = np.concatenate([held_values, samples.values.read(low, low + AT_ONCE)])
        end = len(times) if low + AT_ONCE >= n else int(np.searchsorted(times, times[-1]))
        held_times, held_values = times[end:], values[end:]
        times, values = times[:end], values[:end]
        if not end:
            continue
        starts = np.flatnonzero(np.diff(times, prepend=times[0] - 1) > 0)
        counts = np.diff(starts, append=end)
        following = np.append(times[starts[1:]], held_times[:1] if len(held_times) else times[-1] + tick)
        width = np.minimum(following - times[starts], max(tick, 1))
        rank = np.arange(end) - np.repeat(starts, counts)
        moved = times + (rank * np.repeat(width, counts)) // np.repeat(counts, counts)
        keep = np.diff(moved, prepend=moved[0] - 1) > 0  # more samples than nanoseconds
        result.append(moved[keep], values[keep])
    return result


def _tick(samples: Samples) -> int:
    """The usual step between two different times [ns]."""
    for _, times in samples.chunks():
        steps = np.diff(np.unique(times))
        if len(steps):
            return int(np.median(steps))
    return 10**9


def _like(samples: Samples, storage: Storage) -> Samples:
    example = samples.values.read(0, 0)
    return storage.samples(example.shape[1], example.dtype)
