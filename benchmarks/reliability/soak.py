"""The real command at full speed for half an hour: memory, file handles, threads and times, minute by minute.

`sentryfuse run` on a stream without an end, sensors coming and going, a budget that follows a charge, lines
written to files that rotate. The command is looked at from outside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability import tables
from benchmarks.reliability.processes import Heartbeat, open_files, resident_mb, slope, started, threads
from benchmarks.reliability.publisher import BUNDLE
from benchmarks.reliability.record import Record

FULL = 1800  # seconds
MINUTE_S, LOOK_S = 60.0, 1.0
MOST_GROWN_MB = 1.048576  # in the second half: one MiB
POLICY = "100%:ratio=0,75%:ratio=0.3,50%:ratio=0.6,25%:ratio=0.85"
_TAIL, _KEEP, _ROTATE_MB = 65_536, 3, 20
_CYCLE_S, _POINT_S, _TRACE_S = 8000.0, 800.0, 2e7  # of the charge; the stream runs thousands of times as fast


def run(out: Path, *, count: int = FULL, seed: int = 0) -> dict[str, Any]:
    """Let it run once; a run that was killed begins anew, since a soak in pieces is none.

    Args:
        out: the result file.
        count: seconds, pauses of the machine not counted.
        seed: of the stream.
    """
    with Record(out, "soak", count=count, seed=seed) as record:
        if not record.done:
            record.found |= soak(float(count), seed=seed, record=record)
            record.advance(count)
    return record.found


def soak(seconds: float, *, seed: int, record: Record) -> dict[str, Any]:
    """Run the command for so long, and look at it from outside; minutes are saved as they pass."""
    with tempfile.TemporaryDirectory() as folder, Heartbeat() as heart:
        home = Path(folder)
        lines, events, said = home / "answers", home / "events", home / "said"
        _write_trace(home / "charge.csv")
        asked = ["run", BUNDLE, "--source", f"endless:{seed}", "--json", lines, "--events", events]
        asked += ["--rotate-mb", _ROTATE_MB, "--rotate-keep", _KEEP, "--log", "error", "--quiet"]
        asked += ["--trace", home / "charge.csv", "--policy", POLICY]
        with said.open("wb") as where:
            command = started([sys.executable, "-m", "benchmarks.reliability.endless", *asked], said=where)
        try:
            minutes = _watch(command, lines, heart, seconds, record)
            died = command.poll() is not None
            command.terminate()
            code = command.wait(60)
        finally:
            command.kill()
            command.wait()
        kept = _kept(lines)
        summary = kept.pop() if kept and kept[-1]["kind"] == "summary" else None
        ids = [row["window_id"] for row in kept]
        text = said.read_text(encoding="utf-8", errors="replace")
    half = minutes[len(minutes) // 2 :]
    rise = slope([m["at_min"] for m in half], [m["resident_mb"] for m in half])
    windows = 0 if summary is None else summary["windows"]
    return {
        "windows": windows,
        "statuses": {} if summary is None else summary["statuses"],
        "events": {} if summary is None else summary["events"],
        "lines_looked_at_whole": len(ids),
        "minutes": minutes,
        "resident_mb": [minutes[0]["resident_mb"], minutes[-1]["resident_mb"]],
        "slope_mb_per_hour": 60 * rise,
        "open_files": [minutes[0]["open_files"], minutes[-1]["open_files"]],
        "threads": [minutes[0]["threads"], minutes[-1]["threads"]],
        "paused_s": sum(b - a for a, b in heart.pauses),
        "wrong": {
            "died": int(died),
            "exit code not 0": int(code != 0),
            "tracebacks": text.count("Traceback"),
            "no summary": int(summary is None),
            "FAULT": 0 if summary is None else summary["statuses"].get("FAULT", 0),
            "window ids with a gap or twice": int(ids != list(range(windows - len(ids), windows))),
            "resident memory grew by a MiB in the second half": int(
                rise * (half[-1]["at_min"] - half[0]["at_min"]) > MOST_GROWN_MB
            ),
            "file handles more at the end": max(0, minutes[-1]["open_files"] - half[0]["open_files"]),
            "threads more at the end": max(0, minutes[-1]["threads"] - half[0]["threads"]),
        },
    }


def _watch(
    command: subprocess.Popen[bytes], lines: Path, heart: Heartbeat, seconds: float, record: Record
) -> list[dict[str, Any]]:
    """A row for every minute or part of one: what the process held at its end, and times of its windows."""
    while command.poll() is None and not _latest(lines):
        heart.rest(LOOK_S)
    begin, done = time.monotonic(), 0
    rows: list[dict[str, Any]] = []
    minute_s = min(MINUTE_S, seconds / 10)
    while (len(rows) + 1) * minute_s <= seconds + 1e-9 and command.poll() is None:
        latency: list[float] = []
        delay: list[float] = []
        last = 0
        for _ in range(max(1, round(minute_s / LOOK_S))):
            heart.rest(min(LOOK_S, minute_s))
            for row in _latest(lines):
                last = max(last, row["window_id"] + 1)
                delay.append(row["delay_ms"])
                if row["latency_ms"] is not None:
                    latency.append(row["latency_ms"])
        if command.poll() is not None:
            break
        rows.append(
            {
                "at_min": (time.monotonic() - begin) / 60,
                "windows": last - done,
                "resident_mb": resident_mb(command.pid),
                "open_files": open_files(command.pid),
                "threads": threads(command.pid),
                "latency_ms": _quantiles(latency),
                "delay_ms": _quantiles(delay),
                "times_looked_at": len(latency),
            }
        )
        done = last
        record.found |= {"minutes": rows, "wrong": {"not finished": 1}}
        record.save()
    return rows


def _latest(lines: Path) -> list[dict[str, Any]]:
    """Windows in the last part of the file; none while it is being changed for another."""
    try:
        with lines.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - _TAIL))
            text = stream.read()
    except FileNotFoundError:
        return []
    whole = text[text.find(b"\n") + 1 : text.rfind(b"\n") + 1].splitlines()
    return [row for line in whole if (row := json.loads(line))["kind"] == "window"]


def _kept(lines: Path) -> list[dict[str, Any]]:
    """All lines of the files that are left, the oldest first."""
    files = [*(Path(f"{lines}.{k}") for k in range(_KEEP, 0, -1)), lines]
    return [json.loads(line) for path in files if path.is_file() for line in path.read_bytes().splitlines()]


def _write_trace(path: Path) -> None:
    """A charge that falls and rises again and again."""
    times = np.arange(0.0, _TRACE_S, _POINT_S)
    charge = np.abs(((times / _CYCLE_S) % 1.0) - 0.5) * 1.8 + 0.05
    rows = "\n".join(f"{t:.0f},{c:.3f}" for t, c in zip(times, charge, strict=True))
    path.write_text(f"time_s,charge\n{rows}\n", encoding="ascii")


def _quantiles(times: list[float]) -> dict[str, float]:
    return {f"p{q}": float(np.percentile(times, q)) for q in (50, 99)} if times else {}


def table(found: dict[str, Any]) -> str:
    """What docs/reliability.md shows."""
    return tables.soak(found)
