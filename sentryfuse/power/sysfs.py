"""Reading the small text files in which Linux shows its sensors."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path

from sentryfuse.power.reading import MeterUnavailable

SYSFS = Path("/sys")
_MAX_CHARS = 4096  # a page, the most sysfs gives
# What drivers answer for "there is a file, but no value": ACPI gives ENODEV while a rate is unknown, gauges
# on a bus ENXIO or a time-out for one register while the others answer.
_NOT_TOLD = (
    errno.ENOENT,
    errno.ENODATA,
    errno.ENODEV,
    errno.ENXIO,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EOPNOTSUPP,
    errno.ETIMEDOUT,
    getattr(errno, "EREMOTEIO", errno.ENODATA),  # Linux only
)
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)


def read_text(path: Path) -> str:
    """Content of a file, without the white space around it.

    Raises:
        MeterUnavailable: it is missing, not readable, or not text.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            return stream.read(_MAX_CHARS).strip()
    except OSError as error:
        raise MeterUnavailable(_sentence(path, error)) from error
    except ValueError as error:
        raise MeterUnavailable(f"{path.name} of {path.parent.name} is not text") from error


def read_number(path: Path) -> int:
    """The whole number in a file, in the file's own unit.

    Raises:
        MeterUnavailable: it is missing, not readable, or says no whole number.
    """
    text = read_text(path)
    if not _WHOLE.fullmatch(text):
        raise MeterUnavailable(f"{path.name} of {path.parent.name} says {text[:20]!r}, not a whole number")
    return int(text)


def find_number(path: Path) -> int | None:
    """The number in a file; `None` where the driver gives none.

    Raises:
        MeterUnavailable: the file is there, but not readable or without a whole number.
    """
    try:
        return read_number(path)
    except MeterUnavailable as trouble:
        if _is_absent(trouble):
            return None
        raise


def find_text(path: Path) -> str | None:
    """The text of a file; `None` where the driver gives none.

    Raises:
        MeterUnavailable: the file is there, but not readable.
    """
    try:
        return read_text(path)
    except MeterUnavailable as trouble:
        if _is_absent(trouble):
            return None
        raise


def folders_in(path: Path, matches: Callable[[Path], bool], what: str) -> list[Path]:
    """Entries of a folder that match, by name.

    An entry that cannot be read does not stand in the way of the others; it is what the error says
    when no other matches.

    Args:
        path: folder to look into.
        matches: may raise MeterUnavailable.
        what: is looked for, in words.

    Raises:
        MeterUnavailable: there is no such folder, it may not be read, or nothing in it matches.
    """
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise MeterUnavailable(_sentence(path, error)) from error
    found, troubles = [], []
    for entry in entries:
        try:
            if matches(entry):
                found.append(entry)
        except MeterUnavailable as trouble:
            troubles.append(trouble)
    if not found:
        raise troubles[0] if troubles else MeterUnavailable(f"{path.name} shows no {what}")
    return found


def _is_absent(trouble: MeterUnavailable) -> bool:
    """Whether a file was simply not there, or the driver has no value for it."""
    return isinstance(trouble.__cause__, OSError) and trouble.__cause__.errno in _NOT_TOLD


def _sentence(path: Path, error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return f"{path.name} of {path.parent.name}: {reason}"
