"""One sensor of a stream: its samples, its clock, its state, and what was counted."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.stream.buffer import SampleBuffer
from sentryfuse.stream.clock import SensorClock
from sentryfuse.stream.grid import EARLIEST, Floats, Scale, Steps, judge, on_grid
from sentryfuse.stream.health import HealthRules, SensorState, Verdict
from sentryfuse.stream.packet import Packet
from sentryfuse.stream.standstill import Standstill
from sentryfuse.types import Modality

_FEWEST = 1024  # samples kept at least, so that a slow sensor may send a day at once
_FADE = 0.9  # how fast long packets are forgotten
_GOOD = (Verdict.OK, Verdict.RECOVERING)
_SAME_DATE_S = 3600.0  # a clock set by hand or by network is not farther from ours
_PULL = 0.05  # how fast made-up times follow arrival
_CERTAIN = 5  # packets that told the time of the one before them
_BUNCHED = 0.2  # of what the samples of a packet should span


class Sensor:
    """A sensor that is sampled again and again.

    Args:
        modality: what it is.
        rules: what is still good.
        scale: what training saw; `None` leaves out the check of the range.
        keep_s: how much of the stream is kept [s].
    """

    def __init__(self, modality: Modality, rules: HealthRules, scale: Scale | None, keep_s: float) -> None:
        self.modality = modality
        self.state = SensorState(rules)
        self.clock = SensorClock(self.period_s, rules.clock_tolerance_s)
        self.last_received_s: float | None = None
        self.unread_s = -math.inf  # when something came that could not be read
        self.tells_date = False  # its times are seconds since 1970, and now: a clock that others share
        self._rules, self.scale = rules, scale
        capacity = math.ceil(2 * keep_s * modality.rate_hz) + _FEWEST
        self._buffer = SampleBuffer(capacity, modality.n_channels, self.period_s)
        self._standstill = Standstill(modality.n_channels)
        self._taken_s = math.inf  # before that no sample can have been taken, on our clock [s]
        self._packet_s = 0.0  # what one packet spans, lately
        self._longest_s = keep_s
        self._stamp: float | None = None  # time of the last sample that came without one
        self._told_s: float | None = None  # time of the last sample that came with one
        self._before: Packet | None = None  # the latest one with times
        self._coarse = 0  # how often packets one after the other began at the same time
        self._too_late_s = -math.inf  # on our clock: samples before are of no use any more
        self._counts = dict.fromkeys(
            ("packets", "samples", "late", "early", "duplicate", "reordered", "dropped"), 0
        )

    @property
    def period_s(self) -> float:
        """Nominal time between samples [s]."""
        return 1 / self.modality.rate_hz

    @property
    def first_s(self) -> float | None:
        """When the oldest sample kept was taken, on our clock as far as known [s].

        No earlier than arrival and length of packets allow: one wild time must not move window 0 of all.
        """
        offset = self.clock.estimate_s()
        if offset is None or not len(self._buffer):
            return None
        return max(float(self._buffer.times_s[0]) + offset, self._taken_s)

    @property
    def nbytes(self) -> int:
        """Memory of the samples kept [bytes]."""
        return self._buffer.nbytes

    def receive(self, packet: Packet) -> None:
        """Take in a well-formed packet of this sensor."""
        received, values = packet.received_s, packet.values
        self.last_received_s = max(received, self.last_received_s or -math.inf)
        self._counts["packets"] += 1
        self._counts["samples"] += len(values)
        if len(values) == 0:
            return
        span_s = len(values) * self.period_s
        self._taken_s = min(self._taken_s, received - span_s - 2 * self.period_s)
        spans = min(span_s, self._longest_s)
        self._packet_s = max(spans, _FADE * self._packet_s)
        times = None if self._is_coarse(packet) else packet.times_s
        if times is None or self._is_bunched(times):
            times = self._made_up(received if times is None else float(times.max()), len(values))
        newest = float(times.max())
        self.tells_date = packet.times_s is not None and abs(newest - time.time()) < _SAME_DATE_S
        lag = self.clock.lag(received, newest)
        if self.clock.observe(received, newest):
            self._buffer.clear()
            lag = 0.0
        tolerance = self._rules.clock_tolerance_s
        if lag < -tolerance:  # from the future
            self._counts["early"] += len(values)
            return
        offset = self.clock.offset_s
        if offset is not None:
            useful = times >= self._too_late_s - offset
            if not useful.all():
                self._counts["late"] += len(values) - int(useful.sum())
                times, values = times[useful], values[useful]
        added = self._buffer.add(times, values, only_holes=lag > tolerance)
        self._counts["duplicate"] += added.duplicate
        self._counts["reordered"] += added.reordered
        self._counts["late"] += added.crowded
        self._counts["dropped"] += added.dropped

    def is_silent(self, now_s: float) -> bool:
        """Whether a sensor that has been heard of is overdue."""
        return self.last_received_s is not None and now_s - self.last_received_s > self.silence_limit_s()

    def silence_limit_s(self) -> float:
        """How long nothing may come [s]."""
        return max(self._rules.silent_s, 2 * self.period_s, 2 * self._packet_s) + 1e-9

    def is_complete(self, start_s: float) -> bool:
        """Whether all samples of the window that begins at a time [s] are there."""
        offset = self.clock.estimate_s()
        if offset is None:
            return False
        first = start_s - offset + EARLIEST * self.period_s
        edges = (first, first + self.modality.length * self.period_s)
        low, high = np.searchsorted(self._buffer.times_s, edges)
        if high - low < self.modality.length:
            return False  # most calls end here
        return len(self._steps(start_s - offset).slots) == self.modality.length

    def is_awaited(self, now_s: float) -> bool:
        """Whether it is worth to wait for samples of this sensor."""
        heard = self.last_received_s is not None
        return heard and not self.is_silent(now_s) and not self.clock.is_uncertain

    def cut(
        self, window_id: int, start_s: float, end_s: float, now_s: float
    ) -> tuple[Verdict, Floats | None]:
        """Judge one window.

        Args:
            window_id: rises by one each time.
            start_s: where this sensor's window begins, on our clock [s].
            end_s: where it ends [s].
            now_s: our clock [s].

        Returns:
            The verdict, and `(1, T, C)` when it is `OK` or `RECOVERING`.
        """
        verdict, window = self._judged(start_s, end_s, now_s)
        verdict = self.state.after(window_id, verdict)
        return verdict, window[None] if window is not None and verdict in _GOOD else None

    def forget_before(self, start_s: float) -> None:
        """Let go of what no window from this time on [s] can use; refuse it from now on."""
        self._too_late_s = start_s - 1.5 * self.period_s
        if self.clock.offset_s is not None:
            self._buffer.forget_before(self._too_late_s - self.clock.offset_s)

    def counters(self) -> dict[str, Any]:
        """Everything counted so far."""
        state = self.state
        return {
            **self._counts,
            "realigned": self.clock.realigned,
            "lost": state.lost,
            "back": state.back,
            "absent": dict(state.absent),
        }

    def _judged(self, start_s: float, end_s: float, now_s: float) -> tuple[Verdict, Floats | None]:
        if self.last_received_s is None:
            return Verdict.NEVER_SEEN if self.unread_s == -math.inf else Verdict.UNREADABLE, None
        self.clock.commit()
        verdict, window, nothing = Verdict.GAP, None, True
        if self.clock.offset_s is not None:
            steps = self._steps(start_s - self.clock.offset_s)
            verdict, window = judge(steps, self.modality, self._rules, self.scale)
            nothing = not len(steps.slots)
            if self._is_still(steps, start_s - self.clock.offset_s) and verdict is Verdict.OK:
                verdict, window = Verdict.STUCK, None
        if start_s < self.clock.jumped_s <= now_s:
            return Verdict.CLOCK, None
        if verdict is Verdict.GAP:
            if self.clock.is_uncertain:
                return Verdict.CLOCK, None
            ended = self.last_received_s < end_s - self.silence_limit_s()
            if nothing or ended or self.is_silent(now_s):
                return Verdict.UNREADABLE if self.unread_s >= start_s else Verdict.SILENT, None
        return verdict, window

    def _is_still(self, steps: Steps, start_s: float) -> bool:
        """Whether equal samples go on from the window before, or one channel stands while others move."""
        m = self.modality
        limit = self._rules.still_after(m.name, m.rate_hz, m.length)
        if not limit:
            return False
        every, one = self._standstill.see(steps.u + start_s * m.rate_hz, steps.seen)
        channel_s = self._rules.stuck_channel_s
        return every >= limit or 0 < channel_s * m.rate_hz <= one

    def _steps(self, start_s: float) -> Steps:
        """The window that begins at a time on the sensor's clock [s]."""
        u = (self._buffer.times_s - start_s) * self.modality.rate_hz
        low, high = np.searchsorted(u, (-1.0, float(self.modality.length)))
        return on_grid(u[low:high], self._buffer.values[low:high], self.modality.length)

    def _is_coarse(self, packet: Packet) -> bool:
        """Whether told times are too coarse to be of use, such as whole seconds for ten packets a second.

        Then packets with other values begin at the same time one after the other. Once that is certain,
        samples of this sensor are taken to end on arrival, as if no time were told.
        """
        if packet.times_s is None or self._coarse >= _CERTAIN:
            return self._coarse >= _CERTAIN
        before, self._before = self._before, packet
        if before is None or before.times_s is None:
            return False
        apart = packet.received_s - before.received_s > 0.5 * len(packet.values) * self.period_s
        if (
            packet.times_s[0] != before.times_s[0]
            or not apart
            or np.array_equal(packet.values, before.values)
        ):
            return False
        self._coarse += 1
        if self._coarse == _CERTAIN:
            self.clock = SensorClock(self.period_s, self._rules.clock_tolerance_s)
            self._buffer.clear()
            self._before = self._stamp = None
        return self._coarse >= _CERTAIN

    def _is_bunched(self, times: NDArray[np.float64]) -> bool:
        """Whether samples of a packet bear the time of their arrival, as a radio link hands them over.

        They lie on one spot, while packets come as far apart as so many samples should. A sensor that is
        merely too fast, or a packet sent twice, is not that.
        """
        newest, before = float(times.max()), self._told_s
        self._told_s = newest
        span = (len(times) - 1) * self.period_s
        if len(times) < 2 or before is None or newest - float(times.min()) > _BUNCHED * span:
            return False
        return newest - before > 0.5 * len(times) * self.period_s

    def _made_up(self, received_s: float, n: int) -> NDArray[np.float64]:
        """Times for samples that came without: evenly on, pulled gently towards arrival."""
        stamp = received_s
        if self._stamp is not None:
            due = self._stamp + n * self.period_s
            if abs(received_s - due) <= max(self._rules.clock_tolerance_s, 2 * n * self.period_s):
                stamp = max(due + _PULL * (received_s - due), self._stamp + (n - 0.5) * self.period_s)
        self._stamp = stamp
        return stamp - self.period_s * np.arange(n - 1, -1, -1, dtype=np.float64)


class StaticSensor:
    """A modality of rate 0: its newest value holds until another comes; it has no clock.

    Args:
        modality: what it is.
        rules: what is still good.
        scale: what training saw; `None` leaves out the check of the range.
    """

    def __init__(self, modality: Modality, rules: HealthRules, scale: Scale | None) -> None:
        self.modality = modality
        self.state = SensorState(rules)
        self.last_received_s: float | None = None
        self.unread_s = -math.inf
        self._rules, self.scale = rules, scale
        self._buffer = SampleBuffer(_FEWEST, modality.n_channels, 0.0)
        self._counts = dict.fromkeys(("packets", "samples", "duplicate", "reordered", "dropped"), 0)

    @property
    def nbytes(self) -> int:
        """Memory of the values kept [bytes]."""
        return self._buffer.nbytes

    def receive(self, packet: Packet) -> None:
        """Take in a well-formed packet; its last row holds from its arrival on."""
        self.last_received_s = max(packet.received_s, self.last_received_s or -math.inf)
        self._counts["packets"] += 1
        self._counts["samples"] += len(packet.values)
        if len(packet.values):
            added = self._buffer.add(np.array([packet.received_s]), packet.values[-1:])
            for name in ("duplicate", "reordered", "dropped"):
                self._counts[name] += getattr(added, name)

    def cut(
        self, window_id: int, start_s: float, end_s: float, now_s: float
    ) -> tuple[Verdict, Floats | None]:
        """Judge the newest value that came before the window ended; see `Sensor.cut`."""
        verdict = Verdict.NEVER_SEEN if self.unread_s == -math.inf else Verdict.UNREADABLE
        window = None
        newest = int(np.searchsorted(self._buffer.times_s, end_s)) - 1
        if newest >= 0:
            row = self._buffer.values[newest : newest + 1]
            steps = Steps(np.zeros(1, np.intp), row, np.zeros(1), row)
            verdict, window = judge(steps, self.modality, self._rules, self.scale)
            self._buffer.forget_before(float(self._buffer.times_s[newest]))
        verdict = self.state.after(window_id, verdict)
        return verdict, window[None] if window is not None and verdict in _GOOD else None

    def counters(self) -> dict[str, Any]:
        """Everything counted so far; what a static value cannot suffer is 0."""
        state = self.state
        return {
            **self._counts,
            **dict.fromkeys(("late", "early", "realigned"), 0),
            "lost": state.lost,
            "back": state.back,
            "absent": dict(state.absent),
        }
