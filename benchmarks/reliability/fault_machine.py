"""Faults F17-F21: power meters, exhausted resources, stopped processes, bits that flip, and a control."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability.fault_stage import Case, Outcome, Stage
from benchmarks.reliability.processes import started
from benchmarks.reliability.publisher import BUNDLE
from benchmarks.reliability.record import ROOT
from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session
from sentryfuse.errors import BundleError
from sentryfuse.power import open_reader

_RANGE_UJ = 262_143_328_850
_DRAW_W = 5.0
_WINDOWS = 40  # of the recording that programs answer
_FEW = 0.1  # share of the trials for what starts a program
_LIMITS = {  # the least and the most that is left, and of what; a file that may not grow is a full disk
    "memory": (170_000_000, 230_000_000, resource.RLIMIT_AS),
    "file handles": (6, 20, resource.RLIMIT_NOFILE),
    "file size": (1000, 25_000, resource.RLIMIT_FSIZE),
}
_MAX_AGE_S, _HOP_S = 0.5, 0.1  # of the live run that is stopped


def meter(kind: str) -> Callable[[Stage, np.random.Generator], Outcome]:
    """F17: the counter of a processor dies or lies while a battery can be read below it."""

    def trial(stage: Stage, rng: np.random.Generator) -> Outcome:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            counter = _write_sysfs(root)
            dies_s, label, wrong, after_s = int(rng.integers(5, 60)), "", 0, None
            count = _RANGE_UJ - int(1e6 * _DRAW_W * (dies_s - 0.5))  # half a second after that it wraps
            (counter / "energy_uj").write_text(f"{count}\n")
            reader = open_reader("auto", root=root, now_s=0.0)
            for now_s in range(1, dies_s + (400 if kind == "frozen" else 20)):
                if now_s < dies_s or kind == "wraps":
                    count = (count + int(1e6 * _DRAW_W)) % _RANGE_UJ
                    (counter / "energy_uj").write_text(f"{count}\n")
                elif now_s == dies_s:
                    _break(counter, kind)
                label = reader.read(float(now_s)).label
                if label == "measured-battery" and after_s is None:
                    after_s = float(now_s - dies_s)
                wrong += after_s is not None and label == "measured-onboard" and kind == "frozen"
            reader.close()
            if kind == "wraps":
                return Outcome(None, None, 0, {"readings by the battery": float(after_s is not None)})
            told = any(note.startswith("rapl cannot be used") for note in reader.notes)
            return Outcome(after_s is not None and told, after_s, wrong)

    return trial


def _write_sysfs(root: Path) -> Path:
    """A processor's counter and a battery, as Linux shows them."""
    counter = root / "class" / "powercap" / "intel-rapl:0"
    cell = root / "class" / "power_supply" / "BAT0"
    for folder, files in (
        (counter, {"name": "package-0", "energy_uj": 0, "max_energy_range_uj": _RANGE_UJ}),
        (cell, {"type": "Battery", "status": "Discharging", "capacity": 80}),
    ):
        folder.mkdir(parents=True)
        for name, value in files.items():
            (folder / name).write_text(f"{value}\n")
    return counter


def _break(counter: Path, kind: str) -> None:
    file = counter / "energy_uj"
    if kind == "gone":
        file.unlink()
    elif kind == "unreadable":  # EIO: memory of this process at address 0, which the kernel refuses to read
        file.unlink()
        file.symlink_to("/proc/self/mem")
    elif kind in ("negative", "garbage"):
        file.write_text({"negative": "-7\n", "garbage": "garbage\n"}[kind])


def recorded(folder: Path, rng: np.random.Generator) -> Path:
    """A recording for the programs that are started, as an npz file."""
    bundle = load_bundle(BUNDLE)
    arrays: dict[str, Any] = {"modalities": np.array(bundle.names), "classes": np.array(bundle.classes)}
    for m in bundle.layout.modalities:
        arrays[f"x_{m.name}"] = rng.standard_normal((_WINDOWS, m.length, m.n_channels)).astype(np.float32)
        arrays[f"rate_{m.name}"] = np.float32(m.rate_hz)
        arrays[f"channels_{m.name}"] = np.array(m.channels)
    ones = np.ones(_WINDOWS, np.int64)
    path = folder / "recorded.npz"
    np.savez(path, y=0 * ones, subject=ones, split=(2 * ones).astype(np.int8), **arrays)
    return path


def exhausted(kind: str) -> Callable[[Stage, np.random.Generator], Outcome]:
    """F18: no memory, no file handles, no room on the disk; one sentence or answers, never a traceback."""

    def trial(stage: Stage, rng: np.random.Generator) -> Outcome:
        least, most, what = _LIMITS.get(kind, (0, 1, resource.RLIMIT_CORE))
        some = int(rng.integers(least, most))
        with tempfile.TemporaryDirectory() as folder:
            lines, source = Path(folder) / "answers", recorded(Path(folder), rng)
            asked = ["run", BUNDLE, "--source", f"replay:{source}", "--events", Path(folder) / "events"]
            asked += ["--json", "/dev/full" if kind == "disk" else lines]
            done = subprocess.run(
                [sys.executable, "-m", "sentryfuse", *map(str, asked)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                preexec_fn=lambda: resource.setrlimit(what, (some, some)),
                timeout=600,
            )
            said = done.stderr + done.stdout
            wrong = said.count("Traceback") + int(done.returncode not in (0, 2))
            ends = f"{_WINDOWS} windows" in said
            noticed = done.returncode == 2
            if kind in ("disk", "file size"):  # the stream must go on to its end, and the loss be said
                wrong += not (ends and noticed and "did not take" in said)
            return Outcome(noticed or ends, None, wrong, {"answered to the end": float(ends)})

    return trial


def stopped(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F19: a live run is stopped for a while and goes on; nothing old may pass for fresh."""
    with tempfile.TemporaryDirectory() as folder:
        lines, events = Path(folder) / "answers", Path(folder) / "events"
        asked = ["run", BUNDLE, "--source", f"live:{int(rng.integers(1000))}", "--hop-s", _HOP_S]
        asked += ["--json", lines, "--events", events, "--max-age-ms", 1e3 * _MAX_AGE_S, "--windows", 80]
        process = started([sys.executable, "-m", "benchmarks.reliability.endless", *asked])
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until and len(_rows(lines)) < 20:
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(float(rng.uniform(1, 3)))
            on_s = time.monotonic()
            os.kill(process.pid, signal.SIGCONT)
            code = process.wait(120)
        finally:
            process.kill()
            process.wait()
        windows = [row for row in _rows(lines) if row["kind"] == "window"]
        told = [row["at_s"] - on_s for row in _rows(events) if row["kind"] == "overload"]
    late = [row for row in windows if row["status"] in ("OK", "DEGRADED") and row["age_s"] > _MAX_AGE_S]
    astray = [row["window_id"] for row in windows] != list(range(len(windows)))
    faults = sum(row["status"] == "FAULT" for row in windows)
    return Outcome(
        bool(told), max(0.0, told[0]) if told else None, len(late) + astray + faults + int(code != 0)
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def flipped(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F20: 1 to 64 bits of a bundle's file flip, ten files in a trial; none may load."""
    data = BUNDLE.read_bytes()
    loaded, times = 0, []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flipped.bundle"
        for _ in range(10):
            mutant = bytearray(data)
            for bit in rng.choice(8 * len(data), int(rng.integers(1, 65)), replace=False):
                mutant[int(bit) // 8] ^= 1 << int(bit) % 8
            path.write_bytes(mutant)
            begun = time.perf_counter()
            try:
                load_bundle(path)
                loaded += 1
            except BundleError:
                times.append(time.perf_counter() - begun)
    return Outcome(loaded == 0, max(times, default=None), loaded)


def other_sensors(stage: Stage, rng: np.random.Generator) -> Outcome:
    """F21, a control: an answer of other sensors must not pass for the right one."""
    names = stage.bundle.names
    a, b = (tuple(n for n in names if rng.random() < 0.6) or names[:1] for _ in range(2))
    if a == b:
        b = tuple(n for n in names if n not in a) or names[:-1]
    samples = stage.samples(stage.start(rng, 1), 1)
    window = {name: samples[name].values[None, -m.length :] for name, m in stage.modalities.items()}
    right, other = (Session(stage.bundle, stage.bundle.plan(s), batch=1).run(window)[0] for s in (a, b))
    noticed = bool(np.abs(right - other).max() > 1e-5)
    return Outcome(noticed, None, int(not noticed))


def _next_reading(stage: Stage) -> float:
    return 1.0


CASES = (
    *(
        Case("F17", f"counter of the processor {what}", "the battery, and said", meter(kind), _next_reading)
        for kind, what in (
            ("gone", "gone"),
            ("unreadable", "gives EIO"),
            ("negative", "negative"),
            ("garbage", "is no number"),
        )
    ),
    Case(
        "F17",
        "counter of the processor frozen",
        "the battery, and said",
        meter("frozen"),
        lambda stage: 6.0,
    ),
    Case("F17", "counter of the processor wraps", "read on", meter("wraps")),
    *(
        Case("F18", what, "one sentence, or answers", exhausted(kind), share=_FEW)
        for kind, what in (
            ("memory", "0.17-0.23 GB of memory to run in"),
            ("file handles", "6-20 file handles"),
            ("file size", "the disk of both files is full after 1-25 kB"),
            ("disk", "the disk of --json is full"),
        )
    ),
    Case(
        "F19",
        "live run stopped for 1-3 s",
        "old windows dropped and said",
        stopped,
        lambda s: 1.0,
        share=_FEW,
    ),
    Case("F20", "1-64 bits of a bundle flip, 10 files each", "refused", flipped, lambda s: 1.0),
    Case("F21", "control: answers of other sensors", "told apart from the right ones", other_sensors),
)
