"""Switching between sub-networks while the stream runs: time, memory, and that no window is lost or mixed.

    python benchmarks/switching.py                    about half an hour; run it when nothing else runs
    python benchmarks/switching.py --only time

Four parts, each under its own key of docs/results/switching.json; `--only` leaves the others as they are
(a fifth, `stream`, is of `benchmarks/switching_stream.py`):

    time    warm and cold switches, a thread answering windows all the while
    memory  resident memory of 1,024 plans used in turn against one dense session, in fresh processes
    growth  resident memory between inference 10^4 and 10^5, switching all the while
    law     100,000 switches by 4 producers: every window answered once, as if it were alone

One thread, one window per call, onnxruntime. Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.engine import Session, Sessions
from sentryfuse.files import write_json
from sentryfuse.machine import machine
from sentryfuse.measure.bench import random_windows
from sentryfuse.measure.profiling import random_plans
from sentryfuse.types import Budget, Plan

ROOT = Path(__file__).resolve().parent.parent
Array = NDArray[np.float32]
SENSORS, PATCHES, D_MODEL = 5, 16, 88  # about a million weights, preset small, 5 x 17 tokens
PARTS = ("time", "memory", "growth", "law")
END = None


class Answered(NamedTuple):
    """One answer of the stream: which window of which producer, and what it was answered with."""

    producer: int
    number: int
    window: int
    plan_id: str
    probabilities: Array


class Verdict(NamedTuple):
    """What went wrong; all zero is the law."""

    lost: int
    doubled: int
    mixed: int
    out_of_order: int


def main() -> None:
    """Measure the parts asked for and write one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be repeated")
    parser.add_argument("--bundle", type=Path, help="instead of a random model of a million weights")
    parser.add_argument("--switches", type=int, default=100_000, help="of the law")
    parser.add_argument("--plans", type=int, default=1024, help="used in turn for memory")
    parser.add_argument("--builds", type=int, default=1000, help="cold switches timed")
    parser.add_argument("--inferences", type=int, default=100_000, help="of growth")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "switching.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.bundle or Path(folder) / "model.bundle"
        if not options.bundle:  # in a process of its own: torch must not count as ours
            apart("make_bundle", path)
        result = json.loads(options.out.read_text()) if options.out.is_file() else {}
        bundle = load_bundle(path)
        model = {"weights": bundle.plan().dense.params, "sensors": len(bundle.names)}
        for part in options.only or PARTS:
            if part == "time":
                found = switch_times(bundle, builds=options.builds)
            elif part == "memory":
                found = memory(path, plans=options.plans)
            elif part == "growth":
                found = apart("growth", path, options.inferences)
            else:
                found = law(bundle, switches=options.switches)
            result[part] = {**found, "model": model, **machine()}
            print(part, json.dumps(found), flush=True)
            write_json(options.out, result)


def make_bundle(path: str) -> None:
    """Export a random model of about a million weights."""
    import torch

    from sentryfuse import Modality, create_model, export_bundle

    torch.manual_seed(0)
    modalities = [Modality(f"s{i}", 25.0, 8 * PATCHES, tuple("xyz")) for i in range(SENSORS)]
    sizes = {"tokens": PATCHES, "d_model": D_MODEL, "head_dim": D_MODEL // 8, "d_ff": 4 * D_MODEL}
    model = create_model(
        "maestro", modalities=modalities, classes=list("abcde"), preset="small", options=sizes
    )
    with torch.no_grad():  # an untrained gate finds all units equal; this one has opinions
        model.gate.units.bias.normal_(0, 0.5)
    export_bundle(model, path)


def switch_times(bundle: Bundle, *, builds: int) -> dict[str, Any]:
    """Time of warm and cold switches while a thread answers one window after the other [ms]."""
    windows = random_windows(bundle)
    plans = random_plans(bundle, max(builds, 8), np.random.default_rng(0))
    cold: list[float] = []
    first: list[float] = []
    warm: list[float] = []
    cpu: list[float] = []
    with Sessions(bundle, kept=8) as sessions, _Busy(sessions.pin(bundle.plan()), windows) as stream:
        for k, plan in enumerate(plans[1:]):
            started, worked = time.perf_counter(), time.thread_time()
            stream.session = Session(bundle, plan, batch=1)
            took = 1e3 * (time.perf_counter() - started)
            (cold if k >= 8 or len(plans) <= 16 else first).append(took)
            cpu.append(1e3 * (time.thread_time() - worked))
        some = plans[:8]
        for plan in some:
            sessions.get(plan)
        for k in range(100 * builds):
            plan = some[k % len(some)]
            started = time.perf_counter()
            session = sessions.ready(plan)
            if session is not None:
                stream.session = session
            warm.append(1e3 * (time.perf_counter() - started))
        answered = len(stream.times)
        latency = quantiles(stream.times)
    return {
        "cold_ms": quantiles(cold),
        "cold_first_ms": quantiles(first) if first else None,
        "cold_processor_ms": quantiles(cpu),
        "warm_ms": quantiles(warm),
        "builds": len(cold),
        "swaps": len(warm),
        "stream": {"windows": answered, "latency_ms": latency},
    }


class _Busy:
    """A stream that never rests: answers windows with the session in force, and times it."""

    def __init__(self, session: Session, windows: Sequence[Mapping[str, Array]]) -> None:
        self.session, self.windows = session, windows
        self.times: list[float] = []
        self._stop = False
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop:
            started = time.perf_counter()
            self.session.run(self.windows[len(self.times) % len(self.windows)])
            self.times.append(1e3 * (time.perf_counter() - started))

    def __enter__(self) -> _Busy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()


def memory(path: Path, *, plans: int) -> dict[str, Any]:
    """Resident memory of many plans against that of one dense session, each in a fresh process."""
    one, many = (apart("resident", path, n) for n in (1, plans))
    return {"dense_mb": one, "plans_mb": many, "plans": plans, "ratio": many / one}


def resident(path: str, plans: str) -> float:
    """Resident memory after the dense plan and others were used in turn [MB]."""
    bundle = load_bundle(path)
    windows = random_windows(bundle)
    with Sessions(bundle) as sessions:
        session = sessions.get(bundle.plan())
        rng = np.random.default_rng(1)
        for k in range(int(plans)):
            if k:  # made one at a time: a list of them would take more than the sessions
                session = sessions.get(random_plans(bundle, 2, rng)[1])
            for window in windows[:2]:
                session.run(window)
        return rss_bytes() / 1e6


def growth(path: str, inferences: str) -> dict[str, Any]:
    """Resident memory after every tenth of the inferences, another plan every ten windows."""
    bundle = load_bundle(path)
    windows = random_windows(bundle)
    total = int(inferences)
    plans = random_plans(bundle, 16, np.random.default_rng(2))
    seen = []
    with Sessions(bundle) as sessions:
        for k in range(total):
            if k % 10 == 0:
                turn = k // 10  # mostly the warm ones, now and then one that must be built
                session = sessions.get(plans[turn % 3 if turn % 25 else 3 + turn // 25 % 13])
            session.run(windows[k % len(windows)])
            if (k + 1) % (total // 10) == 0:
                for plan in plans[: sessions.kept]:  # the same each time: sub-networks differ in size
                    sessions.get(plan)
                seen.append(rss_bytes())
    return {
        "inferences": total,
        "resident_mb": [each / 1e6 for each in seen],
        "grown_bytes": seen[-1] - seen[0],
    }


def law(bundle: Bundle, *, switches: int) -> dict[str, Any]:
    """Four producers swap the sub-network before every window they hand in."""
    windows = random_windows(bundle)
    present = (None, bundle.names[:1], bundle.names[1:])
    plans = [bundle.plan(names, Budget(ratio=r)) for names in present for r in (0.0, 0.4, 0.7)]
    started = time.perf_counter()
    with Sessions(bundle, kept=6) as sessions:
        answered = produce(sessions, plans, windows, switches=switches)
    verdict = judge(answered, alone(bundle, plans, windows), switches=switches)
    seen = sum(a.plan_id != b.plan_id for a, b in pairwise(answered))
    return {
        "switches": switches,
        "producers": 4,
        "plans": len(plans),
        **verdict._asdict(),
        "changes_between_answers": seen,
        "seconds": time.perf_counter() - started,
    }


def produce(
    sessions: Sessions,
    plans: Sequence[Plan],
    windows: Sequence[Mapping[str, Array]],
    *,
    switches: int,
    producers: int = 4,
    rare: float = 0.01,
) -> list[Answered]:
    """Hand in windows from several threads, each after a swap; one thread answers them in order.

    Args:
        sessions: where sub-networks come from.
        plans: to switch between; those beyond what `sessions` keeps are taken seldom.
        windows: answered over and over.
        switches: of all producers together, as many as windows.
        producers: threads.
        rare: how often a plan that may have to be built is taken.

    Returns:
        Every answer, in the order it was given.
    """
    handed: queue.Queue[tuple[int, int, int] | None] = queue.Queue(maxsize=64)
    force = _Force(sessions.get(plans[0]))
    answered: list[Answered] = []
    errors: list[BaseException] = []
    often = min(len(plans), max(1, sessions.kept - 2))

    def hand_in(producer: int) -> None:
        rng = np.random.default_rng(producer)
        for number in range(producer, switches, producers):
            at = int(rng.integers(len(plans) if rng.random() < rare else often))
            force.session = sessions.get(plans[at])
            handed.put((producer, number, int(rng.integers(len(windows)))))

    def answer() -> None:
        while (window := handed.get()) is not END:
            session = force.session  # read once: name and answer belong together
            probabilities = session.run(windows[window[2]])
            answered.append(Answered(*window, session.plan.plan_id, probabilities))

    def guarded(work: Callable[..., None], *given: int) -> None:
        try:
            work(*given)
        except BaseException as error:
            errors.append(error)
            while work is answer and handed.get() is not END:
                pass  # let the producers finish

    threads = [threading.Thread(target=guarded, args=(hand_in, p)) for p in range(producers)]
    consumer = threading.Thread(target=guarded, args=(answer,))
    for thread in (consumer, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    handed.put(END)
    consumer.join()
    if errors:
        raise errors[0]
    return answered


class _Force:
    """The session in force."""

    def __init__(self, session: Session) -> None:
        self.session = session


def alone(
    bundle: Bundle, plans: Sequence[Plan], windows: Sequence[Mapping[str, Array]]
) -> dict[str, list[Array]]:
    """Answers of sessions that nobody shares: plan id -> one per window."""
    sessions = [Session(bundle, plan, batch=1) for plan in plans]
    return {session.plan.plan_id: [session.run(window) for window in windows] for session in sessions}


def judge(answered: Sequence[Answered], wanted: Mapping[str, list[Array]], *, switches: int) -> Verdict:
    """Compare every answer, bit for bit, with that of its window alone in the plan it names."""
    counts = Counter(each.number for each in answered)
    last: dict[int, int] = {}
    out_of_order = 0
    for each in answered:
        out_of_order += each.number <= last.get(each.producer, -1)
        last[each.producer] = each.number
    return Verdict(
        lost=switches - len(counts),
        doubled=sum(n - 1 for n in counts.values()),
        mixed=sum(not np.array_equal(a.probabilities, wanted[a.plan_id][a.window]) for a in answered),
        out_of_order=out_of_order,
    )


def apart(function: str, *given: object) -> Any:
    """Call a function of this file in a fresh process and read its answer."""
    done = subprocess.run(
        [sys.executable, __file__, "--apart", function, *map(str, given)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{function} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def rss_bytes() -> int:
    """Resident memory of this process, after what is free was given back [bytes]."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def quantiles(times: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest."""
    found = {f"p{p}": float(np.percentile(times, p)) for p in (50, 95, 99)}
    return found | {"max": float(max(times))}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--apart"]:
        print(
            json.dumps({f.__name__: f for f in (make_bundle, resident, growth)}[sys.argv[2]](*sys.argv[3:]))
        )
    else:
        main()
