"""A stream whose budget and sensors change while windows go on: from the cut of a window to its answer.

    python benchmarks/switching_stream.py model.bundle              a quarter of an hour; nothing else may run
    python benchmarks/switching_stream.py model.bundle --pieces 1   a piece more, of under three minutes
    python benchmarks/switching_stream.py model.bundle --pieces 1 --seconds 50      of under one

Writes the key `stream` of docs/results/switching.json. The bundle is that of a trained model with a readout.
Each piece is played twice, with sub-networks built when they are asked for and with likely ones built ahead,
side by side on two cores. Somebody asks for another budget or other sensors at moments that follow no clock,
once a second; every six seconds a sensor fails for half a second, silent or with values that are not numbers.
Counted are windows whose sub-network is another than that of the window before, and beside them the others.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.files import write_json
from sentryfuse.machine import machine
from sentryfuse.measure.bench import random_windows
from sentryfuse.runtime import Events, Runtime
from sentryfuse.stream import HealthRules, Packet
from sentryfuse.stream.packet import LiveSource
from sentryfuse.types import Budget

ROOT = Path(__file__).resolve().parent.parent
PIECE_S, EVERY_S = 150.0, 1.0  # length of one play, mean time from one change asked for to the next [s]
HOP_S, BEGIN_S = 0.2, 6.0  # windows of five seconds; the first changes come when all sensors are there
FAULT_EVERY_S, FAULT_S, MOST_OFF = 6.0, 0.5, 2
RATIOS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
RULES = HealthRules(max_gap=0.02, good_windows=1, hold_off_windows=1)  # sensors go and come back quickly
WAYS = {"built when asked for": 0.0, "built ahead": 32.0}  # ahead_mb


def main() -> None:
    """Play pieces, and write what all of them say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pieces", type=int, default=5, help="added to those that the result file has")
    parser.add_argument("--seconds", type=float, default=PIECE_S, help="of each")
    parser.add_argument("--anew", action="store_true", help="forget those")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "switching.json")
    options = parser.parse_args()
    bundle = load_bundle(options.bundle)
    result = json.loads(options.out.read_text()) if options.out.is_file() else {}
    before = {} if options.anew else result.get("stream", {}).get("played", {})
    played: dict[str, list[dict[str, Any]]] = {way: [*before.get(way, [])] for way in WAYS}
    with ProcessPoolExecutor(len(WAYS), mp_context=get_context("spawn")) as pool:
        for _ in range(options.pieces):
            coming = {
                way: pool.submit(play, options.bundle, options.seconds, EVERY_S, ahead_mb, len(played[way]))
                for way, ahead_mb in WAYS.items()
            }
            for way, piece in coming.items():
                played[way].append(piece.result())
    result["stream"] = {
        "every_s": EVERY_S,
        "hop_s": HOP_S,
        "ways": {way: joined(found) for way, found in played.items()},
        "played": played,
        "model": {
            "weights": bundle.plan().dense.params,
            "sensors": len(bundle.names),
            "readout": bundle.mixture is not None,
        },
        **machine(),
    }
    print(json.dumps(result["stream"]["ways"], indent=1))
    write_json(options.out, result)


class Failing(LiveSource):
    """Sensors in real time, a packet of each every hop; one after the other fails for a moment."""

    def __init__(self, bundle: Bundle, seconds: float) -> None:
        self.start_s: float | None = 0.0
        self._modalities, self._seconds, self._hops = bundle.layout.modalities, seconds, 0
        self._values = {name: x[0] for name, x in random_windows(bundle)[0].items()}
        self._sent = dict.fromkeys(bundle.names, 0)
        self._began = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether its time is over."""
        return self.now_s() > self._seconds

    def now_s(self) -> float:
        """Since it began [s]."""
        return time.monotonic() - self._began

    def read(self, timeout_s: float) -> list[Packet]:
        """The packets of a hop, once it is over."""
        due_s = (self._hops + 1) * HOP_S
        if (wait_s := due_s - self.now_s()) > 0:
            time.sleep(min(wait_s, timeout_s))
        if self.now_s() < due_s:
            return []
        self._hops += 1
        return [packet for m in self._modalities if (packet := self._packet(m, due_s)) is not None]

    def counters(self) -> dict[str, dict[str, int]]:
        """Nothing is lost on the way."""
        return {}

    def close(self) -> None:
        """Nothing is held."""
        return

    def _packet(self, modality: Any, due_s: float) -> Packet | None:
        name, rate_hz = modality.name, modality.rate_hz
        sent, n = self._sent[name], round(due_s * rate_hz) if rate_hz else 1
        if n <= sent:
            return None
        self._sent[name] = n
        rows = np.arange(sent, n)
        values: NDArray[np.float32] = self._values[name][rows % len(self._values[name])]
        turn, since_s = divmod(due_s - BEGIN_S, FAULT_EVERY_S)
        failing = self._modalities[int(turn) % len(self._modalities)].name
        if due_s > BEGIN_S and since_s < FAULT_S and failing == name:
            if turn % 2:
                return None
            values = np.full_like(values, np.nan)
        return Packet(name, values, rows / rate_hz if rate_hz else None, due_s)


def play(path: Path, seconds: float, every_s: float, ahead_mb: float, seed: int) -> dict[str, Any]:
    """Play a stream once.

    Args:
        path: of the bundle that answers.
        seconds: how long [s].
        every_s: mean time from one change that is asked for to the next [s].
        ahead_mb: as `Runtime`.
        seed: of the changes.

    Returns:
        From the cut to the answer of each window with another sub-network, and of each without [ms]; counts
        of statuses; processor time of the whole process [s].
    """
    bundle = load_bundle(path)
    source, events = Failing(bundle, seconds), Events()
    worked = os.times()
    changed: list[float] = []
    same: list[float] = []
    statuses: Counter[str] = Counter()
    with Runtime(bundle, source, hop_s=HOP_S, rules=RULES, events=events, ahead_mb=ahead_mb) as runtime:
        stop = threading.Event()
        asking = threading.Thread(target=_ask, args=(runtime, stop, every_s, np.random.default_rng(seed)))
        asking.start()
        before: str | None = None
        for result in runtime:
            statuses[str(result.status)] += 1
            if result.plan_id is None or result.latency_ms is None:
                continue
            if source.now_s() > BEGIN_S:
                (same if result.plan_id == before else changed).append(round(result.delay_ms, 3))
            before = result.plan_id
        stop.set()
        asking.join()
    now = os.times()
    return {
        "seconds": seconds,
        "changed_ms": changed,
        "same_ms": same,
        "statuses": dict(statuses),
        "processor_s": round(now.user + now.system - worked.user - worked.system, 3),
    }


def _ask(runtime: Runtime, stop: threading.Event, every_s: float, rng: np.random.Generator) -> None:
    """Ask for another budget or one sensor more or less, at moments of their own."""
    on = {*runtime.bundle.names}
    while not stop.wait(float(rng.exponential(every_s))):
        if runtime.source.now_s() < BEGIN_S:
            continue
        if rng.random() < 0.5:
            runtime.set_budget(Budget(ratio=rng.choice([r for r in RATIOS if r != runtime.budget.ratio])))
        else:
            off = {*runtime.bundle.names} - on
            on = on ^ {rng.choice(sorted(off if len(off) == MOST_OFF else runtime.bundle.names))}
            runtime.asked.only(on)


def joined(pieces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What several plays of one way say together."""
    found: dict[str, Any] = {"switches": sum(len(piece["changed_ms"]) for piece in pieces)}
    for name in ("changed_ms", "same_ms"):
        times = [time for piece in pieces for time in piece[name]]
        found[name] = {f"p{p}": float(np.percentile(times, p)) for p in (50, 90, 99)} | {"max": max(times)}
    counts = sum((Counter(piece["statuses"]) for piece in pieces), Counter())
    windows = sum(counts.values())
    worked_s, seconds = (sum(piece[name] for piece in pieces) for name in ("processor_s", "seconds"))
    return {
        **found,
        "windows": windows,
        "statuses": dict(counts),
        "processor_ms_per_window": 1e3 * worked_s / windows,
        "share_of_a_core": worked_s / seconds,
    }


if __name__ == "__main__":
    main()
