"""A broker that is killed, and chaos over MQTT, with the real command and real processes.

`outage` is one run at normal speed in which the broker is killed for a minute; `chaos` kills and starts
broker and publishers at random, while messages come twice, late, out of order, with rubbish between them.
What was sent is known from the publishers: they write down what the broker has confirmed.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.reliability import tables
from benchmarks.reliability.evidence import Evidence
from benchmarks.reliability.processes import HERE, Broker, Heartbeat, free_port, resident_mb, started
from benchmarks.reliability.publisher import BUNDLE, PREFIX
from benchmarks.reliability.record import Record

FULL = 600  # seconds of the outage; chaos lasts half of it
AWAY_S, SHORTEST_S = 60.0, 20.0
HOP_S, WAIT_S = 1.0, 0.5
ATTEMPTS = 3
_CRITICAL_S = (5.0, 35.0)  # after the broker went and came: no pause of the machine may be in there
_BEGIN, _STEP_S = 0.4, (2.0, 8.0)  # when the broker is killed, as a share; from one blow of chaos to the next


def run(out: Path, *, count: int = FULL, seed: int = 0) -> dict[str, Any]:
    """Do what is not done yet.

    Args:
        out: the result file.
        count: seconds of the outage.
        seed: of chaos.
    """
    with Record(out, "outage", count=count, seed=seed) as record:
        found = record.found
        if "outage" not in found:
            for attempt in range(1, ATTEMPTS + 1):
                found["outage"] = {**outage(max(float(count), SHORTEST_S)), "attempt": attempt}
                if found["outage"]["calm"]:
                    break  # times mean something: the machine did not pause just then
            record.advance(count)
            _tell(found)
            record.save()
        if "chaos" not in found:
            found["chaos"] = chaos(max(count / 2, SHORTEST_S), seed=seed)
            _tell(found)
    return found


def _tell(found: dict[str, Any]) -> None:
    """Gather what must be 0."""
    found["wrong"] = {
        f"{part}: {what}": n
        for part in ("outage", "chaos")
        for what, n in found.get(part, {}).get("wrong", {}).items()
    }


class Trial:
    """A broker, the command that answers, and publishers, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.broker = Broker(folder, self.port)
        self.answers, self.events, self.log = (folder / name for name in ("answers", "events", "sent"))
        self._said = folder / "said"
        self.command: subprocess.Popen[bytes] | None = None
        self._publishers: dict[str, subprocess.Popen[bytes]] = {}

    def answer(self) -> None:
        """Start `sentryfuse run` on the broker."""
        asked = ["run", BUNDLE, "--source", f"mqtt://{HERE}:{self.port}/{PREFIX}?qos=1", "--hop-s", HOP_S]
        asked += ["--wait-s", WAIT_S, "--json", self.answers, "--events", self.events, "--log", "error"]
        with self._said.open("wb") as said:
            self.command = started([sys.executable, "-m", "sentryfuse", *asked], said=said)

    def publish(self, sensors: str, *, chaos: int | None = None) -> None:
        """Start a publisher of some sensors."""
        more = [] if chaos is None else ["--chaos", str(chaos)]
        asked = ["-m", "benchmarks.reliability.publisher", str(self.port), f"{self.log}-{sensors}"]
        self._publishers[sensors] = started([sys.executable, *asked, "--sensors", sensors, *more])

    def silence(self, sensors: str) -> None:
        """Kill a publisher."""
        process = self._publishers.pop(sensors)
        process.kill()
        process.wait()

    def end(self) -> int:
        """Ask the command to end, and all others; its exit code."""
        assert self.command is not None
        self.command.terminate()
        code = self.command.wait(60)
        for process in self._publishers.values():
            process.terminate()
            process.wait(30)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave no process behind, whatever happened."""
        own = [self.command] if self.command is not None else []
        for process in [*own, *self._publishers.values()]:
            process.kill()
            process.wait()
        self.broker.kill()

    def lines(self, path: Path) -> list[dict[str, Any]]:
        """Lines of a file so far; none before it is there."""
        if not path.is_file():
            return []
        text = path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def sent(self) -> list[dict[str, Any]]:
        """What the publishers wrote; a line that a kill tore is left out."""
        rows = []
        for path in sorted(self.folder.glob("sent-*")):
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    continue
        return rows

    def tracebacks(self) -> int:
        """How many tracebacks the command printed."""
        return self._said.read_text(encoding="utf-8", errors="replace").count("Traceback")


def _until(what: Callable[[], bool], seconds: float) -> bool:
    """Whether something came in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.1)
    return False


def outage(seconds: float) -> dict[str, Any]:
    """One run at normal speed; its broker is killed, and is there again a while later.

    Args:
        seconds: of the whole run; the broker is away for a minute, at most a fifth of it.
    """
    away_s = min(AWAY_S, seconds / 5)
    with tempfile.TemporaryDirectory() as folder, Heartbeat() as heart, Trial(Path(folder)) as trial:
        trial.broker.start()
        trial.answer()
        trial.publish("acc,temp,age")
        _until(lambda: any(row.get("answer") for row in trial.lines(trial.answers)), 60)
        begin = time.monotonic()
        heart.rest(_BEGIN * seconds)
        killed_s = trial.broker.kill()
        heart.rest(away_s)
        back_s = trial.broker.start()
        heart.rest((1 - _BEGIN) * seconds - away_s)
        code = trial.end()
        calm = [
            heart.was_calm(s - _CRITICAL_S[0], s + after_s)
            for s, after_s in zip((killed_s, back_s), _CRITICAL_S, strict=True)
        ]
        evidence = Evidence(
            trial.lines(trial.answers), trial.lines(trial.events), trial.sent(), heart.pauses, wait_s=WAIT_S
        )
        return {
            "seconds": time.monotonic() - begin,
            "away_s": back_s - killed_s,
            "calm": all(calm),
            "hop_s": HOP_S,
            **evidence.counts(),
            "absent": evidence.absence(killed_s),
            "limit_s": evidence.silence_limits(),
            "back": evidence.returned(back_s),
            "wrong": {
                "exit code not 0": int(code != 0),
                "tracebacks": trial.tracebacks(),
                "sensors not told silent": len(evidence.silence_limits()) - len(evidence.absence(killed_s)),
                "sensors not back": sum(s is None for s in evidence.returned(back_s).values()),
                **evidence.wrong(),
            },
        }


def chaos(seconds: float, *, seed: int) -> dict[str, Any]:
    """Broker and publishers killed and started at random, messages twice, late, out of order, and rubbish.

    Args:
        seconds: how long.
        seed: of what happens when.
    """
    chance = random.Random(seed)
    kills: Counter[str] = Counter()
    held: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Heartbeat() as heart, Trial(Path(folder)) as trial:
        trial.broker.start()
        trial.answer()
        groups = ("acc", "temp,age")
        for k, group in enumerate(groups):
            trial.publish(group, chaos=1000 * seed + k)
        _until(lambda: any(row.get("answer") for row in trial.lines(trial.answers)), 60)
        assert trial.command is not None
        begin, turn = time.monotonic(), 1
        while trial.command.poll() is None:
            heart.rest(chance.uniform(*_STEP_S))
            if time.monotonic() - begin > seconds + sum(b - a for a, b in heart.pauses):
                break
            held.append(resident_mb(trial.command.pid))
            away_s, what = chance.uniform(0.2, _STEP_S[1]), chance.choice(("broker", *groups, "all"))
            kills[what] += 1
            turn += 1
            stopped = groups if what == "all" else [g for g in groups if g == what]
            if what in ("broker", "all"):
                trial.broker.kill()
            for group in stopped:
                trial.silence(group)
            heart.rest(away_s)
            if what in ("broker", "all"):
                trial.broker.start()
            for group in stopped:
                trial.publish(group, chaos=1000 * seed + 10 * turn + groups.index(group))
        died = trial.command.poll() is not None
        answered = len(trial.lines(trial.answers))
        came = _until(lambda: _answers_after(trial.lines(trial.answers)[answered:]), 90)
        code = trial.end()
        sent = trial.sent()
        evidence = Evidence(
            trial.lines(trial.answers), trial.lines(trial.events), sent, heart.pauses, wait_s=WAIT_S
        )
        told = Counter(row["kind"] for row in sent)
        return {
            "seconds": time.monotonic() - begin,
            "kills": dict(kills),
            "messages": {kind: told[kind] for kind in ("sent", "unsent", "twice", "late", "rubbish")},
            **evidence.counts(),
            "resident_mb": [held[0], held[-1]] if held else [],
            "wrong": {
                "died": int(died),
                "exit code not 0": int(code != 0),
                "tracebacks": trial.tracebacks(),
                "not answering 90 s after the end": int(not came),
                **evidence.wrong(),
            },
        }


def _answers_after(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether a window was answered of this moment."""
    return any(row["kind"] == "window" and row["status"] in ("OK", "DEGRADED") for row in rows)


def table(found: dict[str, Any]) -> str:
    """What docs/reliability.md shows."""
    return tables.outage(found)
