"""Processes of a trial: a broker that can be killed, what a process holds, and pauses of the machine."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from benchmarks.reliability.record import ROOT

HERE = "127.0.0.1"  # nothing leaves this machine
MOSQUITTO = shutil.which(
    "mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin"
)
SETPRIV = shutil.which("setpriv")  # of util-linux; without it a part that is killed leaves programs behind
PATIENCE_S = 30.0
_BEAT_S, _PAUSE_S = 0.05, 0.3


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])


def started(
    asked: Sequence[object], *, said: IO[bytes] | int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a program in the repository that ends with us, also when we are killed.

    Args:
        asked: its words; the first one is the program.
        said: where all it prints goes.
    """
    with_us = [] if SETPRIV is None else [SETPRIV, "--pdeathsig", "KILL"]
    return subprocess.Popen([*with_us, *map(str, asked)], cwd=ROOT, stdout=said, stderr=said)


class Broker:
    """A Mosquitto of our own that is killed without a word and started again on the same port.

    Args:
        folder: for its settings.
        port: on this machine only.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.port, self._settings = port, folder / "mosquitto.conf"
        # started by root it would give up its rights, and not read what was written for it
        self._settings.write_text(
            f"user {getpass.getuser()}\nlistener {port} {HERE}\nallow_anonymous true\n", encoding="utf-8"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it and wait until it takes connections; the moment of that, monotonic [s].

        Raises:
            RuntimeError: there is no Mosquitto here, or it does not start.
        """
        if MOSQUITTO is None:
            raise RuntimeError("there is no mosquitto here; install it, such as apt-get install mosquitto")
        self._process = started([MOSQUITTO, "-c", self._settings])
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex((HERE, self.port)) == 0:
                    return time.monotonic()
            time.sleep(0.01)
        raise RuntimeError(f"mosquitto did not take connections on port {self.port} in {PATIENCE_S:g} s")

    def kill(self) -> float:
        """End it as a power cut would; the moment of that, monotonic [s]."""
        moment = time.monotonic()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        return moment


class Heartbeat:
    """Notices when this machine did nothing for a while, as a laptop that sleeps or a busy host does.

    Attributes:
        pauses: (from, to), monotonic [s].
    """

    def __init__(self) -> None:
        self.pauses: list[tuple[float, float]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def rest(self, seconds: float) -> None:
        """Wait so long, pauses of the machine not counted [s]."""
        paused, begin = len(self.pauses), time.monotonic()
        while time.monotonic() - begin < seconds + sum(b - a for a, b in self.pauses[paused:]):
            time.sleep(_BEAT_S)

    def was_calm(self, since: float, until: float) -> bool:
        """Whether no pause touched this time, monotonic [s]."""
        return not any(a < until and b > since for a, b in self.pauses)

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._stopped.wait(_BEAT_S):
            now = time.monotonic()
            if now - last > _PAUSE_S:
                self.pauses.append((last, now))
            last = now


def resident_mb(pid: int) -> float:
    """Resident memory of a process [MB]."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def open_files(pid: int) -> int:
    """File handles of a process."""
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


def threads(pid: int) -> int:
    """Threads of a process."""
    return len([*Path(f"/proc/{pid}/task").iterdir()])


def slope(times: list[float], values: list[float]) -> float:
    """Least squares: how much `values` rise in one unit of `times`; 0 for fewer than two."""
    n = len(times)
    if n < 2:
        return 0.0
    mean_t, mean_v = sum(times) / n, sum(values) / n
    spread = sum((t - mean_t) ** 2 for t in times)
    return sum((t - mean_t) * (v - mean_v) for t, v in zip(times, values, strict=True)) / spread
