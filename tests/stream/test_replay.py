from __future__ import annotations

import time

import numpy as np
import pytest

from sentryfuse.data import load_windows, make_windows, open_data, save_windows
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.stream import Cutter, CutWindow, HealthRules, open_source, window_length_s
from sentryfuse.types import Modality
from tests.stream.feeding import OTHER, SLOW
from tests.tiny import MODALITIES, tiny_windows

pytestmark = pytest.mark.device

AT_ONCE = HealthRules(good_windows=1, hold_off_windows=0)


def played(url, modalities, *, rules=AT_ONCE, **options):
    with open_source(url, modalities) as source:
        cutter = Cutter(modalities, start_s=source.start_s, rules=rules, **options)
        windows, n_packets = [], 0
        while not source.ended:
            packets = source.read(1.0)
            n_packets += len(packets)
            cutter.push(packets)
            windows += cutter.cut(source.now_s())
        windows += cutter.flush(source.now_s())
        return source, windows, n_packets


def assert_as_recorded(windows, source, given, split):
    """Bit for bit, in order, every window once, nothing but what was absent in the recording missing."""
    assert [source.index_at(w.end_s) for w in given] == windows.indices(split).tolist()
    for w in given:
        row = source.index_at(w.end_s)
        recorded = windows.batch(np.array([row]))
        has = tuple(n for n, on in zip(windows.names, windows.present[row], strict=True) if on)
        assert w.present == has, w.verdicts
        for name, values in w.values.items():
            assert np.array_equal(values.view(np.uint32), recorded[name].view(np.uint32))


@pytest.fixture
def recording(tmp_path):
    windows = tiny_windows(60)
    save_windows(tmp_path / "tiny.npz", windows)
    return tmp_path / "tiny.npz", windows


@pytest.mark.parametrize("packet_s", [None, 0.05, 0.37, 4.0, 99.0])
def test_windows_come_back_as_recorded(recording, packet_s):
    path, windows = recording
    query = "" if packet_s is None else f"&packet_s={packet_s}"
    source, given, _ = played(f"replay:{path}?split=all{query}", MODALITIES)
    assert_as_recorded(windows, source, given, "all")


def test_the_synthetic_wearable_comes_back_as_recorded():
    windows = open_data("wearable")
    source, given, _ = played("replay:wearable?split=validation", windows.modalities)
    assert_as_recorded(windows, source, given, "validation")


@pytest.mark.data
@pytest.mark.parametrize("name", ["dsads", "room_occupancy", "physionet2012"])
def test_real_recordings_come_back_as_recorded(shared_data, name):
    path = shared_data(f"{name}.npz")
    windows = load_windows(path)
    source, given, _ = played(f"replay:{path}", windows.modalities)
    assert_as_recorded(windows, source, given, "test")


@pytest.mark.data
def test_a_real_wrist_at_rest_is_rarely_taken_for_a_stuck_one(shared_data):
    path = shared_data("wesad_wrist.npz")
    windows = load_windows(path)
    _, given, _ = played(f"replay:{path}", windows.modalities)
    used = [len(w.present) for w in given]
    assert np.mean(used) > 0.99 * len(windows.names)


def test_the_clock_of_a_fast_replay_is_that_of_the_recording(recording):
    path, windows = recording
    source = open_source(f"replay:{path}", MODALITIES)
    assert source.now_s() == source.start_s == 0.0
    before, seen = -1.0, 0
    while not source.ended:
        packets = source.read(0.0)
        assert source.now_s() > before
        assert all(before <= p.received_s <= source.now_s() for p in packets)
        before, seen = source.now_s(), seen + len(packets)
    assert before == len(windows.indices("test")) * window_length_s(MODALITIES)
    assert source.read(1.0) == []
    assert source.counters() == {}


def test_a_recording_that_lacks_a_sensor_plays_without_it(tmp_path):
    windows = tiny_windows(20)
    path = tmp_path / "tiny.npz"
    save_windows(path, windows)
    more = (*MODALITIES, Modality("ecg", 100.0, 400, ("lead",)))
    _, given, _ = played(f"replay:{path}?split=all", more, wait_s=0.1)
    assert len(given) == 20
    assert {str(w.verdicts["ecg"]) for w in given} == {"never seen"}
    assert "acc" in given[-1].present


@pytest.mark.slow
def test_real_time_takes_its_time(recording):
    path, _ = recording
    started = time.monotonic()
    _, given, _ = played(f"replay:{path}?speed=20", MODALITIES)
    took = time.monotonic() - started
    assert took == pytest.approx(len(given) * 4 / 20, rel=0.5)
    assert len(given) == 10


def test_real_time_never_waits_longer_than_asked_and_keeps_the_pace(recording):
    path, windows = recording
    source = open_source(f"replay:{path}?speed=100", MODALITIES)
    started = time.monotonic()
    cutter = Cutter(MODALITIES, start_s=source.start_s, rules=AT_ONCE)
    given: list[CutWindow] = []
    slept = False
    while not source.ended:
        before = time.monotonic()
        cutter.push(source.read(0.002))
        assert time.monotonic() - before < 1.0  # of 40 ms that the next packet may be away
        if len(given) == 3 and not slept:
            slept = True
            time.sleep(0.2)  # 20 s of the recording, read late but not lost
        given += cutter.cut(source.now_s())
    given += cutter.flush(source.now_s())
    took = time.monotonic() - started
    assert took > 0.9 * len(windows.indices("test")) * 4 / 100
    assert [source.index_at(w.end_s) for w in given] == windows.indices("test").tolist()


def table(tmp_path, seconds=8.0):
    rows = {}
    for k in range(round(seconds * 50)):
        rows[k / 50] = [f"{k}", f"{-k}", ""]
    for k in range(round(seconds * 4)):
        rows.setdefault(k / 4, ["", "", ""])[2] = f"{30 + k}"
    lines = [f"{t},{','.join(cells)}" for t, cells in sorted(rows.items())]
    path = tmp_path / "recording.csv"
    path.write_text("time_s,gyro.x,gyro.y,temp.skin\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("packet_s", [0.013, 0.2, 2.0])
def test_a_table_is_cut_at_each_sensors_rate(tmp_path, packet_s):
    source, given, _ = played(f"replay:{table(tmp_path)}?packet_s={packet_s}", (OTHER, SLOW))
    assert len(given) == 4
    for k, w in enumerate(given):
        assert w.present == ("gyro", "temp")
        assert w.values["gyro"][0, :, 0].tolist() == list(range(100 * k, 100 * k + 100))
        assert w.values["temp"][0, :, 0].tolist() == list(range(30 + 8 * k, 38 + 8 * k))
        assert source.index_at(w.end_s) is None


def test_a_table_with_a_long_pause_is_passed_over_quickly(tmp_path):
    path = tmp_path / "recording.csv"
    lines = [f"{t},1,2" for t in (*np.arange(100) / 50, *(3600 + np.arange(100) / 50))]
    path.write_text("time_s,gyro.x,gyro.y\n" + "\n".join(lines) + "\n")
    _, given, n_packets = played(f"replay:{path}?packet_s=1", (OTHER,))
    assert n_packets == 4
    assert [w.window_id for w in given] == list(range(1801))


@pytest.mark.parametrize(
    ("modalities", "said"),
    [
        ((Modality("ecg", 16.0, 64, ("x",)),), "use its own data"),
        ((Modality("acc", 16.0, 64, ("x", "y")), *MODALITIES[1:]), "3 channels of acc"),
        ((Modality("acc", 32.0, 64, ("x", "y", "z")), *MODALITIES[1:]), "at 16 Hz"),
        ((Modality("acc", 16.0, 32, ("x", "y", "z")), *MODALITIES[1:]), "64 steps"),
    ],
)
def test_a_recording_of_other_sensors_is_refused(recording, modalities, said):
    with pytest.raises(ConfigError, match=said):
        open_source(f"replay:{recording[0]}", modalities)


def test_sensors_nobody_asked_for_are_left_out(recording):
    _, given, _ = played(f"replay:{recording[0]}", MODALITIES[:2])
    assert {name for w in given for name in w.verdicts} == {m.name for m in MODALITIES[:2]}
    assert any(w.present for w in given)


@pytest.mark.parametrize(
    "query", ["speed=0", "speed=-1", "speed=nan", "packet_s=0", "packet_s=inf", "split=mine"]
)
def test_options_that_mean_nothing_are_refused(recording, query):
    with pytest.raises(ConfigError, match=query.split("=")[0]):
        open_source(f"replay:{recording[0]}?{query}", MODALITIES)


def test_a_table_has_no_splits(tmp_path):
    with pytest.raises(ConfigError, match="split"):
        open_source(f"replay:{table(tmp_path)}?split=test", (OTHER, SLOW))


@pytest.mark.parametrize("start", [0.0, 604_800.25, 1_764_362_017.123])
@pytest.mark.parametrize("rate", [10, 64, 100, 200])
def test_a_table_is_played_whatever_its_clock_says(tmp_path, start, rate):
    path = tmp_path / "recording.csv"
    rows = "".join(f"{start + i / rate:.6f},{i % 7}\n" for i in range(4 * rate))
    path.write_text("time_s,a.c\n" + rows, encoding="utf-8")
    source, given, _ = played(f"replay:{path}", (Modality("a", float(rate), rate, ("c",)),))
    assert source.ended
    assert len(given) == 4
    assert all(window.present == ("a",) for window in given)


def test_a_stretch_that_would_be_windows_without_end_is_refused(tmp_path):
    path = tmp_path / "recording.csv"
    path.write_text("time_s,a.c\n0,1\n1e9,2\n", encoding="utf-8")
    sensors = (Modality("a", 10.0, 10, ("c",)),)
    with pytest.raises(DataError, match="no row for 1e\\+09 s after the time 0 s"):
        open_source(f"replay:{path}", sensors)
    path.write_text("time_s,a.c\n0,1\n90000,2\n", encoding="utf-8")
    with open_source(f"replay:{path}?longest_gap_s=1e5", sensors) as source:
        while not source.ended:
            source.read(0.0)


def test_one_value_per_window_beside_a_fast_sensor_is_not_silent(tmp_path):
    sensors = (Modality("acc", 50.0, 200, ("x",)), Modality("hr", 100.0, 1, ("bpm",)))
    rng, n = np.random.default_rng(0), 10
    raw = {m.name: rng.standard_normal((n, m.length, 1)).astype(np.float32) for m in sensors}
    zeros = np.zeros(n, int)
    split = np.full(n, 2)
    made = make_windows(
        "one", sensors, raw=raw, y=zeros, classes=("a", "b"), subject=zeros, split=split, licence="x"
    )
    save_windows(tmp_path / "one.npz", made)
    for packet_s in (0.01, 0.4, 4.0):
        with open_source(f"replay:{tmp_path / 'one.npz'}?packet_s={packet_s}", sensors) as source:
            cutter, silent = Cutter(sensors, start_s=source.start_s), set()
            windows = []
            while not source.ended:
                cutter.push(source.read(1.0))
                silent |= set(cutter.silent(source.now_s()))
                windows += cutter.cut(source.now_s())
        assert not silent
        assert [w.present for w in windows] == [("acc", "hr")] * n
