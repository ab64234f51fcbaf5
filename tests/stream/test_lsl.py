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
