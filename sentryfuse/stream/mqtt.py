"""Samples from an MQTT broker; needs the extra `mqtt` (paho-mqtt)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from sentryfuse.errors import ConfigError
from sentryfuse.stream.packet import Packet, Source
from sentryfuse.stream.payload import BINARY, MAX_PAYLOAD, read_payload
from sentryfuse.types import Modality

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

PORT = 1883
QUEUE_MESSAGES = 4096
QUEUE_BYTES = 16_000_000
_KEEPALIVE_S = 15
_TOPIC = dict[str, tuple[Modality, bool]]


class MqttSource(Source):
    """Messages of some topics; lost connections are taken up again. See `open_source`.

    The client's own thread only puts messages into a queue. When that is full the oldest go: fresh
    samples are worth more.

    Args:
        client: connected to nothing yet.
        topics: topic -> its modality, and whether its payload is binary.
    """

    def __init__(self, client: Client, topics: _TOPIC) -> None:
        self.start_s: float | None = None
        self._client, self._topics = client, topics
        self._queue: deque[tuple[str, bytes, float]] = deque()
        self._queued_bytes = 0
        self._news = threading.Condition()
        self._subscribed = threading.Event()
        self._refusal: str | None = None
        self._ended = False
        names = {modality.name for modality, _ in topics.values()}
        self._counts = {name: {"malformed": 0, "dropped": 0} for name in sorted(names)}
        client.on_connect = self._connected
        client.on_subscribe = self._confirmed
        client.on_message = self._arrived

    @property
    def ended(self) -> bool:
        """False until closed: a silent sensor may come back."""
        return self._ended

    def connect(self, host: str, port: int, timeout_s: float) -> None:
        """Reach the broker and wait until it has taken the subscription.

        Raises:
            ConfigError: no broker answers, or it refuses.
        """
        where = f"mqtt://{host}:{port}"
        self._client.connect_timeout = timeout_s
        try:
            self._client.connect(host, port, keepalive=_KEEPALIVE_S)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ConfigError(
                f"{where} cannot be reached ({reason}); start the broker or mend the URL"
            ) from None
        self._client.loop_start()
        if not self._subscribed.wait(timeout_s):
            refusal = self._refusal or f"no answer in {timeout_s:g} s"
            self.close()
            raise ConfigError(f"{where} took no subscription ({refusal}); check the broker and its rules")
        if self._refusal is not None:
            self.close()
            raise ConfigError(
                f"{where} refused ({self._refusal}); check user, password and the broker's rules"
            )

    def now_s(self) -> float:
        """Our monotonic clock [s]."""
        return time.monotonic()

    def read(self, timeout_s: float) -> list[Packet]:
        """What has arrived, malformed messages left out and counted."""
        with self._news:
            if not self._queue and not self._ended:
                self._news.wait(timeout_s)
            messages = list(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
        packets = []
        for topic, payload, received_s in messages:
            modality, binary = self._topics[topic]
            samples = read_payload(payload, modality, binary=binary)
            if samples is None:
                self._count(modality.name, "malformed")
            else:
                packets.append(Packet(modality.name, *samples, received_s))
        return packets

    def counters(self) -> dict[str, dict[str, int]]:
        """Modality -> messages "malformed" and "dropped"."""
        with self._news:
            return {name: dict(counts) for name, counts in self._counts.items()}

    def close(self) -> None:
        """Leave the broker."""
        if self._ended:
            return
        self._ended = True
        self._client.disconnect()
        self._client.loop_stop()
        with self._news:
            self._news.notify_all()

    def _count(self, name: str, what: str) -> None:
        with self._news:
            self._counts[name][what] += 1

    def _connected(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        """Also after every reconnection, when the broker may have forgotten us."""
        if reason.is_failure:
            self._refusal = str(reason)
            self._subscribed.set()
        else:
            client.subscribe([(topic, 0) for topic in self._topics])

    def _confirmed(self, client: Client, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        failed = [str(reason) for reason in reasons if reason.is_failure]
        self._refusal = failed[0] if failed else None
        self._subscribed.set()

    def _arrived(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        received_s = time.monotonic()
        if message.topic not in self._topics:
            return  # nothing we asked for
        if len(message.payload) > MAX_PAYLOAD:
            self._count(self._topics[message.topic][0].name, "malformed")
            return
        with self._news:
            self._queue.append((message.topic, bytes(message.payload), received_s))
            self._queued_bytes += len(message.payload)
            while len(self._queue) > QUEUE_MESSAGES or self._queued_bytes > QUEUE_BYTES:
                topic, payload, _ = self._queue.popleft()
                self._queued_bytes -= len(payload)
                self._counts[self._topics[topic][0].name]["dropped"] += 1
            self._news.notify()


def open_mqtt(address: str, modalities: Sequence[Modality], *, timeout_s: float = 5.0) -> MqttSource:
    """Subscribe to one topic for each modality, and one for its binary form.

    Args:
        address: `//[USER:PASSWORD@]HOST[:PORT]/PREFIX`.
        modalities: the sensors to listen for.
        timeout_s: longest wait for the broker [s].

    Raises:
        ConfigError: the extra is missing, the address means nothing, a name MQTT cannot carry, or
            the broker cannot be reached or refuses.
    """
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ModuleNotFoundError as error:
        raise ConfigError(
            "mqtt: needs paho-mqtt; install it with `pip install 'sentryfuse[mqtt]'`"
        ) from error
    url, port = _parts(address)
    if not timeout_s > 0:
        raise ConfigError(f"timeout_s {timeout_s} must be a positive number of seconds")
    prefix = unquote(url.path).strip("/")
    topics: _TOPIC = {}
    for modality in modalities:
        topic = f"{prefix}/{modality.name}" if prefix else modality.name
        if set("+#\0") & set(topic):
            raise ConfigError(f"the MQTT topic {topic!r} holds +, # or NUL; choose another prefix or name")
        topics[topic] = (modality, False)
        topics[topic + BINARY] = (modality, True)
    client = Client(CallbackAPIVersion.VERSION2)
    if url.username is not None:
        client.username_pw_set(unquote(url.username), unquote(url.password or ""))
    client.reconnect_delay_set(min_delay=1, max_delay=10)
    source = MqttSource(client, topics)
    source.connect(url.hostname or "", port, timeout_s)
    return source


def _parts(address: str) -> tuple[SplitResult, int]:
    """The address taken apart; a password in it is never repeated."""
    wanted = "give mqtt://HOST:PORT/PREFIX, for example mqtt://localhost:1883/lab"
    try:
        url = urlsplit(f"mqtt:{address}")
        port = PORT if url.port is None else url.port
    except ValueError as error:
        raise ConfigError(f"the port of an mqtt: source is not a number of 0..65535; {wanted}") from error
    if not address.startswith("//") or not url.hostname or url.fragment:
        raise ConfigError(f"an mqtt: source names no host, or holds a #; {wanted}")
    return url, port
