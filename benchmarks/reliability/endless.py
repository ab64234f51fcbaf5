"""A program: `sentryfuse run` on a stream without an end, made as fast as it is read.

    python -m benchmarks.reliability.endless run MODEL.bundle --source endless:SEED ...

It registers the source `endless:` as a package of somebody else would, and is the command otherwise. Sensors
are away for a few windows, send what is no number, or stand still, at random. `live:SEED` is a healthy one
that goes on by the clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import numpy as np

from sentryfuse.cli import main
from sentryfuse.stream import Packet, register_source, window_length_s
from sentryfuse.types import Modality

POOL = 16  # windows of each sensor that are sent over and over
_AWAY, _NAN, _STILL = 0.01, 0.005, 0.005  # share of windows with which it begins
_LONGEST = 6  # windows away


class Endless:
    """Packets of a window at every read; the clock goes on with them.

    Args:
        modalities: sensors to send.
        seed: of values and troubles.
    """

    is_live = False

    def __init__(self, modalities: Sequence[Modality], seed: int) -> None:
        self.start_s: float | None = 0.0
        self._window_s, self._now_s = window_length_s(modalities), 0.0
        self._made = self._packets(modalities, np.random.default_rng(seed))

    @property
    def ended(self) -> bool:
        """Never."""
        return False

    def now_s(self) -> float:
        """Where the stream is [s]."""
        return self._now_s

    def read(self, timeout_s: float) -> list[Packet]:
        """The packets of the next window; never waits."""
        self._now_s += self._window_s
        return next(self._made)

    def index_at(self, end_s: float) -> None:
        """No window was recorded."""

    def counters(self) -> dict[str, dict[str, int]]:
        """Nothing is lost before it becomes a packet."""
        return {}

    def close(self) -> None:
        """Nothing to let go."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _packets(self, modalities: Sequence[Modality], rng: np.random.Generator) -> Iterator[list[Packet]]:
        pool = {
            m.name: rng.standard_normal((POOL, m.length, m.n_channels)).astype(np.float32) for m in modalities
        }
        away = dict.fromkeys(pool, 0)
        while True:
            made, begin_s = [], self._now_s - self._window_s
            for m in modalities:
                if away[m.name]:
                    away[m.name] -= 1
                    continue
                chance, values = rng.random(), pool[m.name][rng.integers(POOL)]
                if m.rate_hz and chance < _AWAY:
                    away[m.name] = int(rng.integers(_LONGEST))
                    continue
                if chance < _AWAY + _NAN:
                    values = np.where(values > 1, np.nan, values).astype(np.float32)
                elif chance < _AWAY + _NAN + _STILL:
                    values = np.broadcast_to(values[:1], values.shape).copy()
                rate = m.rate_hz or 1.0
                first_s = begin_s + self._window_s - (m.length - 0.5) / rate
                times = np.asarray(first_s + np.arange(m.length) / rate, np.float64)
                made.append(Packet(m.name, values, times, float(times[-1])))
            yield made


class Live(Endless):
    """The same on our own clock: what was made while we were stopped comes at once.

    Args:
        modalities: sensors to send.
        seed: of values.
    """

    is_live = True

    def __init__(self, modalities: Sequence[Modality], seed: int) -> None:
        super().__init__(modalities, seed)
        self.start_s = self._begin_s = time.monotonic() - self._window_s
        self._rng, self._sent = np.random.default_rng(seed), {m.name: 0 for m in modalities}
        self._modalities = modalities

    def now_s(self) -> float:
        """Our monotonic clock [s]."""
        return time.monotonic()

    def news(self) -> list[dict[str, str]]:
        """Nothing to tell."""
        return []

    def unread(self) -> dict[str, float]:
        """All can be read."""
        return {}

    def read(self, timeout_s: float) -> list[Packet]:
        """What was sampled since the last call."""
        time.sleep(min(timeout_s, 0.02))
        made, now = [], time.monotonic()
        for m in self._modalities:
            due, sent = int((now - self._begin_s) * m.rate_hz) if m.rate_hz else 1, self._sent[m.name]
            if due > sent:
                values = self._rng.standard_normal((due - sent, m.n_channels)).astype(np.float32)
                times = self._begin_s + np.arange(sent, due) / (m.rate_hz or 1.0)
                made.append(Packet(m.name, values, np.asarray(times, np.float64), now))
                self._sent[m.name] = due
        return made


@register_source("live")
def opened_live(address: str, modalities: Sequence[Modality], options: Mapping[str, str]) -> Live:
    """Open `live:SEED`."""
    return Live(modalities, int(address or 0))


@register_source("endless")
def opened(address: str, modalities: Sequence[Modality], options: Mapping[str, str]) -> Endless:
    """Open `endless:SEED`."""
    return Endless(modalities, int(address or 0))


if __name__ == "__main__":
    sys.exit(main())
