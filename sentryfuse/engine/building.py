"""One build at a time in a process.

What an engine builds may answer on several threads, but building itself is not promised to be safe there.
"""

from __future__ import annotations

import os
from threading import Lock

_BUILDING = Lock()


def building() -> Lock:
    """Held by whoever builds."""
    return _BUILDING


def _unlock() -> None:
    """In the child of a fork the thread that was building is gone, and nobody would release its lock."""
    global _BUILDING
    _BUILDING = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)
