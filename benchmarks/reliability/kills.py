"""kill -9 at random moments of commands that write: nothing half-written, nothing mixed, nothing lost.

`train` is killed again and again, goes on, and must end with the weights of a training that nobody killed.
`export` and `data make` replace an old file by another: whoever looks finds one of the two, whole. `run`
appends lines to the files of runs before it: each line stands for itself, and the windows of a run follow one
another. Half of the moments are drawn over the length of the command, half lie within 20 ms behind a change
in its folder. Commands begin in a process that has loaded everything, so that their work is killed, not their
imports.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from benchmarks.reliability.killing import Work, write_stream, write_table
from benchmarks.reliability.record import ROOT, Record
from benchmarks.tables.rows import table as markdown

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


def run(out: Path, *, count: int = FULL, seed: int = 0) -> dict[str, Any]:
    """Kill, look, go on."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with Record(out, "kills", count=count, seed=seed) as record, tempfile.TemporaryDirectory() as room:
        record.found.setdefault("counts", {})
        record.found.setdefault("findings", [])
        work = Work(Path(room), record)
        commands: dict[str, Command] = {
            "train": Train(work),
            "export": Export(work),
            "make": Make(work),
            "run": Run(work),
        }
        while record.done < count:
            begun = work.counts["commands begun"]
            work.counts["commands begun"] += 1
            died = commands[TURN[begun % len(TURN)]].point(random.Random(f"{seed} {begun}"))
            record.found["wrong"] = {what: work.counts[what] for what in WRONG}
            record.found["counts"] = dict(sorted(work.counts.items()))
            record.advance(record.done + died)
        for command in commands.values():
            command.end()
        record.found["wrong"] = {what: work.counts[what] for what in WRONG}
        record.found["counts"] = dict(sorted(work.counts.items()))
    return record.found


def table(found: dict[str, Any]) -> str:
    """What was killed, what was found afterwards, and what was wrong."""
    counts = {name: n for name, n in found["counts"].items() if name not in WRONG}
    rows = [[name, f"{n:,}"] for name, n in (counts | found["wrong"]).items()]
    return markdown(("kill -9", ""), rows)


class Command(Protocol):
    """What is killed."""

    def point(self, rng: random.Random) -> bool:
        """Begin it, kill it at a moment, look; whether it was still at work."""
        ...

    def end(self) -> None:
        """See that it ends well when nobody kills it."""
        ...


class Train:
    """Trainings of one folder after another, each killed a few times and then left to end."""

    def __init__(self, work: Work) -> None:
        self._work, self._place = work, work.folder("train")
        self._arguments = ["train", "--data", str(work.recording), "--epochs", "3", "--seed", "5", "--quiet"]
        work.whole([*self._arguments, "--out", "never-killed"], self._place)
        self._wanted = _weights(self._place / "never-killed")
        self._lives, self._kills = 0, 0

    def point(self, rng: random.Random) -> bool:
        """One kill, of a training that may have been killed before."""
        out = f"life-{self._lives}"
        died = self._work.killed([*self._arguments, "--out", out], self._place, rng)
        self._kills += died
        folder = self._place / out
        if folder.is_dir():
            self._look(folder)
            self._work.left(folder)
        finished = (folder / "metrics.json").is_file()  # killed on its way out
        if not died or finished or self._kills >= MOST_KILLS or rng.random() < 0.2:
            self.end()
        return died

    def end(self) -> None:
        """Let the training end, and compare its weights."""
        if not self._kills:  # it ended before it could be killed: nothing to compare
            self._lives += 1
            return
        folder = self._place / f"life-{self._lives}"
        if not (folder / "metrics.json").is_file():
            self._work.whole([*self._arguments, "--out", folder.name], self._place, timed=False)
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
            asked = f"train --data {work.recording} --epochs 1 --seed {seed} --quiet --out {name}"
            work.whole(asked.split(), self._place, timed=False)
            self._runs.append(name)
        private, self._public, _ = write_keys(self._place / "key")
        self._sign = ["--sign", str(private)]
        self._folder = self._place / "out"
        self._digests = []
        for name in self._runs:
            work.whole(self._arguments(name), self._place)
            self._digests.append(load_bundle(self._folder / "m.bundle").digest)
        self._turn = 0

    def _arguments(self, name: str, *, sign: bool = False) -> list[str]:
        return ["export", name, "--out", "out/m.bundle", "--quiet", *(self._sign if sign else ())]

    def point(self, rng: random.Random) -> bool:
        """One kill of the export of the model that the bundle is not of."""
        from sentryfuse.bundle import load_bundle
        from sentryfuse.errors import BundleError

        self._turn += 1
        asked = self._arguments(self._runs[self._turn % 2], sign=self._turn % 4 < 2)
        died = self._work.killed(asked, self._place, rng)
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
        return died

    def end(self) -> None:
        """A signed export that nobody kills, which is then verified."""
        from sentryfuse.bundle import load_bundle

        self._work.settled(self._folder, self._arguments(self._runs[0], sign=True), self._place)
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
            work.whole(self._arguments(length), self._place)
            self._digests.append(load_windows(self._folder / "x.npz").digest)
        self._turn = 0

    def _arguments(self, length: int) -> list[str]:
        return ["data", "make", f"{length}.toml", "--out", "out/x.npz", "--quiet"]

    def point(self, rng: random.Random) -> bool:
        """One kill of a cutting to the other length."""
        from sentryfuse.data import load_windows
        from sentryfuse.errors import DataError

        self._turn += 1
        died = self._work.killed(self._arguments(1 + self._turn % 2), self._place, rng)
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
        return died

    def end(self) -> None:
        """A cutting that nobody kills."""
        self._work.settled(self._folder, self._arguments(1), self._place)


class Run:
    """Runs over one recording that append to the same files, by turns with and without rotation."""

    def __init__(self, work: Work) -> None:
        self._work, self._place = work, work.folder("run")
        self._bundle = ROOT / "tests" / "golden" / "tiny-v3.bundle"
        write_stream(self._place / "stream.csv", self._bundle)
        work.whole(self._arguments("first"), self._place)
        self._turn, self._torn = 0, set[tuple[str, bytes]]()

    def _arguments(self, name: str, *, rotate: bool = False) -> list[str]:
        asked = ["run", str(self._bundle), "--source", "replay:stream.csv", "--hop-s", "0.25", "--quiet"]
        files = ["--events", f"out/{name}-events.jsonl", "--json", f"out/{name}.jsonl", "--append"]
        return [*asked, *files, *(["--rotate-mb", "0.03", "--rotate-keep", "100"] if rotate else ())]

    def point(self, rng: random.Random) -> bool:
        """One kill, and a look at every line that there is."""
        self._turn += 1
        rotate = self._turn % 2 == 0
        name = f"{'rotated' if rotate else 'plain'}-{self._turn // 20}"
        died = self._work.killed(self._arguments(name, rotate=rotate), self._place, rng)
        self._look(name)
        if self._turn % 10 in (8, 9):
            self._work.whole(self._arguments(name, rotate=rotate), self._place)
            self._look(name)
        return died

    def end(self) -> None:
        """Runs that nobody kills go on in both files."""
        for rotate in (False, True):
            name = f"{'rotated' if rotate else 'plain'}-{self._turn // 20}"
            self._work.settled(self._place / "out", self._arguments(name, rotate=rotate), self._place)
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
                    self._torn.add((kind, line))
                    self._work.counts["lines torn, each alone"] = len(self._torn)
                    continue
                if row["kind"] == "window":
                    if row["window_id"] != seen.get(row["run_id"], -1) + 1:
                        self._work.wrong(
                            "window lost or doubled", f"{row['window_id']} after {seen.get(row['run_id'])}"
                        )
                    seen[row["run_id"]] = row["window_id"]


def _weights(folder: Path) -> str:
    """What decides a trained model's answers."""
    path = folder / "model.safetensors"
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"


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
