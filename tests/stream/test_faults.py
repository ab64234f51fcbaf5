"""Faults F1-F5 and F8-F15 put into healthy streams; what the cutter must say, and when."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from sentryfuse.stream import Cutter, HealthRules, Packet
from tests.stream.feeding import FAST, OTHER, SLOW, changed, play, stream, verdicts

pytestmark = pytest.mark.device

SENSORS = (FAST, OTHER, SLOW)
SCALE = {"acc": (np.zeros(3), np.full(3, 10.0))}


def healthy(seconds=20.0):
    return {m.name: stream(m, seconds, seed=k) for k, m in enumerate(SENSORS)}


def flat(streams):
    return [p for packets in streams.values() for p in packets]


def without(packets, since, until=np.inf):
    return [p for p in packets if not since <= p.received_s < until]


def with_values(packets, edit):
    """The packets with the values of all samples edited at once: `edit(times, values)`."""
    values = np.concatenate([p.values for p in packets])
    edit(np.concatenate([p.times_s for p in packets]), values)
    edges = np.cumsum([len(p.values) for p in packets])[:-1]
    return [changed(p, values=v) for p, v in zip(packets, np.split(values, edges), strict=True)]


@pytest.mark.parametrize(
    "gone", [s for n in (1, 2, 3) for s in itertools.combinations(("acc", "gyro", "temp"), n)]
)
def test_f1_a_sensor_that_falls_silent_is_absent_from_the_next_window_on(gone):
    streams = healthy()
    for name in gone:
        streams[name] = without(streams[name], 7.0)
    windows = play(Cutter(SENSORS), flat(streams), until_s=20)
    for w in windows:
        lost = set() if w.end_s < 7 else set(gone)
        assert set(w.present) == {m.name for m in SENSORS} - lost
    assert all(set(verdicts(windows, name)[4:]) == {"silent"} for name in gone)


@pytest.mark.parametrize("modality", SENSORS)
def test_f1_silence_is_detected_within_20_ms_or_two_sample_periods(modality):
    cutter = Cutter(SENSORS)
    packets = sorted(flat(healthy(9)), key=lambda p: p.received_s)
    last = max(p.received_s for p in packets if p.modality == modality.name and p.received_s < 7)
    packets = [p for p in packets if p.modality != modality.name or p.received_s <= last]
    limit, low, told = max(0.02, 2 / modality.rate_hz), 0, None
    for tick in range(8500):
        now = tick / 1000
        high = low
        while high < len(packets) and packets[high].received_s <= now:
            high += 1
        cutter.push(packets[low:high])
        low = high
        assert set(cutter.silent(now)) <= {modality.name}, now
        if told is None and cutter.silent(now):
            told = now
    assert told is not None
    assert limit < told - last <= limit + 0.0021


def test_f1_packets_of_many_samples_may_be_further_apart():
    cutter = Cutter((FAST,))
    cutter.push(stream(FAST, 5, size=25))
    assert cutter.silent(5.0 + 0.4) == ()
    assert cutter.silent(5.0 + 0.6) == ("acc",)


@pytest.mark.parametrize("period", [0.5, 1, 2, 10])
@pytest.mark.parametrize("duty", [0.1, 0.5, 0.9])
def test_f2_a_flapping_sensor_returns_at_most_once_in_a_hold_off(period, duty):
    streams = healthy(120)
    streams["acc"] = [p for p in streams["acc"] if p.received_s / 2 % period < duty * period]
    cutter = Cutter(SENSORS)
    windows = play(cutter, flat(streams), until_s=121)
    used = ["acc" in w.present for w in windows]
    returns = [k for k in range(1, len(used)) if used[k] and not used[k - 1]]
    assert all(b - a >= 10 for a, b in itertools.pairwise(returns))
    counts = cutter.counters()["acc"]
    assert counts["back"] <= len(used) / 10 + 1
    assert counts["lost"] - counts["back"] in (0, 1)
    assert all({"gyro", "temp"} <= set(w.present) for w in windows)


@pytest.mark.parametrize(("share", "used"), [(0.1, True), (0.3, False), (0.5, False), (0.9, False)])
def test_f3_a_gap_is_filled_when_small_and_makes_absent_when_large(share, used):
    streams = healthy()
    streams["acc"] = without(streams["acc"], 6.05, 6.05 + 2 * share)
    windows = play(Cutter(SENSORS), flat(streams), until_s=20)
    assert (verdicts(windows, "acc")[3] == "ok") == used
    if used:
        assert np.all(np.diff(windows[3].values["acc"][0, :, 0]) > 0)  # straight lines keep the order
    assert verdicts(windows, "acc")[4:7] == (["ok"] * 3 if used else ["recovering", "recovering", "ok"])[:3]


@pytest.mark.parametrize("kind", ["last", "zero", "rail"])
@pytest.mark.parametrize(("samples", "stuck"), [(20, False), (150, True), (1000, True)])
def test_f4_a_frozen_sensor_is_absent_and_comes_back(kind, samples, stuck):
    def freeze(times, values):
        at = int(np.searchsorted(times, 4.1))
        values[at : at + samples] = {"last": values[at], "zero": 0, "rail": 4.0}[kind]

    streams = healthy(40)
    streams["acc"] = with_values(streams["acc"], freeze)
    told = verdicts(play(Cutter(SENSORS), flat(streams), until_s=40), "acc")
    assert told[:2] == ["ok", "ok"]
    assert (told[2] == "stuck") == stuck
    assert told[-1] == "ok"


def test_f4_a_slow_sensor_may_stand_still():
    slow = type(SLOW)("room", 0.5, 8, ("degrees",))
    packets = with_values(stream(slow, 64), lambda t, v: v.fill(21.0))
    assert set(verdicts(play(Cutter((slow,)), packets, tick_s=0.5), "room")) == {"ok"}


@pytest.mark.parametrize(("share", "used"), [(0.001, True), (0.02, True), (0.2, False)])
@pytest.mark.parametrize("sigma", [50.0, 1e30])
def test_f5_few_spikes_are_clipped_and_many_make_absent(share, used, sigma):
    def spike(times, values):
        rng = np.random.default_rng(1)
        values[rng.random(values.shape) < share] = sigma * 10

    streams = healthy()
    streams["acc"] = with_values(streams["acc"], spike)
    windows = play(Cutter(SENSORS, scale=SCALE), flat(streams), until_s=20)
    assert set(verdicts(windows, "acc")) == ({"ok"} if used else {"range"})
    for w in windows:
        if used:
            assert np.abs(w.values["acc"]).max() <= 200.0


@pytest.mark.parametrize("value", [201.0, 32767.0, 3.4e38, -3.4e38])
def test_f8_out_of_range_is_clipped_or_absent_by_its_share(value):
    def saturate(times, values):
        values[(times > 4.0) & (times < 4.05)] = value  # 2.5 % of the third window
        values[(times > 8.0) & (times < 9.0), 1:] = value  # a third of the fifth

    streams = healthy()
    streams["acc"] = with_values(streams["acc"], saturate)
    windows = play(Cutter(SENSORS, scale=SCALE), flat(streams), until_s=20)
    assert verdicts(windows, "acc")[:5] == ["ok", "ok", "ok", "ok", "range"]
    assert np.abs(windows[2].values["acc"]).max() == 200.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 5, 200])
@pytest.mark.parametrize("name", ["acc", "gyro", "temp"])
def test_f9_what_is_no_number_never_reaches_the_model(bad, n, name):
    def spoil(times, values):
        at = int(np.searchsorted(times, 4.0))
        values.reshape(-1)[at * values.shape[1] :][:n] = bad

    streams = healthy()
    streams[name] = with_values(streams[name], spoil)
    windows = play(Cutter(SENSORS), flat(streams), until_s=20)
    may_miss = name == "temp" and np.isnan(bad)
    assert (verdicts(windows, name)[2] == "nan") == (not may_miss or n >= 8)
    for w in windows:
        for other, values in w.values.items():
            assert not np.isinf(values).any()
            assert other == "temp" or np.isfinite(values).all()


@pytest.mark.parametrize("clock", [-10.0, 0.01, 1.7e9])
@pytest.mark.parametrize("ppm", [-500.0, 0.0, 500.0])
def test_f10_another_clock_that_runs_a_little_wrong_is_followed(clock, ppm):
    packets = stream(FAST, 200, size=5) + stream(OTHER, 200, size=3, clock=clock, ppm=ppm)
    windows = play(Cutter((FAST, OTHER)), packets, until_s=200)
    assert set(verdicts(windows, "gyro")) == {"ok"}
    for w in windows:
        assert abs(w.values["gyro"][0, 0, 0] - w.values["acc"][0, 0, 0]) < 0.075
        assert np.all(np.diff(w.values["gyro"][0, :, 0]) > 0.005)


@pytest.mark.parametrize("step", [-10.0, -1.0, -0.1, -0.01, 0.01, 0.1, 1.0, 10.0])
def test_f10_a_clock_that_jumps_is_realigned_or_absent_for_a_while(step):
    streams = healthy(60)
    streams["gyro"] = [changed(p, times_s=p.times_s + step * (p.received_s > 9.3)) for p in streams["gyro"]]
    cutter = Cutter(SENSORS, rules=HealthRules(hold_off_windows=0))
    windows = play(cutter, flat(streams), until_s=60)
    told = verdicts(windows, "gyro")
    ends = np.diff([w.end_s for w in windows])
    assert np.allclose(ends, 2.0)
    assert all({"acc", "temp"} <= set(w.present) for w in windows)
    if abs(step) < 0.5:
        assert set(told) == {"ok"}
    else:
        assert told[4] == "clock"
        assert told[5:8] == ["recovering", "recovering", "ok"]
    for w in windows:
        if "gyro" in w.present:  # never more wrong than the tolerance
            assert abs(w.values["gyro"][0, 0, 0] - (w.end_s - 2)) < 0.5
    if abs(step) >= 0.5:
        assert abs(windows[-1].values["gyro"][0, 0, 0] - (windows[-1].end_s - 2)) < 0.05


@pytest.mark.parametrize("delay", [0.05, 0.5, 2.0, 10.0])
def test_f11_late_packets_are_placed_in_time_or_dropped_and_counted(delay):
    rng = np.random.default_rng(0)
    streams = healthy()
    slow = rng.random(len(streams["acc"])) < 0.05
    streams["acc"] = [
        changed(p, received_s=p.received_s + delay * late)
        for p, late in zip(streams["acc"], slow, strict=True)
    ]
    cutter = Cutter(SENSORS, wait_s=0.1)
    windows = play(cutter, flat(streams), until_s=20)
    counts = cutter.counters()["acc"]
    assert set(verdicts(windows, "acc")) == {"ok"}
    came = sum(p.received_s <= 20 for p, late in zip(streams["acc"], slow, strict=True) if late)
    if delay < 0.1:
        assert counts["late"] == 0
        assert counts["reordered"] > 0
    if delay == 10:
        assert counts["late"] == came
    for w in windows:
        assert np.allclose(w.values["acc"][0, :, 0], w.end_s - 2 + np.arange(200) / 100, atol=0.05)


def test_f11_reordered_and_repeated_packets_change_nothing():
    rng = np.random.default_rng(0)
    streams = healthy()
    messy = dict(streams)
    messy["acc"] = []
    for p in streams["acc"]:
        moved = changed(p, received_s=p.received_s + 0.05 * (rng.random() < 0.3))
        messy["acc"] += [moved] + [changed(moved, received_s=moved.received_s + 0.02)] * (rng.random() < 0.05)
    clean = play(Cutter(SENSORS), flat(streams), until_s=21)
    cutter = Cutter(SENSORS)
    dirty = play(cutter, flat(messy), until_s=21)
    counts = cutter.counters()["acc"]
    assert counts["duplicate"] == len(messy["acc"]) - len(streams["acc"]) > 0
    assert counts["reordered"] > 0
    for a, b in zip(clean, dirty, strict=True):
        assert a.verdicts == b.verdicts
        assert all(np.array_equal(a.values[n], b.values[n], equal_nan=True) for n in a.values)


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.5, {"gap"}), (0.95, {"ok"}), (1.05, {"ok"}), (1.5, {"rate"}), (2.0, {"rate"})]
)
def test_f12_another_rate_is_absorbed_or_absent_and_fills_no_memory(rate, expected):
    streams = healthy(40)
    streams["acc"] = stream(FAST, 40, rate=rate)
    cutter = Cutter(SENSORS)
    held = cutter.nbytes
    told = verdicts(play(cutter, flat(streams), until_s=40), "acc")
    assert set(told[1:-1]) == expected
    assert cutter.nbytes == held


def test_f12_jitter_is_absorbed():
    streams = {m.name: stream(m, 40, jitter=0.3, seed=k) for k, m in enumerate(SENSORS)}
    windows = play(Cutter(SENSORS), flat(streams), until_s=40)
    assert all(set(verdicts(windows, m.name)) == {"ok"} for m in SENSORS)


def test_f12_a_flood_is_bounded():
    cutter = Cutter((FAST,))
    held = cutter.nbytes
    for k in range(200):
        times = k / 10 + np.arange(5000) / 50_000
        cutter.push([Packet("acc", np.ones((5000, 3), np.float32), times, k / 10 + 0.1)])
        for w in cutter.cut(k / 10 + 0.1):
            assert w.verdicts["acc"] != "ok"
    assert cutter.nbytes == held
    assert cutter.counters()["acc"]["dropped"] > 0


GOOD: Any = stream(FAST, 0.5, size=10)[1]
MALFORMED: list[Any] = [
    None,
    "acc",
    42,
    changed(GOOD, modality="ecg"),
    changed(GOOD, modality=None),
    changed(GOOD, modality=["acc"]),
    changed(GOOD, values=GOOD.values.astype(np.float64)),
    changed(GOOD, values=GOOD.values.astype(">f4")),
    changed(GOOD, values=GOOD.values.astype(np.int16)),
    changed(GOOD, values=GOOD.values[:, :2]),
    changed(GOOD, values=GOOD.values[0]),
    changed(GOOD, values=GOOD.values[None]),
    changed(GOOD, values=GOOD.values[:-1]),
    changed(GOOD, values=GOOD.values.tolist()),
    changed(GOOD, values=np.array([["a", "b", "c"]] * 10)),
    changed(GOOD, times_s=GOOD.times_s[:-1]),
    changed(GOOD, times_s=GOOD.times_s.astype(np.float32)),
    changed(GOOD, times_s=np.full(10, np.nan)),
    changed(GOOD, times_s=float(GOOD.times_s[0])),
    changed(GOOD, received_s=float("nan")),
    changed(GOOD, received_s=None),
]


def test_f13_malformed_packets_are_counted_and_change_nothing():
    streams = healthy(8)
    clean = play(Cutter(SENSORS), flat(streams), until_s=9)
    cutter = Cutter(SENSORS)
    cutter.push(MALFORMED)
    dirty = play(cutter, flat(streams), until_s=9)
    cutter.push(MALFORMED)
    for a, b in zip(clean, dirty, strict=True):
        assert a.verdicts == b.verdicts
        assert all(np.array_equal(a.values[n], b.values[n], equal_nan=True) for n in a.values)
    known = sum(getattr(p, "modality", None) == "acc" for p in MALFORMED)
    assert cutter.counters()["acc"]["malformed"] == 2 * known
    assert cutter.unknown == 2 * (len(MALFORMED) - known)


@pytest.mark.parametrize("away", [2.0, 20.0, 200.0])
def test_f14_a_sensor_that_comes_back_is_taken_again_after_good_windows(away):
    streams = healthy(away + 60)
    streams["acc"] = without(streams["acc"], 20.0, 20.0 + away)
    cutter = Cutter(SENSORS)
    told = verdicts(play(cutter, flat(streams), until_s=away + 60), "acc")
    back = 10 + round(away / 2)
    assert told[10:back] == ["silent"] * (back - 10)
    assert told[back : back + 4] == ["recovering", "recovering", "ok", "ok"]
    assert cutter.counters()["acc"]["back"] == 1


def test_f14_a_sensor_that_comes_late_for_the_first_time_counts_at_once():
    streams = healthy(20)
    streams["acc"] = without(streams["acc"], 0, 7.0)
    told = verdicts(play(Cutter(SENSORS), flat(streams), until_s=20), "acc")
    assert told[:3] == ["never seen"] * 3
    assert told[3] == "gap"
    assert set(told[4:]) == {"ok"}


def test_f15_when_all_are_gone_windows_go_on_empty():
    streams = {name: without(packets, 6.0) for name, packets in healthy(10).items()}
    windows = play(Cutter(SENSORS), flat(streams), until_s=60)
    assert [w.window_id for w in windows] == list(range(len(windows)))
    assert len(windows) == 29
    assert all(w.present == () for w in windows[4:])
