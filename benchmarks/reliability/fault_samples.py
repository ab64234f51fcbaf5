"""Faults F1-F9: sensors that fall silent, lack samples, stand still, or send wrong values."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from benchmarks.reliability.fault_stage import Case, Floats, Outcome, Samples, Stage, Times, altered

WINDOWS = 12  # of most trials
_FROM = 4  # the window in which most faults begin
Trial = Callable[[Stage, np.random.Generator], Outcome]
Edit = Callable[[Stage, str, np.random.Generator, Floats], Floats]


def _begin_s(stage: Stage, rng: np.random.Generator) -> float:
    return float(stage.window_s * (_FROM + rng.random()))


def dropout(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F1: some sensors are gone for good."""
    begin_s = _begin_s(stage, rng)
    gone = [m.name for m in stage.moving if rng.random() < 0.5] or [stage.some(rng).name]
    first = stage.start(rng, WINDOWS)
    packets = stage.packets(stage.samples(first, WINDOWS))
    last = {}
    for name in gone:
        packets[name] = [p for p in packets[name] if p.received_s <= begin_s]
        last[name] = packets[name][-1].received_s
    played = stage.play(packets, WINDOWS, tick_s=0.02)
    told = {
        e["sensor"]: e["stream_s"] - last[e["sensor"]]
        for e in reversed(played.events)
        if e["kind"] == "sensor_silent" and e["sensor"] in last
    }
    wrong = 0
    for result in played.results:
        for name in gone:
            lacking = (result.end_s - last[name]) / stage.window_s
            if lacking > stage.rules.max_gap + 0.05:
                wrong += name in result.present or (result.status == "OK")
                wrong += bool(result.present) and name not in result.reason
    return Outcome(len(told) == len(gone), max(told.values(), default=None), wrong + played.broken())


def flapping(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F2: a sensor comes and goes."""
    windows = 40
    name, period = stage.some(rng).name, float(rng.choice((0.5, 1, 2, 10))) * stage.window_s
    duty, phase = rng.uniform(0.1, 0.9), rng.uniform(0, period)
    packets = stage.packets(stage.samples(stage.start(rng, windows), windows))
    packets[name] = [p for p in packets[name] if (p.received_s + phase) % period < duty * period]
    played = stage.play(packets, windows)
    used = played.used(name)
    returns = [k for k in range(1, windows) if used[k] and not used[k - 1] and any(used[:k])]
    switches = sum(a.plan_id != b.plan_id for a, b in pairwise(played.results))
    too_soon = sum(b - a < stage.rules.hold_off_windows for a, b in pairwise(returns))
    return Outcome(None, None, too_soon + played.broken(), {"switches in 40 windows": switches})


def gap(least: float, most: float) -> Trial:
    """F3: a part of one window is lacking."""

    def trial(stage: Stage, rng: np.random.Generator) -> Outcome:
        name, share = stage.some(rng).name, rng.uniform(least, most)
        begin_s = stage.window_s * (_FROM + rng.uniform(0, 1 - share))
        end_s = begin_s + share * stage.window_s
        samples = stage.samples(stage.start(rng, WINDOWS), WINDOWS)
        times, values = samples[name]
        there = (times < begin_s) | (times >= end_s)
        samples[name] = Samples(times[there], values[there])
        played = stage.play(stage.packets(samples), WINDOWS)
        used = played.used(name)[_FROM]
        large = least > stage.rules.max_gap
        after_s = played.results[_FROM].end_s - begin_s if large else None
        return Outcome(not used if large else None, after_s, (used == large) + played.broken())

    return trial


def frozen(n: int) -> Trial:
    """F4: the same sample again and again."""

    def trial(stage: Stage, rng: np.random.Generator) -> Outcome:
        m, begin_s = stage.some(rng), _begin_s(stage, rng)
        kind = rng.choice(("last", "zero", "rail"))
        mean, std = stage.scale(m.name)
        limit = stage.rules.still_after(m.name, m.rate_hz, m.length)
        windows = WINDOWS + int(np.ceil(n / m.length))
        at = 0

        def freeze(times: Times, values: Floats) -> None:
            nonlocal at
            at = int(np.searchsorted(times, begin_s))
            row = {"last": values[at].copy(), "zero": 0 * mean, "rail": mean + 3 * std}[kind]
            values[at : at + n] = row

        samples = altered(stage.samples(stage.start(rng, windows), windows), m.name, freeze)
        played = stage.play(stage.packets(samples), windows)
        times, verdicts = samples[m.name].times, played.verdicts(m.name)
        wrong, found = 0, None
        for result, verdict in zip(played.results, verdicts, strict=True):
            inside = int(np.searchsorted(times, result.end_s)) - at
            equal = min(n, inside) if inside - n < m.length else 0
            if equal and found is None and verdict == "stuck":
                found = result.end_s - float(times[at])
            wrong += limit <= inside <= n and verdict == "ok"
        return Outcome(found is not None, found, wrong + played.broken())

    return trial


def spikes(share: float, sigma: float, *, absent: bool) -> Trial:
    """F5: single values far from what training saw."""

    def trial(stage: Stage, rng: np.random.Generator) -> Outcome:
        name, first = stage.some(rng).name, stage.start(rng, WINDOWS)
        mean, std = stage.scale(name)

        def spike(times: Times, values: Floats) -> None:
            hit = rng.random(values.shape) < share
            hit[times < stage.window_s * _FROM] = False
            signs = rng.choice((-1, 1), values.shape)
            values[hit] = (mean + signs * sigma * std)[hit]

        played = stage.play(stage.packets(altered(stage.samples(first, WINDOWS), name, spike)), WINDOWS)
        verdicts = played.verdicts(name)[_FROM:]
        clean = stage.clean(first, WINDOWS)
        changed = np.mean(
            [a.answer != b.answer for a, b in zip(played.results[_FROM:], clean.results[_FROM:], strict=True)]
        )
        noticed = "range" in verdicts
        after_s = (verdicts.index("range") + 1) * stage.window_s if noticed else None
        wrong = sum(v == "ok" for v in verdicts) if absent else sum(v == "range" for v in verdicts)
        return Outcome(
            noticed if absent else None, after_s, wrong + played.broken(), {"answers changed": float(changed)}
        )

    return trial


def within_range(
    edit: Edit,
) -> Trial:
    """F6, F7: every sensor's values are off, and none out of range; what it costs is measured."""

    def trial(stage: Stage, rng: np.random.Generator) -> Outcome:
        first = stage.start(rng, WINDOWS)
        samples = stage.samples(first, WINDOWS)
        name = stage.some(rng).name
        samples[name] = Samples(samples[name].times, edit(stage, name, rng, samples[name].values))
        played, clean = stage.play(stage.packets(samples), WINDOWS), stage.clean(first, WINDOWS)
        before, after = clean.verdicts(name), played.verdicts(name)
        noticed = any(a == "ok" and b != "ok" for a, b in zip(before, after, strict=True))
        numbers = {
            "answers changed": float(
                np.mean([a.answer != b.answer for a, b in zip(played.results, clean.results, strict=True)])
            )
        }
        labels = stage.labels(first, WINDOWS)
        if labels is not None:
            said = [stage.bundle.classes[k] for k in labels]
            for what, run in (("accuracy without", clean), ("accuracy with", played)):
                numbers[what] = float(
                    np.mean([r.answer == c for r, c in zip(run.results, said, strict=False)])
                )
        return Outcome(noticed, None, played.broken(), numbers)

    return trial


def bias(sigma: float) -> Edit:
    """A shift by so many deviations of training."""
    return lambda stage, name, rng, x: (x + sigma * stage.scale(name)[1]).astype(np.float32)


def drift(sigma: float) -> Edit:
    """A shift that grows to so many deviations over the trial."""
    return lambda stage, name, rng, x: (
        x + np.linspace(0, sigma, len(x))[:, None] * stage.scale(name)[1]
    ).astype(np.float32)


def gain(factor: float) -> Edit:
    """Another gain."""
    return lambda stage, name, rng, x: (factor * x).astype(np.float32)


def noise(decibel: float) -> Edit:
    """White noise at a ratio of signal to noise [dB]."""
    return lambda stage, name, rng, x: (
        x + 10 ** (-decibel / 20) * x.std(axis=0) * rng.standard_normal(x.shape)
    ).astype(np.float32)


def saturated(share: float, *, absent: bool) -> Trial:
    """F8: a part of one window lies far out of range."""

    def trial(stage: Stage, rng: np.random.Generator) -> Outcome:
        m = stage.some(rng)
        value = np.float32(rng.choice((32767.0, 3.4e38, -3.4e38)))
        begin = stage.window_s * _FROM

        def saturate(times: Times, values: Floats) -> None:
            inside = np.flatnonzero((times >= begin) & (times < begin + stage.window_s))
            values[inside[: max(1, int(share * len(inside)))]] = value

        first = stage.start(rng, WINDOWS)
        played = stage.play(stage.packets(altered(stage.samples(first, WINDOWS), m.name, saturate)), WINDOWS)
        verdict = played.verdicts(m.name)[_FROM]
        noticed = verdict == "range"
        return Outcome(
            noticed if absent else None,
            stage.window_s if noticed else None,
            (verdict == "ok" if absent else noticed) + played.broken(),
        )

    return trial


def no_number(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F9: NaN or infinite, one sample to the whole window."""
    m = stage.some(rng)
    bad = float(rng.choice((np.nan, np.inf, -np.inf)))
    n = int(rng.choice((1, 5, m.length)))
    at = round(stage.window_s * _FROM * m.rate_hz) + int(rng.integers(m.length - n + 1))

    def spoil(times: Times, values: Floats) -> None:
        values[at : at + n, int(rng.integers(values.shape[1]))] = bad

    samples = altered(stage.samples(stage.start(rng, WINDOWS), WINDOWS), m.name, spoil)
    played = stage.play(stage.packets(samples), WINDOWS)
    may_miss = m.may_miss and np.isnan(bad)
    used = played.used(m.name)[_FROM]
    begin_s = float(samples[m.name].times[at])
    after_s = None if used else played.results[_FROM].end_s - begin_s
    return Outcome(not used or may_miss, after_s, (used and not may_miss) + played.broken())


def odd_zeros(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F9: -0 in place of 0 and denormals, which are numbers."""
    m, first = stage.some(rng), stage.start(rng, WINDOWS)

    def spoil(times: Times, values: Floats) -> None:
        hit = rng.random(values.shape) < 0.02
        values[hit] = rng.choice(np.array((-0.0, 1e-40, -1e-42), np.float32), int(hit.sum()))

    played = stage.play(stage.packets(altered(stage.samples(first, WINDOWS), m.name, spoil)), WINDOWS)
    clean = stage.clean(first, WINDOWS)
    wrong = sum(
        a == "nan" and b == "ok" for a, b in zip(played.verdicts(m.name), clean.verdicts(m.name), strict=True)
    )
    return Outcome(None, None, wrong + played.broken())


def healthy(stage: Stage, rng: np.random.Generator) -> Outcome:
    """No fault: what is called absent is a false alarm."""
    played = stage.clean(stage.start(rng, WINDOWS), WINDOWS)
    alarms = sum(v != "ok" for m in stage.moving for v in played.verdicts(m.name))
    return Outcome(
        None, None, played.broken(), {"false alarms per 1,000": 1e3 * alarms / (WINDOWS * len(stage.moving))}
    )


def hop_limit(stage: Stage) -> float:
    """A window and the wait for late packets, and a look [s]."""
    return stage.window_s + 0.2


CASES = (
    Case("none", "the recording as it is", "all sensors used", healthy),
    Case(
        "F1",
        "some sensors gone for good, any set",
        "absent from the next window on, and named",
        dropout,
        lambda stage: max(stage.silence_s(m.name) for m in stage.moving) + 0.04,
    ),
    Case("F2", "flapping, 0.5 to 10 windows, 10-90 % on", "one return in 10 windows at most", flapping),
    Case("F3", "gap of 5-15 % of a window", "filled and used", gap(0.05, 0.15)),
    Case("F3", "gap of 25-90 % of a window", "absent for it", gap(0.25, 0.9), hop_limit),
    Case("F4", "20 equal samples", "used: too few to tell", frozen(20)),
    Case(
        "F4",
        "1,000 equal samples: the last, 0, a rail",
        "absent as stuck",
        frozen(1000),
        lambda stage: (
            hop_limit(stage)
            + max(stage.rules.still_after(m.name, m.rate_hz, m.length) / m.rate_hz for m in stage.moving)
        ),
    ),
    Case("F5", "spikes of 50 deviations, 1 % of values", "clipped and used", spikes(0.01, 50, absent=False)),
    Case("F5", "spikes of 50 deviations, 20 % of values", "absent", spikes(0.2, 50, absent=True), hop_limit),
    Case("F5", "spikes of 10 deviations, 2 % of values", "not noticed", spikes(0.02, 10, absent=False)),
    Case("F6", "bias of 1 deviation", "reported", within_range(bias(1))),
    Case("F6", "bias of 3 deviations", "reported", within_range(bias(3))),
    Case("F6", "drift to 3 deviations in the trial", "reported", within_range(drift(3))),
    Case("F6", "gain 0.5", "reported", within_range(gain(0.5))),
    Case("F6", "gain 2", "reported", within_range(gain(2))),
    Case("F7", "noise, 20 dB", "reported", within_range(noise(20))),
    Case("F7", "noise, 0 dB", "reported", within_range(noise(0))),
    Case("F7", "noise, -10 dB", "reported", within_range(noise(-10))),
    Case("F8", "2 % of a window out of range", "clipped and used", saturated(0.02, absent=False)),
    Case("F8", "30 % of a window out of range", "absent for it", saturated(0.3, absent=True), hop_limit),
    Case("F9", "NaN or infinite, one sample to a window", "never reaches the model", no_number, hop_limit),
    Case("F9", "-0 and denormals", "used", odd_zeros),
)
