"""Fault F20 in memory: bits of a loaded bundle, and of the engine's own copies, turn while a stream runs.

Seconds are those of the clock on the wall, of a runtime that looks at all of its memory once in `SCRUB_S`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.reliability.fault_stage import Case, Outcome, Scripted, Stage, Told
from benchmarks.reliability.flips import OfProcess, address_of, flip
from sentryfuse.bundle import Bundle
from sentryfuse.runtime import Result, Runtime

SCRUB_S = 1.0
SLACK_S = 0.2  # beyond one pass: a step, and an answer that is asked for
_WINDOWS, _TICK_S, _NAP_S = 20, 0.05, 0.001  # of the stream, and ours between two looks
_LONGEST_S = 20.0  # a fault that was not noticed by then is not noticed
_ASKED, _LEAST = 20, 1e-6  # of so many windows one answer has to change by so much, or a bit does not count
_LANES = 16  # rows that the engine packs side by side


def bundle_in_memory(stage: Stage, rng: np.random.Generator) -> Outcome:
    """1 to 64 bits of the tensors turn: noticed, read again, and answered as by a bundle just loaded."""
    with Played(stage, rng) as played:
        tensors = [*played.runtime.bundle.tensors.values()]
        ends = np.cumsum([8 * t.nbytes for t in tensors])
        for bit in rng.choice(int(ends[-1]), int(rng.integers(1, 65)), replace=False):
            at = int(np.searchsorted(ends, bit, side="right"))
            flip(address_of(tensors[at]), int(ends[at] - 1 - bit))
        return played.outcome("bundle")


def engine_in_memory(stage: Stage, rng: np.random.Generator) -> Outcome:
    """One bit of the engine's copy of a weight turns, one that changes an answer of some window."""
    with Played(stage, rng) as played:
        address, bit, numbers = _harmful(stage, played.runtime, rng)
        played.rest(rng)
        flip(address, bit)
        made = played.outcome("engine")
        if not made.detected:
            numbers["largest change of those not noticed"] = numbers["largest change"]
        return Outcome(made.detected, made.after_s, made.wrong, numbers)


def _harmful(stage: Stage, runtime: Runtime, rng: np.random.Generator) -> tuple[int, int, dict[str, float]]:
    """A bit of the engine's memory that changes an answer, by its address; it is turned back."""
    session, asked = runtime.serving.current, _asked(stage, rng)
    before = np.array([session.run(window)[0] for window in asked])
    tried = 0
    while True:
        for address in _copies(runtime.bundle, stage.bundle, rng):
            bit = int(rng.integers(32))
            flip(address, bit)
            now = np.array([session.run(window)[0] for window in asked])
            flip(address, bit)
            tried += 1
            changed = float(np.nan_to_num(np.abs(before - now), nan=1.0).max())
            if changed > _LEAST:
                return address, bit, {"bits tried for that": float(tried), "largest change": changed}


class Played:
    """A stream that goes on while bits turn; made when it has answered its first windows.

    Attributes:
        runtime: which answers it, of a bundle that was just loaded.
    """

    def __init__(self, stage: Stage, rng: np.random.Generator) -> None:
        self._stage, self._first = stage, stage.start(rng, _WINDOWS)
        packets = stage.packets(stage.samples(self._first, _WINDOWS))
        self._events, self._results = Told(), list[Result]()
        every = [packet for of_sensor in packets.values() for packet in of_sensor]
        self.runtime = Runtime(
            stage.bundle.read_again(),
            Scripted(every, _WINDOWS * stage.window_s + 1.0, _TICK_S),
            rules=stage.play_rules,
            deadline_ms=60_000,
            events=self._events,
            scrub_s=SCRUB_S,
        )
        self._go(lambda: len(self._results) >= 2)
        self.rest(rng)

    def rest(self, rng: np.random.Generator) -> None:
        """Let a part of a pass go by, so that a bit turns at any moment of one."""
        until_s = time.monotonic() + SCRUB_S * (1 + rng.random())
        while time.monotonic() < until_s:
            self.runtime.scrub.rest(self.runtime.bundle.names, waits=False, left_s=np.inf)
            time.sleep(_NAP_S)

    def outcome(self, part: str) -> Outcome:
        """What came of bits that turned just now.

        Args:
            part: whose.
        """
        begun_s, begun = time.monotonic(), len(self._results)
        self._go(lambda: bool(self._told("memory_fault")), begun_s + _LONGEST_S)
        faults = self._told("memory_fault")
        after_s = time.monotonic() - begun_s
        if faults:
            self._go(lambda: bool(self._told("memory_renewed")), time.monotonic() + _LONGEST_S)
        renewed = len(self._results)
        self._go(lambda: len(self._results) >= renewed + 2)
        clean = {r.window_id: r for r in self._stage.clean(self._first, _WINDOWS).results}
        after = [
            r
            for r in self._results[renewed if faults else begun :]
            if r.present == clean[r.window_id].present
        ]
        wrong = sum(not np.array_equal(r.probabilities, clean[r.window_id].probabilities) for r in after)
        lost = [r.window_id for r in self._results] != list(range(len(self._results)))
        failed = sum(str(r.status) not in ("OK", "DEGRADED") for r in self._results)
        other = sum(row["part"] != part for row in faults)
        if not faults:  # what was not noticed is told by the share that was
            wrong = 0
        return Outcome(bool(faults), after_s if faults else None, wrong + lost + failed + other)

    def _told(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self._events.all if row["kind"] == kind]

    def _go(self, enough: Callable[[], bool], until_s: float = np.inf) -> None:
        """Answer until something has come, or it is too late; a stream at its end stands still."""
        while not enough() and time.monotonic() < until_s:
            if self.runtime.source.ended:
                if until_s == np.inf:
                    return
                self.runtime.scrub.rest(self.runtime.bundle.names, waits=False, left_s=np.inf)
            else:
                self._results += self.runtime.step()
            time.sleep(_NAP_S)

    def __enter__(self) -> Played:
        return self

    def __exit__(self, *_: object) -> None:
        self.runtime.close()


def _asked(stage: Stage, rng: np.random.Generator) -> list[dict[str, NDArray[np.float32]]]:
    """Windows of the recording."""
    made = []
    for _ in range(_ASKED):
        samples = stage.samples(int(rng.integers(stage.n_windows - 1)), 1)
        made.append({name: samples[name].values[None, -m.length :] for name, m in stage.modalities.items()})
    return made


def _copies(bundle: Bundle, other: Bundle, rng: np.random.Generator) -> Sequence[int]:
    """Where the engine has a number of some weight: as it is in the file, or packed side by side."""
    weights = [w for w in _held(bundle) if w.size >= _LANES]
    sizes = np.array([w.size for w in weights], float)
    weight = weights[int(rng.choice(len(weights), p=sizes / sizes.sum()))]
    own = [(address_of(t), t.nbytes) for b in (bundle, other) for t in b.tensors.values()]
    needles, at = [], 0
    if weight.ndim == 2 and weight.shape[0] >= _LANES:
        row = _LANES * int(rng.integers(weight.shape[0] // _LANES))
        needles.append(np.ascontiguousarray(weight[row : row + _LANES, int(rng.integers(weight.shape[1]))]))
    flat = weight.reshape(-1)
    at = int(rng.integers(flat.size - _LANES + 1))
    needles.append(flat[at : at + _LANES].copy())
    gc.collect()
    found = []
    for needle in needles:
        if not needle.any():
            continue
        mine = address_of(needle)
        found += [
            address + 4 * int(rng.integers(_LANES))
            for address in OfProcess().find(needle.tobytes())
            if address != mine and not any(a <= address < a + n for a, n in own)
        ]
    return found


def _held(bundle: Bundle) -> list[NDArray[np.float32]]:
    """Everything that is written into graphs with all sensors."""
    held = [*bundle.weights.values()]
    if bundle.mixture is not None:
        readout = bundle.mixture.readout
        solved = readout.solve(bundle.names)
        held += [weights for pair in solved.joint if pair is not None for weights in pair]
        held += [*solved.stack]
        for trees in (*readout.parts.trees.values(), *readout.parts.boosted.values()):
            held += [trees.threshold, trees.value]
    return [np.ascontiguousarray(w, np.float32) for w in held]


def _one_pass(stage: Stage) -> float:
    return SCRUB_S + SLACK_S


CASES = (
    Case(
        "F20",
        f"1-64 bits of a bundle in memory flip, a pass takes {SCRUB_S:g} s",
        "read again, the same answers",
        bundle_in_memory,
        _one_pass,
    ),
    Case(
        "F20",
        f"a bit of the engine's memory flips that changes an answer by {_LEAST:g}",
        "built anew, the same answers",
        engine_in_memory,
        _one_pass,
    ),
)
