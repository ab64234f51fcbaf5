"""Answers sent to an MQTT broker, and whether the runtime is there to give them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from sentryfuse.errors import ConfigError
from sentryfuse.stream.broker import OPTIONS, Link, address_of
from sentryfuse.stream.packet import Facts
from sentryfuse.stream.payload import MAX_PAYLOAD

ANSWER, STATUS = "answer", "status"
_MOST_WAITING = 1000  # messages of QoS 1 and 2 kept while the broker is away


class Publisher:
    """Publishes `PREFIX/answer`, a JSON object per window, and `PREFIX/status`, retained.

    The status is "online", "stopped" after a clean end, and "lost" by the broker's own word (last will) when
    the runtime is gone without one. Nothing here waits: while the broker is away answers of QoS 0 are lost
    and counted, those of QoS 1 and 2 are sent later, a thousand at most.

    Args:
        link: to the broker, not opened yet.
        prefix: of the topics, with a slash where there is one.
        qos: of all messages.
        stamp: goes into the status.

    Attributes:
        unpublished: answers that were not taken.
    """

    def __init__(self, link: Link, prefix: str, qos: int, stamp: Mapping[str, str]) -> None:
        self.unpublished = 0
        self._link, self._prefix, self._qos, self._stamp = link, prefix, qos, stamp
        link.client.max_queued_messages_set(_MOST_WAITING)
        link.subscribe = self._greet

    def answer(self, row: Mapping[str, Any]) -> None:
        """Publish what was said about one window; never raises.

        Args:
            row: ready for `json.dumps`.
        """
        try:
            text = json.dumps(row, default=str, ensure_ascii=False)
            sent = self._link.client.publish(self._prefix + ANSWER, text, qos=self._qos)
        except (ValueError, OSError, RuntimeError):
            self.unpublished += 1
            return
        # MQTT_ERR_NO_CONN of QoS 1 and 2 means that it waits, and of QoS 0 that it is lost
        self.unpublished += sent.rc != 0 and (not self._qos or sent.rc != 4)

    def news(self) -> list[Facts]:
        """The broker lost, back or refusing."""
        return self._link.news()

    def close(self) -> None:
        """Say that this is the end, and leave."""
        if self._link.is_up:
            sent = self._link.client.publish(
                self._prefix + STATUS, self._status("stopped"), qos=1, retain=True
            )
            with suppress(ValueError, RuntimeError):  # the broker is gone meanwhile, and tells the last will
                sent.wait_for_publish(2.0)
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _greet(self) -> None:
        """After every connection: the broker may have told our last will."""
        self._link.client.publish(self._prefix + STATUS, self._status("online"), qos=1, retain=True)
        self._link.confirm(None)

    def _status(self, word: str) -> str:
        return status_text(word, self._stamp)


def status_text(word: str, stamp: Mapping[str, str]) -> str:
    """The message about the runtime itself."""
    return json.dumps({"status": word, **stamp})


def open_publisher(url: str, *, stamp: Mapping[str, str]) -> Publisher:
    """Reach a broker to publish to.

    Args:
        url: `mqtt://[USER@]HOST[:PORT]/PREFIX[?qos=1]`, or `mqtts://`; options as of an MQTT source.
        stamp: what names this run, for the status.

    Raises:
        ConfigError: the URL means nothing, the extra is missing, or the broker refuses.
    """
    from sentryfuse.stream.source import mqtt_options

    scheme, _, rest = url.partition(":")
    address, _, query = rest.partition("?")
    if scheme not in ("mqtt", "mqtts"):
        raise ConfigError("answers are published to mqtt://HOST:PORT/PREFIX or mqtts://; give one of these")
    where = address_of(address, mqtt_options(scheme, query, OPTIONS), tls=scheme == "mqtts")
    prefix = f"{where.prefix}/" if where.prefix else ""
    if set("+#\0") & set(prefix):
        raise ConfigError(f"the MQTT topic {prefix + ANSWER!r} holds +, # or NUL; choose another prefix")
    will = (prefix + STATUS, status_text("lost", stamp))
    publisher = Publisher(
        Link(where, most_bytes=MAX_PAYLOAD, will=will, what="publisher"), prefix, where.qos, stamp
    )
    try:
        publisher._link.open()
    except BaseException:
        publisher.close()
        raise
    return publisher
