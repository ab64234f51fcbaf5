"""What a running stream says on standard error: its log, from a level on, one line each."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from sentryfuse.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error")


class _OneLine(logging.Formatter):
    """Time, level, message and run, without what would move a cursor or end a line."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        run_id = getattr(record, "run_id", "")  # of `runtime.Events`
        text += f" run_id={run_id}" if run_id else ""
        return "".join(c if c.isprintable() else "?" for c in text)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at the moment, so that a panel that is drawn there can make room."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


@contextmanager
def logged(level: str | None, *, quiet: bool) -> Iterator[None]:
    """Show the log of the package while a command runs.

    Args:
        level: of `LEVELS`; `None` is "warning", or "error" where it should be quiet.
        quiet: no progress and no tables are asked for.

    Raises:
        ConfigError: an unknown level.
    """
    if level is not None and level not in LEVELS:
        raise ConfigError(f"--log {level!r} is unknown; choose one of {', '.join(LEVELS)}")
    if sys.stderr is None:
        yield
        return
    logger, before = logging.getLogger("sentryfuse"), logging.getLogger("sentryfuse").level
    handler = _StandardError()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    chosen = (level or ("error" if quiet else "warning")).upper()
    handler.setLevel(chosen)
    logger.addHandler(handler)
    logger.setLevel(min(logging.getLevelName(chosen), before or logging.CRITICAL))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
