"""What became of everything that was read: how much was kept, how much was dropped, and why.

Two sums always come out: rows of a sensor = without a time + without a value + same time + used + unused; and
windows tried = kept + dropped, by reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

REASONS = {
    "unlabelled": "have no label",
    "undecided": "have no label of a large enough share",
    "gap": "touch a gap of a sensor",
    "silent": "have no sensor at all",
    "untold": "have no value of what is asked for",
    "margin": "lie too near to a window of another split",
}


@dataclass
class SensorCounts:
    """Rows of one sensor.

    Attributes:
        rows: rows of its tables that were read.
        no_time: rows without a time.
        no_value: rows in which none of its channels was measured.
        same_time: samples at a time that was there before.
        samples: what is left of them.
        used: samples that are in at least one window kept.
        crowded: times a sample found no free step in its window, because there were more samples than steps.
        empty_steps: steps of windows kept in which nothing was measured, though the sensor was there.
        gaps: silences longer than `max_gap_s`.
        sorted: recordings of it that had to be sorted by time.
    """

    rows: int = 0
    no_time: int = 0
    no_value: int = 0
    same_time: int = 0
    samples: int = 0
    used: int = 0
    crowded: int = 0
    empty_steps: int = 0
    gaps: int = 0
    sorted: int = 0

    def plain(self) -> dict[str, int]:
        """As a dictionary, with `unused`."""
        return {**vars(self), "unused": self.samples - self.used}


@dataclass
class Counts:
    """All of it.

    Attributes:
        files: that were read.
        ragged: rows left out because they have another number of cells than their header.
        nobody: rows left out because they do not say whom they are of.
        other_sensor: rows left out because they are of a sensor that the recipe does not name.
        sensors: name -> its counts.
        tried: windows that were tried.
        kept: of them.
        dropped: reason -> windows.
        stretches: between gaps and changes of label.
        short: stretches shorter than a window.
        short_s: their length together [s].
        remarks: what else a user should know, a sentence each.
    """

    files: int = 0
    ragged: int = 0
    nobody: int = 0
    other_sensor: int = 0
    sensors: dict[str, SensorCounts] = field(default_factory=dict)
    tried: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    stretches: int = 0
    short: int = 0
    short_s: float = 0.0
    remarks: list[str] = field(default_factory=list)

    def of(self, sensor: str) -> SensorCounts:
        """Counts of one sensor."""
        return self.sensors.setdefault(sensor, SensorCounts())

    def remark(self, sentence: str) -> None:
        """Say something once."""
        if sentence not in self.remarks:
            self.remarks.append(sentence)

    def sentences(self) -> list[str]:
        """Everything that was dropped, named and counted; and the remarks."""
        said = []
        if self.ragged:
            said.append(f"{self.ragged} rows left out: another number of cells than the header")
        if self.nobody:
            said.append(f"{self.nobody} rows left out: they do not say whom they are of")
        if self.other_sensor:
            said.append(f"{self.other_sensor} rows left out: of a sensor that the recipe does not name")
        for name, c in self.sensors.items():
            parts = [
                f"{number} {what}"
                for number, what in (
                    (c.no_time, "without a time"),
                    (c.same_time, "at a time that was there before"),
                    (c.samples - c.used, "in no window kept"),
                )
                if number
            ]
            if parts:
                said.append(f"{name}: of {c.rows - c.no_value} samples, {', '.join(parts)}")
            if c.crowded:
                said.append(
                    f"{name}: {c.crowded} times a sample found no free step in its window; rate_hz may be a "
                    "little low, or times jitter (`resample = true` evens them out)"
                )
        for reason, number in self.dropped.items():
            said.append(f"{number} windows dropped: they {REASONS[reason]}")
        if self.short:
            said.append(
                f"{self.short} of {self.stretches} stretches between gaps or changes of label are shorter "
                f"than a window ({self.short_s:.0f} s together)"
            )
        return said + self.remarks

    def plain(self) -> dict[str, Any]:
        """Ready for `json.dumps`."""
        return {
            "files": self.files,
            "ragged_rows": self.ragged,
            "rows_of_nobody": self.nobody,
            "rows_of_other_sensors": self.other_sensor,
            "sensors": {name: c.plain() for name, c in self.sensors.items()},
            "windows_tried": self.tried,
            "windows_kept": self.kept,
            "windows_dropped": dict(self.dropped),
            "stretches": self.stretches,
            "short_stretches": self.short,
            "short_stretches_s": self.short_s,
            "remarks": self.remarks,
        }
