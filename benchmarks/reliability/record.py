"""The result file of a part: begun, saved as it grows, gone on with after a kill."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from sentryfuse.files import write_json
from sentryfuse.machine import machine

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results" / "reliability"
EVERY_S = 10.0  # between two savings


class Record:
    """What a part has found so far.

    Attributes:
        found: what is written: `part`, `seed`, `done` and `asked` (counts), `seconds`, `commit`, where it was
            made, and what the part adds.
    """

    def __init__(self, out: Path, part: str, *, count: int, seed: int) -> None:
        """Go on with a result of the same seed and code, or begin one."""
        self.out = out
        fresh = {"part": part, "seed": seed, "done": 0, "asked": count, "seconds": 0.0, "commit": commit()}
        old = json.loads(out.read_text()) if out.is_file() else {}
        same = all(old.get(key) == fresh[key] for key in ("part", "seed", "commit"))
        self.found: dict[str, Any] = {**old, "asked": max(count, old["done"])} if same else fresh
        self.found |= machine()
        self._since = self._saved = time.monotonic()

    @property
    def done(self) -> int:
        """How many of the count are in it."""
        return int(self.found["done"])

    def advance(self, done: int) -> None:
        """Note a count, and save now and then."""
        self.found["done"] = done
        if time.monotonic() - self._saved > EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the file, whole or not at all."""
        now = time.monotonic()
        self.found["seconds"] += now - self._since
        self._since = self._saved = now
        write_json(self.out, self.found)

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()


def commit() -> str | None:
    """Which code runs, with a `+` where files differ from it; `None` outside a repository."""
    try:
        asked = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--dirty=+"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
