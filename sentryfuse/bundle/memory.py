"""Whether a bundle in memory is still what was read: its digests once more, a slice at a time.

The tensors of the file are held to the digests of its manifest. What was made of them while it was loaded (a
readout in double precision, whole matrices of stored halves) is held to digests taken when this begins.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle.load import Bundle

SLICE = 1 << 16  # bytes at a time; a device that digests 100 MB in a second takes 0.7 ms
EACH = 2048  # bytes that could be digested in the time that one more tensor takes


class Change(NamedTuple):
    """A tensor that is no longer what it was.

    Attributes:
        name: by its name in the file, or where in the bundle it is.
        right_s: when the look began that last found it right, on the clock [s].
    """

    name: str
    right_s: float


@dataclass(slots=True)
class _Held:
    name: str
    head: bytes  # of type and shape
    body: memoryview
    digest: str  # hexadecimal
    right_s: float


class BundleMemory:
    """Goes round the memory of a bundle; for one thread.

    Args:
        bundle: of `load_bundle`.
        clock: rises by a second a second [s].

    Attributes:
        size: cost of one pass [bytes]: all that is held, and `EACH` for every tensor.
        done: cost so far, all passes together [bytes].
        passes: how often all was found right.
    """

    def __init__(self, bundle: Bundle, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, now_s = clock, clock()
        self._held = [
            _Held(name, _head(array), body, digest, now_s) for name, array, body, digest in _each(bundle)
        ]
        self.size = sum(len(held.body) + EACH for held in self._held)
        self.done = self.passes = 0
        self._at = self._offset = 0
        self._so_far, self._began_s = hashlib.sha256(), now_s

    @property
    def right_s(self) -> float:
        """When the tensor looked at longest ago was found right, on the clock [s]; from any thread."""
        return min((held.right_s for held in self._held), default=self._clock())

    def step(self) -> Change | None:
        """Look at the next `SLICE` bytes, and no further than the end of a pass.

        Returns:
            The first tensor whose digest is another one; the next step goes on behind it.
        """
        left = SLICE
        while left > 0 and self._held:
            held = self._held[self._at]
            if not self._offset:
                self._so_far, self._began_s = hashlib.sha256(held.head), self._clock()
                left -= EACH
                self.done += EACH
            end = min(len(held.body), self._offset + max(left, EACH))
            self._so_far.update(held.body[self._offset : end])
            left -= end - self._offset
            self.done += end - self._offset
            self._offset = end
            if end < len(held.body):
                continue
            self._offset, self._at = 0, (self._at + 1) % len(self._held)
            if self._so_far.hexdigest() != held.digest:
                return Change(held.name, held.right_s)
            held.right_s = self._began_s
            if not self._at:
                self.passes += 1
                break
        return None


def _each(bundle: Bundle) -> Iterator[tuple[str, NDArray[Any], memoryview, str]]:
    """Every array of a bundle with its bytes and their digest; memory that several share once."""
    seen: set[tuple[int, int]] = set()
    parts = {"weights": bundle.weights, "gate": bundle.gate, "mixture": bundle.mixture}
    for name, array in (*bundle.tensors.items(), *_arrays(parts, "loaded")):
        flat = array.ravel("K")  # no copy of one piece of memory, in whatever order its axes lie
        place = flat.__array_interface__["data"][0], flat.nbytes
        if place not in seen and np.may_share_memory(flat, array):
            seen.add(place)
            body = flat.view(np.uint8).data
            digest = bundle.digests.get(name) if name in bundle.tensors else None
            yield name, array, body, digest or hashlib.sha256(_head(array) + body).hexdigest()


def _head(array: NDArray[Any]) -> bytes:
    """What goes before the bytes, as in `digest_of`."""
    return f"{array.dtype} {array.shape} ".encode()


def _arrays(held: Any, name: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Arrays in something of ours, by where they are."""
    if isinstance(held, np.ndarray):
        yield name, held
    elif isinstance(held, Mapping):
        for key, value in held.items():
            yield from _arrays(value, f"{name}.{'+'.join(key) if isinstance(key, tuple) else key}")
    elif isinstance(held, tuple | list):
        for i, value in enumerate(held):
            yield from _arrays(value, f"{name}.{i}")
    elif type(held).__module__.startswith("sentryfuse."):
        keys = [item.name for item in fields(held)] if is_dataclass(held) else [*vars(held)]
        for key in keys:
            yield from _arrays(getattr(held, key), f"{name}.{key.lstrip('_')}")
