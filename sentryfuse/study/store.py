"""The folder of results: one process writes, and a kill at any moment loses nothing that was written.

| file | holds |
| --- | --- |
| `design.json` | what is compared; written first, never changed |
| `lines.jsonl` | a line per cell and method; appended |
| `answers/KEY.npz` | per-window probabilities by the key of their line, `windows` and `y` |
| `outdated.jsonl` | lines that other code made, put aside |
| `times.jsonl` | a line per finished job: seconds, times of a decision, which model |
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError, InputError
from sentryfuse.files import read_json, read_json_lines, write_atomically, write_json
from sentryfuse.progress import say
from sentryfuse.study.design import StudyDesign
from sentryfuse.study.jobs import Training, digest
from sentryfuse.study.lines import ANSWERS, DESIGN, IDENTITY, LINES, TRAINING, line_files

TIMES, OUTDATED, LOCK = "times.jsonl", "outdated.jsonl", ".lock"


class Store:
    """The folder of one study, held by this process until the end of `with`.

    Args:
        folder: made if it is not there.
        design: what the study compares.

    Raises:
        ConfigError: the folder is of another study, or another process works in it.
        InputError: a file of it is damaged.
    """

    def __init__(self, folder: Path, design: StudyDesign) -> None:
        self.folder = folder
        there = read_design(folder)
        if there is not None and there != design:
            raise ConfigError(
                f"{folder} holds another study, {_difference(there, design)} differs; choose another --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigError(f"another process works in {folder}; wait for it, or stop it") from None
        if there is None:
            write_json(folder / DESIGN, design.to_json())
        self._mend()
        self.lines = read_lines(line_files(folder))
        self.keys = {line["key"] for line in self.lines}
        times = folder / TIMES
        self.times = read_lines([times]) if times.is_file() else []

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the folder for other processes."""
        self._lock.close()

    def add(
        self,
        lines: Sequence[Mapping[str, Any]],
        answers: Mapping[str, NDArray[Any]] | None,
        facts: Mapping[str, Any],
    ) -> None:
        """Keep what a job gave: answers first, so that every line has its answers.

        Args:
            lines: result lines; may be none.
            answers: arrays by name.
            facts: how long it took.

        Raises:
            InputError: the system refuses to write.
        """
        if answers:
            name = digest(sorted(line["key"] for line in lines))
            with write_atomically(self.folder / ANSWERS / f"{name}.npz") as draft, draft.open("wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **answers)
        _append(self.folder / LINES, lines)
        _append(self.folder / TIMES, [facts])
        self.lines += [dict(line) for line in lines]
        self.keys |= {line["key"] for line in lines}
        self.times.append(dict(facts))

    def set_aside(self, current: Iterable[Mapping[str, Any]]) -> int:
        """Move lines that this code would compute again out of the results.

        Args:
            current: what is known of every line of the design before it is computed, its key too; a line of
                equal identity and another key is outdated.

        Returns:
            How many were moved.

        Raises:
            InputError: the system refuses to write.
        """
        keys = {tuple(line[part] for part in IDENTITY): line["key"] for line in current}
        kept: list[dict[str, Any]] = []
        old: list[dict[str, Any]] = []
        for line in self.lines:
            key = keys.get(tuple(line.get(part) for part in IDENTITY), line["key"])
            (kept if key == line["key"] else old).append(line)
        if old:
            _append(self.folder / OUTDATED, old)
            with write_atomically(self.folder / LINES) as draft:
                draft.touch()
                _append(draft, kept)
            for path in line_files(self.folder):
                if path.name != LINES:
                    path.unlink()
            self.lines, self.keys = kept, {line["key"] for line in kept}
        return len(old)

    def model_of(self, training: Training) -> str | None:
        """Digest of the model that the lines of a training were made with; `None` without lines."""
        wanted = [getattr(training, key) for key in TRAINING]
        said = (line.get("model") for line in self.lines if [line.get(key) for key in TRAINING] == wanted)
        return next((model for model in said if model is not None), None)

    def _mend(self) -> None:
        """Remove the half line that a kill may have left."""
        for path in (self.folder / LINES, self.folder / TIMES):
            if not path.is_file():
                continue
            whole = path.read_bytes()
            end = whole.rfind(b"\n") + 1
            if end < len(whole):
                _tell_torn(path)
                with path.open("r+b") as stream:
                    stream.truncate(end)


def read_design(folder: Path) -> StudyDesign | None:
    """The design of a folder, or `None` where no study is.

    Raises:
        ConfigError: the folder is a file, holds other things, or its design cannot be used.
    """
    if folder.is_dir() and (folder / DESIGN).is_file():
        return StudyDesign.from_json(read_json(folder / DESIGN), said=str(folder / DESIGN))
    if folder.exists() and (not folder.is_dir() or any(not _is_ours(p) for p in folder.iterdir())):
        raise ConfigError(f"{folder} is there and holds no study; choose another --out")
    return None


def _is_ours(path: Path) -> bool:
    """Whether a study may have left it; lines of another one may be put there before the first run."""
    return path.name.startswith("lines") or path.name in (TIMES, ANSWERS, OUTDATED, LOCK, "runs")


def read_lines(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Read lines with a key, each key once; a torn last line is dropped with a note.

    Args:
        paths: files `.jsonl` or `.jsonl.gz`; their lines may be of older code, so only the key is checked.

    Returns:
        The lines, in the order read; of equal keys the last.

    Raises:
        InputError: a file cannot be read, or a line within is no JSON object with a key.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in map(Path, paths):
        lines, torn = read_json_lines(path)
        for number, line in lines:
            if not isinstance(line, dict) or not isinstance(line.get("key"), str):
                raise InputError(
                    f"{path} line {number} is no result line; delete it and run the study again, which "
                    "fills the gap"
                )
            found[line["key"]] = line
        if torn:
            _tell_torn(path)
    return list(found.values())


def _tell_torn(path: Path) -> None:
    say(f"{path.name} ends in half a line, as a kill leaves it; it is dropped")


def _append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    if not lines:
        return
    text = "".join(json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n" for line in lines)
    try:
        with path.open("ab") as stream:
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}; free some space and repeat"
        ) from error


def _difference(one: StudyDesign, other: StudyDesign) -> str:
    return next(name for name in StudyDesign.model_fields if getattr(one, name) != getattr(other, name))
