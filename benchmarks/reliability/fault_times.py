"""Faults F10-F16: clocks, late and repeated packets, rates, malformed packets, returns, budgets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.reliability.fault_samples import WINDOWS, hop_limit
from benchmarks.reliability.fault_stage import (
    LATENCY_S,
    Case,
    Outcome,
    Samples,
    Stage,
    differing,
    moved,
    told_times,
)
from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.runtime import Runtime
from sentryfuse.stream import Packet
from sentryfuse.types import Budget

_FROM = 4
Trial = Callable[[Stage, np.random.Generator], Outcome]


def other_clock(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F10: one sensor's clock is elsewhere and runs a little wrong; its windows must be the same moments."""
    m, first = stage.some(rng), stage.start(rng, WINDOWS)
    ppm, offset = rng.uniform(-500, 500), float(rng.choice((-10.0, -0.01, 0.01, 10.0, 1.7e9)))
    packets = stage.packets(stage.samples(first, WINDOWS))
    packets[m.name] = [moved(p, times_s=told_times(p) * (1 + 1e-6 * ppm) + offset) for p in packets[m.name]]
    played, clean = stage.play(packets, WINDOWS), stage.clean(first, WINDOWS)
    pairs = zip(played.verdicts(m.name), clean.verdicts(m.name), strict=True)
    lost = sum(a != "ok" and b == "ok" for a, b in pairs)
    return Outcome(None, None, lost + played.broken())


def clock_step(least: float, most: float) -> Trial:
    """F10: one sensor's clock jumps."""

    def trial(stage: Stage, rng: np.random.Generator) -> Outcome:
        m, first = stage.some(rng), stage.start(rng, WINDOWS)
        at_s = stage.window_s * (_FROM + rng.random())
        step = float(rng.uniform(least, most) * rng.choice((-1, 1)))
        packets = stage.packets(stage.samples(first, WINDOWS))
        packets[m.name] = [
            moved(p, times_s=told_times(p) + step) if p.received_s > at_s else p for p in packets[m.name]
        ]
        played = stage.play(packets, WINDOWS)
        verdicts = played.verdicts(m.name)
        large = least > stage.rules.clock_tolerance_s
        noticed = [k for k, v in enumerate(verdicts) if v == "clock"]
        touched = int(at_s // stage.window_s)
        after_s = (noticed[0] + 1) * stage.window_s - at_s if noticed else None
        return Outcome(
            bool(noticed) if large else None,
            after_s,
            (large and verdicts[touched + 1] == "ok") + played.broken(),
        )

    return trial


def delayed(least_s: float, most_s: float, share: float) -> Trial:
    """F11: some packets come late; what comes before the window is cut changes nothing."""

    def trial(stage: Stage, rng: np.random.Generator) -> Outcome:
        m, first = stage.some(rng), stage.start(rng, WINDOWS)
        packets = stage.packets(stage.samples(first, WINDOWS))
        late = rng.random(len(packets[m.name])) < share
        late[0] = False  # by the first one a clock is known
        if most_s > stage.window_s:
            late[-round(most_s / 0.2) :] = False  # those would come after the end
        packets[m.name] = [
            moved(p, received_s=p.received_s + float(rng.uniform(least_s, most_s)) * is_late)
            for p, is_late in zip(packets[m.name], late, strict=True)
        ]
        played = stage.play(packets, WINDOWS)
        counted = played.counters["sensors"][m.name]
        if most_s < 0.1:
            return Outcome(None, None, differing(played, stage.clean(first, WINDOWS)) + played.broken())
        return Outcome(counted["late"] > 0 or not late.any(), None, played.broken())

    return trial


def repeated(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F11: 30 % of packets overtaken, 5 % twice; the answers must be the same to the last bit."""
    m, first = stage.some(rng), stage.start(rng, WINDOWS)
    packets = stage.packets(stage.samples(first, WINDOWS))
    messy, twice = [], 0
    for p in packets[m.name]:
        later = moved(p, received_s=p.received_s + 0.05 * (rng.random() < 0.3))
        messy.append(later)
        if rng.random() < 0.05:
            messy.append(moved(later, received_s=later.received_s + 0.02))
            twice += len(p.values)
    packets[m.name] = messy
    played = stage.play(packets, WINDOWS)
    counted = played.counters["sensors"][m.name]  # once its window is cut, what comes twice is late
    uncounted = abs(counted["duplicate"] + counted["late"] - twice)
    return Outcome(None, None, differing(played, stage.clean(first, WINDOWS)) + uncounted + played.broken())


def another_rate(rates: tuple[float, ...], *, absent: bool, jitter: float = 0.0) -> Trial:
    """F12: a sensor samples faster or slower than it should, or unevenly."""

    def trial(stage: Stage, rng: np.random.Generator) -> Outcome:
        m, first = stage.some(rng), stage.start(rng, WINDOWS)
        samples = stage.samples(first, WINDOWS)
        rate = float(rng.choice(rates))
        times, values = samples[m.name]
        n = round(len(times) * rate)
        shaky = (np.arange(n) + 0.5 + jitter * rng.uniform(-1, 1, n)) / (m.rate_hz * rate)
        rows = np.clip(np.rint(shaky * m.rate_hz - 0.5).astype(int), 0, len(values) - 1)
        dithered = values[rows] + (1e-4 * rng.standard_normal((n, values.shape[1]))).astype(np.float32)
        samples[m.name] = Samples(shaky, dithered)
        played = stage.play(stage.packets(samples), WINDOWS)
        told = played.verdicts(m.name)[1:-1]
        noticed = [k for k, v in enumerate(told) if v in ("rate", "gap", "silent")]
        wrong = sum(v == "ok" for v in told) if absent else len(noticed)
        after_s = (noticed[0] + 2) * stage.window_s if noticed and absent else None
        return Outcome(bool(noticed) if absent else None, after_s, wrong + played.broken())

    return trial


def _malformed(good: Packet, rng: np.random.Generator) -> Any:
    """Something that is no packet of a sensor, or one of another shape, type, byte order or time."""
    values, times = good.values, good.times_s
    assert times is not None
    return (
        None,
        "packet",
        42,
        moved(good, modality="nobody"),
        moved(good, modality=None),
        moved(good, values=values.astype(np.float64)),
        moved(good, values=values.astype(">f4")),
        moved(good, values=values.astype(np.int16)),
        moved(good, values=np.concatenate([values, values], axis=1)),
        moved(good, values=values[0]),
        moved(good, values=values[None]),
        moved(good, values=values[:-1]),
        moved(good, values=values.tolist()),
        moved(good, values=np.array([["a"] * values.shape[1]] * len(values))),
        moved(good, times_s=times[:-1]),
        moved(good, times_s=times.astype(np.float32)),
        moved(good, times_s=np.full(len(times), np.nan)),
        moved(good, times_s=float(times[0])),
        moved(good, times_s=times + 1e300),
        moved(good, received_s=float("nan")),
        moved(good, received_s=None),
        moved(good, received_s=np.inf),
    )[int(rng.integers(22))]


def malformed(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F13: things that are no packets between the packets; they are counted and change nothing."""
    first = stage.start(rng, WINDOWS)
    packets = stage.packets(stage.samples(first, WINDOWS))
    every = [p for m in stage.moving for p in packets[m.name]]
    bad = [_malformed(every[int(rng.integers(len(every)))], rng) for _ in range(100)]
    played, clean = stage.play(packets, WINDOWS, more=bad), stage.clean(first, WINDOWS)
    counted = sum(row["malformed"] for row in played.counters["sensors"].values())
    told = counted + played.counters["unknown"]
    return Outcome(told == len(bad), None, differing(played, clean) + played.broken())


def rejoin(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F14: a sensor that was away for a while is taken again after three good windows, not before."""
    away = int(rng.choice((1, 3, 10, 30)))
    windows = _FROM + away + 8
    m = stage.some(rng)
    begin_s = stage.window_s * _FROM
    end_s = begin_s + away * stage.window_s
    packets = stage.packets(stage.samples(stage.start(rng, windows), windows))
    packets[m.name] = [p for p in packets[m.name] if not begin_s < p.received_s - LATENCY_S <= end_s]
    played = stage.play(packets, windows)
    used = played.used(m.name)
    good = stage.rules.good_windows
    back = next((k for k in range(_FROM + away, windows) if used[k]), None)
    too_soon = sum(used[_FROM : _FROM + away + good - 1])
    after_s = None if back is None else (back + 1) * stage.window_s - end_s
    return Outcome(back is not None, after_s, too_soon + played.broken())


def all_gone(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F15: no sensor is left; there must be no class, and the age of the last one must be told."""
    away = int(rng.choice((1, 5, 20)))
    windows = _FROM + away + 3
    begin_s = stage.window_s * _FROM
    end_s = begin_s + away * stage.window_s
    packets = {
        name: [p for p in of_sensor if not begin_s < p.received_s <= end_s + LATENCY_S]
        if stage.modalities[name].rate_hz
        else of_sensor
        for name, of_sensor in stage.packets(stage.samples(stage.start(rng, windows), windows)).items()
    }
    played = stage.play(packets, windows)
    gone = played.results[_FROM : _FROM + away]
    wrong = sum(r.status != "REFUSED" or r.answer is not None or r.age_s is None for r in gone)
    return Outcome(gone[0].status == "REFUSED", gone[0].end_s - begin_s, wrong + played.broken())


def budget_steps(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F16: another budget before every window, impossible and senseless ones between them."""
    dense = stage.bundle.plan().cost.macs
    asked: dict[int, int] = {}
    refused = wrong = 0

    def change(runtime: Runtime, answered: int) -> None:
        nonlocal refused, wrong
        if answered in asked:
            return
        before = runtime.budget
        for senseless in (-1.0, float("nan"), float("inf"), 2.0, "0.5", None):
            try:
                runtime.set_budget(Budget(ratio=senseless) if senseless is not None else None)  # type: ignore[arg-type]
                wrong += senseless is not None
            except (ConfigError, BudgetError):
                refused += 1
        wrong += runtime.budget != before
        asked[answered] = max(1, int(dense * rng.choice((0.0, 0.1, 0.3, 1.0, 10.0))))
        runtime.set_budget(Budget(macs=asked[answered]))

    played = stage.play(
        stage.packets(stage.samples(stage.start(rng, WINDOWS), WINDOWS)), WINDOWS, budgets=change
    )
    for result in played.results:
        if result.plan is None:
            continue
        over = result.plan.cost.macs > asked.get(result.window_id, dense)
        wrong += over and result.status == "OK"
    switches = sum(a.plan_id != b.plan_id for a, b in pairwise(played.results))
    return Outcome(refused > 0, None, wrong + played.broken(), {"switches in 12 windows": switches})


def two_hops(stage: Stage) -> float:
    """A fault in the middle of a window is seen in the next one at the latest [s]."""
    return 2 * hop_limit(stage)


CASES = (
    Case("F10", "another clock, -10 s to 1.7e9 s, up to 500 ppm", "followed, sensor used", other_clock),
    Case("F10", "clock jumps by 0.01-0.4 s", "realigned", clock_step(0.01, 0.4)),
    Case(
        "F10",
        "clock jumps by 1-10 s",
        "absent until it is sure again",
        clock_step(1.0, 10.0),
        two_hops,
    ),
    Case("F11", "5 % of packets 0.02-0.09 s late", "the same answers", delayed(0.02, 0.09, 0.05)),
    Case("F11", "5 % of packets 6-12 s late", "dropped and counted", delayed(6.0, 12.0, 0.05)),
    Case("F11", "30 % overtaken, 5 % twice", "the same answers, counted", repeated),
    Case(
        "F12",
        "rate 0.5, 1.5, 2",
        "absent",
        another_rate((0.5, 1.5, 2.0), absent=True),
        two_hops,
    ),
    Case(
        "F12",
        "rate 0.95-1.05, jitter 30 %",
        "used",
        another_rate((0.95, 1.0, 1.05), absent=False, jitter=0.3),
    ),
    Case("F13", "100 things that are no packets", "counted, the same answers", malformed),
    Case(
        "F14",
        "away 1 to 30 windows, then back",
        "used after three good windows",
        rejoin,
        lambda s: (s.rules.good_windows + 1) * s.window_s,
    ),
    Case("F15", "all sensors gone, 1 to 20 windows", "REFUSED, no class", all_gone, hop_limit),
    Case(
        "F16",
        "budget x0 to x10 before every window; NaN, negative",
        "within it or said; senseless ones refused",
        budget_steps,
    ),
)
