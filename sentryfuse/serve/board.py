"""What the stream leaves for those who look at it: bounded, written by one thread, read by any."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from sentryfuse.runtime import Runtime, Status
from sentryfuse.runtime.times import Times

KEPT = 1000  # windows remembered
COUNT_EVERY_S = 1.0  # between two looks at the counters of sensors
_ANSWERED = (Status.OK, Status.DEGRADED)


class Board:
    """The latest windows and what was counted.

    The stream's thread calls `take`, which never waits for anybody: no lock, no growth. Rows are never
    changed after that, so that other threads read them as they are.

    Args:
        runtime: whose windows they are.

    Attributes:
        rows: the latest windows, as lines of `run --json`; copy it before looking through it.
        statuses: status -> windows.
        latency, delay: of the sub-networks alone, and from the cut of a window to its answer.
        counted: of `Runtime.counters`, a second old at most while windows come.
        answered_at_s: when the latest window was answered within its deadline, `time.monotonic` [s].
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.rows: deque[Mapping[str, Any]] = deque(maxlen=KEPT)
        self.statuses: Counter[str] = Counter({str(status): 0 for status in Status})
        self.latency, self.delay = Times(), Times()
        self.counted: Mapping[str, Any] = runtime.counters()
        self.answered_at_s = -math.inf
        self._counted_at_s = time.monotonic()

    def take(self, row: Mapping[str, Any]) -> None:
        """Take in a window.

        Args:
            row: its line of `run --json`, which nobody changes afterwards.
        """
        self.rows.append(row)
        self.statuses[row["status"]] += 1
        if row["latency_ms"] is not None:
            self.latency.see(1e-3 * row["latency_ms"])
        self.delay.see(1e-3 * row["delay_ms"])
        now_s = time.monotonic()
        if row["status"] in _ANSWERED:
            self.answered_at_s = now_s
        if now_s - self._counted_at_s >= COUNT_EVERY_S:
            self._counted_at_s, self.counted = now_s, self.runtime.counters()

    def latest(self, n: int) -> list[Mapping[str, Any]]:
        """The last `n` windows, `n` >= 1, oldest first."""
        rows = list(self.rows.copy())
        return rows[max(0, len(rows) - n) :]

    def since(self, window_id: int, most: int) -> list[Mapping[str, Any]]:
        """The windows from this one on, the latest `most` at most, oldest first."""
        rows = list(self.rows.copy())
        left = rows[-1]["window_id"] + 1 - window_id if rows else 0  # ids rise by one without a gap
        return rows[len(rows) - min(most, left, len(rows)) :] if left > 0 else []

    def why_not_ready(self) -> str:
        """Why answers cannot be relied on now, one sentence; empty when they can."""
        rows = self.rows.copy()
        if not rows:
            return "no window has been answered yet"
        last = rows[-1]
        if last["status"] not in _ANSWERED:
            return f"window {last['window_id']} is {last['status']}: {last['reason']}"
        behind_s, most_s = time.monotonic() - self.answered_at_s, self.patience_s
        if behind_s > most_s:
            return f"the last answer came {behind_s:.3g} s ago, later than {most_s:.3g} s"
        return ""

    @property
    def patience_s(self) -> float:
        """How long after an answer the next one must have come: a hop, and the largest age [s]."""
        return self.runtime.hop_s + self.runtime.max_age_s


def probation(runtime: Runtime) -> dict[str, Any] | None:
    """How long the bundle in force is on probation, and which one answers if it fails; else `None`."""
    back = runtime.serving.before
    return {"windows_left": runtime.serving.probation.left, "back_to": back} if back else None


def finite(value: Any) -> Any:
    """The same data as JSON knows it: NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
