"""The panel while a stream is answered, and the tables at its end."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from sentryfuse.cli.output import Output
from sentryfuse.progress import is_quiet, say

if TYPE_CHECKING:
    from rich.console import Group

    from sentryfuse.runtime import Result, Runtime

LATEST = 1000  # windows whose times are remembered
EVERY_S = 10.0  # between two plain lines, where there is no terminal
REDRAW_S = 0.25
COUNTED = ("lost", "back", "late", "early", "duplicate", "reordered", "dropped", "malformed", "retained")


def said_of(result: Result) -> str:
    """An answer in a few characters: a class with its probability, a number, or labels."""
    if isinstance(result.answer, float):
        return f"{result.answer:.4g}"
    if result.confidence is None:
        return result.answer or "no label"
    return f"{result.answer} {result.confidence:.2f}"


class Tally:
    """Counts results as they come.

    Args:
        names: every sensor, in order.

    Attributes:
        windows: results so far.
        last: the latest one.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.windows = 0
        self.last: Result | None = None
        self.statuses: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.plans: set[str] = set()
        self._latency_ms: deque[float] = deque(maxlen=LATEST)
        self._delay_ms: deque[float] = deque(maxlen=LATEST)
        self._draw: Any = None
        self._shown_at = time.monotonic()

    def take(self, result: Result) -> None:
        """Count one result, and show it now and then."""
        self.windows += 1
        self.last = result
        self.statuses[str(result.status)] += 1
        self._delay_ms.append(result.delay_ms)
        if isinstance(result.answer, str):
            self.answers[result.answer] += 1
        if result.plan_id is not None:
            self.plans.add(result.plan_id)
        if result.latency_ms is not None:
            self._latency_ms.append(result.latency_ms)
        if self._draw is not None:
            self._draw()
        elif time.monotonic() - self._shown_at >= EVERY_S:
            self._shown_at = time.monotonic()
            say(self.line())

    def line(self) -> str:
        """The latest window in one line."""
        last = self.last
        if last is None:
            return "run: no window yet"
        said = "nothing said" if last.answer is None else said_of(last)
        return _shown(
            f"run: window {last.window_id}  {last.status}  {said}  "
            f"{len(last.present)} of {len(self.names)} sensors" + (f"  {last.reason}" if last.reason else "")
        )

    def to_json(self) -> dict[str, Any]:
        """Windows by status and by answer, number of plans, times of the last thousand windows."""
        return {
            "windows": self.windows,
            "statuses": dict(self.statuses),
            "answers": dict(self.answers),
            "plans": len(self.plans),
            "latency_ms": _quantiles(self._latency_ms),
            "delay_ms": _quantiles(self._delay_ms),
        }

    def show(self, output: Output, summary: dict[str, Any]) -> None:
        """The end for people: windows by status, sensors, times."""
        latency = summary["latency_ms"]
        output.line(
            f"{self.windows} windows: "
            + (", ".join(f"{n} {status}" for status, n in sorted(self.statuses.items())) or "none")
            + f"; {len(self.plans)} sub-networks"
            + ("" if latency["p50"] is None else f"; {latency['p50']:.2f} ms each (p95 {latency['p95']:.2f})")
        )
        counted = summary["sensors"].values()
        shown = ["samples", *(key for key in COUNTED if any(row.get(key) for row in counted))]
        output.table(
            "sensors",
            ("sensor", *shown, "absent windows"),
            [
                (
                    name,
                    *(row.get(key, 0) for key in shown),
                    ", ".join(f"{n} {why}" for why, n in row.get("absent", {}).items()) or "none",
                )
                for name, row in summary["sensors"].items()
            ],
        )
        if summary["events"]:
            counts = (f"{n} {kind}" for kind, n in sorted(summary["events"].items()))
            output.line(f"events: {', '.join(counts)}")
        if faults := sum(summary["memory"]["faults"].values()):
            output.line(f"memory was found changed {faults} times; see the events")
        if summary["dropped_windows"]:
            output.line(f"{summary['dropped_windows']} windows were dropped, since the machine was behind")


@contextmanager
def live(runtime: Runtime, tally: Tally) -> Iterator[None]:
    """A panel on the terminal while results come in; plain lines elsewhere; nothing when quiet."""
    if is_quiet() or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live

    drawn_at = 0.0
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as panel:

        def draw() -> None:
            nonlocal drawn_at
            if time.monotonic() - drawn_at >= REDRAW_S:
                drawn_at = time.monotonic()
                panel.update(_panel(runtime, tally), refresh=True)

        tally._draw = draw
        try:
            yield
        finally:
            tally._draw = None


def _panel(runtime: Runtime, tally: Tally) -> Group:
    """Sensors with their verdicts, the sub-network in force, the answer, what was counted."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    last = tally.last
    sensors = Table("sensor", "verdict", box=None, padding=(0, 2))
    if last is not None:
        for name in tally.names:
            verdict = str(last.verdicts.get(name, ""))
            sensors.add_row(Text(name), Text(verdict, style="green" if verdict == "ok" else "red"))
    plan, dense = runtime.plan.cost, runtime.plan.dense
    times = _quantiles(tally._latency_ms)
    facts = [
        tally.line(),
        f"sub-network: {plan.macs / 1e6:.2f} of {dense.macs / 1e6:.2f} MMAC, {plan.weights_mb:.2f} MB"
        + ("" if times["p50"] is None else f", {times['p50']:.2f} ms (p95 {times['p95']:.2f})"),
        "statuses: " + ", ".join(f"{n} {status}" for status, n in sorted(tally.statuses.items())),
        "events: " + (", ".join(f"{n} {kind}" for kind, n in runtime.events.counts.items()) or "none"),
    ]
    return Group(sensors, *(Text(fact) for fact in facts))


def _shown(text: str) -> str:
    """A text without what would move the cursor or change colours, wherever it came from."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _quantiles(times: Sequence[float] | deque[float]) -> dict[str, float | None]:
    if not times:
        return {"p50": None, "p95": None, "p99": None}
    return {f"p{q}": round(float(np.percentile(times, q)), 4) for q in (50, 95, 99)}
