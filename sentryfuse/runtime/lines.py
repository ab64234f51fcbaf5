"""A file of JSON lines that a running stream leaves: whole lines only, by one process at a time.

With a `Rotation` a file that is full becomes `FILE.1`, what was `FILE.1` becomes `FILE.2`, and so on.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentryfuse.errors import ConfigError
from sentryfuse.runtime.rotation import Rotation

try:
    import fcntl
except ModuleNotFoundError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger("sentryfuse.runtime")
_MOST_WAITING = 1 << 20  # bytes of one line that a full disk or a slow reader took half of


class LineFile:
    """Writes rows, one JSON object a line; never waits and never raises once it is open.

    What a full disk, a reader that has gone or one that is too slow does not take is counted, and said once
    in the log with the file's name. A line that was written in part is completed before the next one, and
    one that another process left torn gets its end, so that every line of the file stands for itself.

    Args:
        path: a file, made with its folders, or a FIFO that somebody reads.
        anew: empty it first; otherwise lines are appended.
        rotation: when a file is full, and what becomes of it; `None` lets it grow. Only for files.

    Attributes:
        path: as given.
        unwritten: lines that were not taken.

    Raises:
        ConfigError: it cannot be opened, another run writes it, or it is a FIFO nobody reads.
    """

    def __init__(self, path: str | Path, *, anew: bool = False, rotation: Rotation | None = None) -> None:
        self.path = Path(path)
        self._rotation = rotation
        self.unwritten = 0
        self._waiting = b""
        self._said: int | None = None
        self._rotate_from = 0  # bytes; more where rotating has failed
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_plain = self.path.is_file() or not self.path.exists()
            self._handle = os.open(self.path, _flags(os.O_RDWR if is_plain else os.O_WRONLY), 0o666)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise ConfigError(
                    f"cannot write {path}: nobody reads this FIFO; start its reader first"
                ) from None
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(f"cannot write {path}: {reason}; choose another place") from None
        self._is_open = True
        if stat.S_ISREG(os.fstat(self._handle).st_mode):
            try:
                self._take(anew)
            except BaseException:
                os.close(self._handle)
                raise
        else:
            self._rotation = None

    def write(self, row: Mapping[str, Any]) -> None:
        """Add one line.

        Args:
            row: for `json.dumps`; what it does not know is written as text.
        """
        try:
            line = json.dumps(row, default=str, ensure_ascii=False, allow_nan=False)
        except ValueError:  # NaN and infinity are not JSON
            line = json.dumps(_finite(row), default=str, ensure_ascii=False)
        data = line.encode("utf-8", "replace") + b"\n"
        if not self._is_open or not self._push() or len(self._waiting) > _MOST_WAITING:
            self.unwritten += 1
            return
        if self._rotation is not None:
            self._rotate(self._rotation, len(data))
        self._waiting = data
        self._push()
        if len(self._waiting) == len(data):  # nothing of it was taken, so nothing need be completed
            self._waiting = b""
            self.unwritten += 1

    def close(self) -> None:
        """Close it, and let the next run have it; may be called twice."""
        if not self._is_open:
            return
        self._push()
        self._is_open = False
        try:
            os.close(self._handle)
        except OSError as error:
            self._say(error)

    def _take(self, anew: bool) -> None:
        # the other run may have put another file here since this one was opened
        if not self._lock(self._handle) or not _is_at(self._handle, self.path):
            raise ConfigError(
                f"cannot write {self.path}: another run writes it; stop that one or choose another file"
            )
        size = os.fstat(self._handle).st_size
        if anew:
            os.ftruncate(self._handle, 0)
        elif size:
            os.lseek(self._handle, size - 1, os.SEEK_SET)
            if os.read(self._handle, 1) != b"\n":
                self._waiting = b"\n"

    def _lock(self, handle: int) -> bool:
        """Have a file for ourselves; gives whether nobody else has it."""
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:  # a file system without locks
                _log.warning("%s cannot be locked here; see that no other run writes it", self.path)
        return True

    def _rotate(self, rotation: Rotation, n_bytes: int) -> None:
        """Go on in a new file where the next line would make this one too long.

        The new file is ours before it has the name, so that no other run comes between; where it cannot be
        made, lines go on into the old one.
        """
        size = os.fstat(self._handle).st_size
        if not size or size + n_bytes <= rotation.most_bytes or size < self._rotate_from:
            return
        place = self.path.resolve()
        coming = place.with_name(f".{place.name}.next")
        try:
            coming.unlink(missing_ok=True)  # of a run that was killed in between
            handle = os.open(coming, _flags(os.O_RDWR | os.O_EXCL), 0o666)
            try:
                self._lock(handle)
                os.chmod(coming, stat.S_IMODE(os.fstat(self._handle).st_mode))  # noqa: PTH101
                rotation.make_room(place)
                coming.replace(place)
            except BaseException:
                os.close(handle)
                raise
        except OSError as error:
            self._rotate_from = size + rotation.most_bytes // 10  # not with every line again
            reason = (error.strerror or str(error)).lower()
            _log.error("%s cannot be rotated: %s; it goes on growing", self.path, reason)
            return
        before, self._handle, self._rotate_from = self._handle, handle, 0
        os.close(before)

    def _push(self) -> bool:
        """Write what waits; gives whether all of it was taken."""
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._handle, self._waiting) :]
        except OSError as error:
            self._say(error)
            return False
        self._said = None
        return True

    def _say(self, error: OSError) -> None:
        if self._said != error.errno:
            self._said = error.errno
            reason = (error.strerror or str(error)).lower()
            _log.error("%s takes no more lines: %s; the stream goes on without them", self.path, reason)


def _flags(access: int) -> int:
    return access | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _finite(value: Any) -> Any:
    """The same data without NaN and infinity, which become null."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value
