"""What every source gives, and the few methods a source has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sentryfuse.types import Modality

Facts = dict[str, Any]
LATEST_S = 1e12  # a time beyond is none: 30,000 years, and float64 still knows a tenth of a millisecond


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """Some samples of one sensor, as they arrived.

    Attributes:
        modality: name of the sensor.
        values: `(n, C)`, physical units, NaN where not measured; `n` = 0 says "alive, nothing new".
        times_s: when each sample was taken, on the sensor's own clock, `(n,)` [s]; `None` where the
            transport tells none, then they are taken to end on arrival.
        received_s: when it arrived, on our monotonic clock [s].
    """

    modality: str
    values: NDArray[np.float32]
    times_s: NDArray[np.float64] | None
    received_s: float


class Source(Protocol):
    """Samples of several sensors as they come in, the base of all sources. Use with `with`.

    Attributes:
        start_s: where the first window begins, on the clock of `now_s`; `None` = at the first sample.
    """

    start_s: float | None

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""

    def now_s(self) -> float:
        """Our clock [s]: monotonic; a replay's is that of its recording."""

    def read(self, timeout_s: float) -> list[Packet]:
        """What has arrived since the last call, in order of arrival; maybe nothing.

        Args:
            timeout_s: wait at most so long for a first packet [s]; 0 does not wait.
        """

    def index_at(self, end_s: float) -> int | None:
        """Row in the recording of the window that ends at a time of `now_s` [s].

        Returns:
            To compare answers with labels; `None` where no recorded window ends, and always for
            live streams.
        """
        return None

    def counters(self) -> dict[str, dict[str, int]]:
        """Modality -> what was refused or lost before it became a packet: "malformed", "dropped"."""

    def close(self) -> None:
        """Let go of files, threads and connections; may be called twice."""

    def __enter__(self) -> Self:
        """Give the source itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


class LiveSource(Source, Protocol):
    """A source whose clock runs on by itself, so that who is too slow falls behind, and with more to tell.

    Attributes:
        is_live: that it is; a replay in real time is as well.
    """

    is_live: bool = True

    def news(self) -> list[Facts]:
        """What happened since the last call, each once, in order.

        Returns:
            Dictionaries for `json.dumps`: "kind" (`source_lost`, `source_back`, `source_refused`, `stranger`,
            `unreadable`), maybe "sensor", and "reason", one sentence.
        """
        return []

    def unread(self) -> dict[str, float]:
        """Modality -> when something last came from it that could not be read, on `now_s` [s]."""
        return {}


def window_length_s(modalities: Sequence[Modality]) -> float:
    """Length of a window: of its longest stream, 1 where every modality is static [s]."""
    return max((m.length / m.rate_hz for m in modalities if m.rate_hz > 0), default=1.0)


def is_well_formed(packet: Any, modalities: Mapping[str, Modality]) -> bool:
    """Whether a packet can be used; anything may be given, nothing is raised.

    Args:
        packet: any object.
        modalities: the sensors there are, by name.

    Returns:
        True for a known modality, float32 values `(n, C)`, float64 times `(n,)` and a time of arrival
        that mean something.
    """
    if not isinstance(packet, Packet) or not isinstance(packet.modality, str):
        return False
    modality, values, times = modalities.get(packet.modality), packet.values, packet.times_s
    return (
        modality is not None
        and isinstance(values, np.ndarray)
        and values.dtype == np.float32
        and values.ndim == 2
        and values.shape[1] == modality.n_channels
        and isinstance(packet.received_s, float)
        and abs(packet.received_s) <= LATEST_S
        and (
            times is None
            or (
                isinstance(times, np.ndarray)
                and times.dtype == np.float64
                and times.shape == values.shape[:1]
                and bool((abs(times) <= LATEST_S).all())
            )
        )
    )
