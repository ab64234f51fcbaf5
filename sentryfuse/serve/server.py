"""The server beside the stream, on a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Protocol, Self

from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.progress import say
from sentryfuse.runtime import Runtime
from sentryfuse.serve.address import listen, url_of
from sentryfuse.serve.board import Board
from sentryfuse.serve.strips import Strips

MOST_CONNECTIONS = 100  # more are answered with 503
STOP_S = 2.0  # for answers under way when the stream ends
_log = logging.getLogger("sentryfuse.serve")


class Lines(Protocol):
    """Takes lines of JSON."""

    @property
    def unwritten(self) -> int:
        """Lines that were not taken."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Add one."""


class Served:
    """Lines that are served as well, until closed.

    Args:
        address: `HOST:PORT`.
        runtime: whose lines they are.
        lines: where they go besides.
        load: reads and verifies a bundle that is sent.

    Attributes:
        url: for a browser.
    """

    def __init__(self, address: str, runtime: Runtime, lines: Lines, load: Callable[[Path], Bundle]) -> None:
        import uvicorn

        from sentryfuse.serve.application import Application
        from sentryfuse.serve.live import Live

        self._lines, self._board = lines, Board(runtime)
        strips = Strips(runtime.bundle.layout.modalities, runtime.window_s)
        self._live = Live(self._board, strips)
        self._socket, access = listen(address)
        self.url = url_of(self._socket)
        self._server = uvicorn.Server(
            uvicorn.Config(
                Application(self._board, self._live, access, load).asgi(),
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=int(STOP_S),
            )
        )
        self._thread = Thread(target=self._run, name="sentryfuse-serve", daemon=True)
        self._thread.start()
        runtime.tap = strips.take
        say(f"serve: {self.url}")

    @property
    def unwritten(self) -> int:
        """Lines that the file did not take."""
        return self._lines.unwritten

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one line, and show it if it is a window."""
        self._lines.write(row)
        if row["kind"] == "window":
            self._board.take(row)

    def close(self) -> None:
        """End the server: answers under way are finished, streams of events end; may be called twice."""
        self._board.runtime.tap = None
        self._live.ended = True
        self._server.should_exit = True
        self._thread.join(2 * STOP_S)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except Exception:  # the stream goes on without it
            _log.exception("the server at %s has ended by itself", self.url)


def open_server(
    address: str, runtime: Runtime, lines: Lines, load: Callable[[Path], Bundle] = load_bundle
) -> Served:
    """Serve what a runtime answers.

    Args:
        address: `HOST:PORT`; anything but loopback needs a token in the environment (see `address`).
        runtime: made, not stepped yet.
        lines: where lines go besides.
        load: reads and verifies a bundle that is sent, with what the command asks of its own.

    Returns:
        Takes the lines in their place; close it with the runtime.

    Raises:
        ConfigError: an address that means nothing, is taken or needs a token.
        ModuleNotFoundError: the extra `serve` is not installed.
    """
    return Served(address, runtime, lines, load)
