"""kill -9 at random moments of commands that write: nothing half-written under its name, nothing mixed, nothing lost.

`train` is killed again and again, goes on, and must end with the weights of a training that nobody killed.
`export` and `data make` replace an old file by another: whoever looks finds one of the two, whole. `run` appends
lines to the files of runs before it: each line stands for itself, and the windows of a run follow one another.
Half of the moments are drawn over the length of the command, half lie within 20 ms behind a change in its folder.
Commands begin in a process that has loaded everything, so that what is killed is their work, not their imports.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.reliability.record import Record

FULL = 500
TURN = ("run", "export", "make", "train", "export", "make", "run", "train", "run", "export")
WRONG = (
    "half-written file",
    "neither the old nor the new",
    "lines glued together",
    "window lost or doubled",
    "resumed to other weights",
    "next command failed",
    "left behind for good",
)
MOST_KILLS = 6  # of one training
SETTLED_S = 11.0  # after that what a killed writer left counts as old
COMMAND_S = 600.0
SENSORS = ("wrist_acc", "chest_acc")


def run(out: Path, *, count: int = FULL, seed: int = 0) -> dict[str, Any]:
    """Kill, look, go on."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with Record(out, "kills", count=count, seed=seed) as record, tempfile.TemporaryDirectory() as room:
        record.found.setdefault("counts", {})
        record.found.setdefault("findings", [])
        work = Work(Path(room), record)
        commands = {"train": Train(work), "export": Export(work), "make": Make(work), "run": Run(work)}
        while record.done < count:
            name = TURN[record.done % len(TURN)]
            commands[name].point(random.Random(f"{seed} {record.done}"))
            record.found["wrong"] = {what: work.counts[what] for what in WRONG}
            record.found["counts"] = dict(sorted(work.counts.items()))
            record.advance(record.done + 1)
        for command in commands.values():
            command.end()
        record.found["wrong"] = {what: work.counts[what] for what in WRONG}
        record.found["counts"] = dict(sorted(work.counts.items()))
    return record.found


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
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(
            ["sentryfuse.cli", "sentryfuse.training", "sentryfuse.export", "sentryfuse.recordings.make"]
            + ["sentryfuse.runtime", "sentryfuse.data", "benchmarks.reliability.kills"]
        )
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

    def whole(self, arguments: list[str], folder: Path) -> float:
        """A command that nobody kills; gives its seconds."""
        started = time.monotonic()
        process = self._processes.Process(target=begin, args=(arguments, str(folder)))
        process.start()
        process.join(COMMAND_S)
        if process.exitcode != 0:
            said = (folder / "log.txt").read_text()[-200:]
            self.wrong("next command failed", f"{arguments[0]} exits {process.exitcode}: {said}")
            process.kill()
            process.join()
        return time.monotonic() - started

    def killed(self, arguments: list[str], folder: Path, length_s: float, rng: random.Random) -> bool:
        """A command that is killed at a random moment; whether it was still at work."""
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

    def settled(self, folder: Path, again: Callable[[], object]) -> None:
        """After what is left has become old, one more command must take it all away."""
        time.sleep(SETTLED_S)
        again()
        for path in folder.iterdir():
            if path.name.startswith("."):
                self.wrong("left behind for good", path.name)


class Train:
    """Trainings of one folder after another, each killed a few times and then left to end."""

    def __init__(self, work: Work) -> None:
        self._work, self._place = work, work.folder("train")
        self._arguments = ["train", "--data", str(work.recording), "--epochs", "3", "--seed", "5", "--quiet"]
        self._length_s = work.whole([*self._arguments, "--out", "never-killed"], self._place)
        self._wanted = _weights(self._place / "never-killed")
        self._lives, self._kills = 0, 0

    def point(self, rng: random.Random) -> None:
        """One kill, of a training that may have been killed before."""
        out = f"life-{self._lives}"
        died = self._work.killed([*self._arguments, "--out", out], self._place, self._length_s, rng)
        self._kills += died
        folder = self._place / out
        if folder.is_dir():
            self._look(folder)
            self._work.left(folder)
        if not died or self._kills >= MOST_KILLS or rng.random() < 0.2:
            self.end()

    def end(self) -> None:
        """Let the training end, and compare its weights."""
        if not self._kills:
            return
        folder = self._place / f"life-{self._lives}"
        if not (folder / "metrics.json").is_file():
            self._work.whole([*self._arguments, "--out", folder.name], self._place)
        if _weights(folder) != self._wanted:
            self._work.wrong("resumed to other weights", f"after {self._kills} kills")
        self._work.counts["trainings compared"] += 1
        self._lives, self._kills = self._lives + 1, 0

    def _look(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        for path in folder.iterdir():
            try:
                if path.suffix == ".json":
                    json.loads(path.read_text())
                elif path.suffix == ".safetensors":
                    with safe_open(path, framework="np") as file:
                        for name in file.keys():  # noqa: SIM118  not a dictionary
                            file.get_tensor(name)
            except (ValueError, SafetensorError) as error:
                self._work.wrong("half-written file", f"{path.name}: {error}")


class Export:
    """One model over the bundle of another, and back; every second time signed."""

    def __init__(self, work: Work) -> None:
        from sentryfuse.bundle import load_bundle
        from sentryfuse.bundle.signature import write_keys

        self._work, self._place = work, work.folder("export")
        self._runs = []
        for seed in (1, 2):
            name = f"run-{seed}"
            work.whole(
                [
                    "train",
                    "--data",
                    str(work.recording),
                    "--epochs",
                    "1",
                    "--seed",
                    str(seed),
                    "--quiet",
                    "--out",
                    name,
                ],
                self._place,
            )
            self._runs.append(name)
        private, self._public, _ = write_keys(self._place / "key")
        self._sign = ["--sign", str(private)]
        self._folder = self._place / "out"
        self._digests = []
        for name in self._runs:
            self._length_s = work.whole(self._arguments(name), self._place)
            self._digests.append(load_bundle(self._folder / "m.bundle").digest)
        self._turn = 0

    def _arguments(self, name: str, *, sign: bool = False) -> list[str]:
        return ["export", name, "--out", "out/m.bundle", "--quiet", *(self._sign if sign else ())]

    def point(self, rng: random.Random) -> None:
        """One kill of the export of the model that the bundle is not of."""
        from sentryfuse.bundle import load_bundle
        from sentryfuse.errors import BundleError

        self._turn += 1
        asked = self._arguments(self._runs[self._turn % 2], sign=self._turn % 4 < 2)
        self._work.killed(asked, self._place, self._length_s, rng)
        try:
            bundle = load_bundle(self._folder / "m.bundle")
        except BundleError as error:
            self._work.wrong("half-written file", str(error))
        else:
            if bundle.digest not in self._digests:
                self._work.wrong("neither the old nor the new", "bundle")
            self._work.counts["bundle is the new one"] += bundle.digest == self._digests[self._turn % 2]
            self._work.counts["bundle is the old one"] += bundle.digest != self._digests[self._turn % 2]
        self._work.left(self._folder)

    def end(self) -> None:
        """A signed export that nobody kills, which is then verified."""
        from sentryfuse.bundle import load_bundle

        name, sign = self._runs[0], True
        self._work.settled(
            self._folder, lambda: self._work.whole(self._arguments(name, sign=sign), self._place)
        )
        load_bundle(self._folder / "m.bundle", verify=self._public)


class Make:
    """A recording cut to windows of one length over one of another."""

    def __init__(self, work: Work) -> None:
        from sentryfuse.data import load_windows

        self._work, self._place = work, work.folder("make")
        self._folder = self._place / "out"
        write_table(self._place / "table.csv")
        self._digests = []
        for length in (1, 2):
            (self._place / f"{length}.toml").write_text(RECIPE.format(length=length))
            self._length_s = work.whole(self._arguments(length), self._place)
            self._digests.append(load_windows(self._folder / "x.npz").digest)
        self._turn = 0

    def _arguments(self, length: int) -> list[str]:
        return ["data", "make", f"{length}.toml", "--out", "out/x.npz", "--quiet"]

    def point(self, rng: random.Random) -> None:
        """One kill of a cutting to the other length."""
        from sentryfuse.data import load_windows
        from sentryfuse.errors import DataError

        self._turn += 1
        self._work.killed(self._arguments(1 + self._turn % 2), self._place, self._length_s, rng)
        try:
            digest = load_windows(self._folder / "x.npz").digest
        except DataError as error:
            self._work.wrong("half-written file", str(error))
        else:
            if digest not in self._digests:
                self._work.wrong("neither the old nor the new", "recording")
            self._work.counts["recording is the new one"] += digest == self._digests[self._turn % 2]
            self._work.counts["recording is the old one"] += digest != self._digests[self._turn % 2]
        self._work.left(self._folder)

    def end(self) -> None:
        """A cutting that nobody kills."""
        self._work.settled(self._folder, lambda: self._work.whole(self._arguments(1), self._place))


class Run:
    """Runs over one recording that append to the same files, by turns with and without rotation."""

    def __init__(self, work: Work) -> None:
        from sentryfuse.data import load_windows

        self._work, self._place = work, work.folder("run")
        golden = Path(__file__).resolve().parents[2] / "tests" / "golden" / "tiny-v3.bundle"
        self._bundle = golden
        stream = self._place / "stream.csv"
        write_stream(stream, golden)
        self._length_s = work.whole(self._arguments("first"), self._place)
        self._turn = 0
        del load_windows

    def _arguments(self, name: str, *, rotate: bool = False) -> list[str]:
        asked = ["run", str(self._bundle), "--source", "replay:stream.csv", "--hop-s", "0.25", "--quiet"]
        files = ["--events", f"out/{name}-events.jsonl", "--json", f"out/{name}.jsonl", "--append"]
        return [*asked, *files, *(["--rotate-mb", "0.03", "--rotate-keep", "100"] if rotate else ())]

    def point(self, rng: random.Random) -> None:
        """One kill, and a look at every line that there is."""
        self._turn += 1
        rotate = self._turn % 2 == 0
        name = f"{'rotated' if rotate else 'plain'}-{self._turn // 20}"
        self._work.killed(self._arguments(name, rotate=rotate), self._place, self._length_s, rng)
        self._look(name)
        if self._turn % 10 == 0:
            self._work.whole(self._arguments(name, rotate=rotate), self._place)
            self._look(name)

    def end(self) -> None:
        """Runs that nobody kills go on in both files."""
        for rotate in (False, True):
            name = f"{'rotated' if rotate else 'plain'}-{self._turn // 20}"
            self._work.settled(
                self._place / "out",
                lambda name=name, rotate=rotate: self._work.whole(
                    self._arguments(name, rotate=rotate), self._place
                ),
            )
            self._look(name)

    def _look(self, name: str) -> None:
        folder = self._place / "out"
        if not folder.is_dir():
            return
        self._work.left(folder)
        for kind in (name, f"{name}-events"):
            files = sorted(
                folder.glob(f"{kind}.jsonl*"),
                key=lambda p: -int(p.suffix[1:]) if p.suffix[1:].isdigit() else 1,
            )
            seen: dict[str, int] = {}
            for line in [line for file in files for line in file.read_bytes().split(b"\n") if line]:
                try:
                    row = json.loads(line)
                except ValueError:
                    if line.count(b'{"kind"') > 1:
                        self._work.wrong("lines glued together", repr(line[:200]))
                    self._work.counts["torn lines, each alone"] += 1
                    continue
                if row["kind"] == "window":
                    if row["window_id"] != seen.get(row["run_id"], -1) + 1:
                        self._work.wrong(
                            "window lost or doubled", f"{row['window_id']} after {seen.get(row['run_id'])}"
                        )
                    seen[row["run_id"]] = row["window_id"]


RECIPE = """name = "table"
folder = "."
window_s = {length}

[[table]]
files = ["table.csv"]
time = "t"
label = "what"
subject = "who"

[[table.sensor]]
name = "acc"
columns = ["x", "y", "z"]
rate_hz = 20.0
"""


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


def _weights(folder: Path) -> str:
    """What decides a trained model's answers."""
    path = folder / "model.safetensors"
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"


def _state(folder: Path) -> dict[str, float]:
    """Names and times of what is in a folder, two levels deep."""
    found = {}
    for path in folder.glob("**/*"):
        try:
            found[str(path)] = path.stat().st_mtime
        except OSError:
            continue
    return found
