"""Under a service manager: real processes, and a real socket in place of systemd's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sentryfuse.data import save_windows
from sentryfuse.runtime.service import Notifier
from tests.tiny import GOLDEN, tiny_windows

pytestmark = pytest.mark.device

ROOT = Path(__file__).resolve().parents[2]
PERIOD_S = 0.4


class Manager:
    """The side of systemd: a socket, and what came in at which time."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0"))
        self.environ = {
            "NOTIFY_SOCKET": address,
            "WATCHDOG_USEC": str(int(PERIOD_S * 1e6)),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
        }
        self.told: list[tuple[float, dict[str, str]]] = []

    def listen(self, seconds: float, until: str = "") -> None:
        """Take messages for some time, or until one has a variable."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                text = self.socket.recv(65536).decode()
            except TimeoutError:
                return
            self.told.append((time.monotonic(), dict(line.split("=", 1) for line in text.splitlines())))
            if until in self.told[-1][1]:
                return

    def times(self, name: str) -> list[float]:
        return [at for at, values in self.told if name in values]


@pytest.fixture
def manager(tmp_path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.socket.close()


@contextmanager
def started(manager: Manager, argv: list[Any], **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [str(word) for word in argv],
        env=manager.environ,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


@pytest.fixture
def program(tmp_path) -> list[Any]:
    (tmp_path / "model.bundle").write_bytes((GOLDEN / "tiny-v3.bundle").read_bytes())
    save_windows(tmp_path / "recording.npz", tiny_windows(60))
    source = f"replay:{tmp_path / 'recording.npz'}?speed=10&split=all"
    argv = [sys.executable, "-m", "sentryfuse", "run", tmp_path / "model.bundle", "--source", source]
    return [*argv, "--json", tmp_path / "answers.jsonl", "--events", tmp_path / "events.jsonl", "--quiet"]


@pytest.mark.slow
@pytest.mark.parametrize("stdin", ["</dev/null", "<&-"])
def test_run_is_ready_lives_and_stops_without_a_terminal(manager, program, tmp_path, stdin):
    shell = ["sh", "-c", f'exec "$@" {stdin}', "sh"]
    for restart in range(2):
        with started(manager, [*shell, *program, "--append"], stdout=subprocess.DEVNULL) as process:
            manager.told.clear()
            manager.listen(60, until="READY")
            assert manager.told[0][1]["READY"] == "1"
            assert manager.told[0][1]["STATUS"].startswith("ready, waiting for acc, temp, age; run ")
            manager.listen(2.5)
            os.kill(process.pid, signal.SIGTERM)
            manager.listen(10, until="STOPPING")
            assert process.wait(timeout=30) == 0
        assert len(manager.times("READY")) == len(manager.times("STOPPING")) == 1
        beats = manager.times("WATCHDOG")
        assert len(beats) >= 5
        assert any("3 of 3 sensors" in values.get("STATUS", "") for _, values in manager.told)
        rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
        ends = [row for row in rows if row["kind"] == "summary"]
        assert [row["stopped"] for row in ends] == ["SIGTERM"] * (restart + 1)
        assert sum(row["windows"] for row in ends) == len(rows) - len(ends) > 0
        assert rows[-1] == ends[-1]
    assert len({row["run_id"] for row in rows}) == 2


@pytest.mark.parametrize(
    ("how", "lives"),
    [
        ("well", True),
        ("silent", True),
        ("hangs", False),
        pytest.param("broken source", True, marks=pytest.mark.slow),
        pytest.param("faulty", False, marks=pytest.mark.slow),
        pytest.param("late", False, marks=pytest.mark.slow),
    ],
)
def test_the_watchdog_fires_for_a_stuck_stream_and_not_for_a_silent_one(manager, how, lives):
    program = Path(__file__).with_name("served_stream.py")
    with started(manager, [sys.executable, program, how, 20]) as process:
        manager.listen(60, until="READY")
        manager.listen(3.0)
        assert process.poll() is None
    ready, beats = manager.times("READY")[0], manager.times("WATCHDOG")
    assert beats[0] == ready
    late = [at for at in beats if at > ready + 2.0]
    assert bool(late) == lives, [round(at - ready, 2) for at in beats]


def test_messages_are_single_lines_and_nothing_is_sent_where_nobody_asked(manager, tmp_path, caplog):
    Notifier({}).tell(READY=1)
    notifier = Notifier(manager.environ)
    assert notifier.beat_s == PERIOD_S / 2
    notifier.tell(STATUS="one\nREADY=1\n", WATCHDOG=1)
    manager.listen(5, until="WATCHDOG")
    assert manager.told[0][1] == {"STATUS": "one READY=1", "WATCHDOG": "1"}
    for name, value in (
        ("WATCHDOG_PID", "1"),
        ("WATCHDOG_USEC", "soon"),
        ("WATCHDOG_USEC", "0"),
        ("NOTIFY_SOCKET", "vsock:2:1"),
    ):
        with closing(Notifier({**manager.environ, name: value})) as other:
            assert other.beat_s is None
    assert "is no socket of this machine" in caplog.text
    notifier.close()
    notifier.close()
    notifier.tell(READY=1)


def test_a_manager_that_takes_nothing_stops_nothing_and_is_said_once(manager, tmp_path, caplog):
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    began = time.monotonic()
    for _ in range(3):
        notifier.tell(STATUS="x")
    assert caplog.text.count("takes no messages") == 1
    notifier.close()
    notifier = Notifier(manager.environ)
    for _ in range(5000):  # more than the socket holds, and nobody reads
        notifier.tell(STATUS="x" * 100)
    assert time.monotonic() - began < 5
    assert caplog.text.count("takes no messages") == 2
    notifier.close()


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_an_abstract_name_is_understood():
    manager = Manager(f"@sentryfuse-test-{os.getpid()}")
    notifier = Notifier(manager.environ)
    notifier.tell(READY=1)
    manager.listen(5, until="READY")
    assert manager.told[0][1] == {"READY": "1"}
    notifier.close()
    manager.socket.close()
