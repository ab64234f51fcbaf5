"""A recording played as if its sensors were here: from an npz file window by window, or from CSV.

The clock of a replay is that of the recording and starts at 0 (npz) or at its first time (CSV).
As fast as possible it advances with every `read`; in real time it follows ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data import Windows, open_data
from sentryfuse.data.matching import matched
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.stream.packet import Packet, Source, window_length_s
from sentryfuse.stream.table import Columns, read_csv
from sentryfuse.types import Modality

_PACKETS = 10  # that a window comes in, unless told otherwise
_TICK = 1e-9  # times nearer than this share of a packet are the same
LONGEST_GAP_S = 86_400.0  # without any row; a longer one is a broken clock more often than a pause


class ReplaySource(Source):
    """Packets made from a recording; see `open_source`.

    Args:
        packets: (time on the recording's clock [s], packets up to then), in order of time.
        start_s: the recording's first moment [s].
        speed: seconds of the recording per second of ours; `None` = as fast as possible.
        indices: recorded windows in the order they are played, `(n,)`; none for CSV.
        window_s: their length [s].
    """

    def __init__(
        self,
        packets: Iterator[tuple[float, list[Packet]]],
        *,
        start_s: float,
        speed: float | None,
        indices: NDArray[np.intp],
        window_s: float,
    ) -> None:
        self.start_s: float | None = start_s
        self.is_live = speed is not None
        self.indices = indices
        self._begin_s, self._speed, self._window_s = start_s, speed, window_s
        self._packets = packets
        self._coming = next(packets, None)
        self._virtual_s = start_s
        self._started: float | None = None

    @property
    def ended(self) -> bool:
        """Whether everything has been read."""
        return self._coming is None

    def now_s(self) -> float:
        """Where the recording is [s]; never beyond what has been read, and it ends with it."""
        if self._speed is None or self._coming is None:
            return self._virtual_s
        return min(self._wall_s(), self._coming[0])

    def read(self, timeout_s: float) -> list[Packet]:
        """The next packets; as fast as possible it never waits and moves the clock on."""
        if self._coming is None:
            return []
        due, made = self._coming
        if self._speed is not None:
            wait = (due - self._wall_s()) / self._speed
            if wait > 0:
                sleep(min(wait, max(timeout_s, 0.0)))
            if due > self._wall_s():
                return []
        self._virtual_s = due
        self._coming = next(self._packets, None)
        return made

    def index_at(self, end_s: float) -> int | None:
        """Row of the recorded window that ends at a time [s], `None` if none does."""
        position = round((end_s - self._begin_s) / self._window_s) - 1
        ends = self._begin_s + (position + 1) * self._window_s
        if not 0 <= position < len(self.indices) or abs(ends - end_s) > 1e-6 * self._window_s:
            return None
        return int(self.indices[position])

    def counters(self) -> dict[str, dict[str, int]]:
        """Nothing is lost on the way from a file."""
        return {}

    def close(self) -> None:
        """Stop playing."""
        self._coming = None

    def _wall_s(self) -> float:
        """Where the recording would be if it were read in time [s]."""
        if self._started is None:
            self._started = monotonic()
        return self._begin_s + (self._speed or 0) * (monotonic() - self._started)


def open_replay(
    file: str,
    modalities: Sequence[Modality],
    *,
    split: str | None = None,
    speed: float | None = None,
    packet_s: float | None = None,
    time: str | None = None,
    longest_gap_s: float = LONGEST_GAP_S,
) -> ReplaySource:
    """Open a recording to play it.

    Args:
        file: a name or npz file of `sentryfuse.data.open_data`, or a file ending in `.csv`.
        modalities: the sensors asked for; an npz recording may lack some and have others, which are left out.
        split: "train", "validation", "test" (also when not given) or "all"; npz only.
        speed: seconds of the recording per second of ours; `None` = as fast as possible.
        packet_s: time a packet spans [s]; a tenth of a window when not given.
        time: column of times, `NAME` or `NAME:UNIT`; CSV only.
        longest_gap_s: the longest stretch without any row that is played [s]; CSV only.

    Raises:
        DataError: no such file or a damaged one.
        ConfigError: a speed, packet or split that means nothing, or sensors that do not fit.
    """
    window_s = window_length_s(modalities)
    step_s = window_s / _PACKETS if packet_s is None else packet_s
    for name, value in (("speed", speed), ("packet_s", step_s), ("longest_gap_s", longest_gap_s)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} {value} of a replay must be a positive number")
    if file.lower().endswith(".csv"):
        if split is not None:
            raise ConfigError(f"{file} has no splits; leave split={split} out, or give an npz file")
        columns = read_csv(Path(file), modalities, time=time)
        _check_gaps(file, columns, longest_gap_s)
        start = min(float(times[0]) for times, _ in columns.values())
        return ReplaySource(
            _rows(columns, start, step_s),
            start_s=start,
            speed=speed,
            indices=np.empty(0, np.intp),
            window_s=window_s,
        )
    if time is not None:
        raise ConfigError(f"{file} has no column of times; leave time={time} out, or give a CSV file")
    recorded = open_data(file)
    windows = matched(modalities, recorded.classes, recorded, target=recorded.target, labels=False)
    names = [name for name in windows.names if name in recorded.names]
    indices = windows.indices(split or "test")
    if not len(indices):
        raise DataError(f"{windows.name} has no window in {split or 'test'}; choose another split")
    played = _played(windows, names, indices, window_s, min(step_s, window_s))
    return ReplaySource(played, start_s=0.0, speed=speed, indices=indices, window_s=window_s)


def _played(
    windows: Windows, names: Sequence[str], indices: NDArray[np.intp], window_s: float, step_s: float
) -> Iterator[tuple[float, list[Packet]]]:
    """Windows one after the other, all sensors ending together, packets of `step_s`.

    A stream that is shorter than the window has nothing recorded before it; then empty packets say
    that the sensor is alive. A static value comes in the middle of its window.
    """
    n_steps = max(1, math.ceil(window_s / step_s - _TICK))
    ends = np.minimum(np.arange(1, n_steps + 1) * step_s, window_s)
    ends[-1] = window_s
    taken = {}
    moving = {m.name for m in windows.modalities if m.rate_hz > 0}
    for m in (m for m in windows.modalities if m.name in names):
        if m.rate_hz > 0:
            taken[m.name] = np.arange(m.length) / m.rate_hz + (window_s - m.length / m.rate_hz)
        else:
            taken[m.name] = np.array([window_s / 2])
    cuts = {name: np.searchsorted(times, ends - _TICK * step_s) for name, times in taken.items()}
    for position, index in enumerate(indices):
        begin = position * window_s
        values = windows.batch(np.array([index]), names)
        for k, end in enumerate(ends):
            packets = []
            for name, times in taken.items():
                low, high = int(cuts[name][k - 1]) if k else 0, int(cuts[name][k])
                if high > low:
                    at = begin + times[low:high]
                    packets.append(Packet(name, values[name][0, low:high], at, float(at[-1])))
                elif high == 0 and name in moving and times[0] > _TICK * step_s:
                    none = np.empty(0, np.float64)
                    packets.append(Packet(name, values[name][0, :0], none, begin + float(end)))
            # the very end of a window is where the next begins, to the last bit
            now = (position + 1) * window_s if k == n_steps - 1 else begin + float(end)
            yield now, packets


def _check_gaps(file: str, columns: Columns, longest_s: float) -> None:
    """Refuse a table with a stretch without any row that would be played as windows without end."""
    every = np.sort(np.concatenate([times for times, _ in columns.values()]))
    gaps = np.diff(every)
    if len(gaps) and float(gaps.max()) > longest_s:
        place = int(gaps.argmax())
        raise DataError(
            f"{file} has no row for {gaps[place]:.4g} s after the time {every[place]:.10g} s, and at most "
            f"{longest_s:g} s are played; mend the times, split the file, or allow it with ?longest_gap_s="
        )


def _rows(columns: Columns, start_s: float, step_s: float) -> Iterator[tuple[float, list[Packet]]]:
    """Rows of a table in packets of `step_s`; stretches without a row are passed over in one step."""
    low = dict.fromkeys(columns, 0)
    latest = max(abs(float(times[-1])) for times, _ in columns.values())
    # float64 knows times of 1.7e9 s to 2e-7 s only, which is far more than a share of a packet
    near = max(_TICK * step_s, 4 * float(np.spacing(max(latest, abs(start_s)))))
    while any(low[name] < len(times) for name, (times, _) in columns.items()):
        coming = min(times[low[name]] for name, (times, _) in columns.items() if low[name] < len(times))
        due = start_s + (math.floor((coming - start_s + near) / step_s) + 1) * step_s
        due = max(due, coming + 2 * near)  # whatever the sizes are, this row is among those played
        packets = []
        for name, (times, values) in columns.items():
            high = int(np.searchsorted(times, due - near))
            if high > low[name]:
                at = times[low[name] : high]
                packets.append(Packet(name, values[low[name] : high], at, float(at[-1])))
                low[name] = high
        yield due, packets
