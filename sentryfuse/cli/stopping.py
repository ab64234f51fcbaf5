"""Stopping a command that goes on for ever: by Ctrl-C, by a service manager, when its terminal closes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Stop:
    """Whether somebody asked to stop.

    Attributes:
        asked: name of the signal; empty until then.
    """

    def __init__(self) -> None:
        self.asked = ""

    def __bool__(self) -> bool:
        return bool(self.asked)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Turn the first signal to stop into a mark, so that a window is finished and files stay whole.

    A second Ctrl-C ends at once.

    Yields:
        The mark; look at it between two steps.
    """
    stop = Stop()

    def mark(number: int, frame: FrameType | None) -> None:
        if stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.asked = signal.Signals(number).name

    before = {}
    if current_thread() is main_thread():  # elsewhere the owner of the process decides
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
                before[number] = signal.signal(number, mark)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
