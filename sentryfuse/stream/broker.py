"""The connection to an MQTT broker: address, credentials, TLS, and a link that is taken up again.

Credentials belong into the environment (`SENTRYFUSE_MQTT_USER`, `SENTRYFUSE_MQTT_PASSWORD`) or a file: what
stands in a URL is seen by everybody who lists the processes. No message of this module repeats one.
"""

from __future__ import annotations

import logging
import os
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from sentryfuse.errors import ConfigError
from sentryfuse.stream.packet import Facts

if TYPE_CHECKING:
    from paho.mqtt.client import Client

_log = logging.getLogger("sentryfuse.runtime")
PORT, TLS_PORT = 1883, 8883
USER, PASSWORD = "SENTRYFUSE_MQTT_USER", "SENTRYFUSE_MQTT_PASSWORD"
PATIENCE_S = 5.0  # before it is said that a broker is waited for
OPTIONS: dict[str, Callable[[str], Any]] = {
    "timeout_s": float,
    "qos": int,
    "ca": str,
    "cert": str,
    "key": str,
    "user": str,
    "password_file": str,
    "protocol": int,
    "client_id": str,
}
_KEEPALIVE_S = 15
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1, 30  # between two tries, doubled each time
_SPARE = 1024  # bytes of a packet beside its payload
_WANTED = "give mqtt://HOST:PORT/PREFIX, for example mqtt://localhost:1883/lab"


@dataclass(frozen=True, kw_only=True, repr=False)
class Address:
    """Where a broker is and how to come in; it has no text form, since it holds a password.

    Attributes:
        host: its name or number.
        port: its port.
        prefix: of all topics, without slashes around it.
        tls: whether the connection is encrypted and the broker's certificate checked.
        user: name to come in with; `None` is nobody.
        password: of the user.
        ca: file of the certificates that are trusted; `None` takes the system's.
        cert: file of our own certificate.
        key: file of its key.
        qos: of messages, 0..2.
        protocol: of MQTT, 3 or 5; only 5 lets the broker keep too large packets from us.
        client_id: our name; empty lets the broker choose.
        timeout_s: how long to wait for the broker at the start; `None` waits as long as it takes [s].
    """

    host: str
    port: int
    prefix: str
    tls: bool = False
    user: str | None = None
    password: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    qos: int = 0
    protocol: int = 5
    client_id: str = ""
    timeout_s: float | None = None

    @property
    def where(self) -> str:
        """The broker for messages, without credentials."""
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def address_of(address: str, options: Mapping[str, Any], *, tls: bool) -> Address:
    """Take an address and its options apart; credentials are looked up.

    Args:
        address: `//[USER[:PASSWORD]@]HOST[:PORT]/PREFIX`, percent-encoded.
        options: some of `OPTIONS`, converted.
        tls: whether it began with mqtts.

    Raises:
        ConfigError: it means nothing, or a file of a password cannot be read.
    """
    try:
        url = urlsplit(f"mqtt:{address}")
        port = url.port
    except ValueError:
        raise ConfigError(f"the port of an mqtt: source is not a number of 0..65535; {_WANTED}") from None
    if not address.startswith("//") or not url.hostname or url.fragment:
        raise ConfigError(f"an mqtt: source names no host, or holds a #; {_WANTED}")
    if "@" in url.path:  # a / in a password ends the host, and the rest would be shown as host or topic
        raise ConfigError(
            f"an mqtt: source holds an @ behind its host; keep the password in {PASSWORD}, or write /, ? and "
            "@ in it as %2F, %3F and %40"
        )
    try:
        url.hostname.encode("idna")
    except UnicodeError:
        raise ConfigError(f"the host of an mqtt: source is no name of a host; {_WANTED}") from None
    for name, least, most in (("qos", 0, 2), ("protocol", 3, 5)):
        if (name in options and not least <= options[name] <= most) or options.get("protocol") == 4:
            raise ConfigError(f"{name} of an mqtt: source is {options[name]}; give one of {_CHOICES[name]}")
    timeout_s = options.get("timeout_s")
    if timeout_s is not None and not timeout_s > 0:
        raise ConfigError(f"timeout_s {timeout_s} must be a positive number of seconds")
    if ("cert" in options) != ("key" in options):
        raise ConfigError("cert and key of an mqtts: source belong together; give both files")
    if not tls and {"ca", "cert", "key"} & options.keys():
        raise ConfigError("ca, cert and key are for mqtts://, and this is mqtt://; write mqtts://")
    user = options.get("user") or (unquote(url.username) if url.username else os.environ.get(USER))
    password = None if url.password is None else unquote(url.password)
    if "password_file" in options:
        password = _password_in(Path(options["password_file"]))
    elif password is None:
        password = os.environ.get(PASSWORD)
    if password is not None and user is None:
        raise ConfigError(
            f"there is a password for MQTT but no user; name the user in {USER} or with user=NAME"
        )
    if url.password is not None:
        _log.warning("a password in a URL is seen by all who list the processes; keep it in %s", PASSWORD)
    rest = {k: v for k, v in options.items() if k not in ("user", "password_file")}
    return Address(
        host=url.hostname,
        port=(TLS_PORT if tls else PORT) if port is None else port,
        prefix=unquote(url.path).strip("/"),
        tls=tls,
        user=user,
        password=password,
        **rest,
    )


_CHOICES = {"qos": "0, 1, 2", "protocol": "3, 5"}


class Link:
    """A connection that is taken up again with back-off; what happens to it is kept as news.

    Args:
        address: where to.
        most_bytes: of a message; the broker keeps larger ones from us (MQTT 5).
        will: topic and text that the broker tells, retained, when we are gone without a word.
        what: "source" or "publisher", the beginning of the kinds of news.

    Raises:
        ConfigError: the extra is missing, or a file for TLS cannot be used.
    """

    def __init__(
        self, address: Address, *, most_bytes: int, will: tuple[str, str] | None = None, what: str = "source"
    ) -> None:
        try:
            from paho.mqtt.client import Client, MQTTv5, MQTTv311
            from paho.mqtt.enums import CallbackAPIVersion
            from paho.mqtt.packettypes import PacketTypes
            from paho.mqtt.properties import Properties
        except ModuleNotFoundError as error:
            raise ConfigError(
                "mqtt: needs paho-mqtt; install it with `pip install 'sentryfuse[mqtt]'`"
            ) from error
        self.address, self._what = address, what
        self._properties = None
        if address.protocol == 5:
            self._properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            self._properties.MaximumPacketSize = most_bytes + _SPARE
        self.client: Client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=address.client_id,
            protocol=MQTTv5 if address.protocol == 5 else MQTTv311,
        )
        if address.user is not None:
            self.client.username_pw_set(address.user, address.password)
        if address.tls:
            self._encrypt()
        if will is not None:
            self.client.will_set(will[0], will[1], qos=address.qos, retain=True)
        self.client.reconnect_delay_set(min_delay=_FIRST_WAIT_S, max_delay=_LONGEST_WAIT_S)
        self.client.on_connect = self._connected
        self.client.on_connect_fail = self._failed
        self.client.on_disconnect = self._lost
        self.subscribe: Callable[[], None] | None = None  # done anew after every connection
        self._news: list[Facts] = []
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._refusal: str | None = None
        self._trouble = ""
        self._is_up = self._was_up = self._waits = self._closed = False

    @property
    def is_up(self) -> bool:
        """Whether the broker is connected and has taken what was asked."""
        return self._is_up

    def open(self) -> None:
        """Reach the broker; without a time-out of its own, a broker that is not there is waited for.

        Raises:
            ConfigError: it refuses, or does not answer in the time given.
        """
        address, where = self.address, self.address.where
        self.client.connect_timeout = address.timeout_s or PATIENCE_S
        self.client.connect_async(address.host, address.port, keepalive=_KEEPALIVE_S, **self._more())
        self.client.loop_start()
        answered = self._answered.wait(address.timeout_s or PATIENCE_S)
        if self._refusal is not None:
            refusal = self._refusal
            self.close()
            raise ConfigError(f"{where} refused ({refusal}); check user, password and the broker's rules")
        if answered and self._is_up:
            return
        trouble = self._trouble or f"no answer in {address.timeout_s or PATIENCE_S:g} s"
        if address.timeout_s is not None:
            self.close()
            raise ConfigError(f"{where} cannot be reached ({trouble}); start the broker or mend the URL")
        self._waits = True
        self._tell("lost", f"{where} cannot be reached ({trouble}); waiting for it")

    def confirm(self, refusal: str | None) -> None:
        """Take in what the broker said to a subscription."""
        if refusal is None:
            self._up()
        else:
            self._refused(refusal)

    def news(self) -> list[Facts]:
        """What happened since the last call."""
        with self._lock:
            told, self._news = self._news, []
        return told

    def close(self) -> None:
        """Leave the broker; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self.client.disconnect()
        self.client.loop_stop()

    def _more(self) -> dict[str, Any]:
        return {} if self._properties is None else {"properties": self._properties}

    def _encrypt(self) -> None:
        address = self.address
        for file in (address.ca, address.cert, address.key):
            if file is not None and not Path(file).is_file():
                raise ConfigError(f"there is no file {file} for TLS; check the name")
        try:
            self.client.tls_set(ca_certs=address.ca, certfile=address.cert, keyfile=address.key)
        except (OSError, ValueError) as error:
            files = ", ".join(f for f in (address.ca, address.cert, address.key) if f)
            raise ConfigError(f"the files for TLS cannot be used ({files}): {_reason(error)}") from None

    def _tell(self, what: str, reason: str) -> None:
        with self._lock:
            kind = f"{self._what}_{what}"
            if not self._news or (self._news[-1]["kind"], self._news[-1]["reason"]) != (kind, reason):
                self._news.append({"kind": kind, "reason": reason})
                del self._news[:-100]

    def _up(self) -> None:
        told = self._was_up or self._waits
        self._is_up = self._was_up = True
        self._refusal = None
        if told:
            self._tell("back", f"{self.address.where} is connected")
        self._answered.set()

    def _refused(self, reason: str) -> None:
        self._is_up = False
        if self._refusal != reason:
            self._tell("refused", f"{self.address.where} refused ({reason})")
        self._refusal = reason
        self._answered.set()

    # What follows is called by the client's thread.

    def _connected(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            said = str(reason)
            if "protocol" in said.lower():
                said += "; give protocol=3"
            self._refused(said)
        elif self.subscribe is None:
            self._up()
        else:
            self.subscribe()

    def _failed(self, client: Client, userdata: Any) -> None:
        """Called where the client handles the error of a connection, so that it can be asked for."""
        error = sys.exc_info()[1]
        trouble = _reason(error) if error is not None else "no answer"
        if trouble != self._trouble and self._answered.is_set() and not self._is_up:
            self._tell("lost", f"{self.address.where} cannot be reached ({trouble}); waiting for it")
        self._trouble = trouble
        if self.address.timeout_s is not None or isinstance(error, ssl.SSLError):
            self._answered.set()

    def _lost(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self._is_up and not self._closed:
            self._is_up = False
            self._tell("lost", f"{self.address.where} is gone ({reason}); connecting again")


def _reason(error: BaseException) -> str:
    """The system's own words, on one line."""
    words = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(words or type(error).__name__).split())[:160].lower()


def _password_in(path: Path) -> str:
    """The first line of a file."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path} with a password; check the name")
    try:
        with path.open(encoding="utf-8") as stream:
            return stream.readline(4096).rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"the password in {path} cannot be read: {_reason(error)}") from None
