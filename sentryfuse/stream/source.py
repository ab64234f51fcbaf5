"""Opens a source by its URL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from sentryfuse.errors import ConfigError
from sentryfuse.stream.packet import Source
from sentryfuse.stream.schemes import SOURCES
from sentryfuse.types import Modality

_KINDS = "replay:FILE, mqtt://HOST:PORT/PREFIX, mqtts://HOST:PORT/PREFIX or lsl:"


def open_source(url: str, modalities: Sequence[Modality]) -> Source:
    """Open a stream of samples.

    Args:
        url: `replay:FILE[?split=test&speed=1&packet_s=0.1]`, FILE an npz file in the project's layout
            or a CSV file; `mqtt://[USER@]HOST[:PORT]/PREFIX[?qos=1&t=ts:ms]`, or `mqtts://` with TLS;
            `lsl:[PREFIX][?timeout_s=5&source_id=ID]`; or `NAME:ADDRESS[?name=value]` of `register_source`.
            All options: docs/streams.md.
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
        known: dict[str, Callable[[str], Any]]
        known = {"split": str, "speed": float, "packet_s": float, "time": str, "longest_gap_s": float}
        options = _options(url, query, known)
        return open_replay(address, modalities, **options)
    if scheme in ("mqtt", "mqtts"):
        from sentryfuse.stream.mqtt import SOURCE_OPTIONS, open_mqtt

        options = mqtt_options(scheme, query, SOURCE_OPTIONS)
        own = {name: options.pop(name) for name in ("share", "t", "values") if name in options}
        return open_mqtt(address, modalities, tls=scheme == "mqtts", options=options, **own)
    if scheme == "lsl":
        from sentryfuse.stream.lsl import OPTIONS as LSL_OPTIONS
        from sentryfuse.stream.lsl import open_lsl

        return open_lsl(address, modalities, **_options(url, query, LSL_OPTIONS))
    if SOURCES.has(scheme):
        return SOURCES.find(scheme)(address, modalities, _options(url, query, None))
    others = "".join(f" or {name}:" for name in SOURCES.names())
    raise ConfigError(f"a source of kind {scheme!r} is unknown; give {_KINDS}{others}")


def mqtt_options(scheme: str, query: str, known: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    """What stands behind the question mark of a broker's URL.

    Raises:
        ConfigError: it cannot be read; a part of a password that got there is never repeated.
    """
    if "@" in query:
        raise ConfigError(
            f"{scheme}: there is an @ behind the ?; keep the password in SENTRYFUSE_MQTT_PASSWORD, or write "
            "?, / and @ in it as %3F, %2F and %40"
        )
    return _options(f"{scheme}:", query, known)


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
