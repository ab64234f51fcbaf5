"""The sensors that a person wants used: the others are absent, however well they are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from sentryfuse.errors import ConfigError
from sentryfuse.runtime.events import Events
from sentryfuse.stream import CutWindow, Verdict


class Asked:
    """Which sensors may be used; all until somebody says otherwise, from any thread.

    Args:
        names: every sensor, in the model's order.
        events: gets `sensors`.
        changed: called after each change, by whoever asked for it.

    Attributes:
        names: those that may be used, in the model's order.
    """

    def __init__(
        self, names: tuple[str, ...], events: Events, changed: Callable[[], None] | None = None
    ) -> None:
        self.names = names
        self._all, self._events, self._changed = names, events, changed
        self._before = names  # that the latest window could use

    def only(self, names: Collection[str] | None) -> None:
        """Use these sensors alone, from the next window on.

        Args:
            names: at least one; `None` is all of them.

        Raises:
            ConfigError: a sensor the model does not have, or none at all; nothing changes.
        """
        wanted = set(self._all if names is None else names)
        unknown = sorted(wanted - set(self._all))
        if unknown or not wanted:
            what = (
                f"there is no sensor {', '.join(unknown)}" if unknown else "no sensor is left to answer from"
            )
            raise ConfigError(f"{what}; choose among {', '.join(self._all)}")
        kept = tuple(name for name in self._all if name in wanted)
        if kept != self.names:
            self.names = kept
            self._events.tell("sensors", reason="asked for", sensors=list(kept))
            if self._changed is not None:
                self._changed()

    def narrow(self, window: CutWindow) -> CutWindow:
        """The window without what is not asked for; a sensor that is asked for again has changed."""
        allowed, before = self.names, self._before
        self._before = allowed
        if window.dropped or allowed == before == self._all:
            return window
        off = set(self._all) - set(allowed)
        returned = set(allowed) - set(before)
        return replace(
            window,
            values={name: value for name, value in window.values.items() if name not in off},
            present=tuple(name for name in window.present if name not in off),
            verdicts={name: Verdict.OFF if name in off else said for name, said in window.verdicts.items()},
            changed={
                name: name not in off and (said or (name in returned and name in window.present))
                for name, said in window.changed.items()
            },
        )
