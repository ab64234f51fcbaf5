"""What can be changed from outside while the stream runs: budget, sensors, bundle."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from sentryfuse.bundle import Bundle
from sentryfuse.bundle.signature import signature_of
from sentryfuse.errors import ConfigError, InputError, SignatureError
from sentryfuse.runtime import Runtime
from sentryfuse.runtime.offers import Offer
from sentryfuse.types import Budget

MOST_JSON = 64 * 1024  # bytes of a request
MOST_BUNDLE = 256 * 1024 * 1024  # bytes of a bundle
SIGNATURE = "Sentryfuse-Signature"  # header of a request that brings a bundle
MOST_LIMIT = 1e15  # of a number in a budget
_SENT = "sent.bundle"
_LIMITS = tuple(item.name for item in fields(Budget))


def change_budget(runtime: Runtime, body: bytes) -> dict[str, Any]:
    """Ask for another budget.

    Args:
        runtime: whose.
        body: JSON object of the limits, such as `{"ratio": 0.6}`; `{}` limits nothing.

    Returns:
        The limits in force from the next window on.

    Raises:
        InputError: it means nothing, or needs a profile that is not there; nothing changes.
    """
    asked = _object(body)
    unknown = sorted(set(asked) - set(_LIMITS))
    if unknown:
        raise ConfigError(f"a budget has no {', '.join(unknown)}; it has {', '.join(_LIMITS)}")
    for name, value in asked.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (isinstance(value, str) if name == "protocol" else is_number):
            raise ConfigError(f"{name} must be a {'text' if name == 'protocol' else 'number'}, got {value!r}")
        if is_number and not abs(value) <= MOST_LIMIT:  # NaN as well
            raise ConfigError(f"{name} is outside of what a budget may be, {MOST_LIMIT:g} at most")
    limits = {name: value for name, value in asked.items() if value is not None}
    if isinstance(limits.get("macs"), float):
        limits["macs"] = int(limits["macs"])
    if not set(limits) - {"protocol"}:
        limits["ratio"] = 0.0
    runtime.set_budget(Budget(**limits), "asked for over HTTP")
    return {"budget": runtime.budget.limits}


def change_present(runtime: Runtime, body: bytes) -> dict[str, Any]:
    """Ask for the sensors to be used.

    Args:
        runtime: whose.
        body: `{"sensors": ["bvp", "acc"]}`; `null` in place of the list is all of them.

    Returns:
        The sensors that may be used from the next window on.

    Raises:
        InputError: an unknown sensor, or none; nothing changes.
    """
    asked = _object(body)
    names = asked.get("sensors", ())
    if set(asked) != {"sensors"} or not (
        names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))
    ):
        raise ConfigError('the sensors must be given as {"sensors": ["NAME", ...]}, or null for all of them')
    runtime.asked.only(names)
    return {"sensors": list(runtime.asked.names)}


async def received(chunks: AsyncIterator[bytes], most: int) -> bytes:
    """A body in memory.

    Raises:
        ConfigError: it is longer than `most` bytes.
    """
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > most:
            raise ConfigError(f"the request is longer than {most} bytes")
    return body


async def received_bundle(chunks: AsyncIterator[bytes], folder: str, signature: str | None) -> Path:
    """A bundle that comes in, as a file, with its signature beside it.

    Args:
        chunks: of the body.
        folder: where to.
        signature: what the header `SIGNATURE` holds: the line of the file `.sig`; `None` without one.

    Raises:
        ConfigError: it is longer than `MOST_BUNDLE` bytes.
    """
    path, size = Path(folder) / _SENT, 0
    with path.open("wb") as file:
        async for chunk in chunks:
            size += len(chunk)
            if size > MOST_BUNDLE:
                raise ConfigError(f"the bundle is longer than {MOST_BUNDLE} bytes")
            file.write(chunk)
    if signature is not None:
        signature_of(path).write_text(f"{signature.strip()}\n", encoding="utf-8")
    return path


def offer_bundle(runtime: Runtime, path: Path, load: Callable[[Path], Bundle]) -> Offer:
    """Verify a bundle, build its first sub-network, and let it wait for the next window.

    Args:
        runtime: what serves.
        path: of `received_bundle`.
        load: reads and verifies it, as it did with the one that serves.

    Returns:
        What becomes of it.

    Raises:
        SignatureError: a key is asked for, and it is not signed with it.
        InputError: it is damaged, was made for other sensors, or cannot run here; the old one goes on.
    """
    try:
        bundle = load(path)
    except InputError as error:
        if isinstance(error, SignatureError) and not signature_of(path).exists():
            said = (
                f"the bundle that was sent is not signed; send the line of its .sig in the header {SIGNATURE}"
            )
        else:
            said = str(error).replace(str(path), "the bundle that was sent")
            said = said.replace(signature_of(path).name, f"in the header {SIGNATURE}")
        runtime.serving.refuse(said, source="HTTP")
        raise type(error)(said) from None
    return runtime.swap(bundle)


def room() -> tempfile.TemporaryDirectory[str]:
    """A folder for a bundle that comes in, gone afterwards."""
    return tempfile.TemporaryDirectory(prefix="sentryfuse-")


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"null")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError("the request must be a JSON object; see docs/serve.md")
    return found
