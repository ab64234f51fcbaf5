"""A million switches through the runtime: every window answered once, in order, as if it were alone.

Four producers change what is asked before every window they hand in: the budget mostly, the sensors now and
then; sensors fall silent and send what is no number besides. Each answer is compared with that of the
sub-network it names, built anew and asked alone. `benchmarks/switching.py` does the same below the runtime.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.reliability import tables
from benchmarks.reliability.processes import resident_mb, slope
from benchmarks.reliability.publisher import BUNDLE
from benchmarks.reliability.record import Record
from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.engine import Session
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.runtime import Result, Runtime, Status
from sentryfuse.stream import HealthRules, Packet
from sentryfuse.types import Budget, Plan

FULL = 1_000_000  # switches seen in the answers
BLOCK = 20_000  # windows of one runtime
PRODUCERS, KEPT, HANDED = 4, 16, 8
TOLERANCE = 1e-5
OFTEN, SELDOM = (0.0, 0.3, 0.6, 0.8), (*(round(0.05 + 0.07 * k, 2) for k in range(13)), 1.0)
_RARE, _OTHER_SENSORS, _SILENT, _NAN = 0.02, 0.02, 0.01, 0.005  # share of windows
_POOL = {"acc": 7, "temp": 5, "age": 3}  # windows of each sensor; lengths without a common factor
_WAITS_MS = (2000.0, 1.0)  # of blocks in turn: time enough to build, and mostly not
_RULES = HealthRules(good_windows=1, hold_off_windows=0)
Array = NDArray[np.float32]


def run(out: Path, *, count: int = FULL, seed: int = 0) -> dict[str, Any]:
    """Block after block until so many switches were seen.

    Args:
        out: the result file.
        count: switches.
        seed: of what is asked and sent.
    """
    bundle = load_bundle(BUNDLE)
    with Record(out, "switches", count=count, seed=seed) as record:
        found = record.found
        tally = Counter(found.get("tally", {}))
        wrong = Counter(dict.fromkeys(("lost", "doubled", "out of order", "mixed", "FAULT"), 0))
        wrong.update(found.get("wrong", {}))
        found["starts"] = found.get("starts", 0) + 1
        memory: list[list[float]] = []  # of this start: switches, and resident memory after each block
        alone = Alone(bundle)
        while record.done < count:
            windows = min(BLOCK, 2 * (count - record.done) + 50)
            judge = Judge(bundle, alone, windows)
            waits_ms = _WAITS_MS[tally["blocks"] % len(_WAITS_MS)]
            built = answer(bundle, windows, judge, waits_ms=waits_ms, seed=(seed, tally["blocks"]))
            judge.end()
            tally.update(judge.tally)
            tally.update({"blocks": 1, "windows": windows, "built": built})
            wrong.update(judge.wrong)
            memory.append([record.done + judge.tally["switches"], resident_mb(os.getpid())])
            half = memory[len(memory) // 2 :]
            found |= {
                "producers": PRODUCERS,
                "tally": dict(tally),
                "plans": len(alone),
                "resident_mb": {
                    "after one block": memory[0][1],
                    "at the end": memory[-1][1],
                    "per 100,000 switches, second half": 1e5 * slope(*map(list, zip(*half, strict=True))),
                },
                "wrong": dict(wrong),
            }
            record.advance(tally["switches"])
            record.save()
    return found


class Handed(NamedTuple):
    """A window as a producer made it."""

    number: int
    packets: list[Packet]


class Produced:
    """A source of windows that several threads hand in.

    Args:
        windows: how many there will be.
        window_s: length [s].
    """

    is_live = False  # a recording, as it were: no window may be left out

    def __init__(self, windows: int, window_s: float) -> None:
        self.start_s: float | None = 0.0
        self.window_s = window_s
        self.queues = [queue.Queue[Handed](HANDED) for _ in range(PRODUCERS)]
        self._windows, self._next, self.failed = windows, 0, False

    @property
    def ended(self) -> bool:
        """Whether all windows were read."""
        return self.failed or self._next >= self._windows

    def now_s(self) -> float:
        """The end of the latest window [s]."""
        return self._next * self.window_s

    def read(self, timeout_s: float) -> list[Packet]:
        """The next window, once its producer has handed it in."""
        try:
            handed = self.queues[self._next % PRODUCERS].get(timeout=timeout_s)
        except queue.Empty:
            return []
        assert handed.number == self._next
        self._next += 1
        return handed.packets

    def index_at(self, end_s: float) -> None:
        """No window was recorded."""

    def counters(self) -> dict[str, dict[str, int]]:
        """Nothing is lost on the way."""
        return {}

    def close(self) -> None:
        """Nothing to let go."""

    def __enter__(self) -> Produced:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Counting(OnnxRuntime):
    """Counts what it builds."""

    built = 0

    def build(self, model: bytes, *, threads: int, batch: int | None) -> Any:
        """As its base."""
        self.built += 1
        return super().build(model, threads=threads, batch=batch)


def values_of(bundle: Bundle) -> dict[str, Array]:
    """Windows of each sensor that are sent in turn, `(pool, T, C)`."""
    rng = np.random.default_rng(17)
    return {
        m.name: rng.standard_normal((_POOL[m.name], m.length, m.n_channels)).astype(np.float32)
        for m in bundle.layout.modalities
    }


def row_of(name: str, number: int) -> int:
    """Which window of the pool is sent; the static values of four windows are the same."""
    return (number // 4 if name == "age" else number) % _POOL[name]


def answer(bundle: Bundle, windows: int, judge: Judge, *, waits_ms: float, seed: tuple[int, int]) -> int:
    """Have a runtime answer what the producers hand in; how many sub-networks were built.

    Args:
        bundle: of `load_bundle`.
        windows: how many.
        judge: looks at every answer.
        waits_ms: how long a window may wait for its sub-network [ms].
        seed: of the producers.
    """
    engine, errors = Counting(), []
    source = Produced(windows, max(m.length / m.rate_hz for m in bundle.layout.modalities if m.rate_hz))
    with Runtime(
        bundle, source, rules=_RULES, wait_s=0.0, deadline_ms=waits_ms, kept=KEPT, engine=engine
    ) as runtime:

        def hand_in(producer: int) -> None:
            try:
                rng = np.random.default_rng((*seed, producer))
                for packets in _made(bundle, windows, producer, source.window_s, rng):
                    _ask(runtime, rng)
                    source.queues[producer].put(packets, timeout=600)
            except BaseException as error:  # told below: the runtime would hide it and wait for ever
                errors.append(error)
                source.failed = True

        threads = [threading.Thread(target=hand_in, args=(p,), daemon=True) for p in range(PRODUCERS)]
        for thread in threads:
            thread.start()
        for result in runtime:
            judge.see(result)
        if errors:
            raise errors[0]
        for thread in threads:
            thread.join()
    return engine.built


def _ask(runtime: Runtime, rng: np.random.Generator) -> None:
    """Ask for another budget, now and then for other sensors, or for all of them again."""
    ratios = SELDOM if rng.random() < _RARE else OFTEN
    before = runtime.budget.ratio
    others = [ratio for ratio in ratios if ratio != before]
    runtime.set_budget(Budget(ratio=float(rng.choice(others))))
    names = runtime.bundle.names
    if runtime.asked.names != names:
        if rng.random() < 0.2:
            runtime.asked.only(None)
    elif rng.random() < _OTHER_SENSORS:
        left_out = rng.choice(names)
        runtime.asked.only([name for name in names if name != left_out])


def _made(
    bundle: Bundle, windows: int, producer: int, window_s: float, rng: np.random.Generator
) -> Iterator[Handed]:
    """Every fourth window: samples of its sensors, some of them silent or not finite."""
    values = values_of(bundle)
    for number in range(producer, windows, PRODUCERS):
        packets = []
        for m in bundle.layout.modalities:
            chance, rows = rng.random(), values[m.name][row_of(m.name, number)]
            if m.rate_hz and chance < _SILENT:
                continue
            if m.rate_hz and chance < _SILENT + _NAN:
                rows = np.full_like(rows, np.inf)
            rate = m.rate_hz or 2 / window_s
            first_s = (number + 1) * window_s - (m.length - 0.5) / rate
            times = np.asarray(first_s + np.arange(m.length) / rate, np.float64)
            packets.append(Packet(m.name, rows, times, float(times[-1])))
        yield Handed(number, packets)


class Alone:
    """Answers of sub-networks that nobody shares, built anew from what an answer names.

    Args:
        bundle: of `load_bundle`.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._values = bundle, values_of(bundle)
        self._sessions: dict[str, Session] = {}
        self._answers: dict[tuple[Any, ...], Array] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def answer(self, plan: Plan, plan_id: str, number: int) -> Array:
        """What the sub-network says of one window.

        Raises:
            ValueError: the plan has another name than the answer said.
        """
        if plan_id not in self._sessions:
            if plan.plan_id != plan_id:
                raise ValueError(f"an answer names {plan_id}, its plan is {plan.plan_id}")
            self._sessions[plan_id] = Session(self._bundle, plan, batch=1)
        rows = tuple((name, row_of(name, number)) for name in plan.present)
        found = self._answers.get((plan_id, rows))
        if found is None:
            window = {name: self._values[name][row][None] for name, row in rows}
            found = self._answers[plan_id, rows] = self._sessions[plan_id].run(window)[0]
        return found


class Judge:
    """Looks at answers one after the other.

    Args:
        bundle: whose.
        alone: what they should be.
        windows: how many will come.

    Attributes:
        tally: switches, and windows by status.
        wrong: what must be 0.
    """

    def __init__(self, bundle: Bundle, alone: Alone, windows: int) -> None:
        self.tally: Counter[str] = Counter({"switches": 0})
        self.wrong: Counter[str] = Counter()
        self._live = {m.name for m in bundle.layout.modalities if m.rate_hz}
        self._alone, self._seen = alone, np.zeros(windows, np.int32)
        self._latest, self._plan_id = -1, ""
        self._said: tuple[str, list[float]] | None = None  # by the last answer

    def see(self, result: Result) -> None:
        """Take in one answer, as its line says it."""
        line = result.to_json()
        number, status = line["window_id"], line["status"]
        self.tally[status] += 1
        if not 0 <= number < len(self._seen):
            self.wrong["doubled"] += 1
            return
        self._seen[number] += 1
        self.wrong["out of order"] += number != self._latest + 1 and not self._seen[number] > 1
        self._latest = max(self._latest, number)
        if status == Status.FAULT:
            self.wrong["FAULT"] += 1
        elif status == Status.STALE and line["probabilities"] is not None:
            self.wrong["mixed"] += (line["plan_id"], line["probabilities"]) != self._said
        elif status in (Status.OK, Status.DEGRADED):
            self._answered(result, line)

    def end(self) -> None:
        """Count what never came, and what came twice."""
        self.wrong["lost"] += int((self._seen == 0).sum())
        self.wrong["doubled"] += int(np.maximum(self._seen - 1, 0).sum())

    def _answered(self, result: Result, line: dict[str, Any]) -> None:
        assert result.plan is not None
        wanted = self._alone.answer(result.plan, line["plan_id"], line["window_id"])
        used = {name for name, verdict in line["verdicts"].items() if verdict == "ok"}
        same = np.abs(np.asarray(line["probabilities"]) - wanted).max() <= TOLERANCE
        right = set(line["present"]) == set(result.plan.present) == used and self._live & used
        self.wrong["mixed"] += not (same and right)
        self.tally["switches"] += self._plan_id not in ("", line["plan_id"])
        self._plan_id, self._said = line["plan_id"], (line["plan_id"], line["probabilities"])


def table(found: dict[str, Any]) -> str:
    """What docs/reliability.md shows."""
    return tables.switches(found)
