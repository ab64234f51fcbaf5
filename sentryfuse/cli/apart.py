"""Files a command writes must not be files it reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sentryfuse.errors import ConfigError


def check_apart(writes: Mapping[str, str | Path | None], reads: Mapping[str, str | Path | None]) -> None:
    """Refuse to write over what is read, or two things into one file.

    Args:
        writes: option -> file; `None`, and "-" for standard output, are none.
        reads: what it is, such as "the bundle" -> file.

    Raises:
        ConfigError: two of them are one file.
    """
    targets = {option: Path(file) for option, file in writes.items() if file is not None and str(file) != "-"}
    sources = {what: Path(file) for what, file in reads.items() if file is not None}
    done: dict[str, Path] = {}
    for option, target in targets.items():
        for what, other in (sources | done).items():
            if _are_one(target, other):
                raise ConfigError(f"{option} {target} is {what}, which it would destroy; choose another file")
        if not target.exists() or target.is_file():  # devices and pipes may be shared
            done[f"the file of {option}"] = target


def _are_one(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return one.absolute() == other.absolute()
