"""Writing so that a file or folder is either whole or not there, and reading JSON back.

A power cut, a full disk or Ctrl-C in the middle leaves the old content; a reader never sees half.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from sentryfuse.errors import ConfigError, InputError

try:
    import fcntl
except ModuleNotFoundError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".partial"  # end of the names of temporary folders
_YOUNG_S = 10.0  # a temporary folder may be made and not locked yet
_SWEPT: set[Path] = set()  # targets beside which this process has looked for what others left
_UMASK = os.umask(0)  # it can only be read by setting it
os.umask(_UMASK)


@contextmanager
def write_atomically(path: str | Path, *, mode: int | None = None) -> Iterator[Path]:
    """Write one file under a temporary path that takes its place when all went well.

    The temporary path has the same file name, in a `.partial` folder beside the target, so writers
    that look at the suffix or add one behave as usual. Missing parent folders are made. A device or
    pipe such as `/dev/stdout` cannot be replaced and is written directly.

    Args:
        path: the file to write; replaced if it exists.
        mode: permissions; `None` is those of a new file. Until it has its name nobody else can reach it.

    Yields:
        The path to write to.

    Raises:
        InputError: the system refuses to write (disk full, no permission, `path` is a folder).
    """
    path = Path(path)
    with writing(path):
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder; give the name of a file")
        if path.exists() and not path.is_file():
            yield path
            return
        path = path.resolve()  # a link stays a link; what it points to is replaced
        with room_beside(path) as room:
            draft = room / path.name
            yield draft
            if mode is None:
                _as_usual(draft)
            else:
                draft.chmod(mode)
            _to_disk(draft)
            draft.replace(path)
        _to_disk(path.parent)


@contextmanager
def folder_atomically(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Fill a whole folder under a temporary path that takes its place when all went well.

    Args:
        path: the folder to make; an empty one may exist.
        overwrite: replace a folder that is not empty, as a whole.

    Yields:
        An existing, empty folder to write into.

    Raises:
        ConfigError: `path` exists and is not empty (and not to be overwritten), or is a file.
        InputError: the system refuses to write (disk full, no permission).
    """
    path = Path(path)
    with writing(path):
        if path.exists() and not path.is_dir():
            raise ConfigError(f"cannot write folder {path}: it is a file; choose another name")
        if path.is_dir() and any(path.iterdir()) and not overwrite:
            raise ConfigError(
                f"cannot write folder {path}: it exists and is not empty; choose another name or remove it"
            )
        path = path.resolve()
        with room_beside(path) as room:
            draft = room / path.name
            draft.mkdir()
            yield draft
            for item in draft.rglob("*"):
                _as_usual(item)
                _to_disk(item)
            _to_disk(draft)
            if not path.exists():
                draft.rename(path)
            else:
                old = room / "replaced"  # goes away together with the temporary room
                old.mkdir()
                path.rename(old / path.name)
                try:
                    draft.rename(path)
                except OSError:
                    (old / path.name).rename(path)
                    raise
        _to_disk(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as UTF-8, whole or not at all.

    Args:
        path: the file to write; replaced if it exists.
        text: its content, line ends as they are; what is no text (a file's name may hold such) is escaped.

    Raises:
        InputError: the system refuses to write.
    """
    with write_atomically(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON, keys in the order given, whole or not at all.

    Args:
        path: the file to write; replaced if it exists.
        data: what `json.dumps` can write; no NaN and no infinity.

    Raises:
        InputError: a number is NaN or infinite, or the system refuses to write.
    """
    try:
        text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise InputError(
            f"cannot write {path}: {error}; JSON has no NaN or infinity, give null instead"
        ) from error
    write_text(path, text + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Args:
        path: the file to read.

    Returns:
        What the file says: dictionaries, lists, strings, numbers, booleans, `None`.

    Raises:
        InputError: the file is missing, cannot be read, or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise InputError(f"cannot read {path}: there is no such file; check the name") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {_reason(error)}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: it is not valid JSON ({error})") from error


def read_json_lines(path: str | Path) -> tuple[list[tuple[int, Any]], bool]:
    """Read a file of one JSON value per line, also one compressed with gzip (`.gz`).

    Args:
        path: the file to read; blank lines are left out.

    Returns:
        (number of the line from 1 on, what it says) in order; and whether a last line was left out because
        it is half written, as by a process that was killed or still runs.

    Raises:
        InputError: the file cannot be read, or a line before the last is not JSON.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        texts = (gzip.decompress(data) if path.suffix == ".gz" else data).split(b"\n")
    except FileNotFoundError as error:
        raise InputError(f"cannot read {path}: there is no such file; check the name") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}; give a whole file") from error
    found = []
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        try:
            found.append((number, json.loads(text.decode(), parse_constant=_refuse_constant)))
        except (ValueError, RecursionError) as error:
            if number == len(texts):  # every whole line ends
                return found, True
            raise InputError(f"{path} line {number} is not valid JSON ({error}); delete that line") from error
    return found, False


@contextmanager
def room_beside(path: str | Path) -> Iterator[Path]:
    """A temporary folder on the same file system, so that a rename is one step; gone afterwards.

    A process that is killed leaves its folder. The next one that writes the same target takes it away:
    folders of one target begin alike, and who works in one holds a lock on it, which ends with the process.

    Args:
        path: what is being written; missing parent folders are made.

    Yields:
        The folder, empty.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}-"
    if path not in _SWEPT:
        _SWEPT.add(path)
        _sweep(path.parent, mine)
    with tempfile.TemporaryDirectory(
        prefix=mine, suffix=PARTIAL, dir=path.parent, ignore_cleanup_errors=True
    ) as room:
        handle = _locked(Path(room))
        try:
            yield Path(room)
        finally:
            if handle is not None:
                os.close(handle)


def _sweep(folder: Path, beginning: str) -> None:
    """Remove the temporary folders of one target whose processes are gone."""
    for entry in os.scandir(folder):
        if not (entry.name.startswith(beginning) and entry.name.endswith(PARTIAL)):
            continue
        with suppress(OSError):  # somebody else was faster, or may not
            handle = _locked(Path(entry.path))
            if handle is not None:
                if time.time() - entry.stat().st_mtime > _YOUNG_S:
                    shutil.rmtree(entry.path, ignore_errors=True)
                os.close(handle)


def _locked(folder: Path) -> int | None:
    """A handle that keeps a folder for this process; `None` where another has it, or there are no locks."""
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what the operating system refuses into one sentence that names the target.

    Args:
        path: what is being written, for the message.

    Raises:
        InputError: the system refused to write, told by Python or by safetensors, whose error is no OSError.
    """
    path = Path(path)
    if path.parent.name.endswith(PARTIAL):  # a draft within a draft; people know the target
        path = path.parent.parent / path.name
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {_reason(error)}; free some space or choose another place"
        ) from error
    except Exception as error:
        reason = _of_safetensors(error)
        if reason is None:
            raise
        raise InputError(f"cannot write {path}: {reason}; free some space or choose another place") from error


def _of_safetensors(error: Exception) -> str | None:
    """Why safetensors could not write; `None` for any other error, also of its own."""
    found = re.search(r"I/O error: (.*?)(?: \(os error \d+\))?$", str(error), re.DOTALL)
    if type(error).__name__ != "SafetensorError" or found is None:
        return None
    return found.group(1).strip().lower()


def check_place(path: str | Path, *, folder: bool = False) -> None:
    """Refuse a place where nothing can be written, before the work; missing folders are made later.

    Args:
        path: the file or folder that will be written.
        folder: which of the two.

    Raises:
        InputError: something else is there, a name the system does not take, or a folder or device that may
            not be written to.
    """
    path = Path(path)
    what = f"folder {path}" if folder else str(path)
    try:
        if path.is_dir() and not folder:
            raise InputError(f"cannot write {what}: it is a folder; give the name of a file")
        if folder and path.exists() and not path.is_dir():
            raise InputError(f"cannot write {what}: it is a file; choose another name")
        nearest = path.absolute()
        while not os.path.lexists(nearest):
            nearest = nearest.parent
        if nearest != path.absolute() and nearest.exists() and not nearest.is_dir():
            raise InputError(f"cannot write {path}: {nearest} is a file; choose another place")
        if nearest != path.absolute():
            path.lstat()  # a name that is too long, for example
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = _reason(error) if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot write {what}: {reason}; choose another name") from error
    if nearest == path.absolute() and path.is_file():
        nearest = path.resolve().parent  # a file is replaced, not written into
    if nearest.exists() and not os.access(nearest, os.W_OK | (os.X_OK if nearest.is_dir() else 0)):
        raise InputError(f"cannot write {what}: {nearest} may not be written to; choose another place")


def _reason(error: OSError) -> str:
    """The system's own words, without number and path."""
    return (error.strerror or str(error)).lower()


def _as_usual(path: Path) -> None:
    """Give a file the permissions a new file has; some writers keep theirs to the owner."""
    if path.is_file():
        path.chmod(0o666 & ~_UMASK)


def _to_disk(path: Path) -> None:
    """Ask the system to put a file or folder on the disk before going on."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_constant(name: str) -> NoReturn:
    """NaN and Infinity are not JSON, though Python would read them."""
    raise ValueError(f"{name} is not a JSON number")
