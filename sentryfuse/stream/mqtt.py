"""Samples from an MQTT broker; needs the extra `mqtt` (paho-mqtt)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sentryfuse.errors import ConfigError
from sentryfuse.stream.broker import OPTIONS, Link, address_of
from sentryfuse.stream.packet import Facts, LiveSource, Packet
from sentryfuse.stream.payload import BINARY, MAX_PAYLOAD, Fields, UnreadableError, read_payload, shown
from sentryfuse.types import Modality

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

QUEUE_MESSAGES = 4096  # of one sensor
QUEUE_BYTES = 16_000_000  # of all sensors; each has its share, so that none pushes another one out
SOURCE_OPTIONS = OPTIONS | {"share": str, "t": str, "values": str}
_TOPIC = dict[str, tuple[Modality, bool]]


class MqttSource(LiveSource):
    """Messages of some topics; lost connections are taken up again. See `open_source`.

    The client's own thread only puts messages into queues, one for each sensor. When one is full its oldest
    go: fresh samples are worth more. A message that the broker had kept (retained) says nothing of now and is
    left out; of a static modality it is what holds.

    Args:
        link: to the broker, not opened yet.
        topics: topic -> its modality, and whether its payload is binary.
        share: group whose members divide the messages between them; empty is none.
        fields: names of the parts of a message.
    """

    def __init__(self, link: Link, topics: _TOPIC, *, share: str = "", fields: Fields = Fields()) -> None:  # noqa: B008
        self.start_s: float | None = None
        self._link, self._topics, self._fields = link, topics, fields
        self._share = f"$share/{share}/" if share else ""
        names = sorted({modality.name for modality, _ in topics.values()})
        self._queues: dict[str, deque[tuple[str, bytes, float]]] = {name: deque() for name in names}
        self._bytes = dict.fromkeys(names, 0)
        self._most_bytes = max(QUEUE_BYTES // len(names), 2 * MAX_PAYLOAD)
        self._news_there = threading.Condition()
        self._ended = False
        self._counts = {name: {"malformed": 0, "dropped": 0, "retained": 0} for name in names}
        self._news: list[Facts] = []
        self._unread: dict[str, float] = {}
        link.subscribe = self._subscribe
        link.client.on_subscribe = self._confirmed
        link.client.on_message = self._arrived

    @property
    def ended(self) -> bool:
        """False until closed: a silent sensor may come back."""
        return self._ended

    def open(self) -> None:
        """Reach the broker; see `Link.open`.

        Raises:
            ConfigError: it refuses, or does not answer in the time given.
        """
        self._link.open()

    def now_s(self) -> float:
        """Our monotonic clock [s]."""
        return time.monotonic()

    def read(self, timeout_s: float) -> list[Packet]:
        """What has arrived, malformed messages left out and counted."""
        with self._news_there:
            if not any(self._queues.values()) and not self._ended:
                self._news_there.wait(timeout_s)
            messages = [message for queue in self._queues.values() for message in queue]
            for name, queue in self._queues.items():
                queue.clear()
                self._bytes[name] = 0
        messages.sort(key=lambda message: message[2])
        packets = []
        for topic, payload, received_s in messages:
            modality, binary = self._topics[topic]
            try:
                samples = read_payload(payload, modality, binary=binary, fields=self._fields)
            except UnreadableError as error:
                self._refuse(topic, f"{shown(str(error))}: {shown(payload)}", received_s)
            else:
                packets.append(Packet(modality.name, *samples, received_s))
        return packets

    def counters(self) -> dict[str, dict[str, int]]:
        """Modality -> messages "malformed", "dropped" and "retained" (not fresh, so left out)."""
        with self._news_there:
            return {name: dict(counts) for name, counts in self._counts.items()}

    def news(self) -> list[Facts]:
        """The broker lost, back or refusing; the first message of each sensor that was not understood."""
        with self._news_there:
            told, self._news = self._news, []
        return self._link.news() + told

    def unread(self) -> dict[str, float]:
        """Modality -> when its latest message that was not understood came [s]."""
        with self._news_there:
            return dict(self._unread)

    def close(self) -> None:
        """Leave the broker."""
        if self._ended:
            return
        self._ended = True
        self._link.close()
        with self._news_there:
            self._news_there.notify_all()

    def _refuse(self, topic: str, reason: str, received_s: float) -> None:
        """Count a message that is not understood; the first one of a sensor is told."""
        name = self._topics[topic][0].name
        with self._news_there:
            self._counts[name]["malformed"] += 1
            if name not in self._unread:
                said = f"a message on {topic} is not understood ({reason}); see docs/streams.md"
                self._news.append({"kind": "unreadable", "sensor": name, "reason": said})
            self._unread[name] = received_s

    def _subscribe(self) -> None:
        """Also after every reconnection, when the broker may have forgotten us."""
        qos = self._link.address.qos
        self._link.client.subscribe([(self._share + topic, qos) for topic in self._topics])

    def _confirmed(self, client: Client, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        failed = [str(reason) for reason in reasons if reason.is_failure]
        self._link.confirm(failed[0] if failed else None)

    def _arrived(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        received_s = time.monotonic()
        topic = message.topic
        if topic not in self._topics:
            return  # nothing we asked for
        modality = self._topics[topic][0]
        name, size = modality.name, len(message.payload)
        if message.retain and modality.rate_hz > 0:
            with self._news_there:
                self._counts[name]["retained"] += 1
            return
        if size > MAX_PAYLOAD:
            self._refuse(topic, f"{size} bytes, more than the limit {MAX_PAYLOAD}", received_s)
            return
        with self._news_there:
            queue = self._queues[name]
            queue.append((topic, bytes(message.payload), received_s))
            self._bytes[name] += size
            while len(queue) > QUEUE_MESSAGES or self._bytes[name] > self._most_bytes:
                self._bytes[name] -= len(queue.popleft()[1])
                self._counts[name]["dropped"] += 1
            self._news_there.notify()


def open_mqtt(
    address: str,
    modalities: Sequence[Modality],
    *,
    tls: bool = False,
    share: str = "",
    t: str | None = None,
    values: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> MqttSource:
    """Subscribe to one topic for each modality, and one for its binary form.

    Args:
        address: `//[USER[:PASSWORD]@]HOST[:PORT]/PREFIX`.
        modalities: the sensors to listen for.
        tls: encrypt, and check the broker's certificate.
        share: group that divides the messages (`$share`).
        t: key of the time in a message, `KEY`, `KEY:UNIT` or `:UNIT`.
        values: key of the values in a message.
        options: of `sentryfuse.stream.broker.OPTIONS`.

    Raises:
        ConfigError: the extra is missing, the address means nothing, a name MQTT cannot carry, or
            the broker refuses, or cannot be reached in `timeout_s` where that is given.
    """
    where = address_of(address, options or {}, tls=tls)
    topics: _TOPIC = {}
    for modality in modalities:
        topic = f"{where.prefix}/{modality.name}" if where.prefix else modality.name
        if set("+#\0") & set(topic):
            raise ConfigError(f"the MQTT topic {topic!r} holds +, # or NUL; choose another prefix or name")
        topics[topic] = (modality, False)
        topics[topic + BINARY] = (modality, True)
    if set("+#/\0") & set(share):
        raise ConfigError(f"share {share!r} of an mqtt: source holds +, #, / or NUL; choose another name")
    link = Link(where, most_bytes=MAX_PAYLOAD)
    source = MqttSource(link, topics, share=share, fields=Fields.of(t, values))
    try:
        source.open()
    except BaseException:
        source.close()
        raise
    return source
