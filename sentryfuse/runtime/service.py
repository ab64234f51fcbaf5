"""What a service manager is told: ready, alive, stopping; the protocol is systemd's `sd_notify`.

A message is one datagram of `NAME=value` lines, so these are our own lines in place of a library: the ones
there are wait for a full socket, which must not stop a stream, and a device installs nothing more.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from sentryfuse.runtime.result import Result, Status
from sentryfuse.runtime.runtime import Runtime

STATUS_EVERY_S = 1.0  # a status that changes with every window would fill the manager's journal
LONGEST_STATUS = 300  # characters
_IN_TIME = {Status.OK, Status.DEGRADED, Status.REFUSED}  # a silent source is refused in time
_log = logging.getLogger("sentryfuse.runtime")


class Notifier:
    """Sends messages to the service manager that started this process; without one it does nothing.

    Never waits and never raises: what the manager does not take is said once in the log.

    Args:
        environ: holds `NOTIFY_SOCKET`, and `WATCHDOG_USEC` with `WATCHDOG_PID` where signs of life are
            expected.

    Attributes:
        beat_s: how often a sign of life is due: half of what the manager waits [s]; `None` = never.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._socket: socket.socket | None = None
        self._failed = False
        self.beat_s: float | None = None
        address = environ.get("NOTIFY_SOCKET", "")
        if not address:
            return
        if address[0] not in "/@" or not hasattr(socket, "AF_UNIX"):
            _log.warning("NOTIFY_SOCKET %s is no socket of this machine; nothing is told to it", address)
            return
        self._address = "\0" + address[1:] if address[0] == "@" else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if usec.isascii() and usec.isdigit() and int(usec) and pid in ("", str(os.getpid())):
            self.beat_s = int(usec) / 2e6

    def tell(self, **values: str | int) -> None:
        """Send one message.

        Args:
            values: variables of `sd_notify`, such as `READY=1`.
        """
        if self._socket is None:
            return
        lines = [f"{name}={' '.join(str(value).split())}" for name, value in values.items()]
        try:
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                reason = (error.strerror or str(error)).lower()
                _log.warning("the service manager takes no messages: %s", reason)
        else:
            self._failed = False

    def close(self) -> None:
        """Let go of the socket; may be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Service:
    """Tells a service manager how a runtime does; use it with `with` around the loop.

    Ready is told at once: a runtime has built its first sub-network, and its source is open. Signs of life
    are sent from the thread that answers, so none comes while it hangs, and on a live source none while
    windows are not answered in time: late, dropped or faulty ones do not count, refused ones do.

    Args:
        runtime: to be followed.
        notifier: of this process.
    """

    def __init__(self, runtime: Runtime, notifier: Notifier) -> None:
        self._runtime, self._notifier = runtime, notifier
        self._in_time_s: float | None = None  # end of the latest window answered in time; source's clock
        self._beat_at = self._said_at = time.monotonic()
        self._said = f"ready, waiting for {', '.join(runtime.bundle.names)}; run {runtime.run_id}"
        notifier.tell(READY=1, STATUS=self._said, **self._beat())

    @property
    def is_in_time(self) -> bool:
        """Whether windows are answered in time; on a source that is not live they always are."""
        runtime = self._runtime
        if not runtime.is_live:
            return True
        allowed_s, now_s = runtime.hop_s + runtime.max_age_s, runtime.source.now_s()
        if self._in_time_s is None:
            return runtime.overdue(allowed_s) == 0
        return now_s - self._in_time_s <= allowed_s

    def see(self, results: Sequence[Result]) -> None:
        """Follow one step of the runtime.

        Args:
            results: what it gave; mostly none or one.
        """
        for result in results:
            if result.status in _IN_TIME:
                self._in_time_s = result.end_s
            elif self._in_time_s is None:  # from here on it counts
                self._in_time_s = result.end_s - self._runtime.hop_s
        if not self._is_due(self._beat_at, self._notifier.beat_s) and not results:
            return
        now, message = time.monotonic(), {}
        if self._is_due(self._beat_at, self._notifier.beat_s) and self.is_in_time:
            self._beat_at = now
            message.update(self._beat())
        if results and self._is_due(self._said_at, STATUS_EVERY_S):
            said = _said(results[-1], len(self._runtime.bundle.names))
            if said != self._said:
                self._said, self._said_at = said, now
                message["STATUS"] = said
        if message:
            self._notifier.tell(**message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._notifier.tell(STOPPING=1, STATUS="stopping" if error is None else f"stopping: {error}")

    def _beat(self) -> dict[str, str | int]:
        return {} if self._notifier.beat_s is None else {"WATCHDOG": 1}

    @staticmethod
    def _is_due(last: float, every_s: float | None) -> bool:
        return every_s is not None and time.monotonic() - last >= every_s


def _said(result: Result, n_sensors: int) -> str:
    """A window in one line, without its number and its answer, which concern nobody who lists services."""
    said = f"{result.status}, {len(result.present)} of {n_sensors} sensors, sub-network {result.plan_id}"
    return (f"{said}; {result.reason}" if result.reason else said)[:LONGEST_STATUS]
