from __future__ import annotations

import math
from pathlib import Path

import pytest

from sentryfuse.errors import ConfigError
from sentryfuse.power import open_reader
from sentryfuse.power.trace import TraceMeter

pytestmark = pytest.mark.device

TEXT = "# a day\ntime_s, charge,cap_w\n0,1.0,15\n600,0.48,\n1200,,8\n"


@pytest.fixture
def trace(tmp_path):
    def write(text):
        path = tmp_path / "day.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_every_row_holds_until_the_next_and_the_last_to_the_end(trace):
    meter = TraceMeter(50.0, path=trace(TEXT))
    seen = [(meter.read(50.0 + t).charge, meter.read(50.0 + t).cap_w) for t in (0, 599.9, 600, 1200, 1e9)]
    assert seen == [(1.0, 15.0), (1.0, 15.0), (0.48, None), (None, 8.0), (None, 8.0)]
    reading = meter.read(51.0)
    assert (reading.label, reading.scope, reading.at_s) == ("replayed", "day.csv", 51.0)
    assert reading.energy_j is None


def test_before_the_first_row_nothing_is_told(trace):
    meter = TraceMeter(0.0, path=trace("time_s,charge\n5,0.5\n"))
    assert meter.read(4.9).charge is None
    assert meter.read(5.0).charge == 0.5


def test_numbers_that_cannot_be_are_played_as_they_stand(trace):
    meter = TraceMeter(0.0, path=trace("time_s,charge\n0,nan\n1,-3\n2,inf\n"))
    first = meter.read(0.0).charge
    assert first is not None
    assert math.isnan(first)
    assert [meter.read(t).charge for t in (1.0, 2.0)] == [-3.0, math.inf]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with nothing"),
        ("time_s\n0\n", "must name time_s and some of charge, cap_w, power_w"),
        ("time_s,volts\n0,1\n", "begins with time_s, volts"),
        ("time_s,charge,charge\n0,1,1\n", "begins with"),
        ("time_s,charge\n", "has no rows"),
        ("time_s,charge\n0\n", "line 2: 1 cells for 2 columns"),
        ("# x\ntime_s,charge\n\n0,half\n", "line 4: charge is 'half', not a number"),
        ("time_s,charge\n1,1\n1,1\n", "line 3: time_s must rise from 0 on, got 1.0"),
        ("time_s,charge\n-1,1\n", "got -1.0"),
        ("time_s,charge\nnan,1\n", "got nan"),
        ("time_s,charge\n,1\n", "got None"),
        (b"\xff\xfe\x00", "is not text"),
        ("time_s,charge\n0,\0\n", "day.csv"),
    ],
)
def test_a_bad_trace_is_one_sentence(trace, text, words):
    with pytest.raises(ConfigError, match=r"day\.csv") as caught:
        TraceMeter(0.0, path=trace(text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trace_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.csv: no such file or directory; check the name"):
        open_reader(f"trace:{tmp_path / 'none.csv'}")
    with pytest.raises(ConfigError, match="is a directory"):
        open_reader(f"trace:{tmp_path}")


def test_a_trace_is_opened_by_name_and_needs_the_column_that_is_followed(trace):
    path = trace("time_s,charge\n0,0.9\n")
    reader = open_reader(f"trace:{path}", needs="charge", now_s=0.0)
    assert reader.read(0.0).charge == 0.9
    with pytest.raises(ConfigError, match="does not tell cap_w, only charge"):
        open_reader(f"trace:{path}", needs="cap_w")


def test_a_trace_without_an_end_and_one_too_large_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="it is no file"):
        TraceMeter(0.0, path=Path("/dev/zero"))
    monkeypatch.setattr("sentryfuse.power.trace._MAX_BYTES", 3)
    (tmp_path / "trace.csv").write_text("time_s,charge\n0,1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is larger than 3 bytes"):
        TraceMeter(0.0, path=tmp_path / "trace.csv")
