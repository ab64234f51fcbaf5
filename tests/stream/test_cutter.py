from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from sentryfuse.errors import ConfigError
from sentryfuse.stream import Cutter, HealthRules, Packet
from sentryfuse.stream.cutter import MOST_WINDOWS
from sentryfuse.types import Modality
from tests.stream.feeding import FAST, OTHER, SLOW, STATIC, changed, play, stream, verdicts

pytestmark = pytest.mark.device

ALL = (FAST, SLOW, OTHER, STATIC)


def everything(seconds=10.0, **options):
    packets = [p for m in (FAST, SLOW, OTHER) for p in stream(m, seconds, **options)]
    return [*packets, Packet("age", np.array([[40, 70]], np.float32), None, 0.5)]


def test_windows_come_in_order_with_every_sensor_at_its_own_rate():
    windows = play(Cutter(ALL), everything())
    assert [w.window_id for w in windows] == [0, 1, 2, 3, 4]
    assert np.allclose([w.end_s for w in windows], [2, 4, 6, 8, 10], atol=0.01)
    for w in windows:
        assert w.present == ("acc", "temp", "gyro", "age")
        for m in ALL:
            assert w.values[m.name].shape == (1, m.length, m.n_channels)
            assert w.values[m.name].dtype == np.float32
            assert w.values[m.name].flags.c_contiguous
        for m in (FAST, SLOW, OTHER):
            true = w.end_s - 2 + np.arange(m.length) / m.rate_hz
            assert np.allclose(w.values[m.name][0, :, 0], true, atol=5e-3)
        assert w.values["age"].tolist() == [[[40, 70]]]


def test_a_complete_window_is_given_at_once_and_another_after_waiting():
    cutter = Cutter((FAST, OTHER), wait_s=0.5, start_s=0.0)
    packets = stream(FAST, 4) + stream(OTHER, 4)
    cutter.push(p for p in packets if p.received_s < 2)
    assert len(cutter.cut(2.0)) == 1
    cutter.push(
        p for p in packets if 2 < p.received_s < 4 and not (p.modality == "gyro" and 3 < p.received_s < 3.03)
    )
    assert cutter.cut(4.0) == []  # one sample of gyro may still come
    assert cutter.cut(4.49) == []
    (window,) = cutter.cut(4.5)
    assert window.verdicts == {"acc": "ok", "gyro": "ok"}


def test_nobody_waits_for_a_sensor_that_is_gone():
    cutter = Cutter((FAST, OTHER), wait_s=0.5)
    packets = [p for p in stream(FAST, 4) + stream(OTHER, 4) if p.modality == "acc" or p.received_s < 2.5]
    given = []
    for tick in range(500):
        now = tick / 100
        cutter.push(p for p in packets if now - 0.01 < p.received_s <= now)
        given += [(now, w) for w in cutter.cut(now)]
    assert given[1][0] == pytest.approx(4.0, abs=0.02)
    assert given[1][1].verdicts == {"acc": "ok", "gyro": "silent"}


def test_hops_shorter_than_the_window_share_samples():
    windows = play(Cutter((FAST,), hop_s=0.5), stream(FAST, 6), until_s=6.1)
    assert len(windows) == 9
    for a, b in pairwise(windows):
        assert np.array_equal(a.values["acc"][0, 50:], b.values["acc"][0, :-50])
        assert b.end_s - a.end_s == pytest.approx(0.5)


def test_hops_longer_than_the_window_leave_samples_out():
    windows = play(Cutter((FAST,), hop_s=3.0), stream(FAST, 9))
    assert [round(float(w.values["acc"][0, 0, 0]), 3) for w in windows] == [0, 3, 6]


def test_what_has_not_changed_is_said_so():
    windows = play(Cutter(ALL, hop_s=0.1), everything(4.0))
    assert windows[0].changed == dict.fromkeys(("acc", "temp", "gyro", "age"), True)
    later = [w for w in windows[1:] if w.end_s < 4.01]
    assert all(w.changed["acc"] for w in later)
    assert not any(w.changed["age"] for w in later)
    moved = [w.changed["temp"] for w in later]
    assert sum(moved) == pytest.approx(len(moved) * 0.1 * 4, abs=2)  # as often as it is sampled
    for a, b in pairwise([windows[0], *later]):
        same = np.array_equal(a.values["temp"], b.values["temp"])
        assert b.changed["temp"] == (not same)


def test_absent_is_not_changed_and_back_is():
    packets = [p for p in stream(FAST, 20) if not 4 < p.received_s < 6]
    windows = play(Cutter((FAST, STATIC), rules=HealthRules(good_windows=1, hold_off_windows=0)), packets)
    assert verdicts(windows, "acc")[1:4] == ["ok", "silent", "ok"]
    assert [w.changed["acc"] for w in windows[1:4]] == [True, False, True]
    assert not windows[0].changed["age"]


def test_a_static_value_holds_until_another_comes():
    told = [
        Packet("age", np.array([[k, k]], np.float32), None, at) for k, at in ((1, 0.5), (2, 3.0), (3, 3.5))
    ]
    windows = play(Cutter((FAST, STATIC)), stream(FAST, 8) + told)
    assert [w.values["age"][0, 0, 0] for w in windows] == [1, 3, 3, 3]


def test_samples_without_a_time_end_on_arrival():
    packets = [
        Packet(p.modality, p.values, None, p.received_s + 0.004 * (k % 3))
        for k, p in enumerate(stream(FAST, 20, size=10))
    ]
    cutter = Cutter((FAST,))
    windows = play(cutter, packets)
    assert len(windows) >= 9
    assert set(verdicts(windows, "acc")) == {"ok"}
    for w in windows:
        assert np.allclose(np.diff(w.values["acc"][0, :, 0]), 0.01, atol=1e-4)
    assert cutter.counters()["acc"]["duplicate"] == 0


def test_a_phase_between_our_ticks_leaves_no_hole():
    for k in range(8):
        packets = stream(FAST, 8, start_s=0.0) + stream(OTHER, 8, start_s=0.02 * k / 8, jitter=0.2)
        windows = play(Cutter((FAST, OTHER)), packets)
        for w in windows[1:-1]:
            assert np.all(np.diff(w.values["gyro"][0, :, 0]) > 0.01)
            assert abs(w.values["gyro"][0, 0, 0] - (w.end_s - 2)) < 0.03


def test_windows_go_on_when_nothing_ever_comes():
    cutter = Cutter((FAST, STATIC), wait_s=0.1)
    windows = play(cutter, [], until_s=9)
    assert [w.window_id for w in windows] == [0, 1, 2, 3]
    assert all(w.present == () and w.values == {} for w in windows)
    assert set(verdicts(windows, "acc")) == {"never seen"}
    assert cutter.silent(9.0) == ()  # it was never there


def test_a_long_sleep_is_answered_in_pieces_without_a_gap():
    cutter = Cutter((FAST,), hop_s=0.01)
    cutter.push(stream(FAST, 2))
    assert len(cutter.cut(3.0)) > 1
    ids, n = [], MOST_WINDOWS
    while n == MOST_WINDOWS:
        windows = cutter.cut(60.0)
        n = len(windows)
        ids += [w.window_id for w in windows]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert len(ids) > 5000


def test_a_clock_that_goes_back_gives_nothing():
    cutter = Cutter((FAST,))
    cutter.push(stream(FAST, 4))
    assert len(cutter.cut(4.5)) == 2
    assert cutter.cut(1.0) == []


def test_the_end_of_a_source_needs_no_waiting():
    cutter = Cutter((FAST, OTHER), wait_s=5.0)
    cutter.push(stream(FAST, 4) + stream(OTHER, 3.98))
    assert len(cutter.cut(4.0)) == 1
    assert [w.window_id for w in cutter.flush(4.01)] == [1]
    assert cutter.flush(4.01) == []


def test_counters_are_a_plain_dictionary():
    cutter = Cutter(ALL)
    play(cutter, everything())
    told = json.loads(json.dumps(cutter.counters()))
    assert set(told) == {"acc", "temp", "gyro", "age"}
    assert len({frozenset(t) for t in told.values()}) == 1
    assert told["acc"]["samples"] == 1000
    assert told["acc"]["late"] == told["acc"]["lost"] == told["acc"]["malformed"] == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"modalities": ()}, "different names"),
        ({"modalities": (FAST, FAST)}, "different names"),
        ({"hop_s": 0}, "hop_s"),
        ({"hop_s": float("nan")}, "hop_s"),
        ({"wait_s": -1}, "wait_s"),
        ({"scale": {"ecg": ([0], [1])}}, "ecg"),
        ({"scale": {"acc": ([0], [1])}}, "shape"),
        ({"scale": {"acc": ([0, 0, 0], [1, 1, 0])}}, "positive"),
    ],
)
def test_what_means_nothing_is_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        Cutter(options.pop("modalities", (FAST,)), **options)


@pytest.mark.parametrize("size", [5, 10, 20])
def test_samples_stamped_with_their_arrival_are_no_gap(size):
    """A radio link hands over what it gathered at once, all with one time or nearly so."""
    packets = []
    for p in stream(FAST, 20, size=size):
        at = p.received_s + 1e-5 * np.arange(size)
        packets.append(changed(p, times_s=at))
    windows = play(Cutter((FAST,)), packets)
    assert set(verdicts(windows[1:9], "acc")) == {"ok"}
    for window in windows[2:9]:
        assert np.allclose(np.diff(window.values["acc"][0, :, 0]), 0.01, atol=1e-3)


def test_messages_that_could_not_be_read_are_not_a_sensor_that_was_never_seen():
    cutter = Cutter((FAST, OTHER))
    windows = []
    for tick in range(100):
        cutter.push(p for p in stream(FAST, 10) if tick <= 10 * p.received_s < tick + 1)
        cutter.unreadable("gyro", tick / 10)
        windows += cutter.cut(tick / 10)
    assert set(verdicts(windows, "gyro")) == {"unreadable"}
    assert cutter.counters()["gyro"]["absent"] == {"unreadable": len(windows)}


def told(packet: Packet) -> float:
    assert packet.times_s is not None
    return float(packet.times_s[0])


MODEST = Modality("acc", 16.0, 64, ("x", "y", "z"))  # a window of 4 s, and 6.25 s are stuck


@pytest.mark.parametrize("hop_s", [4.0, 1.0])
def test_a_sensor_that_stands_still_across_the_edge_of_two_windows_is_stuck(hop_s):
    def standing(low, high):
        packets = []
        for p in stream(MODEST, 40, size=4):
            if low <= told(p) < high:
                p.values[:] = 1.5
            packets.append(p)
        return play(Cutter((MODEST,), hop_s=hop_s), packets)

    assert set(verdicts(standing(9, 12.5), "acc")[: int(20 / hop_s)]) == {"ok"}
    assert "stuck" in verdicts(standing(9, 15.9), "acc")  # no window of a hop of 4 s is still all through
    assert verdicts(standing(9, 15.9), "acc")[-1] == "ok"


def test_a_channel_that_used_to_move_and_stands_still_is_stuck_and_a_flag_is_not():
    packets = []
    for p in stream(MODEST, 200, size=4):
        p.values[:, 2] = float(told(p) > 30)  # a flag
        if told(p) > 60:
            p.values[:, 1] = 0.25
        packets.append(p)
    minute = HealthRules(stuck_channel_s=60)
    said = verdicts(play(Cutter((MODEST,), rules=minute), packets, tick_s=0.1), "acc")
    assert set(said[:29]) == {"ok"}
    assert set(said[31:49]) == {"stuck"}
    never = HealthRules(stuck_channel_s=0)
    assert set(verdicts(play(Cutter((MODEST,), rules=never), packets, tick_s=0.1), "acc")[:49]) == {"ok"}


def test_after_the_loss_of_everything_sensors_come_back_at_once():
    packets = [p for p in everything(60) if p.modality == "age" or p.received_s % 20 < 18.5]
    windows = play(Cutter(ALL), packets)
    present = [bool({"acc", "gyro"} & set(w.present)) for w in windows[:30]]
    assert present.count(False) <= 6  # two windows touch each loss
    for name in ("acc", "gyro"):
        assert verdicts(windows, name)[2] == "ok"


def test_times_of_whole_seconds_are_taken_for_none():
    steps = 0.01 * np.arange(10)
    packets = [changed(p, times_s=np.floor(told(p)) + steps) for p in stream(FAST, 20, size=10)]
    windows = play(Cutter((FAST,)), packets)
    assert set(verdicts(windows[5:9], "acc")) == {"ok"}
    for window in windows[5:9]:
        assert np.allclose(np.diff(window.values["acc"][0, :, 0]), 0.01, atol=1e-3)


@pytest.mark.parametrize("wild", [[0.0, 1e6], [-1e9], [1e11], [5.0, -1e6]])
def test_a_wild_first_packet_does_not_refuse_window_0_of_the_others(wild):
    first = Packet("gyro", np.zeros((len(wild), 2), np.float32), np.array(wild, np.float64), 0.001)
    windows = play(Cutter((FAST, OTHER)), [first, *stream(FAST, 10), *stream(OTHER, 10)])
    assert set(verdicts(windows[:4], "acc")) == {"ok"}
    assert set(verdicts(windows[1:4], "gyro")) <= {"ok", "clock", "recovering"}
