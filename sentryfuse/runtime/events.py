"""Events of a running stream: structured log lines, and a file of JSON lines.

Kinds: `sensor_silent` (overdue between windows), `sensor_lost`, `sensor_back`, `delayed`, `switch`,
`budget`, `sensors`, `over_budget`, `too_slow`, `step_down`, `step_up`, `overload`, `overload_over`,
`stale`, `power`, `no_meter`, `fault`; of bundles `bundle` (another one took over), `bundle_proven`,
`bundle_refused`, `roll_back`; of memory `memory_fault`, `memory_renewed`; of a source `source_lost`,
`source_back`, `source_refused`, `stranger`, `unreadable`; of a publisher `publisher_lost`,
`publisher_back`, `publisher_refused`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from sentryfuse.runtime.lines import LineFile
from sentryfuse.runtime.rotation import Rotation

LATEST = 100  # events remembered
_log = logging.getLogger("sentryfuse.runtime")
_BAD = {
    "sensor_silent",
    "sensor_lost",
    "over_budget",
    "too_slow",
    "step_down",
    "overload",
    "stale",
    "no_meter",
    "fault",
    "bundle_refused",
    "roll_back",
    "memory_fault",
    "source_lost",
    "source_refused",
    "publisher_lost",
    "publisher_refused",
    "stranger",
    "unreadable",
    "delayed",
}


class Events:
    """Takes events, counts them, logs them, and writes them down if asked to.

    A disk that is full must not stop the stream; see `LineFile`.

    Args:
        path: file of JSON lines, appended to; `None` writes none.
        rotation: when that file is full, and what becomes of it; `None` lets it grow.

    Attributes:
        counts: kind -> how many so far.
        latest: the latest of them, with their facts; copy it before looking through it.
        stamp: goes into every line; a runtime puts its run, version and bundle there.

    Raises:
        ConfigError: a file that cannot be opened, or that another run writes.
    """

    def __init__(self, path: str | Path | None = None, *, rotation: Rotation | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.stamp: dict[str, str] = {}
        self.latest: deque[dict[str, Any]] = deque(maxlen=LATEST)
        self._said: dict[str, str] = {}
        self._lock = Lock()
        self._file = None if path is None else LineFile(path, rotation=rotation)

    @property
    def unwritten(self) -> int:
        """Events that the file did not take."""
        return 0 if self._file is None else self._file.unwritten

    def tell(self, kind: str, **facts: Any) -> None:
        """Take in one event, from any thread; never raises.

        Args:
            kind: one of the module's list.
            facts: what goes with it, ready for `json.dumps`.
        """
        unix_s, at_s = round(time.time(), 3), round(time.monotonic(), 6)
        with self._lock:  # a budget may be asked for by another thread, and lines must stay whole
            self.counts[kind] += 1
            row = {"kind": kind, "unix_s": unix_s, "at_s": at_s, **self.stamp, **facts}
            self.latest.append(row)
            if self._file is not None:
                self._file.write(row)
        _log.log(
            logging.WARNING if kind in _BAD else logging.INFO,
            "%s %s",
            kind,
            " ".join(f"{name}={value}" for name, value in facts.items()),
            extra={"event": kind, "facts": facts, "run_id": self.stamp.get("run_id", "")},
        )

    def tell_once(self, kind: str, said: str, **facts: Any) -> None:
        """One event when a lasting fact begins or changes, none while it stays; never raises.

        Args:
            kind: as for `tell`; after a space, which part it is about.
            said: the fact, as `reason`; empty when it is over, which is no event.
            facts: what goes with it.
        """
        if said and self._said.get(kind) != said:
            event, _, part = kind.partition(" ")
            self.tell(event, reason=said, **({"part": part} if part else {}), **facts)
        self._said[kind] = said

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
