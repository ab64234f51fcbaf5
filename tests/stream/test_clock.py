from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.stream.clock import HORIZON_S, SensorClock

pytestmark = pytest.mark.device


def observe(clock, now, distance, *, seconds=5.0, every=0.1, ppm=0.0, noise=0.0):
    """Packets for some seconds; gives our time afterwards and whether the clock was set anew."""
    rng = np.random.default_rng(0)
    jumped = False
    for k in range(round(seconds / every)):
        at = now + k * every
        jumped |= clock.observe(at + noise * rng.random(), at * (1 + 1e-6 * ppm) - distance)
        clock.commit()
    return now + seconds, jumped


@given(st.floats(-2e9, 2e9))
def test_any_distance_is_found(distance):
    clock = SensorClock(0.01, 0.5)
    assert clock.estimate_s() is None
    observe(clock, 0.0, distance)
    assert clock.offset_s == pytest.approx(distance, abs=1e-5)
    assert clock.realigned == 0


def test_the_quickest_packet_tells_the_distance_and_noise_does_not_move_it():
    clock = SensorClock(0.01, 0.5)
    now, _ = observe(clock, 0.0, 3.0, noise=0.08)
    first = clock.offset_s
    assert first is not None
    assert 3.0 <= first < 3.08  # known before the quickest packet came
    observe(clock, now, 3.0, seconds=600, noise=0.08)
    later = clock.offset_s
    assert clock.realigned <= 2
    assert later is not None
    assert 3.0 <= later < 3.02


@pytest.mark.parametrize("ppm", [-500, -50, 1, 500])
def test_a_clock_that_runs_fast_or_slow_is_followed(ppm):
    clock = SensorClock(0.01, 0.5)
    now, jumped = observe(clock, 0.0, 0.0, seconds=900, ppm=ppm)
    assert not jumped
    true = -now * 1e-6 * ppm
    assert clock.offset_s == pytest.approx(true, abs=2 * HORIZON_S * 500e-6 + 0.011)


@pytest.mark.parametrize("step", [-10.0, -1.0, 1.0, 10.0])
def test_a_jump_is_believed_only_after_a_while(step):
    clock = SensorClock(0.01, 0.5)
    now, _ = observe(clock, 0.0, 0.0)
    now, jumped = observe(clock, now, step, seconds=0.4)
    assert not jumped
    assert clock.is_uncertain
    assert clock.offset_s == 0.0
    now, jumped = observe(clock, now, step, seconds=0.4)
    assert jumped
    assert not clock.is_uncertain
    assert clock.offset_s == pytest.approx(step)
    assert now - 0.4 <= clock.jumped_s <= now


@pytest.mark.parametrize("step", [-0.4, -0.05, 0.05, 0.4])
def test_a_small_jump_is_realigned_without_doubt(step):
    clock = SensorClock(0.01, 0.5)
    now, _ = observe(clock, 0.0, 0.0)
    _, jumped = observe(clock, now, step, seconds=2 * HORIZON_S + 1)
    assert not jumped
    assert clock.realigned == 1
    assert clock.offset_s == pytest.approx(step, abs=1e-6)


def test_single_packets_much_too_late_change_nothing():
    clock = SensorClock(0.01, 0.5)
    now, _ = observe(clock, 0.0, 0.0)
    for k in range(100):
        at = now + 0.1 * k
        assert not clock.observe(at, at if k % 2 else at - 3.0)
    assert clock.offset_s == 0.0


def test_a_burst_of_old_packets_is_no_jump():
    clock = SensorClock(0.01, 0.5)
    now, _ = observe(clock, 0.0, 0.0)
    for k in range(300):  # 30 s that had been stored, sent at once
        assert not clock.observe(now + 30 + 0.001 * k, now + 0.1 * k)
    assert clock.offset_s == 0.0
