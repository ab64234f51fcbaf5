"""What a run over MQTT answered, held against what was sent to it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.reliability.publisher import BUNDLE, EVERY_S
from sentryfuse.bundle import load_bundle
from sentryfuse.stream import HealthRules

_GOOD = ("ok", "recovering")
_SPARE = 2  # samples at the edges of a window; a publisher that is started again samples at another phase
_SOME = 10  # windows that are wrong are shown
_CALM_S = 2.0  # around a pause of the machine and a change of the connection
Span = tuple[float, float]


class Evidence:
    """Lines of one run and lines of its publishers, all on one monotonic clock [s].

    Args:
        answers: of `--json`.
        events: of `--events`.
        sent: of the publishers.
        pauses: when the machine did nothing.
        wait_s: how long a window waits for late packets [s].
    """

    def __init__(
        self,
        answers: Sequence[dict[str, Any]],
        events: Sequence[dict[str, Any]],
        sent: Sequence[dict[str, Any]],
        pauses: Sequence[Span],
        *,
        wait_s: float,
    ) -> None:
        self.windows = [row for row in answers if row["kind"] == "window"]
        self.summary = next((row for row in answers if row["kind"] == "summary"), None)
        self.events, self.pauses, self._wait_s = list(events), list(pauses), wait_s
        modalities = load_bundle(BUNDLE).layout.modalities
        self._moving = [m for m in modalities if m.rate_hz > 0]
        self._sent = self._samples(sent, "sent")
        self._tried = self._samples(sent, "tried")
        self.astray: list[dict[str, Any]] = []  # some of the windows that are wrong

    def counts(self) -> dict[str, Any]:
        """Windows by status and by verdict, events, and pauses of the machine."""
        self.wrong()  # finds those astray
        return {
            "windows": len(self.windows),
            "statuses": dict(Counter(row["status"] for row in self.windows)),
            "verdicts": {
                m.name: dict(Counter(row["verdicts"][m.name] for row in self.windows)) for m in self._moving
            },
            "events": dict(Counter(row["kind"] for row in self.events)),
            "pauses": len(self.pauses),
            "paused_s": sum(b - a for a, b in self.pauses),
            "windows_judged": sum(self._is_judged(row) for row in self.windows),
            "astray": self.astray,
        }

    def wrong(self) -> dict[str, int]:
        """What must be 0."""
        ids = [row["window_id"] for row in self.windows]
        self.astray = []
        lost, made_up = self._lost_and_made_up()
        return {
            "window ids with a gap or twice": int(ids != list(range(len(ids)))),
            "no summary": int(self.summary is None),
            "FAULT": sum(row["status"] == "FAULT" for row in self.windows),
            "answers without a live sensor": sum(
                row["status"] in ("OK", "DEGRADED")
                and not {m.name for m in self._moving} & set(row["present"])
                for row in self.windows
            ),
            "sent but not used": lost,
            "used but not sent": made_up,
        }

    def silence_limits(self) -> dict[str, float]:
        """How long nothing may come from each sensor before it is silent, by the rules [s]."""
        rules = HealthRules()
        return {
            m.name: max(rules.silent_s, 2 / m.rate_hz, 2 * max(1, round(EVERY_S * m.rate_hz)) / m.rate_hz)
            for m in self._moving
        }

    def absence(self, killed_s: float) -> dict[str, float]:
        """From the last message the broker took to `sensor_silent`, for each sensor [s]."""
        found = {}
        for m in self._moving:
            before = [confirmed for _, confirmed in self._sent[m.name] if confirmed <= killed_s + 0.2]
            told = [
                row["at_s"]
                for row in self.events
                if row["kind"] == "sensor_silent" and row["sensor"] == m.name and row["at_s"] > killed_s
            ]
            if before and told:
                found[m.name] = told[0] - max(before)
        return found

    def returned(self, back_s: float) -> dict[str, float | None]:
        """From the broker taking connections again to what came back [s]; `None` did not.

        Returns:
            `connected` again, the first `answer`, and the first window with `all_sensors`.
        """
        connected = [r["at_s"] for r in self.events if r["kind"] == "source_back" and r["at_s"] > back_s]
        later = [row for row in self.windows if row["at_s"] > back_s]
        answered = [row["at_s"] for row in later if row["status"] in ("OK", "DEGRADED")]
        every = [row["at_s"] for row in later if row["status"] == "OK"]
        names = ("connected", "answer", "all_sensors")
        return {
            name: found[0] - back_s if found else None
            for name, found in zip(names, (connected, answered, every), strict=True)
        }

    def _samples(self, sent: Sequence[dict[str, Any]], kind: str) -> dict[str, list[tuple[float, float]]]:
        """Sensor -> its samples in order: sampled, and confirmed where that is told [s].

        A message goes out one period after its last sample, so by its arrival that is when samples are taken.
        """
        found = {}
        for m in self._moving:
            rows = [row for row in sent if row["kind"] == kind and row["sensor"] == m.name]
            found[m.name] = sorted(
                (row["taken_s"] + (i + 1) / m.rate_hz, row.get("confirmed_s", row["taken_s"]))
                for row in rows
                for i in range(row["n"])
            )
        return found

    def _lost_and_made_up(self) -> tuple[int, int]:
        """Windows without a sensor that was sent whole and in time, and with one that was not sent.

        A window is looked at only while we were connected and the machine did not pause.
        """
        rules = HealthRules()
        lost = made_up = 0
        for row in self.windows:
            judged = self._is_judged(row)
            for m in self._moving:
                begin = row["end_s"] - m.length / m.rate_hz
                verdict = row["verdicts"][m.name]
                n = self._n_of(self._sent[m.name], begin, row["end_s"])
                tried = self._n_of(self._tried[m.name], begin, row["end_s"])
                is_lost = judged and n >= m.length and verdict not in _GOOD
                is_made_up = verdict == "ok" and tried < (1 - rules.max_gap) * m.length - _SPARE
                lost, made_up = lost + is_lost, made_up + is_made_up
                if (is_lost or is_made_up) and len(self.astray) < _SOME:
                    facts = {"sensor": m.name, "verdict": verdict, "confirmed": n, "tried": tried}
                    self.astray.append({"window_id": row["window_id"], **facts})
        return lost, made_up

    def _n_of(self, rows: list[tuple[float, float]], begin: float, end: float) -> int:
        """Samples taken in a time, and confirmed before the window was cut."""
        low, high = bisect_left(rows, (begin, 0.0)), bisect_right(rows, (end, 0.0))
        return sum(confirmed <= end + self._wait_s for _, confirmed in rows[low:high])

    def _is_judged(self, row: dict[str, Any]) -> bool:
        """Whether nothing but what was sent decides: connected all the time, and no pause."""
        span = (row["end_s"] - self._longest_s - _CALM_S, max(row["end_s"] + self._wait_s, row["at_s"]))
        return not any(a < span[1] and b > span[0] for a, b in [*self.pauses, *self._apart()])

    @property
    def _longest_s(self) -> float:
        return max(m.length / m.rate_hz for m in self._moving)

    def _apart(self) -> list[Span]:
        """When the command had no broker, from its own events."""
        spans, since = [], None
        for row in self.events:
            if row["kind"] == "source_lost" and since is None:
                since = row["at_s"] - _CALM_S
            elif row["kind"] == "source_back" and since is not None:
                spans.append((since, row["at_s"]))
                since = None
        return [*spans, (since, float("inf"))] if since is not None else spans
