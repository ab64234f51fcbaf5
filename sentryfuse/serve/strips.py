"""The last raw samples of every sensor, as a strip can show them: least and most in each of a few columns.

The stream's thread writes, others read. What is kept has the same size from the first packet to the last,
and a packet costs microseconds, so nothing is gained by doing it only while somebody looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.stream import Packet
from sentryfuse.stream.packet import is_well_formed
from sentryfuse.types import Modality

COLUMNS = 240  # of a strip; a phone is 380 pixels wide
SPAN_S, SPAN_WINDOWS = 10.0, 2.0  # what a strip shows: so long, and two windows at least
MOST_CHANNELS = 4  # of a sensor; more lines cannot be told apart
_DIGITS = 4
Array = NDArray[np.float32]


class _Strip:
    """Of one sensor: `low` and `high` are `(COLUMNS, C)`, NaN where nothing was measured."""

    def __init__(self, modality: Modality, span_s: float) -> None:
        self.channels = modality.channels[:MOST_CHANNELS]
        self.low = np.full((COLUMNS, len(self.channels)), np.nan, np.float32)
        self.high = self.low.copy()
        self.latest: Array | None = None
        self.period_s = 1 / modality.rate_hz if modality.rate_hz else 0.0
        self.most = 1 + math.ceil(span_s * modality.rate_hz)  # samples of one packet that can be shown


class Strips:
    """Takes packets as they come.

    Args:
        modalities: every sensor, in order.
        window_s: length of a window [s].

    Attributes:
        column_s: time that one column shows [s].
        head: the column of now; they are counted on the source's clock and rise for ever.
        turn: how often something was taken in.
    """

    def __init__(self, modalities: Sequence[Modality], window_s: float) -> None:
        span_s = max(SPAN_S, SPAN_WINDOWS * window_s)
        self.column_s = span_s / COLUMNS
        self.head: int | None = None
        self.turn = 0
        self._changed = np.zeros(
            COLUMNS, np.int64
        )  # at which turn a column was: packets fill earlier ones, too
        self._modalities = {m.name: m for m in modalities}
        self._strips = {m.name: _Strip(m, span_s) for m in modalities}

    def take(self, packets: Sequence[Packet], now_s: float) -> None:
        """Take in what has arrived; nothing but time goes on without packets.

        Args:
            packets: of the source; what makes no sense is left out.
            now_s: on the source's clock [s].
        """
        head = int(now_s // self.column_s)
        self.turn += 1
        if self.head is None or head != self.head:
            self._go_on(head)
        for packet in packets:
            if is_well_formed(packet, self._modalities) and len(packet.values):
                self._draw(self._strips[packet.modality], packet, head)

    def since(self, turn: int) -> dict[str, Any]:
        """The columns that have changed, ready for `json.dumps`.

        Args:
            turn: of the answer before, -1 for all.

        Returns:
            The `turn` it is of, the `first` column that is told and `head`, `column_s`, `columns` of a strip,
            and for each sensor its `channels`, their `low` and `high` in each column, `None` where nothing
            was measured, and `latest` values.
        """
        head, now = self.head, self.turn  # first, so that what comes meanwhile is told again
        if head is None:
            return {
                "turn": now,
                "first": 0,
                "head": -1,
                "columns": COLUMNS,
                "column_s": self.column_s,
                "sensors": {},
            }
        rows = np.arange(head - COLUMNS + 1, head + 1) % COLUMNS
        known = int(np.argmax(np.append(self._changed[rows[:-1]] > turn, True)))
        first, rows = head - COLUMNS + 1 + known, rows[known:]
        return {
            "turn": now,
            "first": first,
            "head": head,
            "columns": COLUMNS,
            "column_s": self.column_s,
            "sensors": {
                name: {
                    "channels": strip.channels,
                    "period_s": strip.period_s,
                    "low": [_told(values) for values in strip.low[rows].T],
                    "high": [_told(values) for values in strip.high[rows].T],
                    "latest": None if strip.latest is None else _told(strip.latest),
                }
                for name, strip in self._strips.items()
            },
        }

    def _go_on(self, head: int) -> None:
        """Empty the columns that are new."""
        before = self.head
        n = COLUMNS if before is None or not 0 < head - before < COLUMNS else head - before
        rows = np.arange(head - n + 1, head + 1) % COLUMNS
        for strip in self._strips.values():
            strip.low[rows] = strip.high[rows] = np.nan
        self._changed[rows] = self.turn
        self.head = head

    def _draw(self, strip: _Strip, packet: Packet, head: int) -> None:
        values = packet.values[-strip.most :, : len(strip.channels)]
        strip.latest = values[-1].copy()  # the packet itself is let go
        last = min(int(packet.received_s // self.column_s), head)
        if not strip.period_s or last <= head - COLUMNS:
            return
        n = len(values)
        if n == 1:
            row = last % COLUMNS
            self._changed[row] = self.turn
            np.fmin(strip.low[row], values[0], out=strip.low[row])
            np.fmax(strip.high[row], values[0], out=strip.high[row])
            return
        back_s = np.arange(n - 1, -1, -1) * strip.period_s
        columns = np.minimum((packet.received_s - back_s) // self.column_s, head).astype(np.int64)
        shown = int(np.searchsorted(columns, head - COLUMNS, side="right"))
        columns, values = columns[shown:], values[shown:]  # the last one is always shown
        begins = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
        rows = columns[begins] % COLUMNS
        self._changed[rows] = self.turn
        strip.low[rows] = np.fmin(strip.low[rows], np.fmin.reduceat(values, begins))
        strip.high[rows] = np.fmax(strip.high[rows], np.fmax.reduceat(values, begins))


def _told(values: Array) -> list[float | None]:
    """Rounded numbers; `None` for what JSON does not know."""
    return [float(f"{x:.{_DIGITS}g}") if math.isfinite(x) else None for x in values.tolist()]
