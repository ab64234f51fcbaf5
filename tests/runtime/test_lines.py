"""Files of lines: whole lines of one run at a time, whatever the disk and other processes do."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentryfuse.errors import ConfigError
from sentryfuse.runtime import Events
from sentryfuse.runtime.lines import LineFile
from sentryfuse.runtime.rotation import Rotation

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


ROWS = st.lists(st.integers(0, 300), max_size=40)


@given(runs=st.lists(ROWS, min_size=1, max_size=4), most=st.integers(1, 1500), keep=st.integers(1, 100))
@settings(max_examples=60, deadline=None)
def test_no_line_is_lost_or_torn_by_rotation(runs, most, keep):
    """Whatever the lengths, the limit and the restarts: the latest files hold the latest lines, in order."""
    with TemporaryDirectory() as folder:
        path, rotation = Path(folder) / "out.jsonl", Rotation(most, keep)
        sent: list[dict[str, object]] = []
        for lengths in runs:
            file = LineFile(path, rotation=rotation)
            for length in lengths:
                sent.append({"number": len(sent), "text": "x" * length})
                file.write(sent[-1])
            file.close()
            assert file.unwritten == 0
        files = [name for name in reversed([path, *rotation.older(path)]) if name.exists()]
        assert sorted(Path(folder).iterdir()) == sorted(files)
        assert all(name.read_bytes().endswith(b"\n") for name in files if name.stat().st_size)
        assert all(name.stat().st_size <= most or len(rows(name)) == 1 for name in files)
        found = [row for name in files for row in rows(name)]
        assert found == sent[len(sent) - len(found) :]
        if len(files) <= keep:
            assert found == sent


def newer(path, held):
    """The file that came after one, while names may move at any time."""
    names = [path, *Rotation(1, 100).older(path)]
    while True:
        with suppress(FileNotFoundError, StopIteration):
            at = next(i for i, p in enumerate(names) if i and os.path.samestat(p.stat(), held))
            file = names[at - 1].open("rb")
            with suppress(FileNotFoundError):
                stayed = os.path.samestat(names[at].stat(), held)
                if stayed and not os.path.samestat(os.fstat(file.fileno()), held):
                    return file
            file.close()


def test_a_reader_that_follows_gets_every_line_across_rotations(tmp_path):
    """Reader and writer are processes of their own; the reader follows by name, as `tail -F` does."""
    path, n = tmp_path / "out.jsonl", 20000
    program = f"""
from sentryfuse.runtime.lines import LineFile
from sentryfuse.runtime.rotation import Rotation
file = LineFile({str(path)!r}, rotation=Rotation(50_000, 100))
for i in range({n}):
    file.write({{"number": i, "text": "x" * (i % 97)}})
file.close()
"""
    path.touch()  # so that the reader is there before anything is rotated
    with path.open("rb") as first, subprocess.Popen([sys.executable, "-c", program]) as writer:
        numbers: list[int] = []
        tail, file, until = b"", first, time.monotonic() + 60
        try:
            while len(numbers) < n and time.monotonic() < until:
                is_old = not os.path.samestat(os.fstat(file.fileno()), path.stat())  # never absent
                *whole, tail = (tail + file.read()).split(b"\n")  # the system shows halves of one write
                numbers += [json.loads(line)["number"] for line in whole]
                if is_old:  # all of it is read; go on in the next one, which may have been rotated as well
                    assert tail == b""
                    held = os.fstat(file.fileno())
                    file.close()
                    file = newer(path, held)
        finally:
            file.close()
        assert writer.wait(30) == 0
    assert numbers == list(range(n))
    assert len([*tmp_path.iterdir()]) > 10


def test_a_run_that_was_killed_while_it_rotated_leaves_no_double_lines(tmp_path):
    path, rotation = tmp_path / "out.jsonl", Rotation(100, 3)
    file = LineFile(path, rotation=rotation)
    for i in range(3):
        file.write({"number": i, "text": "x" * 40})
    file.close()
    rotation.make_room(path)  # the new file never came
    (tmp_path / ".out.jsonl.next").write_text("")
    file = LineFile(path, rotation=rotation)
    for i in range(3, 6):
        file.write({"number": i, "text": "x" * 40})
    file.close()
    names = [p for p in reversed([path, *rotation.older(path)]) if p.exists()]
    found = [row["number"] for name in names for row in rows(name)]
    assert found == sorted(set(found))
    assert found[-1] == 5
    assert not (tmp_path / ".out.jsonl.next").exists()


def test_another_run_is_kept_out_across_rotations(tmp_path):
    path = tmp_path / "out.jsonl"
    file = LineFile(path, rotation=Rotation(100, 2))
    for i in range(20):
        file.write({"number": i, "text": "x" * 40})
        with pytest.raises(ConfigError, match="another run writes it"):
            LineFile(path)
    file.close()
    LineFile(path).close()


def test_what_cannot_be_rotated_goes_on_growing_and_says_so_once(tmp_path, caplog):
    path = tmp_path / "out.jsonl"
    file = LineFile(path, rotation=Rotation(1000, 1))
    (tmp_path / "out.jsonl.1").mkdir()
    (tmp_path / "out.jsonl.1" / "here").write_text("")
    for i in range(25):
        file.write({"number": i, "text": "x" * 40})
    file.close()
    assert [row["number"] for row in rows(path)] == list(range(25))
    assert caplog.text.count("cannot be rotated") == 5  # after each tenth of its size again
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "real.jsonl")
    file = LineFile(link, rotation=Rotation(100, 3))
    for i in range(4):
        file.write({"number": i, "text": "x" * 40})
    file.close()
    assert link.is_symlink()
    assert (tmp_path / "real.jsonl.1").exists()


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
