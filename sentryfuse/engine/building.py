"""One build at a time in a process.

What an engine builds may answer on several threads, but building itself is not promised to be safe there. Nor
may a program end meanwhile: Python takes a thread away that comes back from an engine then, and the engine
ends the process by a signal.
"""

from __future__ import annotations

import atexit
import os
from threading import Lock

from sentryfuse.errors import ConfigError

PATIENCE_S = 60.0  # that a program which ends waits for a build
_BUILDING = Lock()
_ends = False


def building() -> Lock:
    """Held by whoever builds.

    Raises:
        ConfigError: the program is about to end.
    """
    if _ends:
        raise ConfigError("the program is about to end, so nothing is built any more")
    return _BUILDING


def _unlock() -> None:
    """In the child of a fork the thread that was building is gone, and nobody would release its lock."""
    global _BUILDING
    _BUILDING = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@atexit.register
def _end() -> None:
    """Wait for the build under way; no other begins."""
    global _ends
    _ends = True
    _BUILDING.acquire(timeout=PATIENCE_S)
