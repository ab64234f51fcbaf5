"""Tables are dealt to recordings: samples of each sensor, labels, by subject and recording.

One pass over every file, block by block. What is read goes straight into `Storage`, so memory stays small
whatever the order of rows: subjects may alternate, sensors may stand in one table or in several.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.windows import SPLITS
from sentryfuse.errors import DataError
from sentryfuse.recordings.columns import NO_TIME, joined_moments, moments, numbers, word, words
from sentryfuse.recordings.counts import Counts
from sentryfuse.recordings.recipe import Recipe, Sensor, TableRecipe
from sentryfuse.recordings.samples import Samples, Storage, in_order
from sentryfuse.recordings.tables import Table

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CLASSES = 1000
_SPLIT_WORDS = {
    **{name: i for i, name in enumerate(SPLITS)},
    **{str(i): i for i in range(3)},
    "training": 0,
    "val": 1,
    "valid": 1,
    "dev": 1,
    "testing": 2,
}


class Names:
    """Names in the order they are met, and their numbers."""

    def __init__(self) -> None:
        self.list: list[str] = []
        self._places: dict[str, int] = {}

    def number(self, name: str) -> int:
        """The number of a name, a new one for a new name."""
        if name not in self._places:
            self._places[name] = len(self.list)
            self.list.append(name)
        return self._places[name]


@dataclass
class Recording:
    """What one subject's sensors gave in one go.

    Attributes:
        subject: name.
        name: that tells it from others of the same subject; often empty.
        sensors: name -> samples.
        labels: codes of `Names`, -1 for unlabelled; `None` where the whole has one label or none.
        label: of the whole recording, -1 for none.
        split: 0 train, 1 validation, 2 test, -1 where nothing says so.
        spans: table -> file -> (first, last time), to find files that overlap.
        rows: (file, sensor) -> rows so far.
    """

    subject: str
    name: str
    sensors: dict[str, Samples] = field(default_factory=dict)
    labels: Samples | None = None
    label: int = -1
    split: int = -1
    spans: dict[int, dict[str, tuple[int, int]]] = field(default_factory=dict)
    rows: dict[tuple[str, str], int] = field(default_factory=dict)

    def follow(self, source: str, sensor: str, n: int, rate_hz: float) -> NDArray[np.int64]:
        """Times [ns] of the next rows of a file that has none: they follow each other at the rate [Hz]."""
        first = self.rows.get((source, sensor), 0)
        self.rows[source, sensor] = first + n
        times: NDArray[np.int64] = np.rint(np.arange(first, first + n) * (1e9 / (rate_hz or 1e9))).astype(
            np.int64
        )
        return times

    @property
    def title(self) -> str:
        """For messages."""
        return " ".join(part for part in (self.subject, self.name) if part) or "the recording"


class Collector:
    """Takes blocks of tables and holds the recordings they belong to.

    Args:
        recipe: what is what.
        storage: where samples are kept.
    """

    def __init__(self, recipe: Recipe, storage: Storage) -> None:
        self.recipe = recipe
        self.storage = storage
        self.counts = Counts()
        self.labels = Names()
        self.found: dict[tuple[str, str], Recording] = {}
        for sensor in recipe.sensors:
            self.counts.of(sensor.name)

    def take(self, number: int, table: Table, groups: dict[str, str]) -> Iterator[None]:
        """Read one table; yields after every block, so that progress can be shown.

        Args:
            number: of its entry in the recipe.
            table: the file or frame.
            groups: what its name says: subject, recording, label, split.

        Raises:
            DataError: a column that is not there or cannot be read.
        """
        entry = self.recipe.table[number]
        lacking = [column for column in entry.columns if column not in table.columns]
        if lacking:
            raise DataError(
                f"{table.name} lacks the column {lacking[0]!r} of the recipe; it has "
                f"{', '.join(table.columns[:20])}; mend the recipe, or give that file a [[table]] of its own"
            )
        wanted: dict[str, Any] = dict.fromkeys(entry.columns, "text")
        for sensor in entry.sensor:
            wanted.update(dict.fromkeys(sensor.columns, "number"))
        row = 0
        for block in table.blocks(wanted):
            columns = {name: block.column(i) for i, name in enumerate(block.schema.names)}
            self._block(number, entry, table.name, columns, groups)
            row += block.num_rows
            yield
        if not row:
            raise DataError(f"{table.name} holds no row; leave it out or record it again")
        self.counts.files += 1
        self.counts.ragged += table.ragged

    def recordings(self) -> Iterator[Recording]:
        """Every recording, its samples in order of time; what does not change joins all of its subject.

        Raises:
            DataError: no sample at all, or files that overlap in time.
        """
        static = {s.name for s in self.recipe.sensors if s.rate_hz == 0}
        constant = {k: r for k, r in self.found.items() if r.sensors and set(r.sensors) <= static}
        moving = [r for k, r in self.found.items() if k not in constant and r.sensors]
        if not moving:
            raise DataError(
                f"{self.recipe.name}: no row has both a time and a value; check the columns and the unit of "
                "time"
            )
        lonely = [r.title for r in self.found.values() if r.labels is not None and not r.sensors]
        if lonely:
            self.counts.remark(
                f"labels of {lonely[0]} belong to no recording ({len(lonely)} such); name subjects and "
                "recordings alike in the tables of labels and of sensors"
            )
        for other in constant.values():
            self._sort(other)
        for recording in moving:
            self._check_spans(recording)
            self._sort(recording)
            for (subject, _), other in constant.items():
                if subject == recording.subject:
                    recording.sensors = {**other.sensors, **recording.sensors}
            self._check_together(recording, static)
            yield recording

    def _block(
        self,
        number: int,
        entry: TableRecipe,
        source: str,
        columns: dict[str, pa.Array],
        groups: dict[str, str],
    ) -> None:
        n = len(next(iter(columns.values())))
        if entry.date:
            times = joined_moments(source, entry.date, entry.time, columns)
        elif entry.time:
            times = moments(source, entry.time, columns[entry.time], entry.unit)
        else:
            times = np.zeros(n, np.int64)  # rows follow each other; see `Recording.follow`
        ends = moments(source, entry.until, columns[entry.until], entry.unit) if entry.until else None
        where, where_names = words(columns[entry.sensor_column]) if entry.sensor_column else (None, [])
        labels = self._label_codes(columns[entry.label]) if entry.label else None
        splits = self._split_codes(source, columns[entry.split]) if entry.split else None
        if where is not None:
            asked = [where_names.index(s.where) for s in entry.sensor if s.where in where_names]
            self.counts.other_sensor += int((~np.isin(where, asked)).sum())
        values = {
            s.name: np.stack([numbers(source, c, columns[c]) for c in s.columns], axis=1)
            for s in entry.sensor
        }
        for recording, rows in self._owners(entry, columns, groups, n):
            if splits is not None:
                for code in np.unique(splits[rows]):
                    self._set_split(recording, int(code))
            for sensor in entry.sensor:
                mine = rows
                if where is not None:
                    wanted = where_names.index(sensor.where) if sensor.where in where_names else -2
                    mine = rows[where[rows] == wanted]
                self._append(recording, number, entry, sensor, source, values[sensor.name][mine], times[mine])
            if labels is not None:
                self._append_labels(recording, entry, source, labels[rows], times[rows])
                if ends is not None:  # behind them nothing is known, unless the next begins there
                    unknown = np.full(len(rows), -1, np.int32)
                    self._append_labels(recording, entry, source, unknown, ends[rows])

    def _owners(
        self, entry: TableRecipe, columns: dict[str, pa.Array], groups: dict[str, str], n: int
    ) -> Iterator[tuple[Recording, NDArray[np.intp]]]:
        """Recordings that have rows in a block, and which rows, ascending."""
        subject = np.zeros(n, np.int32)
        session = np.zeros(n, np.int32)
        # files of different labels are different recordings, as walking.1.csv and idle.1.csv
        label = "" if entry.label else groups.get("label", "")
        subjects = [groups.get("subject", "")]
        sessions = [" ".join(part for part in (label, groups.get("recording", "")) if part)]
        if entry.subject:
            subject, subjects = words(columns[entry.subject])
        if entry.recording:
            session, sessions = words(columns[entry.recording])
        pairs = subject.astype(np.int64) * (len(sessions) + 1) + session
        order = np.argsort(pairs, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(pairs[order])) + 1):
            s, r = int(subject[rows[0]]), int(session[rows[0]])
            if s < 0 or r < 0:
                self.counts.nobody += len(rows)
                continue
            key = (word(subjects[s]), word(sessions[r]))
            recording = self.found.setdefault(key, Recording(*key))
            if groups.get("split"):
                self._set_split(recording, self._split_code(groups["split"]))
            if label:
                recording.label = self._label_number(label)
            yield recording, rows

    def _append(
        self,
        recording: Recording,
        number: int,
        entry: TableRecipe,
        sensor: Sensor,
        source: str,
        values: NDArray[np.float32],
        at: NDArray[np.int64],
    ) -> None:
        counts = self.counts.of(sensor.name)
        n = len(at)
        if not n:
            return
        if not entry.time:
            at = recording.follow(source, sensor.name, n, sensor.rate_hz)
        timed = at != NO_TIME
        measured = ~np.isnan(values).all(axis=1)
        counts.rows += n
        counts.no_time += int((~timed).sum())
        counts.no_value += int((timed & ~measured).sum())
        keep = timed & measured
        if not keep.any():
            return
        if sensor.name not in recording.sensors:
            recording.sensors[sensor.name] = self.storage.samples(len(sensor.columns))
        recording.sensors[sensor.name].append(at[keep], values[keep])
        spans = recording.spans.setdefault(number, {})
        low, high = int(at[keep].min()), int(at[keep].max())
        before = spans.get(source, (low, high))
        spans[source] = (min(before[0], low), max(before[1], high))

    def _append_labels(
        self,
        recording: Recording,
        entry: TableRecipe,
        source: str,
        codes: NDArray[np.int32],
        at: NDArray[np.int64],
    ) -> None:
        if not entry.time:
            rate = next((s.rate_hz for s in entry.sensor if s.rate_hz), 1.0)
            at = recording.follow(source, "", len(codes), rate)
        keep = at != NO_TIME
        if entry.empty_label == "continues" and not entry.until:
            keep &= codes >= 0
        if recording.labels is None:
            recording.labels = self.storage.samples(1, np.int32)
        recording.labels.append(at[keep], codes[keep][:, None])

    def _label_codes(self, column: pa.Array) -> NDArray[np.int32]:
        codes, names = words(column)
        table = np.array([*(self._label_number(name) for name in names), -1], np.int32)
        return table[codes]

    def _label_number(self, name: str) -> int:
        if name in self.recipe.ignore_labels:
            return -1
        number = self.labels.number(self.recipe.label_names.get(name, name))
        if number >= MOST_CLASSES:
            raise DataError(
                f"{self.recipe.name}: there are more than {MOST_CLASSES} different labels, such as {name!r}; "
                "name a column of classes as `label`, not one of measurements"
            )
        return number

    def _split_codes(self, source: str, column: pa.Array) -> NDArray[np.int32]:
        codes, names = words(column)
        table = np.array([*(self._split_code(name) for name in names), -1], np.int32)
        return table[codes]

    def _split_code(self, name: str) -> int:
        if name.lower() not in _SPLIT_WORDS:
            raise DataError(
                f"{self.recipe.name}: {name!r} is no split; use train, validation and test (or 0, 1, 2)"
            )
        return _SPLIT_WORDS[name.lower()]

    def _set_split(self, recording: Recording, code: int) -> None:
        if code >= 0 and recording.split not in (-1, code):
            raise DataError(
                f"{recording.title} is in {SPLITS[recording.split]} and in {SPLITS[code]}; put each "
                "recording in one split"
            )
        recording.split = code if code >= 0 else recording.split

    def _sort(self, recording: Recording) -> None:
        spread = {s.name: t.repeats for t in self.recipe.table for s in t.sensor}
        for name, samples in recording.sensors.items():
            counts = self.counts.of(name)
            ordered, dropped, was_sorted = in_order(samples, self.storage, repeats=spread[name])
            recording.sensors[name] = ordered
            counts.same_time += dropped
            counts.samples += len(ordered)
            counts.sorted += was_sorted
            if dropped > 0.2 * (dropped + len(ordered)):
                raise DataError(
                    f"{dropped} of {dropped + len(ordered)} samples of {name} of {recording.title} share "
                    "their time with another one: the clock ticks slower than the sensor, or recordings lie "
                    "over each other; say "
                    'repeats = "spread" in its [[table]], or tell recordings apart by `subject` or '
                    "`recording`"
                )
        if recording.labels is not None:
            recording.labels = in_order(recording.labels, self.storage, repeats="drop")[0]

    def _check_spans(self, recording: Recording) -> None:
        """Files of one table that overlap are different recordings, or one of them is there twice."""
        for files in recording.spans.values():
            spans = sorted((low, high, name) for name, (low, high) in files.items())
            for (_, end, one), (start, _, other) in pairwise(spans):
                if start < end:
                    raise DataError(
                        f"{one} and {other} overlap in time and both belong to {recording.title}; tell them "
                        "apart by a `subject` or `recording` column, or by a pattern such as "
                        "'(?P<subject>[^_]+)_(?P<recording>.*)'"
                    )

    def _check_together(self, recording: Recording, static: set[str]) -> None:
        spans = {
            name: (int(s.times.read(0, 1)[0]), int(s.times.read(len(s) - 1, len(s))[0]))
            for name, s in recording.sensors.items()
            if name not in static and len(s)
        }
        for one, (_, end) in spans.items():
            for other, (start, _) in spans.items():
                if end < start:
                    self.counts.remark(
                        f"{one} of {recording.title} ends before {other} begins; if that is not so, check "
                        "the units of time"
                    )
