"""The stream runtime: samples in, one result per window out, always with the right sub-network.

    source -> Cutter -> sensors present --+
    meter -> Governor -> budget ----------+-> plan -> session -> Result

Use it from one thread; `set_budget`, `swap` and `asked.only` may be called from any.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from sentryfuse.bundle import Bundle
from sentryfuse.engine.engines import ENGINE, Engine, check_threads
from sentryfuse.errors import ConfigError
from sentryfuse.machine import own_version
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.power import Governor, LadderReader, Policy, Reading
from sentryfuse.runtime.ahead import AHEAD_MB, Ahead
from sentryfuse.runtime.answering import Answering, scale_of, slower_than
from sentryfuse.runtime.asked import Asked
from sentryfuse.runtime.events import Events
from sentryfuse.runtime.offers import DIGEST, Offer
from sentryfuse.runtime.overload import Overload
from sentryfuse.runtime.person import person_of
from sentryfuse.runtime.result import Result
from sentryfuse.runtime.scrub import SCRUB_S, Scrub
from sentryfuse.runtime.sensors import SensorWatch
from sentryfuse.runtime.serving import Serving
from sentryfuse.stream import Cutter, CutWindow, HealthRules, Packet, Source, window_length_s
from sentryfuse.stream.cutter import MOST_WINDOWS
from sentryfuse.types import Budget, Plan

DEADLINE_HOPS, DEADLINE_MS = 0.5, 1000.0  # of the default: half a hop, and no more than a second
POWER_EVERY_S = 1.0
MAX_AGE_HOPS, MAX_AGE_S = 2.0, 1.0  # of the default: two hops, and no less than a second, beside wait_s
MOST_ASKS = 3  # of budget or sensors from one window to the next that are built for at once
QUEUE = 64  # windows cut and not answered; the others wait as samples
_log = logging.getLogger("sentryfuse.runtime")


class Runtime:
    """Answers a stream window by window, with the sensors that are there and the budget that is left.

    Args:
        bundle: of `load_bundle`.
        source: of `open_source`; stays the caller's to close.
        budget: limits of one inference; `None` means none.
        profile: times measured on this device, for budgets in milliseconds.
        policy: charge or power that is left -> budget, in place of one; needs `reader`.
        reader: of `open_reader`; stays the caller's to close.
        hop_s: from the start of one window to the next [s]; `None` is the window's length.
        rules: what a sensor may do and still be used.
        wait_s: how long a window waits for late packets [s].
        deadline_ms: how long a window may wait for its sub-network to be built [ms]; `None` is half a hop,
            a second at most.
        max_age_ms: largest age of an answer, from the end of its window on [ms]: on a live source, windows
            that would be answered later are dropped, and an answer that comes later is STALE. `None` is two
            hops, a second at least, and `wait_s`.
        threads: of the engine.
        engine: a name or an `Engine`.
        kept: warm sub-networks.
        ahead_mb: memory for sub-networks that are built before they are asked for, while a live stream rests,
            about [MB]; 0 builds none.
        scrub_s: in so many seconds everything held in memory is looked at once, whether it is still what was
            loaded [s]; 0 looks at nothing.
        events: where events go; `None` only logs them.

    Attributes:
        serving: the bundle in force, and what became of others that were offered.
        scrub: looks after what is held in memory.
        tap: gets all packets as they come, with the source's clock; `None` = nobody looks.
        is_live: whether the source's clock runs on by itself, so that windows must keep up with it.

    Raises:
        BudgetError: no sub-network fits the budget, or a level of the policy, even with all sensors.
        ConfigError: numbers that mean nothing, a policy without a reader or beside a budget, or a profile of
            another engine or number of threads.
        BundleError: a graph that the engine refuses.
    """

    def __init__(
        self,
        bundle: Bundle,
        source: Source,
        *,
        budget: Budget | None = None,
        profile: DeviceProfile | None = None,
        policy: Policy | None = None,
        reader: LadderReader | None = None,
        hop_s: float | None = None,
        rules: HealthRules | None = None,
        wait_s: float = 0.1,
        deadline_ms: float | None = None,
        max_age_ms: float | None = None,
        threads: int = 1,
        engine: str | Engine = ENGINE,
        kept: int = 4,
        ahead_mb: float = AHEAD_MB,
        scrub_s: float = SCRUB_S,
        events: Events | None = None,
    ) -> None:
        if deadline_ms is not None and not (math.isfinite(deadline_ms) and deadline_ms >= 0):
            raise ConfigError(f"deadline_ms must be 0 or a positive number, got {deadline_ms}")
        if max_age_ms is not None and not (math.isfinite(max_age_ms) and max_age_ms > 0):
            raise ConfigError(f"max_age_ms must be a positive number, got {max_age_ms}")
        check_threads(threads)
        if policy is not None and reader is None:
            raise ConfigError("a policy follows a meter, and none was given; open one with open_reader")
        if policy is not None and budget is not None:
            raise ConfigError("a policy and a budget both say what a window may take; give one of them")
        self.source = source
        self.events = events or Events()
        self.run_id = secrets.token_hex(6)
        bundle_id = bundle.digest[:DIGEST]
        self.events.stamp = {"run_id": self.run_id, "version": own_version(), "bundle": bundle_id}
        # a source that does not say so (see `LiveSource`) may be a recording, of which no window may be lost
        self.is_live = bool(getattr(source, "is_live", False))
        hop = window_length_s(bundle.layout.modalities) if hop_s is None else hop_s
        own_age_s = max(MAX_AGE_S, MAX_AGE_HOPS * hop) + wait_s
        self.max_age_s = own_age_s if max_age_ms is None else max_age_ms / 1e3
        self._cutter = Cutter(
            bundle.layout.modalities,
            hop_s=hop_s,
            rules=rules,
            scale=scale_of(bundle),
            wait_s=wait_s,
            start_s=source.start_s,
            backlog_s=self.max_age_s if self.is_live else 0.0,
        )
        own_ms = min(DEADLINE_MS, 1e3 * DEADLINE_HOPS * self._cutter.hop_s)
        self.deadline_ms = own_ms if deadline_ms is None else deadline_ms
        person_of(bundle)  # a bundle that cannot standardise is refused before anything is built
        self.serving = Serving(
            bundle,
            budget=budget or Budget(ratio=0.0),
            profile=profile,
            threads=threads,
            kept=kept,
            engine=engine,
            apart=slower_than(self._cutter.hop_s, bundle),
            events=self.events,
            probed=scrub_s > 0,
        )
        try:
            self.scrub = Scrub(self.serving, self.events, every_s=scrub_s)
            levels = [] if policy is None else [level.budget for level in policy.levels]
            for level in levels:
                self.serving.check(level)
            self._ahead = Ahead(self.serving, levels=levels, most_mb=ahead_mb if self.is_live else 0.0)
        except BaseException:
            self.serving.close()
            raise
        self._governor = None if policy is None else Governor(policy)
        self._reader, self._power_at = reader, -math.inf
        self._due: deque[tuple[CutWindow, float]] = deque()  # windows, and when they were cut
        self._sensors = SensorWatch(bundle.names, self.events)
        self._answering = Answering(
            self.serving,
            self._sensors,
            self.events,
            reader=reader,
            hop_s=self._cutter.hop_s,
            deadline_ms=self.deadline_ms,
            rescale=self._cutter.rescale,
            now_s=source.now_s,
            max_age_s=self.max_age_s if self.is_live else math.inf,
            is_live=self.is_live,
        )
        self.asked = Asked(bundle.names, self.events, changed=self._prepare)
        self._asks, self._restless = 0, False  # since the latest window; too many before it
        self._here = bundle.names  # sensors of the latest window that had any, asked for or not
        self.tap: Callable[[Sequence[Packet], float], None] | None = None
        self.reading: Reading | None = None  # the latest of the meter
        self._overload = Overload(self.events, max_age_s=self.max_age_s, hop_s=self._cutter.hop_s)

    @property
    def bundle(self) -> Bundle:
        """The bundle in force."""
        return self.serving.bundle

    @property
    def budget(self) -> Budget:
        """What one inference may take now."""
        return self.serving.budget

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self.serving.current.plan

    @property
    def dropped(self) -> int:
        """Windows dropped so far, since the machine was behind."""
        return self._overload.dropped

    @property
    def waiting(self) -> int:
        """Windows that are cut and not answered yet."""
        return len(self._due)

    @property
    def window_s(self) -> float:
        """Length of a window [s]."""
        return self._cutter.window_s

    @property
    def hop_s(self) -> float:
        """From the start of one window to the next [s]."""
        return self._cutter.hop_s

    def overdue(self, age_s: float | None = None) -> int:
        """How many windows ended more than a time ago [s], `None` for `wait_s`, and were not even cut."""
        return self._cutter.overdue(self.source.now_s(), self._cutter.wait_s if age_s is None else age_s)

    def __iter__(self) -> Iterator[Result]:
        """Results until the source has ended."""
        while not self.source.ended:
            yield from self.step()
        while results := self.finish():
            yield from results

    def step(self, timeout_s: float = 0.1) -> list[Result]:
        """Take in what has arrived and answer windows that are due; never raises.

        Args:
            timeout_s: wait at most so long for samples [s]; not at all while windows are due.

        Returns:
            One result per window, in order; mostly none or one. At least one of those due, then as many as
            the deadline allows; the rest wait for the next call.
        """
        self._guarded("scrub", self._look_at_memory)
        began = time.perf_counter()
        self._guarded("power", self._follow_power)
        if not self._guarded("source", self._take_in, 0.0 if self._due else timeout_s):
            time.sleep(max(0.0, timeout_s - (time.perf_counter() - began)))  # a dead source must not spin
        self._guarded("stream", self._cut)
        results = self._answer_due(time.perf_counter() + self.deadline_ms / 1e3)
        if not self._due:
            self._guarded("ahead", self._ahead.rest, self._expected(), self.asked.names)
        return results

    def finish(self) -> list[Result]:
        """Answer windows that have ended, without waiting for late packets; for the end of a source.

        Returns:
            Some of them in order, none when there are no more: call until then.
        """
        if not self._due:
            self._guarded("stream", self._flush)
        return self._answer_due(time.perf_counter() + self.deadline_ms / 1e3)

    def set_budget(self, budget: Budget, reason: str = "asked for") -> None:
        """Change what one inference may take, from the next window on.

        Args:
            budget: one that the sensors present cannot meet is answered by the smallest sub-network, as
                DEGRADED.
            reason: for the events.

        Raises:
            BudgetError: milliseconds or millijoules without a profile that measured them; nothing changes.
            ConfigError: it is no budget.
        """
        if not isinstance(budget, Budget):
            raise ConfigError(
                f"a budget must be a Budget, got {type(budget).__name__}; Budget(ratio=0.0) limits nothing"
            )
        if budget == self.budget:
            return
        self.serving.check_judged(budget)
        self.serving.ask(budget)
        self.events.tell("budget", reason=reason, **budget.limits)
        self._prepare()

    def swap(self, bundle: Bundle) -> Offer:
        """Serve another bundle from the next window on; if it cannot, this one goes on unchanged.

        It is on probation at first: an error, numbers that are not finite, or windows that miss the deadline
        bring the one before back.

        Args:
            bundle: made for the same sensors, classes and normalisation.

        Returns:
            What becomes of it: it waits for a window, unless a later one takes its place.

        Raises:
            ConfigError: it was made for others.
            BundleError: a graph that the engine refuses, or that fails on a window (`check_answers`).
        """
        return self.serving.offer(bundle, self._sensors.present)

    def counters(self) -> dict[str, Any]:
        """What was counted since the start, ready for `json.dumps`: per sensor, per kind of event."""
        sensors = self._cutter.counters()
        for name, counted in self.source.counters().items():
            for kind, n in counted.items():
                sensors[name][kind] = sensors[name].get(kind, 0) + n
        return {
            "sensors": sensors,
            "events": dict(self.events.counts),
            "unknown": self._cutter.unknown,
            "dropped_windows": self.dropped,
            "memory": self.scrub.to_json(),
        }

    def close(self) -> None:
        """Let the sub-networks go; source and meter stay the caller's."""
        self.serving.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take_in(self, timeout_s: float) -> None:
        try:
            packets = self.source.read(timeout_s)
            self._cutter.push(packets)
            if self.tap is not None:
                self._guarded("tap", self.tap, packets, self.source.now_s())
        finally:
            self._hear()

    def _hear(self) -> None:
        """What a source has to tell beside samples; one of the user's own may have nothing."""
        for facts in getattr(self.source, "news", list)():
            self.events.tell(**facts)
        for name, at_s in getattr(self.source, "unread", dict)().items():
            self._cutter.unreadable(name, at_s)

    def _expected(self) -> tuple[str, ...]:
        """Sensors that the next window will have, as far as is known now."""
        return tuple(name for name in self._sensors.heard(self._here) if name in self.asked.names)

    def _prepare(self) -> None:
        """Have the sub-network of the next window built from now on, rather than when it is cut."""
        self._asks += 1
        if self._asks <= MOST_ASKS and not self._restless and (names := self._expected()):
            self._guarded("ahead", self.serving.prepare, names)

    def _cut(self) -> None:
        now_s = self.source.now_s()
        self._look_for_silence(now_s)
        if self.is_live and (
            n := self._cutter.overdue(now_s, self._overload.age_left_s(self._answering.latency_s))
        ):
            self._due.extend((window, time.perf_counter()) for window in self._cutter.skip(n))
        room = QUEUE - len(self._due) if self.is_live else MOST_WINDOWS
        if room > 0:
            self._due.extend((window, time.perf_counter()) for window in self._cutter.cut(now_s, most=room))
        if self._due:
            self._ahead.cut()

    def _flush(self) -> None:
        self._due.extend((w, time.perf_counter()) for w in self._cutter.flush(self.source.now_s()))

    def _answer_due(self, until: float) -> list[Result]:
        results: list[Result] = []
        while self._due and (not results or time.perf_counter() < until):
            window, cut = self._due.popleft()
            if self.is_live:
                window = self._judged(window)
            self._here = window.present or self._here
            self._asks, self._restless = 0, self._asks > MOST_ASKS
            results.append(self._answering.answer(self.asked.narrow(window), cut))
        return results

    def _judged(self, window: CutWindow) -> CutWindow:
        """The window, or the same one dropped where it is too old and there is a newer one."""
        now_s = self.source.now_s()
        is_old = now_s - window.end_s > self._overload.age_left_s(self._answering.latency_s)
        newer = bool(self._due) or self._cutter.overdue(now_s, self._cutter.wait_s) > 0
        drop = window.dropped or (is_old and newer)
        if drop:
            self._answering.load.dropped()
        self._overload.judge(window.window_id, drop=drop, now_s=now_s, behind_s=now_s - window.end_s)
        return replace(window, values={}, present=(), dropped=True) if drop else window

    def _look_at_memory(self) -> None:
        left_s = self._cutter.next_end_s - self.source.now_s() if self.is_live else math.inf
        waits = self.is_live and bool(self._due)
        self.scrub.rest(self._expected(), waits=waits, left_s=left_s)

    def _look_for_silence(self, now_s: float) -> None:
        """A sensor that falls silent between windows: have the sub-network without it built ahead."""
        late = self._cutter.delayed()
        for name in self.serving.bundle.names:
            said = (
                f"{name} comes later than the other sensors by the clock they share" if name in late else ""
            )
            by = {"delay_s": round(late[name], 3)} if said else {}
            self.events.tell_once(f"delayed {name}", said, **by)
        if self._sensors.look(self._cutter.silent(now_s), now_s) and self._sensors.left:
            self.serving.prepare(self._sensors.left)

    def _follow_power(self) -> None:
        now_s = self.source.now_s()
        if self._reader is None or now_s - self._power_at < POWER_EVERY_S:
            return
        self._power_at = now_s
        reading = self.reading = self._reader.read(now_s)
        self._answering.energy_label = str(reading.label)
        for note in reading.notes:
            self.events.tell("power", note=note)
        if self._governor is not None:
            decision = self._governor.update(reading, now_s)
            blind = self._governor.policy.watch
            untold = getattr(reading, blind) is None
            self.events.tell_once("no_meter", f"no meter tells {blind}: {decision.reason}" if untold else "")
            self.set_budget(decision.budget, decision.reason)

    def _guarded(self, what: str, action: Callable[..., None], *arguments: Any) -> bool:
        """Run an action whose error must not end the stream; the same error is one event until it is over."""
        try:
            action(*arguments)
        except Exception as error:
            self.events.tell_once(f"fault {what}", f"{type(error).__name__}: {error}")
            return False
        self.events.tell_once(f"fault {what}", "")
        return True
