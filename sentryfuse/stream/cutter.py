"""Packets in, windows out: every sensor on its own grid, due by our clock alone.

Use from one thread: `push` what a source gave, then `cut` what is due.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.stream.grid import Scale
from sentryfuse.stream.health import HealthRules, Verdict
from sentryfuse.stream.packet import Packet, is_well_formed, window_length_s
from sentryfuse.stream.sensor import Sensor, StaticSensor
from sentryfuse.types import Modality

MOST_BYTES = 2_000_000_000  # of samples kept; a minute of 64 channels at 1 kHz is 30 MB
MOST_WINDOWS = 1000  # given by one call of `cut`; a process that slept for a day answers in pieces


@dataclass(frozen=True, slots=True, eq=False)
class CutWindow:
    """One window of all sensors.

    Attributes:
        window_id: 0, 1, 2, ... without a gap.
        end_s: where it ends, on our clock; rises by one hop each time [s].
        values: modality -> `(1, T, C)`, of the sensors that may be used; finite, NaN only where the
            sensor may miss values.
        present: names of those sensors, in the model's order.
        verdicts: modality -> why it is used or not; `Verdict.OK` for those present.
        changed: modality -> whether its content differs from that of the window before; True for a
            sensor that was not in it, False for one that is absent.
        dropped: nobody looked at it, since the machine was behind: no values, no sensor present.
    """

    window_id: int
    end_s: float
    values: Mapping[str, NDArray[np.float32]]
    present: tuple[str, ...]
    verdicts: Mapping[str, Verdict]
    changed: Mapping[str, bool]
    dropped: bool = False


class Cutter:
    """Cuts the streams of several sensors into windows.

    Args:
        modalities: every sensor, in the model's order.
        hop_s: from the start of one window to the next [s]; `None` is the window's length.
        rules: what a sensor may do and still be used.
        scale: modality -> mean and standard deviation in training, `(C,)` each, physical units; a
            modality that is not named is not checked for its range.
        wait_s: how long after its end a window waits for late packets [s]; a complete one is given
            at once.
        start_s: where window 0 begins, on our clock [s]; `None` is at the first sample.
        backlog_s: samples are kept for windows that are cut so much later [s].

    Raises:
        ConfigError: no modality, one twice, times that mean nothing, a scale that does not fit.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        hop_s: float | None = None,
        rules: HealthRules | None = None,
        scale: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
        wait_s: float = 0.1,
        start_s: float | None = None,
        backlog_s: float = 0.0,
    ) -> None:
        self._modalities = {m.name: m for m in modalities}
        if not modalities or len(self._modalities) < len(modalities):
            names = ", ".join(m.name for m in modalities) or "none"
            raise ConfigError(f"a stream needs modalities with different names, got {names}; name each once")
        self.window_s = window_length_s(modalities)
        self.hop_s = self.window_s if hop_s is None else float(hop_s)
        self.wait_s = float(wait_s)
        if not (math.isfinite(self.hop_s) and self.hop_s > 0):
            raise ConfigError(f"hop_s {hop_s} must be a positive number of seconds")
        if not (math.isfinite(self.wait_s) and self.wait_s >= 0):
            raise ConfigError(f"wait_s {wait_s} must be 0 or more seconds")
        self._rules = rules = rules or HealthRules()
        scales = _checked_scale(self._modalities, scale or {})
        keep_s = 2 * self.window_s + max(self.hop_s - self.window_s, 0) + self.wait_s + backlog_s + 1
        _check_memory(modalities, keep_s)
        self._moving = {
            m.name: Sensor(m, rules, scales.get(m.name), keep_s) for m in modalities if m.rate_hz > 0
        }
        self._static = {
            m.name: StaticSensor(m, rules, scales.get(m.name)) for m in modalities if m.rate_hz == 0
        }
        self._origin = None if start_s is None else float(start_s)
        self._heard_s = math.inf  # the earliest we know of our own clock
        self._next = 0
        self._given: dict[str, NDArray[np.float32]] = {}
        self._malformed = dict.fromkeys(self._modalities, 0)
        self.unknown = 0

    def push(self, packets: Iterable[Packet]) -> None:
        """Take in packets, in any order; one that makes no sense is counted and changes nothing.

        Args:
            packets: of a source. `unknown` counts those of no sensor we know.
        """
        for packet in packets:
            if not is_well_formed(packet, self._modalities):
                name = getattr(packet, "modality", None)
                if isinstance(name, str) and name in self._malformed:
                    self._malformed[name] += 1
                    self.unreadable(name, self._heard_s)
                else:
                    self.unknown += 1
                continue
            self._heard_s = min(self._heard_s, packet.received_s)
            self._sensor(packet.modality).receive(packet)

    def unreadable(self, name: str, at_s: float) -> None:
        """Take in that something came from a sensor and could not be read; it changes the verdict only.

        Args:
            name: of the sensor.
            at_s: when, on the source's clock [s].
        """
        sensor = self._sensor(name)
        sensor.unread_s = max(sensor.unread_s, at_s)

    def cut(self, now_s: float, *, most: int = MOST_WINDOWS) -> list[CutWindow]:
        """Every window that is due: `wait_s` after its end, or as soon as all sensors are complete.

        Args:
            now_s: our monotonic clock, that of `Source.now_s` [s].
            most: windows given, at most 1000.

        Returns:
            In order; call again when there are so many.
        """
        self._heard_s = min(self._heard_s, now_s)
        windows: list[CutWindow] = []
        while len(windows) < min(most, MOST_WINDOWS):
            origin = self._first_s(now_s) if self._origin is None else self._origin
            start_s = origin + self._next * self.hop_s
            end_s = start_s + self.window_s
            if now_s < end_s + self.wait_s and not self._is_complete(end_s, now_s):
                break
            self._origin = origin
            windows.append(self._cut_one(end_s, now_s))
        return windows

    def overdue(self, now_s: float, age_s: float) -> int:
        """Windows not cut yet that ended more than a time ago.

        Args:
            now_s: our monotonic clock [s].
            age_s: that time [s].
        """
        if self._origin is None:
            return 0
        return max(0, math.ceil((now_s - age_s - self.window_s - self._origin) / self.hop_s) - self._next)

    @property
    def next_end_s(self) -> float:
        """Where the next window ends, on our clock [s]; endless before the first sample."""
        return math.inf if self._origin is None else self._origin + self._next * self.hop_s + self.window_s

    def skip(self, n: int) -> list[CutWindow]:
        """Give windows without looking at them; sensors stay as they were.

        Args:
            n: how many; see `overdue`.

        Returns:
            In order, at most 1000.
        """
        verdicts = dict.fromkeys(self._modalities, Verdict.DROPPED)
        changed = dict.fromkeys(self._modalities, False)
        windows = []
        for _ in range(min(n, MOST_WINDOWS) if self._origin is not None else 0):
            end_s = (self._origin or 0.0) + self._next * self.hop_s + self.window_s
            windows.append(CutWindow(self._next, end_s, {}, (), verdicts, changed, dropped=True))
            self._next += 1
        if windows:
            self._given = {}
            for sensor in self._moving.values():
                sensor.forget_before(self._start_of(sensor, windows[-1].end_s) + self.hop_s)
        return windows

    def rescale(self, scale: Mapping[str, tuple[ArrayLike, ArrayLike]] | None) -> None:
        """Judge ranges by another training from the next window on; see the class.

        Raises:
            ConfigError: a scale that does not fit.
        """
        scales = _checked_scale(self._modalities, scale or {})
        for name in self._modalities:
            self._sensor(name).scale = scales.get(name)

    def flush(self, now_s: float) -> list[CutWindow]:
        """The windows that have ended, without waiting for late packets: for a source that has ended."""
        return self.cut(now_s + self.wait_s + 1e-9 + 8 * float(np.spacing(abs(now_s))))

    def silent(self, now_s: float) -> tuple[str, ...]:
        """Sensors heard of before and overdue now, also between windows, in order.

        Args:
            now_s: our monotonic clock [s].
        """
        return tuple(name for name, sensor in self._moving.items() if sensor.is_silent(now_s))

    def delayed(self) -> dict[str, float]:
        """Sensors that come later than others that tell the same clock, and by how much [s].

        A delay that never changes cannot be told from the distance of two clocks, so this looks at sensors
        whose times are dates only. Their windows are made of other moments than those of the other sensors.
        """
        offsets = {n: s.clock.offset_s for n, s in self._moving.items() if s.tells_date}
        known = {name: offset for name, offset in offsets.items() if offset is not None}
        least = min(known.values(), default=0.0)
        late = {name: offset - least for name, offset in known.items()}
        return {name: s for name, s in late.items() if s > self._rules.clock_tolerance_s}

    def counters(self) -> dict[str, dict[str, Any]]:
        """What was counted since the start, ready for `json.dumps`.

        Returns:
            Modality -> "packets" and "samples" received; samples "late" (their window was gone),
            "early" (from the future), "duplicate", "reordered" (placed), "dropped" (no room);
            packets "malformed"; "realigned" clocks; times "lost" and "back"; "absent": verdict ->
            windows without the sensor.
        """
        return {
            name: {**self._sensor(name).counters(), "malformed": self._malformed[name]}
            for name in self._modalities
        }

    @property
    def nbytes(self) -> int:
        """Memory of all samples kept, the same from the first packet to the last [bytes]."""
        return sum(self._sensor(name).nbytes for name in self._modalities)

    def _sensor(self, name: str) -> Sensor | StaticSensor:
        return self._moving[name] if name in self._moving else self._static[name]

    def _first_s(self, now_s: float) -> float:
        """Where window 0 begins as far as we know: at the first sample, else when we began to look."""
        known = [sensor.first_s for sensor in self._moving.values()]
        first = min((time for time in known if time is not None), default=self._heard_s)
        return max(first, self._heard_s - self.window_s)

    def _is_complete(self, end_s: float, now_s: float) -> bool:
        """Whether nothing is worth waiting for: every sensor that is alive has all its samples."""
        awaited = [s for s in self._moving.values() if self._next == 0 or s.is_awaited(now_s)]
        return bool(awaited) and all(s.is_complete(self._start_of(s, end_s)) for s in awaited)

    def _start_of(self, sensor: Sensor, end_s: float) -> float:
        """Where the window of one sensor begins: all end together [s]."""
        return end_s - sensor.modality.length * sensor.period_s

    def _cut_one(self, end_s: float, now_s: float) -> CutWindow:
        values: dict[str, NDArray[np.float32]] = {}
        verdicts: dict[str, Verdict] = {}
        held: dict[str, NDArray[np.float32]] = {}  # good, but not yet to be trusted
        for name in self._modalities:
            sensor = self._sensor(name)
            start_s = self._start_of(sensor, end_s) if isinstance(sensor, Sensor) else end_s - self.window_s
            verdicts[name], window = sensor.cut(self._next, start_s, end_s, now_s)
            if window is not None:
                (values if verdicts[name] is Verdict.OK else held)[name] = window
            if isinstance(sensor, Sensor):
                sensor.forget_before(start_s + self.hop_s)
        if not self._moving.keys() & values.keys():
            for name in held:
                verdicts[name] = self._sensor(name).state.after_alone(self._next)
            values = {
                n: w
                for n in verdicts
                if verdicts[n] is Verdict.OK and (w := (values | held).get(n)) is not None
            }
        changed = {name: name in values and not self._is_as_before(name, values[name]) for name in verdicts}
        self._given = values
        self._next += 1
        return CutWindow(self._next - 1, end_s, values, tuple(values), verdicts, changed)

    def _is_as_before(self, name: str, window: NDArray[np.float32]) -> bool:
        """Whether not one bit differs from what was given for the window before."""
        before = self._given.get(name)
        return before is not None and np.array_equal(before.view(np.uint32), window.view(np.uint32))


def _check_memory(modalities: Sequence[Modality], keep_s: float) -> None:
    """Refuse to keep more samples than a machine has room for."""
    needed = sum(2 * keep_s * m.rate_hz * (8 + 4 * m.n_channels) for m in modalities)
    if needed > MOST_BYTES:
        raise ConfigError(
            f"hop_s and wait_s ask to keep {keep_s:.4g} s of samples, {needed / 1e6:.4g} MB; at most "
            f"{MOST_BYTES / 1e6:g} MB are kept, so choose shorter times"
        )


def _checked_scale(
    modalities: Mapping[str, Modality], scale: Mapping[str, tuple[ArrayLike, ArrayLike]]
) -> dict[str, Scale]:
    checked = {}
    for name, (mean, std) in scale.items():
        if name not in modalities:
            raise ConfigError(
                f"scale names {name!r}, the stream has {', '.join(modalities)}; use those names"
            )
        made = Scale(np.asarray(mean, np.float32), np.asarray(std, np.float32))
        shape = (modalities[name].n_channels,)
        if made.mean.shape != shape or made.std.shape != shape:
            raise ConfigError(
                f"scale of {name} has another shape than {shape} (channels); take it from training"
            )
        if not (np.isfinite(made.mean).all() and np.isfinite(made.std).all() and (made.std > 0).all()):
            raise ConfigError(f"scale of {name} must be finite, std positive; take it from training")
        checked[name] = made
    return checked
