"""Names that others can add to: with a decorator, or from an installed package through its entry points.

A package says in its `pyproject.toml` which module registers a name, and the name is found wherever ours are:

    [project.entry-points."sentryfuse.scorers"]
    mine = "my_package.scorers:Mine"

Nothing of a package is imported before one of its names is asked for.
"""

from __future__ import annotations

from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from sentryfuse.errors import ConfigError

T = TypeVar("T")


class Register(Generic[T]):
    """Names of one kind of thing, in the order in which they came.

    Args:
        what: the kind, in messages, such as "scorer".
        group: of the entry points, such as "sentryfuse.scorers".
        decorator: how a thing of the kind registers itself, in messages, such as "sf.register_scorer".
    """

    def __init__(self, what: str, *, group: str, decorator: str) -> None:
        self.what, self.group, self.decorator = what, group, decorator
        self._known: dict[str, T] = {}

    def add(self, name: str, thing: T) -> None:
        """Take a new name.

        Raises:
            ConfigError: it is taken.
        """
        if name in self._known:
            raise ConfigError(f"a {self.what} called {name} exists; register under another name")
        self._known[name] = thing

    def names(self) -> list[str]:
        """Registered names in the order in which they came, then those that installed packages offer."""
        return [*self._known, *(name for name in self._offered if name not in self._known)]

    def has(self, name: str) -> bool:
        """Whether `find` would look at something; nothing is imported."""
        return name in self._known or name in self._offered

    def find(self, name: str) -> T:
        """What a name stands for; the package that offers it is imported now.

        Raises:
            ConfigError: nobody has the name (the message lists those there are), two packages offer it, or
                the one that does cannot be imported or does not register it.
        """
        if name not in self._known:
            self._load(name)
        return self._known[name]

    def _load(self, name: str) -> None:
        offers = self._offered.get(name, [])
        if not offers:
            raise ConfigError(f"{self.what} {name!r} is unknown; there is {', '.join(self.names())}")
        whose = " and ".join(offer.dist.name if offer.dist else offer.value for offer in offers)
        if len(offers) > 1:
            raise ConfigError(
                f"the packages {whose} both offer a {self.what} {name!r}; uninstall one of them"
            )
        try:
            offers[0].load()
        except ConfigError:
            raise
        except Exception as error:  # whatever the import of somebody else's package ends with
            raise ConfigError(
                f"{self.what} {name!r} is offered by the package {whose}, which cannot be imported "
                f"({type(error).__name__}: {error}); mend or uninstall it"
            ) from error
        if name not in self._known:
            raise ConfigError(
                f"the package {whose} offers a {self.what} {name!r} and does not register it; "
                f"decorate {offers[0].value} with {self.decorator}({name!r})"
            )

    @cached_property
    def _offered(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for offer in entry_points(group=self.group):
            offers = found.setdefault(offer.name, [])
            if offer.value not in [other.value for other in offers]:  # a package may lie on the path twice
                offers.append(offer)
        return found
