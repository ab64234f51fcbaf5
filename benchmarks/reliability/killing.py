"""Commands in processes that are killed, and what they work on."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from benchmarks.reliability.record import Record

SETTLED_S = 11.0  # after that what a killed writer left counts as old
COMMAND_S = 900.0
SENSORS = ("wrist_acc", "chest_acc")
LOADED = (
    *("sentryfuse.cli", "sentryfuse.training", "sentryfuse.export", "sentryfuse.recordings.make"),
    *("sentryfuse.runtime", "sentryfuse.data", "benchmarks.reliability.killing"),
)


def begin(arguments: list[str], folder: str) -> None:
    """One command, in a process of its own."""
    from sentryfuse.cli import main

    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for handle in (1, 2):
        os.dup2(log, handle)
    os._exit(main(arguments))


class Work:
    """Where commands run, and what is counted.

    Args:
        room: for their folders.
        record: whose counts are gone on with.
    """

    def __init__(self, room: Path, record: Record) -> None:
        self.room, self.found = room, record.found
        self.counts: Counter[str] = Counter(record.found["counts"])
        self._lengths: dict[str, float] = {}
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload([*LOADED])
        (room / "data").mkdir()
        self.recording = write_recording(room / "data" / "tiny.npz")

    def folder(self, name: str) -> Path:
        """A fresh folder."""
        path = self.room / name
        path.mkdir()
        return path

    def wrong(self, what: str, how: str) -> None:
        """Something that may not be."""
        self.counts[what] += 1
        if len(self.found["findings"]) < 50:
            self.found["findings"].append(f"{what}: {how}"[:300])

    def whole(self, arguments: list[str], folder: Path, *, timed: bool = True) -> None:
        """A command that nobody kills; kills are drawn over the shortest time that a timed one took."""
        started = time.monotonic()
        process = self._processes.Process(target=begin, args=(arguments, str(folder)))
        process.start()
        process.join(COMMAND_S)
        if process.exitcode != 0:
            said = (folder / "log.txt").read_text()[-200:]
            self.wrong("next command failed", f"{arguments[0]} exits {process.exitcode}: {said}")
            process.kill()
            process.join()
        took, kind = time.monotonic() - started, arguments[0]
        if timed:
            self._lengths[kind] = min(took, self._lengths.get(kind, took))

    def killed(self, arguments: list[str], folder: Path, rng: random.Random) -> bool:
        """A command that is killed at a random moment; whether it was still at work."""
        length_s = self._lengths[arguments[0]]
        process = self._processes.Process(target=begin, args=(arguments, str(folder)))
        process.start()
        if rng.random() < 0.5:
            process.join(rng.uniform(0, 1.05 * length_s))
        else:
            before, changes, until = _state(folder), rng.randint(1, 6), time.monotonic() + 2 * length_s
            while changes and process.is_alive() and time.monotonic() < until:
                now = _state(folder)
                changes -= now != before
                before = now
            time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.join()
        died = process.exitcode == -9
        self.counts[f"{arguments[0]} {'killed at work' if died else 'had ended before'}"] += 1
        if process.exitcode not in (0, -9):
            said = (folder / "log.txt").read_text()[-200:]
            self.wrong("next command failed", f"{arguments[0]} exits {process.exitcode}: {said}")
        return died

    def left(self, folder: Path) -> int:
        """Temporary files and folders that are there now; the most is kept."""
        n = sum(path.name.startswith(".") for path in folder.iterdir())
        self.counts["most left behind at once"] = max(self.counts["most left behind at once"], n)
        return n

    def settled(self, folder: Path, arguments: list[str], place: Path) -> None:
        """After what is left has become old, one more command must take it all away."""
        time.sleep(SETTLED_S)
        self.whole(arguments, place)
        for path in folder.iterdir():
            if path.name.startswith("."):
                self.wrong("left behind for good", path.name)


def write_table(path: Path) -> None:
    """Six people, twenty seconds each, three channels at 20 Hz."""
    rng = random.Random(0)
    rows = ["who,t,x,y,z,what"]
    for who in "abcdef":
        for i in range(400):
            x, y, z = (f"{rng.gauss(0, 1):.4f}" for _ in range(3))
            rows.append(f"{who},{i / 20:.2f},{x},{y},{z},{'rest' if i < 200 else 'walk'}")
    path.write_text("\n".join(rows))


def write_stream(path: Path, bundle: Path) -> None:
    """Two minutes for a bundle, of which every sensor is silent now and then."""
    from sentryfuse.bundle import load_bundle

    rng = random.Random(0)
    modalities = load_bundle(bundle).layout.modalities
    heads = [f"{m.name}.{c}" for m in modalities for c in m.channels]
    rows = [f"time_s,{','.join(heads)}"]
    fastest = max(m.rate_hz for m in modalities)
    for i in range(int(120 * fastest)):
        cells = []
        for n, m in enumerate(modalities):
            silent = (i / fastest + 13 * n) % 40 < 8
            due = not silent and (not m.rate_hz or i % max(1, round(fastest / m.rate_hz)) == 0)
            cells += [f"{rng.gauss(0, 1):.3f}" if due else "" for _ in m.channels]
        rows.append(f"{i / fastest},{','.join(cells)}")
    path.write_text("\n".join(rows))


def write_recording(path: Path) -> Path:
    """Two sensors of the synthetic set, five people, a second each."""
    from sentryfuse.data import make_windows, save_windows, synthetic_wearable

    whole = synthetic_wearable(n_people=5, windows_per_person=12)
    short = [type(m)(m.name, m.rate_hz, 32, m.channels) for m in whole.modalities if m.name in SENSORS]
    windows = make_windows(
        "tiny",
        short,
        raw={name: whole.raw[name][:, :32] for name in SENSORS},
        scale={name: whole.scale[name] for name in SENSORS},
        y=whole.y,
        classes=whole.classes,
        subject=whole.subject,
        split=whole.split,
    )
    save_windows(path, windows)
    return path


def _state(folder: Path) -> dict[str, float]:
    """Names and times of what is in a folder and below it."""
    found = {}
    for place, _, names in os.walk(folder):  # what goes away meanwhile is left out
        for name in (".", *names):
            with suppress(OSError):
                found[f"{place}/{name}"] = Path(place, name).stat().st_mtime
    return found
