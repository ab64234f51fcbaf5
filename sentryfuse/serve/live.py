"""What the page follows: one server-sent event per tick, made once for all who look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from sentryfuse.serve.board import Board, finite, probation
from sentryfuse.serve.strips import Strips

EVERY_S = 0.5  # between two events
FIRST, MOST = 300, 200  # windows in the first event, and in a later one
EVENTS = 50
OFFERS = 3
MOST_VIEWERS = 64
_ROW = (
    "window_id",
    "time_s",
    "status",
    "reason",
    "answer",
    "probabilities",
    "latency_ms",
    "delay_ms",
    "age_s",
)


class Known(NamedTuple):
    """What a viewer has: windows before this one, and strips as they were at this turn."""

    window: int
    turn: int


class Live:
    """Makes the events.

    A viewer that reads slowly gets fewer, larger ones; more than `MOST` windows at once are left out.

    Args:
        board: what is told.
        strips: the last samples.

    Attributes:
        ended: no more events; the streams of all viewers end.
        viewers: that follow now.
    """

    def __init__(self, board: Board, strips: Strips) -> None:
        self._board, self._strips = board, strips
        self._made: dict[Known, tuple[Known, bytes]] = {}  # what is known -> what then is, and the event
        self._made_at = -1.0
        self.ended = False
        self.viewers = 0

    async def events(self) -> AsyncIterator[bytes]:
        """Events of one viewer, until `ended`."""
        known, most = Known(0, -1), FIRST
        self.viewers += 1
        try:
            while not self.ended:
                known, event = self._event(known, most)
                most = MOST
                yield event
                await asyncio.sleep(EVERY_S)
            yield b"event: end\ndata: {}\n\n"
        finally:
            self.viewers -= 1

    def _event(self, known: Known, most: int) -> tuple[Known, bytes]:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._made_at > EVERY_S / 2:
            self._made, self._made_at = {}, now_s
        if known not in self._made:
            rows, strips = self._board.since(known.window, most), self._strips.since(known.turn)
            window = rows[-1]["window_id"] + 1 if rows else known.window
            data = {
                "windows": [{name: row[name] for name in _ROW} for row in rows],
                "state": self.state(),
            }
            told = json.dumps(finite(data), allow_nan=False, default=str)
            drawn = json.dumps(strips, allow_nan=False)
            text = f'{told[:-1]}, "strips": {drawn}}}'
            self._made[known] = Known(window, strips["turn"]), f"data: {text}\n\n".encode()
        return self._made[known]

    def state(self) -> Mapping[str, Any]:
        """Everything beside the windows: sensors, plan, budget, events."""
        board, runtime = self._board, self._board.runtime
        rows, plan, bundle = board.latest(1), runtime.plan, runtime.bundle
        verdicts = rows[0]["verdicts"] if rows else {}
        return {
            **runtime.events.stamp,
            "why_not_ready": board.why_not_ready(),
            "hop_s": runtime.hop_s,
            "classes": list(bundle.classes),
            "sensors": [
                {
                    "name": name,
                    "verdict": verdicts.get(name, ""),
                    "asked": name in runtime.asked.names,
                    "samples": board.counted["sensors"].get(name, {}).get("samples", 0),
                }
                for name in bundle.names
            ],
            "plan": {
                "plan_id": rows[0]["plan_id"] if rows else None,
                "macs": plan.cost.macs,
                "dense_macs": plan.dense.macs,
                "weights_mb": plan.cost.weights_mb,
                "kept": {name: len(units) for name, units in plan.kept.items()},
            },
            "budget": runtime.budget.limits,
            "probation": probation(runtime),
            "offers": [offer.to_json() for offer in list(runtime.serving.offers.latest.copy())[-OFFERS:]],
            "statuses": dict(board.statuses),
            "dropped_windows": runtime.dropped,
            "power": None if runtime.reading is None else _power(runtime.reading),
            "events": list(runtime.events.latest.copy())[-EVENTS:],
        }


def _power(reading: Any) -> dict[str, Any]:
    return {
        "label": str(reading.label),
        **{name: getattr(reading, name) for name in ("power_w", "energy_j", "charge")},
    }
