"""When a file of lines is full, and what becomes of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sentryfuse.errors import ConfigError

MOST_KEPT = 100
KEPT = 5


@dataclass(frozen=True, slots=True)
class Rotation:
    """How large a file may become, and how many older ones are kept.

    Attributes:
        most_bytes: of one file, unless a single line is longer.
        keep: older files, `FILE.1` the latest of them.

    Raises:
        ConfigError: a number out of range.
    """

    most_bytes: int
    keep: int = KEPT

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.most_bytes < 1:
            raise ConfigError(f"a rotated file must hold at least 1 byte, got {self.most_bytes}")
        if not 1 <= self.keep <= MOST_KEPT:
            raise ConfigError(f"{self.keep} older files are out of range; keep 1 to {MOST_KEPT} of them")

    def older(self, path: Path) -> list[Path]:
        """Names of the older files, the latest first; whether they are there or not."""
        return [path.with_name(f"{path.name}.{i}") for i in range(1, self.keep + 1)]

    def make_room(self, path: Path) -> None:
        """Give a file its second name `FILE.1`, after those that are there have moved up.

        The file keeps its first name as well until another one takes it, so that nobody finds the place
        empty. Where a file cannot have two names (FAT) it is renamed, and for a moment the place is.

        Args:
            path: the file that is full.

        Raises:
            OSError: a file cannot be renamed; those that were stay where they are.
        """
        names = self.older(path)
        if names[0].exists() and names[0].samefile(path):
            return  # a run was killed after it had made room
        free = next((i for i, name in enumerate(names) if not name.exists()), self.keep - 1)
        for i in range(free, 0, -1):
            names[i - 1].replace(names[i])
        names[0].unlink(missing_ok=True)  # with one older file nothing has moved
        try:
            os.link(path, names[0])
        except (OSError, NotImplementedError):
            path.replace(names[0])
