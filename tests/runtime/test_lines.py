"""Files of lines: whole lines of one run at a time, whatever the disk and other processes do."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from sentryfuse.errors import ConfigError
from sentryfuse.runtime import Events
from sentryfuse.runtime.lines import LineFile

pytestmark = pytest.mark.device


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_are_appended_and_a_torn_one_gets_its_end(tmp_path):
    path = tmp_path / "new" / "events.jsonl"
    for value in (1, float("nan")):
        file = LineFile(path)
        file.write({"value": value, "text": "ä\n"})
        file.close()
        file.close()
        with path.open("a") as torn:
            torn.write('{"val')
    file = LineFile(path)
    file.write({"value": 3})
    file.close()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.endswith("}")] == [lines[0], lines[2], lines[4]]
    assert json.loads(lines[2])["value"] is None
    assert json.loads(lines[4]) == {"value": 3}
    assert file.unwritten == 0


def test_two_runs_do_not_write_one_file_and_the_next_one_may(tmp_path):
    path = tmp_path / "events.jsonl"
    with Events(path) as first:
        first.tell("switch", plan_id="a")
        with pytest.raises(ConfigError, match="another run writes it"):
            LineFile(path, anew=True)
        assert [row["kind"] for row in rows(path)] == ["switch"]  # not emptied either
    LineFile(path, anew=True).close()
    assert path.read_bytes() == b""


def test_a_full_disk_is_named_once_counted_and_leaves_whole_lines(tmp_path):
    """The limit on the size of a file stands for a disk that fills up, in a process of its own."""
    path = tmp_path / "events.jsonl"
    program = f"""
import logging, resource, signal, sys
from sentryfuse.runtime.lines import LineFile
logging.basicConfig(stream=sys.stdout)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = LineFile({str(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
for i in range(10):
    file.write({{"number": i, "text": "x" * 20}})
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
file.write({{"number": 10}})
file.close()
print(file.unwritten)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    said, unwritten = done.stdout.rsplit("\n", 2)[:2]
    assert said.count("takes no more lines") == 1
    assert str(path) in said
    numbers = [row["number"] for row in rows(path)]
    assert numbers == [*range(len(numbers) - 1), 10]
    assert int(unwritten) == 11 - len(numbers)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_fifo_nobody_reads_is_refused_and_a_reader_that_stops_is_no_trouble(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="nobody reads this FIFO"):
        LineFile(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = LineFile(path)
    for i in range(5000):
        file.write({"number": i, "text": "x" * 100})
    assert file.unwritten > 0
    data = b""
    while piece := os.read(reader, 1 << 16):
        data += piece
        if len(data) > 10_000 and len(piece) < 1 << 16:
            break
    os.close(reader)
    file.write({"number": -1})
    file.close()
    whole = data.split(b"\n")[:-1]
    assert [json.loads(line)["number"] for line in whole] == list(range(len(whole)))


def test_events_told_by_several_threads_are_whole_lines(tmp_path):
    path = tmp_path / "events.jsonl"
    with Events(path) as events:

        def tell(number):
            for k in range(200):
                events.tell("budget", thread=number, k=k, reason="x" * 300)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(tell, range(8)))
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {(row["thread"], row["k"]) for row in rows} == {(n, k) for n in range(8) for k in range(200)}
    assert len(rows) == events.counts["budget"] == 1600
