"""Opens a source by its URL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from sentryfuse.errors import ConfigError
from sentryfuse.stream.packet import Source
from sentryfuse.stream.schemes import SOURCES
from sentryfuse.types import Modality

_KINDS = "replay:FILE, mqtt://HOST:PORT/PREFIX or lsl:"


def open_source(url: str, modalities: Sequence[Modality]) -> Source:
    """Open a stream of samples.

    Args:
        url: `replay:FILE[?split=test&speed=1&packet_s=0.1]`, FILE an npz file in the project's layout
            or a CSV file; `mqtt://[USER:PASSWORD@]HOST[:PORT]/PREFIX[?timeout_s=5]`;
            `lsl:[PREFIX][?timeout_s=5]`; or `NAME:ADDRESS[?name=value]` of `register_source`.
        modalities: the sensors of the model; what else comes is refused.

    Returns:
        An open source; use it with `with`.

    Raises:
        ConfigError: a URL that means nothing, an option that is unknown, an extra that is not
            installed, nothing answers, or streams that do not fit.
        DataError: a file that cannot be played.
    """
    if not modalities:
        raise ConfigError("a source needs at least one modality to look for; name those of the model")
    scheme, colon, rest = url.partition(":")
    address, _, query = rest.partition("?")
    if not colon:
        raise ConfigError(f"the source {url!r} has no kind; give {_KINDS}")
    if scheme == "replay":
        from sentryfuse.stream.replay import open_replay

        if not address:
            raise ConfigError("replay: names no file; give for example replay:recording.npz")
        options = _options(url, query, {"split": str, "speed": float, "packet_s": float})
        return open_replay(address, modalities, **options)
    if scheme == "mqtt":
        from sentryfuse.stream.mqtt import open_mqtt

        return open_mqtt(address, modalities, **_options("mqtt:", query, {"timeout_s": float}))
    if scheme == "lsl":
        from sentryfuse.stream.lsl import open_lsl

        return open_lsl(address, modalities, **_options(url, query, {"timeout_s": float}))
    if SOURCES.has(scheme):
        return SOURCES.find(scheme)(address, modalities, _options(url, query, None))
    others = "".join(f" or {name}:" for name in SOURCES.names())
    raise ConfigError(f"a source of kind {scheme!r} is unknown; give {_KINDS}{others}")


def _options(url: str, query: str, known: dict[str, Callable[[str], Any]] | None) -> dict[str, Any]:
    """What stands behind the question mark; any names, as text, where none are known."""
    found: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError as error:
        raise ConfigError(f"{url}: ?{query} is not name=value&name=value; mend it") from error
    for name, text in pairs:
        if name in found or (known is not None and name not in known):
            there = f"; there are {', '.join(known)}" if known else "; give it once"
            raise ConfigError(f"{url}: the option {name!r} is unknown or there twice{there}")
        try:
            found[name] = known[name](text) if known else text
        except ValueError as error:
            raise ConfigError(f"{url}: {name}={text} is not a number; give one") from error
    return found
