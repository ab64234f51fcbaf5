"""Where to listen, and the token of who may come in."""

from __future__ import annotations

import hmac
import os
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from sentryfuse.errors import ConfigError

TOKEN, TOKEN_FILE = "SENTRYFUSE_SERVE_TOKEN", "SENTRYFUSE_SERVE_TOKEN_FILE"
LEAST_TOKEN = 16  # characters; our choice
_BACKLOG = 128
_LONGEST_FILE = 4096  # bytes


@dataclass(frozen=True)
class Access:
    """Who may read and who may change something.

    Attributes:
        is_loopback: only programs of this machine reach it; they may read without a token.
        token: what the others show, and everybody who changes something; `None` lets nobody change anything.
    """

    is_loopback: bool
    token: str | None = field(default=None, repr=False)

    def knows(self, header: str | None) -> bool:
        """Whether an `Authorization` header holds the token; takes the same time for every wrong one."""
        kind, _, shown = (header or "").partition(" ")
        if self.token is None or kind.lower() != "bearer":
            return False
        return hmac.compare_digest(shown.strip().encode(), self.token.encode())

    def may_read(self, header: str | None) -> bool:
        """Whether answers and metrics may be shown."""
        return self.is_loopback or self.knows(header)

    def knows_host(self, header: str | None) -> bool:
        """Whether a `Host` header names this machine; only asked on loopback.

        A page of another site that lets its name point here (DNS rebinding) would name itself.
        """
        if not self.is_loopback:
            return True
        name = (header or "").strip().lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        return name == "localhost" or _is_loopback(name)


def token_of_environment() -> str | None:
    """The token in `SENTRYFUSE_SERVE_TOKEN`, or in the first line of the file that `..._FILE` names.

    Raises:
        ConfigError: the file cannot be read, or the token is too short or cannot stand in a header.
    """
    token, path = os.environ.get(TOKEN), os.environ.get(TOKEN_FILE)
    where = TOKEN
    if token is None and path is not None:
        where = path
        try:
            with Path(path).open(encoding="utf-8") as stream:
                token = stream.readline(_LONGEST_FILE).rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = (getattr(error, "strerror", None) or "it is no text").lower()
            raise ConfigError(f"the token in {path} ({TOKEN_FILE}) cannot be read: {reason}") from None
    if token is None:
        return None
    if len(token) < LEAST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(
            f"the token in {where} must have {LEAST_TOKEN} or more letters, digits and signs without spaces; "
            "make one with `python -c 'import secrets; print(secrets.token_urlsafe())'`"
        )
    return token


def listen(address: str) -> tuple[socket.socket, Access]:
    """A listening socket, and who may use it.

    Args:
        address: `HOST:PORT`; an IPv6 host in brackets, port 0 is any that is free.

    Returns:
        The socket, the caller's to close.

    Raises:
        ConfigError: no such address, a host nobody knows, a port that is taken, or another address than
            loopback without a token.
    """
    host, port = _parts(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigError(
            f"--serve {address}: the host {host} is not known here; give one of this machine, such as "
            "127.0.0.1"
        ) from None
    family, kind, protocol, _, place = found[0]
    access = Access(_is_loopback(str(place[0])), token_of_environment())
    if not access.is_loopback and access.token is None:
        raise ConfigError(
            f"--serve {address} can be reached from other machines, which needs a token; put one into "
            f"{TOKEN} or name its file in {TOKEN_FILE}, or listen on 127.0.0.1"
        )
    heard = socket.socket(family, kind, protocol)
    try:
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        heard.bind(place)
        heard.listen(_BACKLOG)
    except OSError as error:
        heard.close()
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"cannot serve at {address}: {reason}; choose another host or port") from None
    return heard, access


def url_of(heard: socket.socket) -> str:
    """What a browser is given."""
    host, port = heard.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _parts(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    is_number = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536
    if not (colon and host and is_number):
        raise ConfigError(
            f"--serve {address} is no HOST:PORT; give for example 127.0.0.1:8080, or [::1]:8080"
        )
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
