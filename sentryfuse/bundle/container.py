"""A safetensors file opened with suspicion: its header first, its body only when that has been allowed.

Errors say what is wrong and what to do, without the path; `load_bundle` puts it in front.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from sentryfuse.errors import BundleError
from sentryfuse.files import write_atomically

FORMAT = 3  # in 2 every block kept a unit
SEAL = "manifest.sha256"
MAX_BYTES = 2 * 10**9  # the engine takes a model as one message, which cannot be larger
MAX_HEADER = 16 * 2**20  # bytes
MAX_VALUES = 600_000  # JSON values in the header, so that a small file cannot become a large tree
MAX_TENSORS = 40_000
MAX_NAME = 500  # characters
DTYPES: Mapping[str, np.dtype[Any]] = {"F32": np.dtype(np.float32), "U8": np.dtype(np.uint8)}  # U8: the seal
DAMAGED = "copy or export it again"
Array = NDArray[Any]
Check = Callable[[bytearray], None]


class Inconsistent(BundleError):
    """What a bundle holds does not fit together; `load_bundle` adds the path and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tensor lies in the file, and what it is.

    Attributes:
        dtype: float32 or uint8.
        shape: as stored.
        start: of its bytes, from the beginning of the file [bytes].
        end: after its bytes [bytes].
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int


class Container:
    """An open file whose header has been read and holds what it should.

    Attributes:
        manifest: JSON text of its metadata, of this format version; its fields are not checked.
        entries: tensor name -> where it lies, without the seal; side by side, without holes.
        digest: sha256 of the manifest's text, which the file's own seal confirms; hexadecimal.
    """

    def __init__(self, handle: int, check: Check | None = None) -> None:
        self._handle = handle
        self._size = os.fstat(handle).st_size
        self._whole: bytearray | None = None  # what was checked, and nothing else, is what is used
        self._first = 0  # where the body begins
        if self._size > MAX_BYTES:
            raise BundleError(f"has {self._size} bytes, more than the limit {MAX_BYTES}; export it again")
        if check is not None:
            self._whole = self._read(0, self._size)
            check(self._whole)
        header = self._header()
        text = _text_of_manifest(header.pop("__metadata__", None))
        _check_version(text)
        self.manifest = text
        self.entries = dict(_entries(header, self._first, self._size))
        digest = hashlib.sha256(text.encode())
        seal = self.entries.pop(SEAL, None)
        written = self._read(seal.start, 32) if seal and seal.shape == (32,) else b""
        if written != digest.digest():
            raise BundleError("is damaged: its manifest has another digest; copy it again")
        wrong = next((name for name, entry in self.entries.items() if entry.dtype != np.float32), None)
        if wrong is not None:
            raise BundleError(f"holds {wrong} as bytes, which no bundle of this format does; export it again")
        self.digest = digest.hexdigest()

    def tensors(self) -> dict[str, Array]:
        """Read the body once; the arrays share its memory and cannot be written to."""
        whole, n = self._whole, self._size - self._first
        read = self._read(self._first, n) if whole is None else memoryview(whole)[self._first :]
        body = memoryview(read).toreadonly()
        if os.pread(self._handle, 1, self._size):
            raise BundleError(f"grows while it is read; {DAMAGED}")
        return {
            name: np.frombuffer(body, e.dtype, math.prod(e.shape), e.start - self._first).reshape(e.shape)
            for name, e in self.entries.items()
        }

    def _header(self) -> dict[str, Any]:
        length = int.from_bytes(self._read(0, 8), "little")
        if MAX_HEADER < length <= self._size - 8 and self._read(8, 1) == b"{":
            raise BundleError(f"has a header of more than {MAX_HEADER} bytes; {DAMAGED}")
        if not 2 <= length <= min(MAX_HEADER, self._size - 8):
            raise BundleError(f"is not a bundle, it does not begin with a header; {DAMAGED}")
        raw = self._read(8, length)
        if not raw.startswith(b"{"):
            raise BundleError(f"is not a bundle, it does not begin with a header; {DAMAGED}")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise BundleError(f"has a header that is not UTF-8; {DAMAGED}") from None
        header: dict[str, Any] = _parsed(text, "header")
        check_header(text, len(header))
        self._first = 8 + length
        return header

    def _read(self, start: int, n: int) -> bytearray:
        """Exactly `n` bytes. Never mapped: a mapped file that shrinks ends the process."""
        if start + n > self._size:
            raise BundleError(f"ends too early, at {self._size} bytes; {DAMAGED}")
        if self._whole is not None:
            return self._whole[start : start + n]
        parts = bytearray(n)
        view = memoryview(parts)
        os.lseek(self._handle, start, os.SEEK_SET)
        while view:
            got = os.readv(self._handle, [view])
            if not got:
                raise BundleError(f"shrinks while it is read; {DAMAGED}")
            view = view[got:]
        return parts


@contextmanager
def open_container(path: str | Path, check: Check | None = None) -> Iterator[Container]:
    """Open a bundle and check its header.

    Args:
        path: a regular file, or a link to one.
        check: gets every byte before any of them is understood; raises what is wrong.

    Yields:
        The container; closed afterwards.

    Raises:
        BundleError: not a file, or not a bundle of a known format version.
    """
    try:
        # without O_NONBLOCK, opening a pipe waits for somebody to write into it
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise BundleError(f"does not exist; make it with `sentryfuse export RUN --out {path}`") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BundleError(f"cannot be opened ({reason.lower()}); check the path") from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BundleError("is not a file; give the file that `sentryfuse export` wrote")
        yield Container(handle, check)
    except OSError as error:
        raise BundleError(f"cannot be read ({(error.strerror or str(error)).lower()}); {DAMAGED}") from None
    finally:
        os.close(handle)


def save_bundle(path: str | Path, *, manifest: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Write a bundle under a temporary name and rename it.

    Args:
        path: the file to write.
        manifest: everything but `format` and `digests`.
        tensors: by their names in the file.
    """
    tensors = {name: np.ascontiguousarray(t) for name, t in sorted(tensors.items())}
    full = {**manifest, "format": FORMAT, "digests": {n: digest_of(t) for n, t in tensors.items()}}
    text = json.dumps(full, sort_keys=True, allow_nan=False)
    seal = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    with write_atomically(path) as partial:
        save_file(tensors | {SEAL: seal}, partial, metadata={"manifest": text})


def check_digests(digests: Mapping[str, str], tensors: Mapping[str, Array]) -> None:
    """Refuse tensors other than those the manifest was written for, and numbers that are not finite.

    Raises:
        BundleError: naming the first such tensor.
    """
    if digests.keys() != tensors.keys():
        raise BundleError("does not hold the tensors its manifest lists; export it again")
    for name, tensor in tensors.items():
        if digest_of(tensor) != digests[name]:
            raise BundleError(f"is damaged: tensor {name} has another digest; copy it again")
        # NaN and infinity survive both; no array of truths as long as the tensor is made
        if tensor.dtype.kind == "f" and not np.isfinite([tensor.min(), tensor.max()]).all():
            raise BundleError(f"holds weights that are not finite in {name}; train again")


def digest_of(tensor: Array) -> str:
    """sha256 over type, shape and content, hexadecimal."""
    digest = hashlib.sha256(f"{tensor.dtype} {tensor.shape} ".encode())
    digest.update(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def is_name(value: object) -> bool:
    """Whether something can name a thing: a short text that a terminal shows as it is."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def check_header(text: str, entries: int) -> None:
    """Refuse a header that is larger than what a device reads.

    Args:
        text: JSON.
        entries: on its first level.

    Raises:
        BundleError: naming the limit.
    """
    if len(text) > MAX_HEADER:
        raise BundleError(f"has a header of more than {MAX_HEADER} bytes; {DAMAGED}")
    _check_values(text, "header")
    if entries > MAX_TENSORS:
        raise BundleError(f"lists {entries} tensors, more than the limit {MAX_TENSORS}; {DAMAGED}")


def _check_values(text: str, what: str) -> None:
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        raise BundleError(f"has a {what} of more than {MAX_VALUES} values; {DAMAGED}")


def _parsed(text: str, what: str) -> Any:
    """JSON that is an object, without repeated keys, of bounded size and depth."""
    _check_values(text, what)
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise BundleError(f"has a {what} that is not valid JSON ({reason}); {DAMAGED}") from None
    if not isinstance(found, dict):
        raise BundleError(f"has a {what} that is not an object; {DAMAGED}")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _text_of_manifest(metadata: Any) -> str:
    text = metadata.get("manifest") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise BundleError("is a safetensors file without a sentryfuse manifest; export it again")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BundleError(f"has a manifest that is not text; {DAMAGED}") from None
    return text


def _check_version(text: str) -> None:
    manifest: dict[str, Any] = _parsed(text, "manifest")
    version = manifest.get("format")
    if type(version) is not int:
        raise BundleError("is a safetensors file without a sentryfuse manifest; export it again")
    if version == 1:
        raise BundleError(
            "has bundle format 1, whose graphs were written by an exporter that is gone; export the model "
            "again with this version"
        )
    if version != FORMAT:
        raise BundleError(
            f"has bundle format {version if abs(version) < 10**9 else 'unknown'}, this version reads "
            f"{FORMAT}; use the sentryfuse that wrote it, or export again"
        )


def _entries(header: Mapping[str, Any], first: int, size: int) -> Iterator[tuple[str, Entry]]:
    """Every entry, by place; refuses holes, overlaps and types that no bundle has."""
    at = 0
    for (start, end), name, entry in sorted(
        ((_place(entry), name, entry) for name, entry in header.items()), key=lambda found: found[0]
    ):
        if not is_name(name):
            raise BundleError(f"has a tensor whose name cannot be shown; {DAMAGED}")
        shape, dtype = entry.get("shape"), entry.get("dtype")
        if entry.keys() != {"dtype", "shape", "data_offsets"} or dtype not in [*DTYPES]:
            raise BundleError(f"holds {name} as something else than float32 or bytes; export it again")
        if (
            not isinstance(shape, list)
            or len(shape) > 8
            or not all(type(n) is int and 0 < n <= MAX_BYTES for n in shape)
            or math.prod(shape) * DTYPES[dtype].itemsize != end - start
        ):
            raise BundleError(f"holds {name} with a shape that is not that of its bytes; {DAMAGED}")
        if start != at:
            raise BundleError(f"has a hole or an overlap before {name}; {DAMAGED}")
        at = end
        yield name, Entry(DTYPES[dtype], tuple(shape), first + start, first + end)
    if first + at != size:
        raise BundleError(f"has {size} bytes where its header describes {first + at}; {DAMAGED}")


def _place(entry: Any) -> tuple[int, int]:
    """First and last byte of a header's entry, which may be anything."""
    place = entry.get("data_offsets") if isinstance(entry, dict) else None
    if isinstance(place, list) and len(place) == 2 and all(type(n) is int for n in place):
        start, end = place
        if 0 <= start < end <= MAX_BYTES:
            return start, end
    raise BundleError(f"has a header entry without a place in the file; {DAMAGED}")
