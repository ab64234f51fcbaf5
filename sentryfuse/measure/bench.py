"""How fast, how large and how quick to switch: sub-networks timed side by side, without torch.

Machines drift (heat, other programs), so configurations take turns in several rounds, each round in
the other direction than the last; a slow minute then hits all of them alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.engine.engines import ENGINE, Engine, find_engine
from sentryfuse.engine.session import Session
from sentryfuse.errors import ConfigError
from sentryfuse.progress import Progress
from sentryfuse.types import Budget, Plan, check_present

ROUNDS = 10
BUILDS = 20
SWAPS = 1000
POOL = 16  # different random windows
WARM_UP = 5
_CHILD = "from sentryfuse.measure.bench import tell_memory; tell_memory()"


def bench(
    bundle: Bundle,
    *,
    present: Sequence[Sequence[str] | None] = (None,),
    ratios: Sequence[float] = (0.0,),
    threads: int = 1,
    repeats: int = 300,
    builds: int = BUILDS,
    path: Path | None = None,
    engine: str = ENGINE,
) -> list[dict[str, Any]]:
    """Measure sub-networks of a bundle on this machine, one window per call.

    Args:
        bundle: of `load_bundle`.
        present: sets of sensor names that are on; `None` means all.
        ratios: share of the prunable MACs to remove; the dense row (0) is always added.
        threads: of the engine.
        repeats: windows timed per sub-network.
        builds: cold switches timed per sub-network; 0 leaves them out.
        path: the bundle's file; peak memory is measured in a fresh process that reads it, and is
            `None` without it.
        engine: a name of `list_engines`.

    Returns:
        One dictionary per set and ratio: `name`, `present`, `ratio`, `engine`, `threads`,
        `plan_id`, `latency_ms` (p50, p95, p99 of one call, softmax included), `switch_ms` (`cold`:
        deciding, slicing and building; `warm`: taking a session already built), `peak_rss_mb` with
        `peak_rss_reason` where it is `None`, `weights_mb`, `macs`.

    Raises:
        ConfigError: unknown sensors, fewer than one repeat or thread, a negative number of builds, or an
            engine that is unknown or not installed.
        BudgetError: a ratio outside 0..1.
    """
    if repeats < 1 or threads < 1 or builds < 0:
        raise ConfigError(
            f"repeats and threads must be at least 1 and builds 0, got {repeats}, {threads}, {builds}"
        )
    sets = dict.fromkeys(check_present(names, bundle.names) for names in present)
    budgets = [Budget(ratio=ratio) for ratio in dict.fromkeys((0.0, *map(float, ratios)))]
    asked = [(names, budget) for names in sets for budget in budgets]
    plans = [bundle.plan(names, budget) for names, budget in asked]
    built = find_engine(engine)
    sessions = [Session(bundle, plan, threads=threads, batch=1, engine=built) for plan in plans]
    windows = random_windows(bundle)
    for session in sessions:
        for window in windows[:WARM_UP]:
            session.run(window)

    latency: list[list[float]] = [[] for _ in asked]
    cold: list[list[float]] = [[] for _ in asked]
    with Progress("bench", ROUNDS) as bar:
        for turn in range(ROUNDS):
            order = range(len(asked)) if turn % 2 == 0 else reversed(range(len(asked)))
            for i in order:
                for _ in range(-(-builds // ROUNDS)):
                    cold[i].append(_time_cold(bundle, *asked[i], threads=threads, engine=built))
                for k in range(-(-repeats // ROUNDS)):
                    latency[i].append(_time_run(sessions[i], windows[k % POOL]))
            bar.update(turn + 1)
    warm = _time_warm(sessions)

    rows = []
    for (names, budget), plan, times, switches in zip(asked, plans, latency, cold, strict=True):
        rss, reason = peak_rss_mb(path, plan, threads=threads, engine=engine)
        rows.append(
            {
                "name": f"r{budget.ratio:g}" if budget.ratio else "dense",
                "present": list(names),
                "ratio": budget.ratio,
                "engine": engine,
                "threads": threads,
                "plan_id": plan.plan_id,
                "latency_ms": _quantiles(times, 50, 95, 99),
                "peak_rss_mb": rss,
                **({"peak_rss_reason": reason} if reason else {}),
                "weights_mb": plan.cost.weights_mb,
                "macs": plan.cost.macs,
                "switch_ms": {
                    "cold": _quantiles(switches, 50, 99) if builds else None,
                    "warm": _quantiles(warm, 50, 99),
                },
            }
        )
    return rows


def tell_memory() -> None:
    """What the fresh process does: answer a few windows, print its own peak memory [bytes].

    Reads one JSON object from standard input: `path`, `plan`, `threads`, `engine`.
    """
    asked = json.loads(sys.stdin.read())
    bundle = load_bundle(asked["path"])
    plan = Plan.from_json(asked["plan"])
    session = Session(bundle, plan, threads=asked["threads"], batch=1, engine=asked["engine"])
    for window in random_windows(bundle)[:WARM_UP]:
        session.run(window)
    print(_own_peak_bytes())


def random_windows(bundle: Bundle) -> list[dict[str, NDArray[np.float32]]]:
    """The same random windows everywhere; values do not change the work done."""
    rng = np.random.default_rng(0)
    return [
        {
            m.name: rng.standard_normal((1, m.length, m.n_channels), dtype=np.float32)
            for m in bundle.layout.modalities
        }
        for _ in range(POOL)
    ]


def _time_run(session: Session, window: Mapping[str, NDArray[np.float32]]) -> float:
    started = time.perf_counter_ns()
    session.run(window)
    return (time.perf_counter_ns() - started) / 1e6


def _time_cold(
    bundle: Bundle, names: tuple[str, ...], budget: Budget, *, threads: int, engine: Engine
) -> float:
    """Deciding, slicing and building one session [ms]."""
    started = time.perf_counter_ns()
    Session(bundle, bundle.plan(names, budget), threads=threads, batch=1, engine=engine)
    return (time.perf_counter_ns() - started) / 1e6


def _time_warm(sessions: Sequence[Session]) -> list[float]:
    """Taking another built session, as a runtime does between two windows [ms]."""
    ready = {session.plan.plan_id: session for session in sessions}
    keys = list(ready)
    times = []
    for i in range(SWAPS):
        key = keys[i % len(keys)]
        started = time.perf_counter_ns()
        _ = ready[key]
        times.append(max(1, time.perf_counter_ns() - started) / 1e6)
    return times


def _quantiles(times: Sequence[float], *percents: int) -> dict[str, float]:
    return {f"p{p}": float(np.percentile(times, p)) for p in percents}


def peak_rss_mb(
    path: Path | None, plan: Plan, *, threads: int, engine: str = ENGINE
) -> tuple[float | None, str | None]:
    """Peak resident memory of a fresh process that reads the bundle and answers with this plan."""
    if path is None:
        return None, "not measured"
    asked = json.dumps({"path": str(path), "plan": plan.to_json(), "threads": threads, "engine": engine})
    # -P: without it a module of that name in the current folder would be run in place of an installed one
    done = subprocess.run(
        [sys.executable, "-P", "-c", _CHILD],
        input=asked,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not done.stdout.strip().isdigit():
        said = done.stderr.strip().splitlines()
        return None, f"the measuring process failed: {said[-1] if said else done.returncode}"
    return int(done.stdout) / 1e6, None


def _own_peak_bytes() -> int:
    # The resource module would tell the parent's peak where that was larger before the fork.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource  # does not exist on Windows, where the caller reports the failure

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
