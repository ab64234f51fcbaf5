"""Against real outlets in another process on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentryfuse.errors import ConfigError
from sentryfuse.stream import Cutter, CutWindow, HealthRules, Packet, open_source
from sentryfuse.types import Modality
from tests.stream.outlet import settings

try:
    import pylsl
except (ModuleNotFoundError, RuntimeError):  # the library liblsl may lack as well
    pytest.skip("pylsl does not work here; pip install 'sentryfuse[lsl]'", allow_module_level=True)

pytestmark = pytest.mark.device

SESSION = f"sentryfuse-{os.getpid()}"
ACC = Modality("acc", 100.0, 50, ("x", "y", "z"))
GYRO = Modality("gyro", 50.0, 25, ("x", "y"))
BOTH = [("acc", 3, 100.0, "float32"), ("gyro", 2, 50.0, "double64")]

pylsl.set_config_content(settings(SESSION))


@contextmanager
def outlets(*streams, seconds=60.0):
    program = Path(__file__).with_name("outlet.py")
    command = [sys.executable, str(program), SESSION, str(seconds), json.dumps(streams)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
            process.wait(10)


def as_live(source: Any) -> Any:
    """The source with what live ones have to tell beside samples."""
    return source


def cut_for(source, cutter, done, seconds=30.0):
    """Read and cut until something holds; gives all windows."""
    windows: list[CutWindow] = []
    until = time.monotonic() + seconds
    while not done(windows) and time.monotonic() < until:
        before = time.monotonic()
        cutter.push(source.read(0.02))
        assert time.monotonic() - before < 1.0
        windows += cutter.cut(source.now_s())
    return windows


def is_whole(window):
    """Every sample of both sensors, in order, of the same time; a busy machine may spoil some windows."""
    if window.present != ("acc", "gyro"):
        return False
    acc, gyro = (window.values[m.name][0] for m in (ACC, GYRO))
    return (
        np.array_equal(np.diff(acc[:, 0]), np.ones(ACC.length - 1))
        and np.array_equal(np.diff(gyro[:, 0]), np.ones(GYRO.length - 1))
        and np.array_equal(acc[:, 0], acc[:, 2])
        and abs(acc[0, 0] / 100 - gyro[0, 0] / 50) < 0.1
    )


def test_windows_are_cut_from_streams_of_two_rates():
    with outlets(*BOTH), open_source("lsl:?timeout_s=10", (ACC, GYRO)) as source:
        cutter = Cutter((ACC, GYRO), wait_s=0.3)
        windows = cut_for(source, cutter, lambda w: sum(map(is_whole, w)) >= 3)
        assert not source.ended
        assert source.index_at(windows[0].end_s) is None
    assert sum(map(is_whole, windows)) >= 3
    assert [w.window_id for w in windows] == list(range(len(windows)))
    assert source.ended
    source.close()


def test_a_stream_that_goes_and_comes_back_is_told_silent_and_taken_again():
    rules = HealthRules(good_windows=1, hold_off_windows=0)
    with outlets(("gyro", 2, 50.0, "float32")):
        with outlets(("acc", 3, 100.0, "float32")):
            source = open_source("lsl:?timeout_s=10", (ACC, GYRO))
            cutter = Cutter((ACC, GYRO), rules=rules, wait_s=0.3)
            first = cut_for(source, cutter, lambda w: w and "acc" in w[-1].present)
        assert "acc" in first[-1].present
        gone = cut_for(source, cutter, lambda w: w and w[-1].verdicts["acc"] == "silent")
        assert gone[-1].present == ("gyro",)
        assert "acc" in cutter.silent(source.now_s())
        with outlets(("acc", 3, 100.0, "float32")):
            back = cut_for(source, cutter, lambda w: w and "acc" in w[-1].present)
        assert back[-1].present == ("acc", "gyro")
        ids = [w.window_id for w in (*first, *gone, *back)]
        assert ids == list(range(len(ids)))
        source.close()


def test_names_may_have_a_prefix():
    with outlets(("lab-acc", 3, 100.0, "float32")), open_source("lsl:lab-?timeout_s=10", (ACC,)) as source:
        until = time.monotonic() + 10
        packets: list[Packet] = []
        while not packets and time.monotonic() < until:
            packets = source.read(0.1)
        assert packets[0].modality == "acc"
        assert packets[0].values.dtype == np.float32


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (("acc", 2, 100.0, "float32"), "2 channels"),
        (("acc", 3, 50.0, "float32"), "50 Hz"),
        (("acc", 3, 100.0, "string"), "text"),
    ],
)
def test_a_stream_that_does_not_fit_is_refused(own, said):
    with outlets(own), pytest.raises(ConfigError, match=said):
        open_source("lsl:?timeout_s=10", (ACC,))


def test_nobody_there_is_a_sentence():
    started = time.monotonic()
    with pytest.raises(ConfigError, match="no LSL stream named acc, gyro"):
        open_source("lsl:?timeout_s=0.5", (ACC, GYRO))
    assert time.monotonic() - started < 5


MINE, OTHERS = ("acc", 3, 100.0, "float32", "room-A"), ("acc", 3, 100.0, "float32", "room-B")


def test_two_streams_of_one_name_are_refused_unless_one_is_asked_for():
    with outlets(MINE), outlets(OTHERS):
        with pytest.raises(ConfigError, match=r"2 LSL streams named 'acc' .source_id room-A on .* room-B"):
            open_source("lsl:?timeout_s=10", (ACC,))
        with open_source("lsl:?timeout_s=10&source_id=room-B", (ACC,)) as source:
            assert [facts["kind"] for facts in as_live(source).news()] == ["stranger"]
            assert "room-A" not in as_live(source)._owner.values()


@pytest.mark.slow
def test_another_stream_of_the_name_never_takes_over_but_the_same_one_does():
    rules = HealthRules(good_windows=1, hold_off_windows=0)
    with outlets(MINE):
        source = open_source("lsl:?timeout_s=10", (ACC,))
        cutter = Cutter((ACC,), rules=rules, wait_s=0.3)
        assert "acc" in cut_for(source, cutter, lambda w: w and "acc" in w[-1].present)[-1].present
    with outlets(OTHERS):
        told: list[Any] = []

        def away_for_long(windows):
            told.extend(as_live(source).news())
            return len(windows) > 6 and told

        away = cut_for(source, cutter, away_for_long)
        assert {str(w.verdicts["acc"]) for w in away[2:]} == {"silent"}
        assert told[0]["kind"] == "stranger"
        assert "room-B" in told[0]["reason"]
    with outlets(MINE):
        assert "acc" in cut_for(source, cutter, lambda w: w and "acc" in w[-1].present)[-1].present
    source.close()


def first_values(url="lsl:?timeout_s=10"):
    with open_source(url, (ACC,)) as source:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            for packet in source.read(0.1):
                return packet.values[0]
    raise AssertionError("nothing came")


def acc(channels, **said):
    return ("acc", channels, 100.0, "float32", said)


@pytest.mark.parametrize(
    ("stream", "order"),
    [
        (acc(3, label=["Acc_Z", "acc/x", "Y"]), [1, 2, 0]),
        (acc(5, label=["trigger", "z", "y", "x", "temperature"]), [3, 2, 1]),
        (acc(3, type=["a", "a", "a"]), [0, 1, 2]),
    ],
)
def test_channels_are_found_by_their_labels(stream, order):
    with outlets(stream):
        values = first_values()
    assert [round((value - values.min()) / 1000) for value in values] == [i - min(order) for i in order]


@pytest.mark.parametrize(
    ("stream", "options", "said"),
    [
        (acc(3, label=list("xyw")), "", "no channel labelled 'z': it has x, y, w, the model knows x, y, z"),
        (acc(4, label=["x", "y", "z", "x"]), "", "has 2 channels labelled 'x'"),
        (acc(4), "", "has 4 channels, the model knows 3 of acc"),
        (acc(3, label=list("xyz"), unit=list("ggg")), "&units=acc:m/s^2", "gives x in g, .* acc in m/s"),
        (acc(3, unit=["m/s^2"] * 3), "&units=acc.z:g", "gives z in m/s.2"),
        (acc(3, label=["z", "y", "x"]), "&labels=perhaps", "choose one of follow, ignore"),
    ],
)  # fmt: skip
def test_a_stream_of_other_channels_or_units_is_refused_by_name(stream, options, said):
    with outlets(stream), pytest.raises(ConfigError, match=said):
        open_source(f"lsl:?timeout_s=10{options}", (ACC,))


def test_labels_may_be_ignored_and_units_have_spellings():
    with outlets(acc(3, label=["a", "b", "c"], unit=["meterspersecondsquared"] * 3)):
        values = first_values("lsl:?timeout_s=10&labels=ignore&units=acc:m/s^2")
    assert list(np.round(np.diff(values))) == [1000, 1000]


def test_a_stream_that_comes_later_and_does_not_fit_is_told():
    with outlets(("gyro", 2, 50.0, "float32")):
        source = open_source("lsl:?timeout_s=2", (ACC, GYRO))
        with outlets(acc(3, label=["a", "b", "c"])):
            told: list[Any] = []
            until = time.monotonic() + 15
            while not told and time.monotonic() < until:
                assert {packet.modality for packet in source.read(0.05)} <= {"gyro"}
                told += as_live(source).news()
        source.close()
    assert told[0]["sensor"] == "acc"
    assert "has no channel labelled 'x'" in told[0]["reason"]
    assert source.counters()["acc"]["malformed"] == 1
