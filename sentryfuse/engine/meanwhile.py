"""Something done on another thread while this one does something else."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from types import TracebackType


class Meanwhile:
    """Begins at once, and has ended when the block is left.

    Args:
        work: what to do. Done by `wait` where no thread can be had.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work
        self._error: BaseException | None = None
        self._thread: Thread | None = Thread(target=self._do, name="sentryfuse-meanwhile", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # there are too many
            self._thread = None

    def wait(self) -> None:
        """Return once it is done.

        Raises:
            BaseException: what it raised.
        """
        self._end()
        if self._error is not None:
            raise self._error

    def _end(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._do()

    def _do(self) -> None:
        work, self._work = self._work, None
        if work is None:
            return
        try:
            work()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Meanwhile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.join()
