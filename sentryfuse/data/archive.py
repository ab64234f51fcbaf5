"""Read arrays from an npz file that may be damaged or made to hurt.

Nothing is allocated before the sizes written in the zip directory and in each array's own header
agree and stay under a limit; nothing is ever unpickled.
"""

from __future__ import annotations

import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError, DataError

SMALL = 16_000_000  # of names and settings [bytes]
MAX_BYTES = 16_000_000_000
VARIABLE = "SENTRYFUSE_MAX_GB"  # also reaches what a command starts, as no option would
_MOST_GB = 1e6
_OBJECTS = "Python objects, which are never loaded; store numbers or fixed-length text"
_PIECE = 1 << 22  # read at once [bytes]
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    OverflowError,
    MemoryError,
    SyntaxError,
    TypeError,
    KeyError,
    struct.error,
    tokenize.TokenError,  # numpy reads the headers of Python 2 word by word
    zlib.error,
    zipfile.BadZipFile,
)


def max_bytes_asked() -> int:
    """Largest uncompressed size of a recording: 16 GB, or what SENTRYFUSE_MAX_GB says [bytes].

    Raises:
        ConfigError: it is not a positive number.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return MAX_BYTES
    try:
        asked_gb = float(text)
    except ValueError:
        asked_gb = 0.0
    if not 0 < asked_gb <= _MOST_GB:
        raise ConfigError(f"{VARIABLE} is {text!r:.40}; give a number of gigabytes, such as 16")
    return int(asked_gb * 1e9)


def read_npy(path: Path) -> NDArray[Any]:
    """One array from a npy file.

    Args:
        path: of the file.

    Raises:
        DataError: missing, damaged, larger or smaller than its header says, or of Python objects.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            form, values = _read_array(stream, size, values=True)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; check the name") from error
    except _DAMAGE as error:
        raise DataError(
            f"{path} is not a npy file or is damaged ({_short(error)}); write it with numpy.save"
        ) from error
    if form.dtype.hasobject or values is None:
        raise DataError(f"{path} holds {_OBJECTS}")
    return values


class Form(NamedTuple):
    """What the header of an array says.

    Attributes:
        shape: of any length; sides may be 0.
        dtype: never of Python objects.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def n_bytes(self) -> int:
        """Size of its values [bytes]; Python integers, so that a forged shape cannot wrap around."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """An open npz file; use with `with`.

    Args:
        path: of the file.
        max_bytes: largest sum of uncompressed arrays [bytes].

    Raises:
        DataError: missing, not an npz, damaged, encrypted, or larger than the limit.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.path = path
        if not path.is_file():
            raise DataError(f"there is no file {path}; check the name, or see `sentryfuse data list`")
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGE as error:
            raise DataError(
                f"{path} is not an npz file or is damaged ({_short(error)}); write it again"
            ) from error
        try:
            self._members = self._checked_members(max_bytes)
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        """Give the archive itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._zip.close()

    def __contains__(self, key: str) -> bool:
        """Whether an array of that name is inside."""
        return key in self._members

    def names(self) -> list[str]:
        """Names of all arrays, in order."""
        return list(self._members)

    def form(self, key: str) -> Form:
        """What an array's header says, before a byte of its values is read.

        Args:
            key: its name, without `.npy`.

        Raises:
            DataError: no such array, a damaged one, or one of Python objects.
        """
        return self._opened(key, values=False)[0]

    def read_small(self, key: str) -> NDArray[Any]:
        """One array of names or settings, which has no reason to be large.

        Args:
            key: its name, without `.npy`.

        Raises:
            DataError: as `read`, or it takes more than `SMALL`.
        """
        form = self.form(key)
        if form.n_bytes > SMALL:
            raise DataError(
                f"{self.path}: {key} takes {form.n_bytes / 1e6:.0f} MB as {form.dtype.kind} of shape "
                f"{form.shape}, over the limit of {SMALL / 1e6:.0f} MB for names and settings; "
                "store it shorter"
            )
        return self.read(key)

    def read(self, key: str) -> NDArray[Any]:
        """One array.

        Args:
            key: its name, without `.npy`.

        Raises:
            DataError: no such array, a damaged one, or one of Python objects.
        """
        _, values = self._opened(key, values=True)
        assert values is not None
        return values

    def _opened(self, key: str, *, values: bool) -> tuple[Form, NDArray[Any] | None]:
        if key not in self._members:
            raise DataError(f"{self.path} lacks {key!r}; it has {self._listing()}; add {key!r}")
        member = self._members[key]
        try:
            with self._zip.open(member) as stream:
                form, found = _read_array(stream, member.file_size, values=values)
        except _DAMAGE as error:
            raise DataError(
                f"{self.path}: {key} is damaged ({_short(error)}); write the file again"
            ) from error
        if form.dtype.hasobject:
            raise DataError(f"{self.path}: {key} holds {_OBJECTS}")
        return form, found

    def _checked_members(self, max_bytes: int) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        total = 0
        for info in self._zip.infolist():
            total += info.file_size
            if info.flag_bits & 1 or info.compress_type not in (
                zipfile.ZIP_STORED,
                zipfile.ZIP_DEFLATED,
            ):
                raise DataError(
                    f"{self.path} is encrypted or packed in an unusual way; write it with numpy.savez"
                )
            if info.filename.endswith(".npy"):
                key = info.filename.removesuffix(".npy")
                if key in members:
                    raise DataError(f"{self.path} holds {key!r} twice; write the file again")
                members[key] = info
        if total > max_bytes:
            raise DataError(
                f"{self.path} would unpack to {total / 1e6:.0f} MB, over the limit of "
                f"{max_bytes / 1e6:g} MB; if you trust it, set SENTRYFUSE_MAX_GB, or give a larger max_bytes"
            )
        if not members:
            raise DataError(f"{self.path} holds no arrays; write it with numpy.savez")
        return members

    def _listing(self) -> str:
        names = sorted(self._members)
        return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _short(error: BaseException) -> str:
    """The first line of a message that may be long."""
    text = str(error).strip().splitlines()
    return text[0][:120] if text else type(error).__name__


def _read_array(stream: IO[bytes], size: int, *, values: bool) -> tuple[Form, NDArray[Any] | None]:
    """What a npy file of so many bytes holds; values where asked for, and never of Python objects."""
    shape, fortran, dtype, header = _read_header(stream)
    form = Form(shape, dtype)
    if dtype.hasobject:
        return form, None
    if header + form.n_bytes != size:
        raise ValueError("its size is not what its header says")
    return form, _read_values(stream, fortran, form) if values else None


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order, dtype and header length [bytes] of a npy member."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy version {version} is unknown")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    with warnings.catch_warnings(action="ignore"):  # that it was written by Python 2
        shape, fortran, dtype = read(stream)
    if any(side < 0 for side in shape):
        raise ValueError("a negative shape")
    return shape, bool(fortran), dtype, stream.tell()


def _read_values(stream: IO[bytes], fortran: bool, form: Form) -> NDArray[Any]:
    buffer = bytearray(form.n_bytes)
    view = memoryview(buffer)
    done = 0
    while done < len(view):
        part = stream.read(min(_PIECE, len(view) - done))
        if not part:
            raise EOFError("it ends early")
        view[done : done + len(part)] = part
        done += len(part)
    if stream.read(1):  # the read past the end also makes zipfile compare the checksum
        raise ValueError("it goes on after its end")
    values: NDArray[Any] = np.frombuffer(buffer, dtype=form.dtype)
    if form.dtype.kind == "U":
        letters = values.view(np.dtype(np.uint32).newbyteorder(form.dtype.byteorder))
        if letters.max(initial=0) > 0x10FFFF:
            raise ValueError("its text is not text")
    return values.reshape(form.shape, order="F" if fortran else "C")
