"""Bits of memory that turn: at an address, and where copies of some bytes lie in a process; on Linux."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

_REGION = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw.. \S+ \S+ \S+\s*(.*)")
_MOST = 1 << 30  # bytes of a region that are looked through


def address_of(array: NDArray[Any]) -> int:
    """Where an array's first byte lies in this process."""
    return int(array.__array_interface__["data"][0])


def flip(address: int, bit: int) -> None:
    """Turn one bit of this process's memory, counted from an address; also where nothing may write."""
    byte = ctypes.c_ubyte.from_address(address + bit // 8)
    byte.value ^= 1 << bit % 8


class OfProcess:
    """Memory of a process of ours, by `/proc/PID/mem`.

    Args:
        pid: of it; "self" is this one.
    """

    def __init__(self, pid: int | str = "self") -> None:
        self._folder = Path("/proc") / str(pid)

    def find(self, needle: bytes) -> list[int]:
        """Addresses at which these bytes lie in memory that can be written to.

        Raises:
            OSError: the system does not let us look.
        """
        found = []
        with self._open("rb") as memory:
            for start, end in self._regions():
                held = _read(memory.fileno(), start, min(end - start, _MOST))
                at = held.find(needle)
                while at >= 0:
                    found.append(start + at)
                    at = held.find(needle, at + 1)
        return found

    def flip(self, address: int, bit: int, *, of: bytes = b"") -> bool:
        """Turn one bit, counted from an address.

        Args:
            address: of `find`.
            bit: from there on.
            of: bytes that must lie there still: what was found may have been freed meanwhile.

        Returns:
            Whether they do.

        Raises:
            OSError: the system does not let us write.
        """
        with self._open("r+b") as memory:
            if of and _read(memory.fileno(), address, len(of)) != of:
                return False
            at = address + bit // 8
            (byte,) = os.pread(memory.fileno(), 1, at)
            os.pwrite(memory.fileno(), bytes([byte ^ 1 << bit % 8]), at)
        return True

    def _open(self, how: str) -> Any:
        return (self._folder / "mem").open(how, buffering=0)

    def _regions(self) -> Iterator[tuple[int, int]]:
        for line in (self._folder / "maps").read_text().splitlines():
            match = _REGION.fullmatch(line)
            if match and not match[3].startswith("[v"):
                yield int(match[1], 16), int(match[2], 16)


def _read(handle: int, start: int, n: int) -> bytes:
    """As much of a region as is there."""
    try:
        return os.pread(handle, n, start)
    except OSError:
        return b""
