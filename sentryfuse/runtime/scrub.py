"""Looks, a little at a time, whether what answers is still what was loaded; a bit of memory may turn.

    the bundle's tensors     digests, a slice at a time             another one: the file is read again
    sub-networks, readouts   the answer to a window from a seed     another one: they are built anew

It is done by the thread that answers, when no window waits: a slice takes less than a millisecond, an answer
is only asked for when the next window is further off than that. A thread of its own would share the
interpreter with the one that answers, and on one core the processor as well, at moments that nobody chooses.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from threading import Thread
from typing import Any

from sentryfuse.bundle.memory import SLICE, Change
from sentryfuse.engine.session import Session
from sentryfuse.errors import ConfigError, InputError
from sentryfuse.runtime.events import Events
from sentryfuse.runtime.offers import DIGEST
from sentryfuse.runtime.serving import Serving

SCRUB_S = 60.0  # the default; of 100 MB a thousandth of a core
MOST_S = 0.0005  # digested at once
ROOM = 2.0  # answers that must have time before the next window, so that one is asked for
PARTS = ("bundle", "engine")


class Scrub:
    """Goes through all that is held, once in so many seconds.

    While windows always wait, on a machine that cannot follow, it does nothing for the length of a pass, and
    then a slice or an answer at a time all the same.

    Args:
        serving: what answers.
        events: gets `memory_fault`, `memory_renewed` and `bundle_refused`.
        every_s: how long one pass takes [s]; 0 looks at nothing.
        clock: rises by a second a second [s].

    Attributes:
        faults: part -> how often it was found changed.
        asked: windows from the seed that were answered right.

    Raises:
        ConfigError: a time that means nothing.
    """

    def __init__(
        self,
        serving: Serving,
        events: Events,
        *,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (math.isfinite(every_s) and every_s >= 0):
            raise ConfigError(f"scrub_s must be 0 or a positive number of seconds, got {every_s}")
        self._serving, self._events, self.every_s, self._clock = serving, events, every_s, clock
        self.faults: Counter[str] = Counter(dict.fromkeys(PARTS, 0))
        self.asked = self._passes = 0  # passes of bundles that are no longer in force
        self._held, self._memory = serving.held, serving.held.memory
        self._credit, self._at_s = 0.0, clock()
        self._rested_s, self._look_s = self._at_s, 0.0
        self._reader: Thread | None = None
        self._retry_s = 0.0
        self._pending: dict[str, float] = {}  # part -> when it was found changed

    @property
    def passes(self) -> int:
        """How often all tensors were found right."""
        return self._passes + (0 if self._memory is None else self._memory.passes)

    @property
    def age_s(self) -> float:
        """How long ago the part that was looked at longest ago was right [s]; 0 where nobody looks."""
        memory = self._memory
        if memory is None:
            return 0.0
        times = [session.right_s for session in self._held.sessions.warm()]
        return max(0.0, self._clock() - min([memory.right_s, *times]))

    def to_json(self) -> dict[str, Any]:
        """What was counted, ready for `json.dumps`."""
        return {
            "scrub_s": self.every_s,
            "passes": self.passes,
            "asked": self.asked,
            "faults": dict(self.faults),
        }

    def rest(self, present: tuple[str, ...], *, waits: bool, left_s: float) -> None:
        """Take in a moment between two windows.

        Args:
            present: sensors that the next window will have, as far as is known now.
            waits: whether a window waits to be answered all the same.
            left_s: how long it takes until the next one comes [s].
        """
        if self._memory is None:
            return
        now_s = self._clock()
        self._follow(now_s)
        if not waits:
            self._rested_s = now_s
        elif now_s - self._rested_s < self.every_s:
            return
        if self._held.changed:
            if now_s >= self._retry_s:
                self._read_again(present, now_s)
        else:
            self._digest(present, now_s)
        self._ask(present, now_s, left_s)

    def _follow(self, now_s: float) -> None:
        """See which bundle is in force, and whether what was found changed is whole again."""
        held = self._serving.held
        if held is not self._held and held.memory is not None:
            self._passes += 0 if self._memory is None else self._memory.passes
            self._held, self._memory = held, held.memory
            self._credit, self._look_s, self._retry_s = 0.0, 0.0, 0.0
        since_s = now_s - self._at_s
        self._at_s = now_s
        assert self._memory is not None
        # of a stream that stood still no more than a pass is made up for
        self._credit = min(self._credit + since_s / self.every_s * self._memory.size, self._memory.size)
        for part, found_s in [*self._pending.items()]:
            whole = not held.changed if part == "bundle" else held.current is not held.faulty
            if whole:
                del self._pending[part]
                self._events.tell("memory_renewed", part=part, after_s=round(now_s - found_s, 3))
                self._events.tell_once("bundle_refused memory", "")

    def _digest(self, present: tuple[str, ...], now_s: float) -> None:
        memory = self._memory
        assert memory is not None
        until = time.perf_counter() + MOST_S
        while self._credit >= min(SLICE, memory.size) and self._credit > 0:
            before = memory.done
            change = memory.step()
            self._credit -= memory.done - before
            if change is not None:
                self._found(change, present, now_s)
                return
            if time.perf_counter() >= until:
                return

    def _ask(self, present: tuple[str, ...], now_s: float, left_s: float) -> None:
        """Ask the sub-network that was asked longest ago, if that is long enough ago."""
        if now_s < self._look_s:
            return
        sessions = self._held.sessions.warm()
        oldest = min(sessions, key=lambda session: session.right_s, default=None)
        if oldest is None:
            return
        age_s = now_s - oldest.right_s
        if age_s < self.every_s:
            self._look_s = min(oldest.right_s, now_s) + self.every_s
        elif left_s >= ROOM * oldest.probe_s or age_s >= 2 * self.every_s:
            what = oldest.differs()
            if what:
                self._found_in(oldest, what, present, now_s)
            else:
                self.asked += 1

    def _found_in(self, session: Session, what: str, present: tuple[str, ...], now_s: float) -> None:
        """A sub-network says something else than when it was built."""
        self._tell("engine", what, session.right_s, now_s, plan_id=session.plan.plan_id)
        if self._held.changed:  # nothing can be built anew yet
            self._held.sessions.drop(session.plan)
            if session is self._held.current:
                self._held.faulty = session
            return
        self._look_s = 0.0
        self._held.rebuild(self._serving.choose(present).plan if present else self._held.current.plan)

    def _found(self, change: Change, present: tuple[str, ...], now_s: float) -> None:
        """A tensor of the bundle is another one."""
        self._held.condemn(change.right_s, f"{change.name} has changed in memory")
        self._tell("bundle", change.name, change.right_s, now_s)
        self._read_again(present, now_s)

    def _tell(self, part: str, what: str, right_s: float, now_s: float, **facts: Any) -> None:
        self.faults[part] += 1
        self._pending.setdefault(part, now_s)
        since_s = round(now_s - right_s, 3)
        self._events.tell("memory_fault", part=part, what=what, since_s=since_s, **facts)

    def _read_again(self, present: tuple[str, ...], now_s: float) -> None:
        """Read the bundle from its file, on another thread; if that fails, again a pass later."""
        if self._reader is not None and self._reader.is_alive():
            return
        self._retry_s = math.inf
        self._reader = Thread(
            target=self._read, args=(present,), name="sentryfuse-reading-again", daemon=True
        )
        self._reader.start()

    def _read(self, present: tuple[str, ...]) -> None:
        held = self._held
        try:
            self._serving.renew(held.bundle.read_again(), present or held.bundle.names)
        except Exception as error:  # nobody waits for this thread
            said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            held.lost = f"{held.changed}, and {said}"
            digest = held.bundle.digest[:DIGEST]
            self._events.tell_once("bundle_refused memory", held.lost, digest=digest)
            self._retry_s = self._clock() + self.every_s
