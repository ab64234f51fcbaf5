"""Events of a running stream: structured log lines, and a file of JSON lines.

Kinds: `sensor_silent` (overdue between windows), `sensor_lost`, `sensor_back`, `switch`, `budget`,
`over_budget`, `too_slow`, `stale`, `power`, `fault`, `bundle`.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sentryfuse.errors import ConfigError

_log = logging.getLogger("sentryfuse.runtime")
_BAD = {"sensor_silent", "sensor_lost", "over_budget", "too_slow", "stale", "fault"}


class Events:
    """Takes events, counts them, logs them, and writes them down if asked to.

    A disk that is full must not stop the stream: what cannot be written is counted and said once in the log.

    Args:
        path: file of JSON lines, appended to; `None` writes none.

    Attributes:
        counts: kind -> how many so far.
        unwritten: events that the file did not take.

    Raises:
        ConfigError: a file that cannot be opened.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.unwritten = 0
        self._said: dict[str, str] = {}
        self._file = None
        if path is not None:
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                self._file = Path(path).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115
            except OSError as error:
                raise ConfigError(f"events cannot be written to {path}: {error.strerror}") from None

    def tell(self, kind: str, **facts: Any) -> None:
        """Take in one event; never raises.

        Args:
            kind: one of the module's list.
            facts: what goes with it, ready for `json.dumps`.
        """
        self.counts[kind] += 1
        _log.log(
            logging.WARNING if kind in _BAD else logging.INFO,
            "%s %s",
            kind,
            " ".join(f"{name}={value}" for name, value in facts.items()),
            extra={"event": kind, "facts": facts},
        )
        if self._file is None:
            return
        line = {"kind": kind, "unix_s": round(time.time(), 3), "at_s": round(time.monotonic(), 6), **facts}
        try:
            self._file.write(json.dumps(line, default=str) + "\n")
        except (OSError, ValueError) as error:
            if not self.unwritten:
                _log.error("events are no longer written down: %s", error)
            self.unwritten += 1

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
            with _logged_close():
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _logged_close() -> Iterator[None]:
    """Log an error of closing, such as a full disk, instead of raising it."""
    try:
        yield
    except OSError as error:
        _log.error("the file of events could not be closed: %s", error)
