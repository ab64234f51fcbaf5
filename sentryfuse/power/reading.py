"""Readings of meters, their classes of evidence, and the protocols of meters and readers.

A meter is one source of numbers and may fail; a reader is what programs use: it holds several meters,
never fails and says when it had to take another one.

| label | evidence | meaning |
| --- | --- | --- |
| measured-external | E0 | an instrument of the user's at the supply, by a callback |
| measured-onboard | E1 | RAPL, INA3221, NVML; the scope says which part of the machine |
| measured-battery | E2 | fuel gauge, for long runs |
| modelled-calibrated | E3 | constants fitted on this board |
| modelled-generic | E4 | counted work; only ratios, never a joule |
| replayed | none | a trace file: what it says was not measured now |
| none | none | energy is not measured |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from sentryfuse.errors import SentryFuseError

Label = Literal[
    "measured-external",
    "measured-onboard",
    "measured-battery",
    "modelled-calibrated",
    "modelled-generic",
    "replayed",
    "none",
]
EVIDENCE: dict[Label, str] = {
    "measured-external": "E0",
    "measured-onboard": "E1",
    "measured-battery": "E2",
    "modelled-calibrated": "E3",
    "modelled-generic": "E4",
    "replayed": "none",
    "none": "none",
}
Quantity = Literal["power_w", "energy_j", "charge", "cap_w"]
QUANTITIES: tuple[Quantity, ...] = ("power_w", "energy_j", "charge", "cap_w")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at a meter; `None` is what it cannot tell.

    Attributes:
        at_s: when, by the monotonic clock [s].
        label: how far the numbers can be believed; see the table of this module.
        scope: what they are about, such as "package-0", "VDD_IN" or "BAT0".
        power_w: drawn now, >= 0 [W].
        energy_j: drawn since `since_s`, never falling [J].
        since_s: when the count of energy began [s]; counts with different beginnings do not compare.
        charge: left in the battery, 0..1.
        cap_w: what may be drawn now, from a trace or a callback, >= 0 [W].
        relative: modelled work over that of the dense model, 0..1 without absent sensors, no unit.
        updates: how often the meter was seen to change since it was opened.
        notes: what went wrong or came back with this very reading, one sentence each.
    """

    at_s: float
    label: Label
    scope: str
    power_w: float | None = None
    energy_j: float | None = None
    since_s: float | None = None
    charge: float | None = None
    cap_w: float | None = None
    relative: float | None = None
    updates: int = 0
    notes: tuple[str, ...] = ()


class MeterUnavailable(SentryFuseError):
    """A meter cannot be read now; it may come back. Readers catch it, callers never see it."""


class MeterImplausible(MeterUnavailable):
    """A meter gives impossible values (frozen, negative); it is not read again."""


class Meter(Protocol):
    """One source of numbers. Opening it may raise MeterUnavailable, and so may reading."""

    name: str
    tells: frozenset[Quantity]

    def read(self, now_s: float) -> Reading:
        """One look at the monotonic time `now_s` [s].

        Raises:
            MeterUnavailable: it cannot be read, or what it says cannot be true.
        """

    def close(self) -> None:
        """Give back what was opened."""


class PowerReader(Protocol):
    """What programs use: always answers."""

    @property
    def notes(self) -> Sequence[str]:
        """Notes since the reader was opened, oldest first; only the latest are kept."""

    def read(self, now_s: float | None = None) -> Reading:
        """One look; never raises. `now_s` is the monotonic time [s], by default taken now."""

    def close(self) -> None:
        """Give back what was opened."""


class StuckCheck:
    """Notices a meter whose raw values no longer move, and counts how often they do.

    Args:
        limit_s: unchanged for so long [s] ...
        min_reads: ... over so many equal readings in a row is frozen.
    """

    def __init__(self, *, limit_s: float, min_reads: int) -> None:
        self.changes = 0
        self._limit_s, self._min_reads = limit_s, min_reads
        self._values: tuple[object, ...] | None = None
        self._since_s, self._equal = 0.0, 0

    def see(self, values: tuple[object, ...], now_s: float, *, may_rest: bool = False) -> None:
        """Compare with the last raw values.

        Args:
            values: as the meter gave them.
            now_s: monotonic time [s].
            may_rest: the meter has a good reason not to move now.

        Raises:
            MeterImplausible: they have not moved for too long.
        """
        if values != self._values or may_rest:
            self.changes += values != self._values and self._values is not None
            self._values, self._since_s, self._equal = values, now_s, 0
            return
        self._equal += 1
        still_s = now_s - self._since_s
        if self._equal >= self._min_reads and still_s >= self._limit_s:
            raise MeterImplausible(f"it is frozen: the same value for {still_s:.0f} s")


class Integrator:
    """Energy from readings of power, by trapezoids.

    Args:
        max_gap_s: readings further apart [s] say nothing of what was between; the count begins anew.
    """

    def __init__(self, *, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        self._last: tuple[float, float] | None = None
        self._energy_j, self._since_s = 0.0, 0.0

    def add(self, power_w: float | None, now_s: float) -> tuple[float | None, float | None]:
        """Take one reading.

        Args:
            power_w: drawn at `now_s` [W]; `None` or not finite is unknown and ends the count.
            now_s: monotonic time [s].

        Returns:
            Energy [J] and when its count began [s].
        """
        if power_w is None or not math.isfinite(power_w):
            self._last = None
            return None, None
        if self._last is None or now_s - self._last[1] > self._max_gap_s:
            self._energy_j, self._since_s = 0.0, now_s
        elif now_s > self._last[1]:
            self._energy_j += 0.5 * (power_w + self._last[0]) * (now_s - self._last[1])
        self._last = (power_w, now_s)
        return self._energy_j, self._since_s
