"""Work in a process of its own, with little memory, a limit on each input, and somebody who watches it.

A part has a function `chunk(given, watched)` that goes through its inputs one by one and tells `watched`
which one is next. Where the process dies, whatever ended it, the input is known: it is noted, left out, and
the chunk is done again, so that one of the same seed always comes to the same numbers.
"""

from __future__ import annotations

import json
import mmap
import resource
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from benchmarks.reliability.record import ROOT

ROOM_MB = 1024  # of addresses, beyond what is taken before the first input
PATIENCE_S = 900.0  # without a step, by the clock on the wall; others may stop this process for minutes
_MOST_DEATHS = 100


class OverdueError(BaseException):
    """An input takes longer than it may; no `except Exception` stops it."""


class Death(NamedTuple):
    """How a process ended that should not have.

    Attributes:
        at: number of the input in its chunk.
        how: `signal N`, `exit N` or `hang`.
    """

    at: int
    how: str


class Watched:
    """What the work tells: where it is; and a limit on every step.

    Attributes:
        skip: inputs that ended a process before.
        limit_s: of processor time for one input.
    """

    def __init__(self, place: mmap.mmap, skip: frozenset[int], limit_s: float) -> None:
        self.skip, self.limit_s = skip, limit_s
        self._place = place
        self._began_mb: float = 0.0
        signal.signal(signal.SIGPROF, _overdue)

    def begin(self, room_mb: float = ROOM_MB) -> None:
        """Everything is loaded: from here on memory is counted and limited."""
        self._began_mb = _status_mb("VmRSS")
        most = int((_status_mb("VmSize") + room_mb) * 1e6)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def step(self, at: int) -> bool:
        """The next input; whether it is to be tried."""
        self._place[:8] = at.to_bytes(8, "little")
        if at in self.skip:
            return False
        signal.setitimer(signal.ITIMER_PROF, self.limit_s)
        return True

    def rest(self) -> None:
        """The input is done."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    @property
    def grown_mb(self) -> float:
        """The most memory this process has taken since `begin` [MB]."""
        return max(0.0, _status_mb("VmHWM") - self._began_mb)


def apart(module: str, given: dict[str, Any], *, limit_s: float = 10.0) -> tuple[dict[str, Any], list[Death]]:
    """Call `chunk` of a module in a fresh process.

    Args:
        module: dotted name.
        given: what `chunk` gets, JSON.
        limit_s: processor time for one input [s].

    Returns:
        What it found, and the inputs that ended a process.

    Raises:
        RuntimeError: it fails by itself, or for a hundred inputs of one chunk.
    """
    deaths: list[Death] = []
    with tempfile.TemporaryDirectory() as room:
        place, answer = Path(room) / "place", Path(room) / "answer"
        while len(deaths) < _MOST_DEATHS:
            place.write_bytes((-1 & (1 << 64) - 1).to_bytes(8, "little"))
            told = json.dumps({"skip": [death.at for death in deaths], "limit_s": limit_s, "given": given})
            command = [sys.executable, "-m", "benchmarks.reliability.apart", module, room]
            with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:
                assert child.stdin is not None
                assert child.stderr is not None
                child.stdin.write(told.encode())
                child.stdin.close()
                hung = _watch(child, place)
                said = child.stderr.read().decode(errors="replace")
            at = int.from_bytes(place.read_bytes()[:8], "little", signed=True)
            if child.returncode == 0 and answer.is_file():
                return json.loads(answer.read_text()), deaths
            if at < 0 or "Traceback" in said:
                raise RuntimeError(f"{module} failed at {at}: {said[-2000:]}")
            code = child.returncode
            deaths.append(Death(at, "hang" if hung else f"signal {-code}" if code < 0 else f"exit {code}"))
    raise RuntimeError(f"{module} died of {len(deaths)} inputs in one chunk: {deaths[:3]}")


def _watch(child: subprocess.Popen[bytes], place: Path) -> bool:
    """Wait for the end; end it where nothing moves for long. Whether that was needed."""
    last, since = b"", time.monotonic()
    while True:
        try:
            child.wait(timeout=5)
            return False
        except subprocess.TimeoutExpired:
            now = place.read_bytes()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > PATIENCE_S:
                child.kill()
                child.wait()
                return True


def _overdue(number: int, frame: FrameType | None) -> None:
    raise OverdueError


def _status_mb(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/self/status has no {name}")


def serve(module: str, room: str) -> None:
    """Be the process of its own."""
    told = json.load(sys.stdin)
    with (Path(room) / "place").open("r+b") as stream, mmap.mmap(stream.fileno(), 8) as place:
        watched = Watched(place, frozenset(told["skip"]), told["limit_s"])
        found = import_module(module).chunk(told["given"], watched)
    (Path(room) / "answer").write_text(json.dumps(found))


if __name__ == "__main__":
    # of the module, not of this script: its errors are those that the parts know
    import_module("benchmarks.reliability.apart").serve(*sys.argv[1:])
