"""Kinds of sources that others add, by the word in front of the colon of a source's URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from sentryfuse.errors import ConfigError
from sentryfuse.register import Register
from sentryfuse.stream.packet import Source
from sentryfuse.types import Modality

OURS = ("replay", "mqtt", "lsl")
OpensSource = Callable[[str, Sequence[Modality], Mapping[str, str]], Source]
SOURCES: Register[OpensSource] = Register(
    "source", group="sentryfuse.sources", decorator="sf.register_source"
)
T = TypeVar("T", bound=OpensSource)


def register_source(scheme: str) -> Callable[[T], T]:
    """Decorate what opens a `Source`, so that `--source SCHEME:ADDRESS?name=value` finds it.

    It is called with the address (all between the colon and a question mark), the modalities of the model,
    and the options behind the question mark as text; what is wrong with them it says with a `ConfigError`. An
    installed package makes its own known by an entry point of the group `sentryfuse.sources`.

    Args:
        scheme: the word in front of the colon.

    Raises:
        ConfigError: the scheme is taken.
    """

    def register(opens: T) -> T:
        if scheme in OURS:
            raise ConfigError(f"a source called {scheme} exists; register under another name")
        SOURCES.add(scheme, opens)
        return opens

    return register
