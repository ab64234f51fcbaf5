"""The file of a bundle, looked after: one that takes its place is served from the next window on.

Once a second a thread asks the file system for the file's identity, size and times; that takes microseconds,
and works over networks and on every system, where notices of the kernel do not. A file that has changed is
read when it has stayed the same from one look to the next, so that one that is just being written, or a
signature that follows its bundle, is not read halfway.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from sentryfuse.bundle import Bundle
from sentryfuse.bundle.signature import signature_of
from sentryfuse.errors import InputError
from sentryfuse.runtime.offers import DIGEST
from sentryfuse.runtime.runtime import Runtime

LOOK_S = 1.0  # between two looks at the file
_log = logging.getLogger("sentryfuse.runtime")


class BundleWatch:
    """Looks after one file; make it before the bundle is read, so that no change is missed.

    Args:
        path: of the bundle that is served; a link is followed.
        look_s: between two looks [s].
    """

    def __init__(self, path: str | Path, *, look_s: float = LOOK_S) -> None:
        self._path, self._look_s = Path(path), look_s
        self._seen = self._coming = self._state()
        self._ended = Event()
        self._thread: Thread | None = None

    def start(self, runtime: Runtime, load: Callable[[Path], Bundle]) -> Self:
        """Begin to look.

        Args:
            runtime: gets what takes the file's place; an event `bundle_refused` where it cannot serve.
            load: reads and verifies a bundle, as it did with the one that is served.
        """
        self._thread = Thread(target=self._follow, args=(runtime, load), name="sentryfuse-watch", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Look no more; may be called twice."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _follow(self, runtime: Runtime, load: Callable[[Path], Bundle]) -> None:
        while not self._ended.wait(self._look_s):
            if self._has_changed():
                self._take(runtime, load)

    def _has_changed(self) -> bool:
        """Whether there is a file that is not the one that was read, and that nobody writes just now."""
        state, before = self._state(), self._coming
        self._coming = state
        if state == self._seen or state != before:
            return False
        self._seen = state
        return state[0] is not None  # one that is gone may come back

    def _take(self, runtime: Runtime, load: Callable[[Path], Bundle]) -> None:
        name = self._path.name
        try:
            bundle = load(self._path)
        except Exception as error:  # nobody waits for this thread, and the stream must go on
            said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            runtime.serving.refuse(said, source=name)
            return
        if bundle.digest == runtime.bundle.digest:
            return  # touched, or put back
        try:
            runtime.swap(bundle)
        except InputError:
            _log.debug("%s cannot serve, as was told", name)
        except Exception as error:
            runtime.serving.refuse(f"{type(error).__name__}: {error}", bundle.digest[:DIGEST], source=name)

    def _state(self) -> tuple[tuple[int, ...] | None, ...]:
        """What changes when the file or its signature does; `None` for one that is not there."""
        beside = {signature_of(self._path), signature_of(self._path.resolve())}
        return tuple(_identity(path) for path in (self._path, *sorted(beside)))


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
