"""What holds for any packets, in any order, cut at any time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentryfuse.stream import Cutter, HealthRules, Packet, Verdict
from tests.stream.feeding import FAST, OTHER, SLOW, STATIC, stream

pytestmark = pytest.mark.device

SENSORS = (FAST, OTHER, SLOW, STATIC)
BY_NAME = {m.name: m for m in SENSORS}
SECONDS = 4.0  # two windows
LATENCY_S = 0.004


def cut_again(packets, cuts):
    """The same samples of one sensor in other packets, each received when its last sample was."""
    values = np.concatenate([p.values for p in packets])
    times = np.concatenate([p.times_s for p in packets])
    arrival = np.array([p.received_s for p in packets])
    edges = [0, *sorted({round(c * len(times)) for c in cuts} - {0, len(times)}), len(times)]
    return [
        Packet(packets[0].modality, values[a:b], times[a:b], float(arrival[b - 1]))
        for a, b in pairwise(edges)
    ]


def all_of(packets):
    cutter = Cutter(SENSORS)
    cutter.push(packets)
    return cutter, cutter.cut(SECONDS + 0.5)


@given(st.data(), st.integers(0, 50), st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([0.0, -7.25, 1.7e9]))
@settings(max_examples=40, deadline=None)
def test_order_repeats_and_pieces_before_the_cut_change_no_bit(data, seed, jitter, clock):
    shares = st.lists(st.floats(0, 1), max_size=12)
    plain, messy = [], []
    for m in (FAST, OTHER, SLOW):
        single = stream(m, SECONDS, jitter=jitter, clock=clock, seed=seed, latency_s=LATENCY_S)
        plain += single
        messy += cut_again(single, data.draw(shares))
    static = [Packet("age", np.array([[k, 2]], np.float32), None, 1.0 + k) for k in (0.0, 1.0, 2.0)]
    messy += static
    messy += data.draw(st.lists(st.sampled_from(messy), max_size=8))
    _, expected = all_of(plain + static)
    cutter, given_ = all_of(data.draw(st.permutations(messy)))
    assert len(expected) == 2
    assert expected[1].present == ("acc", "gyro", "temp", "age")
    for a, b in zip(expected, given_, strict=True):
        assert (a.window_id, a.present, a.verdicts, a.changed) == (
            b.window_id,
            b.present,
            b.verdicts,
            b.changed,
        )
        assert a.end_s == pytest.approx(b.end_s, abs=1e-6)
        for name, values in a.values.items():
            assert np.array_equal(values.view(np.uint32), b.values[name].view(np.uint32))
    assert sum(c["late"] + c["early"] + c["malformed"] for c in cutter.counters().values()) == 0


@st.composite
def anything(draw):
    """A packet of some sensor, mostly well formed, of numbers that hurt, at times that make no sense."""
    name = draw(st.sampled_from([*BY_NAME, "ecg"]))
    n = draw(st.integers(0, 30))
    width = (
        BY_NAME[name].n_channels if name in BY_NAME and draw(st.integers(0, 9)) else draw(st.integers(0, 4))
    )
    odd = st.sampled_from([np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-42, -0.0, 0.0])
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    values = rng.normal(0, 1, (n, width)).astype(np.float32)
    for _ in range(draw(st.integers(0, 3)) if values.size else 0):
        values.reshape(-1)[rng.integers(values.size)] = draw(odd)
    start = draw(st.one_of(st.floats(-20, 20), st.sampled_from([-9e11, 9e11, 1e18, np.nan, 1e308])))
    steps = st.sampled_from([0.01, 0.02, 0.25, 0.0, -0.01, 1e-9, 1e11, 1e300])
    times = start + np.arange(n) * draw(steps)
    received = draw(st.one_of(st.floats(0, 12), st.sampled_from([np.nan, np.inf, 1e300, -5.0])))
    return Packet(name, values, None if draw(st.integers(0, 4)) == 0 else times, received)


@given(
    st.lists(st.one_of(st.lists(anything(), max_size=5), st.floats(0.001, 3.0)), max_size=25),
    st.integers(0, 1),
    st.sampled_from([0.4, 2.0, 3.1]),
)
@settings(max_examples=150, deadline=None)
def test_whatever_is_pushed_ids_are_whole_memory_is_bounded_and_no_nan_gets_out(acts, healthy, hop_s):
    cutter = Cutter(
        SENSORS,
        hop_s=hop_s,
        rules=HealthRules(good_windows=1, hold_off_windows=0),
        scale={"acc": (np.zeros(3), np.ones(3))},
    )
    held = cutter.nbytes
    now, windows = 0.0, []
    if healthy:
        cutter.push(p for m in (FAST, OTHER, SLOW) for p in stream(m, 4.0, size=20))
    for act in acts:
        if isinstance(act, list):
            cutter.push(act)
        else:
            now += act
        windows += cutter.cut(now)
        cutter.silent(now)
    assert [w.window_id for w in windows] == list(range(len(windows)))
    ends = [w.end_s for w in windows]
    assert all(b > a for a, b in pairwise(ends))
    assert cutter.nbytes == held
    cutter.counters()
    for w in windows:
        assert set(w.verdicts) == set(w.changed) == set(BY_NAME)
        assert w.present == tuple(n for n in BY_NAME if w.verdicts[n] is Verdict.OK) == tuple(w.values)
        for name, values in w.values.items():
            m = BY_NAME[name]
            assert values.shape == (1, m.length, m.n_channels)
            assert not np.isinf(values).any()
            assert np.isfinite(values).any() if m.may_miss else np.isfinite(values).all()
