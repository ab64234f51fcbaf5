"""A recording played through the runtime with a fault put into it.

The clock is that of the recording: a trial of a minute takes a fraction of a second, and what is measured in
seconds is measured in seconds of the stream.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.runtime import Events, Result, Runtime
from sentryfuse.stream import HealthRules, Packet
from sentryfuse.types import Budget, Modality

PACKET_S = 0.2  # what a packet spans, or a little less
LATENCY_S = 0.004  # from its last sample to its arrival
STARTS = 24  # places of the recording that trials begin at
TICK_S = 0.1  # from one look at the stream to the next
Floats = NDArray[np.float32]
Times = NDArray[np.float64]


class Samples(NamedTuple):
    """Samples of one sensor in order.

    Attributes:
        times: when they were taken, `(n,)` [s].
        values: `(n, C)`.
    """

    times: Times
    values: Floats


@dataclass(frozen=True)
class Outcome:
    """What one trial showed.

    Attributes:
        detected: whether the fault was noticed; `None` where there is nothing to notice.
        after_s: from its beginning to that [s].
        wrong: answers that must not be, and whatever else must never happen.
        numbers: what else was measured.
    """

    detected: bool | None = None
    after_s: float | None = None
    wrong: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One fault at one strength.

    Attributes:
        fault: its number in the table of faults.
        what: what is injected.
        wanted: what must come of it.
        trial: does it once; gets a stage and a generator of its own.
        limit_s: within what time the rules promise to notice it [s].
        share: of the trials asked for, for those that take long.
    """

    fault: str
    what: str
    wanted: str
    trial: Callable[[Stage, np.random.Generator], Outcome]
    limit_s: Callable[[Stage], float] | None = None
    share: float = 1.0


class Told(Events):
    """Keeps every event."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[dict[str, Any]] = []

    def tell(self, kind: str, **facts: Any) -> None:
        """As its base."""
        self.all.append({"kind": kind, **facts})
        super().tell(kind, **facts)


class Played(NamedTuple):
    """What a runtime made of a stream."""

    results: list[Result]
    events: list[dict[str, Any]]
    counters: dict[str, Any]

    def verdicts(self, name: str) -> list[str]:
        """Of one sensor, window after window."""
        return [str(result.verdicts[name]) for result in self.results]

    def used(self, name: str) -> list[bool]:
        """Whether each window was answered with a sensor."""
        return [result.status in ("OK", "DEGRADED") and name in result.present for result in self.results]

    def broken(self) -> int:
        """What must never happen, whatever is sent: faults, answers without numbers, ids and times astray."""
        ends = np.diff([result.end_s for result in self.results])
        return (
            sum(result.status == "FAULT" for result in self.results)
            + sum(
                r.probabilities is not None and not np.isfinite(r.probabilities).all() for r in self.results
            )
            + int([r.window_id for r in self.results] != list(range(len(self.results))))
            + int((ends <= 0).sum())
        )


class Scripted:
    """A source whose packets are given; its clock goes on by a tick with every read."""

    is_live = False

    def __init__(self, packets: Sequence[Any], until_s: float, tick_s: float) -> None:
        self.start_s: float | None = 0.0
        self._packets = sorted(packets, key=_arrival_s)
        self._times = [*map(_arrival_s, self._packets)]
        self._until_s, self._tick_s, self._ticks, self._given = until_s, tick_s, 0, 0

    @property
    def ended(self) -> bool:
        """Whether the end was reached."""
        return self.now_s() >= self._until_s

    def now_s(self) -> float:
        """Where the stream is [s]."""
        return self._ticks * self._tick_s

    def read(self, timeout_s: float) -> list[Packet]:
        """What arrived in the next tick."""
        self._ticks += 1
        before, self._given = self._given, bisect_right(self._times, self.now_s())
        return self._packets[before : self._given]

    def index_at(self, end_s: float) -> None:
        """Not told."""

    def counters(self) -> dict[str, dict[str, int]]:
        """Nothing is lost on the way."""
        return {}

    def close(self) -> None:
        """Nothing to let go."""

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stage:
    """A model, and a recording of its sensors without a break.

    Args:
        bundle: of `load_bundle`.
        recorded: sensor -> its samples one after the other, `(n, C)`; of a static one a row per window.
        labels: class of each window, `(N,)`; `None` is not known.
    """

    def __init__(
        self, bundle: Bundle, recorded: Mapping[str, Floats], labels: NDArray[np.int64] | None = None
    ) -> None:
        self.bundle, self._recorded, self._labels = bundle, recorded, labels
        self.modalities = {m.name: m for m in bundle.layout.modalities}
        self.moving = [m for m in bundle.layout.modalities if m.rate_hz > 0]
        self.window_s = max(m.length / m.rate_hz for m in self.moving)
        self.n_windows = min(len(recorded[m.name]) // round(self.window_s * m.rate_hz) for m in self.moving)
        self.rules = HealthRules()  # what is promised
        self.play_rules = self.rules  # what the runtime goes by
        self._clean: dict[tuple[int, int], Played] = {}

    def scale(self, name: str) -> tuple[Floats, Floats]:
        """Mean and deviation of training, `(C,)` each."""
        for step in self.bundle.layout.steps:
            if step.window == name:
                weights = [self.bundle.weights[f"{step.name}.normalise.{leaf}"] for leaf in ("mean", "std")]
                return weights[0], weights[1]
        raise KeyError(name)

    def silence_s(self, name: str) -> float:
        """How long nothing may come of a sensor, by the rules [s]."""
        m = self.modalities[name]
        return max(self.rules.silent_s, 2 / m.rate_hz, 2 * self.packet_size(m) / m.rate_hz)

    def packet_size(self, m: Modality) -> int:
        """Samples in a packet; none of them spans two windows."""
        most = max(1, round(PACKET_S * m.rate_hz))
        return max(size for size in range(1, most + 1) if m.length % size == 0)

    def some(self, rng: np.random.Generator) -> Modality:
        """A sensor that is sampled again and again."""
        return self.moving[int(rng.integers(len(self.moving)))]

    def start(self, rng: np.random.Generator, windows: int) -> int:
        """A window from which so many follow; of few, since each is answered without a fault too."""
        last = max(1, self.n_windows - windows)
        return int(rng.integers(STARTS)) * last // STARTS

    def samples(self, first: int, windows: int) -> dict[str, Samples]:
        """A stretch of the recording that begins at 0 s; arrays of its own."""
        cut = {}
        for name, m in self.modalities.items():
            each = round(self.window_s * m.rate_hz) if m.rate_hz else 1
            values = self._recorded[name][first * each : (first + windows) * each].copy()
            rate = m.rate_hz or 1 / self.window_s
            cut[name] = Samples(np.asarray((np.arange(len(values)) + 0.5) / rate, np.float64), values)
        return cut

    def labels(self, first: int, windows: int) -> NDArray[np.int64] | None:
        """Classes of a stretch, `(windows,)`."""
        return None if self._labels is None else self._labels[first : first + windows]

    def packets(self, samples: Mapping[str, Samples]) -> dict[str, list[Packet]]:
        """Packets of each sensor as a healthy one sends them."""
        made = {}
        for name, (times, values) in samples.items():
            m = self.modalities[name]
            size = self.packet_size(m)
            made[name] = [
                Packet(
                    name,
                    values[i : i + size],
                    times[i : i + size],
                    float(times[i : i + size][-1]) + LATENCY_S,
                )
                for i in range(0, len(values), size)
            ]
        return made

    def play(
        self,
        packets: Mapping[str, Sequence[Any]],
        windows: int,
        *,
        tick_s: float = TICK_S,
        budgets: Callable[[Runtime, int], None] | None = None,
        budget: Budget | None = None,
        more: Sequence[Any] = (),
    ) -> Played:
        """Have a runtime answer packets.

        Args:
            packets: of each sensor.
            windows: how long the stream is.
            tick_s: from one look to the next [s].
            budgets: called with the runtime and the number of windows so far, before each look.
            budget: limits of one inference at the start.
            more: packets of no sensor.
        """
        every = [*more, *(p for of_sensor in packets.values() for p in of_sensor)]
        source = Scripted(every, windows * self.window_s + self.rules.silent_s + 0.5, tick_s)
        told = Told()
        results: list[Result] = []
        with Runtime(
            self.bundle, source, rules=self.play_rules, deadline_ms=60_000, events=told, kept=8, budget=budget
        ) as runtime:
            while not source.ended:
                if budgets is not None:
                    budgets(runtime, len(results))
                results += runtime.step()
            while last := runtime.finish():
                results += last
            counters = runtime.counters()
        return Played(results, told.all, counters)

    def clean(self, first: int, windows: int) -> Played:
        """The same stretch without a fault."""
        key = (first, windows)
        if key not in self._clean:
            self._clean[key] = self.play(self.packets(self.samples(first, windows)), windows)
        return self._clean[key]


def _arrival_s(packet: Any) -> float:
    """When anything at all arrives; what does not say so comes first [s]."""
    told = getattr(packet, "received_s", None)
    return float(told) if isinstance(told, float) and math.isfinite(told) else 0.0


def told_times(packet: Packet) -> Times:
    """Times of a packet that has some."""
    assert packet.times_s is not None
    return packet.times_s


def altered(
    samples: dict[str, Samples], name: str, edit: Callable[[Times, Floats], None]
) -> dict[str, Samples]:
    """The samples, those of one sensor edited in place: `edit(times, values)`."""
    times, values = samples[name]
    edit(times, values)
    return samples | {name: Samples(times, values)}


def moved(packet: Packet, **fields: Any) -> Packet:
    """A packet with some of its fields changed."""
    return replace(packet, **fields)


def differing(a: Played, b: Played) -> int:
    """Windows whose answers differ by a bit, or in what they are made of."""
    n = abs(len(a.results) - len(b.results))
    for one, other in zip(a.results, b.results, strict=False):
        same = one.present == other.present and one.status == other.status
        if one.probabilities is None or other.probabilities is None:
            n += not (same and one.probabilities is other.probabilities)
        else:
            n += not (same and np.array_equal(one.probabilities, other.probabilities))
    return n
