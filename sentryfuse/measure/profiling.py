"""Times this device: many sub-networks of a bundle, side by side, and a formula fitted to them. Torch-free.

Sub-networks take turns in rounds, so that a slow minute hits all of them alike.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.engine.engines import ENGINE, find_engine
from sentryfuse.engine.session import Session
from sentryfuse.errors import ConfigError
from sentryfuse.machine import machine
from sentryfuse.measure.bench import peak_rss_mb, random_windows
from sentryfuse.measure.break_even import break_even
from sentryfuse.measure.consumption import mj_per_ms
from sentryfuse.planning.profile import DeviceProfile, features, readout_features
from sentryfuse.power import PowerReader
from sentryfuse.progress import Progress
from sentryfuse.types import Budget, Plan

PLANS, ROUNDS = 60, 8
READOUTS = 6  # random sets of sensors for which the readout is timed alone
SECONDS = 50.0  # of timing; building and memory come on top


def profile(
    bundle: Bundle,
    *,
    threads: int = 1,
    plans: int = PLANS,
    seconds: float = SECONDS,
    path: Path | None = None,
    seed: int = 0,
    engine: str = ENGINE,
    reader: PowerReader | None = None,
) -> DeviceProfile:
    """Measure this device with a bundle; run it when nothing else runs.

    Args:
        bundle: whose sub-networks are timed; the profile serves every model with the same kinds of steps.
        threads: of the engine.
        plans: sub-networks timed, with random sensors and ratios.
        seconds: spent on timing [s].
        path: the bundle's file; memory is measured in a fresh process that reads it, and is `None` without.
        seed: of the draw of sub-networks.
        engine: a name of `list_engines`.
        reader: of `open_reader`; measures energy as well, for as long as the times.

    Returns:
        The profile.

    Raises:
        ConfigError: too few plans to fit anything, a number that is not positive, or an engine that is
            unknown or not installed.
    """
    if threads < 1 or plans < 8 or not seconds > 0:
        raise ConfigError(
            f"a profile needs threads >= 1, plans >= 8 and seconds > 0, got {threads}, {plans}, {seconds}"
        )
    built = find_engine(engine)
    sparse_from = break_even(bundle, random_windows(bundle), threads=threads, engine=built)
    # as it was trained, and as it will run here if that is another core: both must have their times
    forms = list({id(b): b for b in (bundle, bundle.with_break_even(sparse_from))}.values())
    rng = np.random.default_rng(seed)
    asked = [(form, plan) for form in forms for plan in random_plans(form, plans // len(forms), rng)]
    asked += [(bundle, plan) for plan in readout_plans(bundle, rng)]
    with Progress("profile", ROUNDS + 1) as bar:
        sessions, switches = [], []
        for form, plan in asked:
            started = time.perf_counter()
            sessions.append(Session(form, plan, threads=threads, batch=1, engine=built))
            switches.append(1e3 * (time.perf_counter() - started))
        bar.update(1, "building")
        windows = random_windows(bundle)
        times: list[list[float]] = [[] for _ in sessions]
        for turn in range(ROUNDS):
            order = range(len(sessions)) if turn % 2 == 0 else range(len(sessions) - 1, -1, -1)
            for i in order:
                times[i] += _time_for(sessions[i], windows, seconds / ROUNDS / len(sessions))
            bar.update(turn + 2, f"{sum(map(len, times))} windows")
    energy: dict[str, Any] = {"label": "none", "refused": "no meter was given"}
    rate = None
    if reader is not None:
        rate, energy = mj_per_ms(sessions[0], windows, reader, seconds=seconds)
    p50 = np.array([np.percentile(t, 50) for t in times])
    p95 = np.array([np.percentile(t, 95) for t in times])
    described = [
        readout_features(plan.present)
        if plan.readout_alone and form.mixture is not None
        else features(form.layout, plan.present, plan.kept)
        for form, plan in asked
    ]
    ms_per = fit(described, p50)
    fitted = np.array([sum(v * ms_per[k] for k, v in row.items()) for row in described])
    error = np.abs(fitted / p50 - 1)
    rss, reason = peak_rss_mb(path, bundle.plan(), threads=threads, engine=engine)
    return DeviceProfile(
        engine=engine,
        threads=threads,
        ms_per=ms_per,
        p95_factor=float(np.median(p95 / fitted)),
        safe_factor=float(np.percentile(p95 / fitted, 95)),
        cold_switch_ms=float(np.median(switches)),
        rss_mb=rss,
        sparse_from=sparse_from,
        mj_per_ms=rate,
        energy=energy,
        about={
            **machine(),
            **({"rss_reason": reason} if reason else {}),
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            "bundle": bundle.digest[:12],
            "plans": plans,
            "windows": sum(map(len, times)),
            "error": {"p50": float(np.median(error)), "p95": float(np.percentile(error, 95))},
        },
    )


def random_plans(bundle: Bundle, n: int, rng: np.random.Generator) -> list[Plan]:
    """At most `n` sub-networks for random sensors at random ratios; the dense one of all sensors first."""
    plans = [bundle.plan()]
    for _ in range(10 * n):
        if len(plans) == n:
            break
        on = rng.random(len(bundle.names)) < rng.random()
        on[rng.integers(len(on))] = True
        present = tuple(name for name, is_on in zip(bundle.names, on, strict=True) if is_on)
        plan = bundle.plan(present, Budget(ratio=float(rng.uniform(0, 1))))
        if not plan.readout_alone:
            plans.append(plan)
    return plans


def readout_plans(bundle: Bundle, rng: np.random.Generator) -> list[Plan]:
    """The readout alone for all sensors, for each one and for random sets; none where there is none."""
    if bundle.mixture is None:
        return []
    sets = {bundle.names, *((name,) for name in bundle.names)}
    for _ in range(READOUTS):
        on = rng.random(len(bundle.names)) < 0.5
        sets.add(tuple(name for name, is_on in zip(bundle.names, on, strict=True) if is_on))
    return [bundle.plan(present, Budget(ratio=1.0)) for present in sorted(sets) if present]


def fit(described: Sequence[dict[str, float]], measured: NDArray[np.float64]) -> dict[str, float]:
    """Non-negative least squares on relative errors.

    Args:
        described: features of every sub-network.
        measured: its time, `(n,)`.

    Returns:
        Time per unit of each feature that occurs, `>= 0`.

    Source:
        Features that would get a negative time are dropped, the worst first; our choice.
    """
    names = sorted({name for row in described for name in row})
    table = np.array([[row.get(name, 0.0) for name in names] for row in described])
    size = np.maximum(table.max(0), 1e-30)
    scaled = table / size / measured[:, None]
    live = list(range(len(names)))
    found = np.zeros(len(names))
    while live:
        part = scaled[:, live]
        # a touch of ridge: features that always come together share their time
        gram = part.T @ part + 1e-6 * len(part) * np.eye(len(live)) * np.mean(part**2)
        values = np.linalg.solve(gram, part.sum(0))
        if values.min() >= 0:
            found[live] = values
            break
        del live[int(values.argmin())]
    return {name: float(x) for name, x in zip(names, found / size, strict=True)}


def _time_for(session: Session, windows: list[dict[str, Any]], seconds: float) -> list[float]:
    """Times of single windows for about so long, three at least [ms]."""
    session.run(windows[0])
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        started = time.perf_counter_ns()
        session.run(windows[len(times) % len(windows)])
        times.append((time.perf_counter_ns() - started) / 1e6)
    return times
