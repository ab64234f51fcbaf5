"""Which sensors are present; events when that changes."""

from __future__ import annotations

from collections.abc import Iterable

from sentryfuse.runtime.events import Events
from sentryfuse.stream import CutWindow, Verdict


class SensorWatch:
    """Remembers sensors from window to window and between windows.

    Args:
        names: every sensor, in order.
        events: gets `sensor_lost`, `sensor_back` and `sensor_silent`.

    Attributes:
        present: sensors of the latest window that had any.
    """

    def __init__(self, names: tuple[str, ...], events: Events) -> None:
        self.present = names
        self._events = events
        self._on: dict[str, bool] = {}
        self._silent: set[str] = set()

    @property
    def left(self) -> tuple[str, ...]:
        """Those present that are not silent now."""
        return self.heard(self.present)

    def heard(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of some sensors that are not silent now."""
        return tuple(name for name in names if name not in self._silent)

    def see(self, window: CutWindow) -> None:
        """Take in a window; an event for each sensor lost or back."""
        self.present = window.present or self.present
        for name, verdict in window.verdicts.items():
            on = verdict is Verdict.OK
            if self._on.get(name, True) != on:
                kind = "sensor_back" if on else "sensor_lost"
                self._events.tell(kind, sensor=name, verdict=str(verdict), window_id=window.window_id)
            self._on[name] = on
        self._silent = {name for name in self._silent if not self._on.get(name, True)}

    def look(self, silent: Iterable[str], now_s: float) -> bool:
        """Take in the sensors silent between windows; one event per sensor and window.

        Args:
            silent: names.
            now_s: on the source's clock [s].

        Returns:
            Whether one of them was not silent before.
        """
        new = sorted(set(silent) - self._silent)
        self._silent |= set(new)
        for name in new:
            self._events.tell("sensor_silent", sensor=name, stream_s=round(now_s, 6))
        return bool(new)
