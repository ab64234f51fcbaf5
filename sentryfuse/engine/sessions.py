"""Warm sub-networks of one bundle: planned once, built on one thread at a time, the latest kept.

A runtime asks `ready` between two windows, which never waits, tells `prepare` what it will need and `expect`
what it may need.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from statistics import median
from threading import Condition, Lock, Thread
from types import TracebackType
from typing import Any

from sentryfuse.bundle import Bundle
from sentryfuse.engine.beside import forget_readouts
from sentryfuse.engine.building import building
from sentryfuse.engine.engines import ENGINE, Engine, find_engine, list_engines
from sentryfuse.engine.plans import Plans
from sentryfuse.engine.selfcheck import probe_of
from sentryfuse.engine.session import Session
from sentryfuse.engine.warm import WarmSessions
from sentryfuse.errors import BundleError, ConfigError
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.types import Budget, Plan

KEPT = 4
MAX_PLANS = 64  # of some 40 kB for a model of a million weights
LATEST = 9  # builds whose times are remembered

_log = logging.getLogger("sentryfuse.runtime")
Likely = Callable[[], Plan | None]


class Sessions:
    """Sub-networks of a bundle, ready or made ready; every method may be called from any thread.

    Args:
        bundle: of `load_bundle`.
        threads: of the engine.
        kept: sessions kept beside the pinned ones; the one used longest ago goes first.
        engine: a name of `list_engines`, or one of your own.
        max_plans: plans remembered.
        batch: windows per call; `None` allows any.
        apart: sensors whose own steps run apart; see `Session`.
        built: told how long each build took [s], by one thread at a time.
        probed: remember what each session says of a window, for `Session.differs`.

    Attributes:
        damaged: why nothing may be built of the bundle any more; empty as long as it may.

    Raises:
        ConfigError: a number below 1, or an engine that is unknown or not installed.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int = 1,
        kept: int = KEPT,
        engine: str | Engine = ENGINE,
        max_plans: int = MAX_PLANS,
        batch: int | None = 1,
        apart: Collection[str] = (),
        built: Callable[[float], None] | None = None,
        probed: bool = False,
    ) -> None:
        if min(threads, kept, max_plans) < 1 or (batch is not None and batch < 1):
            raise ConfigError(
                "threads, kept, max_plans and batch must be at least 1, got "
                f"{threads}, {kept}, {max_plans}, {batch}"
            )
        self.bundle, self.threads, self.kept, self.batch = bundle, threads, kept, batch
        self.engine, self.max_plans, self.apart = find_engine(engine), max_plans, frozenset(apart)
        self._built, self.damaged = built, ""
        self._probe = probe_of(bundle) if probed else None
        self._lock = Lock()
        self._plans = Plans(bundle, max_plans)
        self._warm, self._round = WarmSessions(kept), 0
        self._failed: dict[str, Exception] = {}
        self._needed: Plan | None = None  # somebody waits for it
        self._wanted: Plan | None = None  # somebody will
        self._likely: Likely | None = None  # tells what somebody may
        self._begun: str | None = None
        self._took: deque[float] = deque(maxlen=LATEST)  # wall time of builds [s]
        self._changed = Condition(self._lock)
        self._worker: Thread | None = None
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process goes what it was asked for; nothing is warm there."""
        name = self.engine.name
        known = name in list_engines() and type(find_engine(name)) is type(self.engine)
        engine = name if known else self.engine
        names = ("threads", "kept", "max_plans", "batch", "apart")
        settings = {name: getattr(self, name) for name in names}
        return partial(Sessions, engine=engine, **settings), (self.bundle,)

    def plan(
        self,
        present: Iterable[str] | None,
        budget: Budget | None = None,
        profile: DeviceProfile | None = None,
    ) -> Plan:
        """Decide which units stay; remembered, so asking again takes microseconds.

        Args:
            present: names of the sensors that are on; `None` means all.
            budget: limits of one inference; `None` means none.
            profile: times measured on this device; one that was given before must not have changed.

        Returns:
            The same object for the same question.

        Raises:
            ConfigError: an unknown sensor.
            BudgetError: no sub-network fits.
        """
        return self._plans.plan(present, budget, profile)

    def ready(self, plan: Plan) -> Session | None:
        """The session of a plan if it can answer now; never waits for a build.

        Raises:
            Exception: what went wrong when it was prepared; raised once, then it may be prepared again.
        """
        with self._lock:
            plan_id = self._plans.name(plan)
            session = self._find(plan_id)
            if session is None and plan_id in self._failed:
                raise self._failed.pop(plan_id)
            return session

    def look(self, plan: Plan) -> float | None:
        """Memory that a plan's session takes of `most_mb` of `expect` [MB]; `None` = it is not ready.

        Looking is no use of it, but of those built ahead it will be the last to be let go.
        """
        with self._lock:
            return self._warm.look(self._plans.name(plan))

    @property
    def build_ms(self) -> float:
        """How long a build takes lately, from its begin to its end; the median [ms], 0 before the first."""
        with self._lock:
            return 1e3 * median(self._took) if self._took else 0.0

    def get(self, plan: Plan) -> Session:
        """The session of a plan, built now if need be.

        Raises:
            ConfigError: the plan belongs to another model, or this is closed.
        """
        with self._lock:
            session = self._find(self._plans.name(plan))
        return session or self._build(plan)

    def pin(self, plan: Plan) -> Session:
        """As `get`, and it stays until `close`: for what must answer at any moment."""
        session = self.get(plan)
        with self._lock:
            self._warm.pin(self._plans.name(plan), session)
        return session

    def prepare(self, plan: Plan, *, needed: bool = False) -> None:
        """Have a session built on the worker thread.

        Takes the place of an earlier plan of the same kind that has not begun. Whether it went well is told
        by `ready` and `failures`.

        Args:
            plan: what to build.
            needed: somebody waits for it, so it goes before plans that are only expected.

        Raises:
            ConfigError: this is closed.
        """
        with self._lock:
            self._check_open()
            plan_id = self._plans.name(plan)
            there = plan_id == self._begun or self._warm.touch(plan_id)
            if needed:
                self._needed = None if there else plan
            else:
                self._wanted = None if there else plan
            if not there:
                self._failed.pop(plan_id, None)
                self._wake()

    def expect(self, likely: Likely, *, most_mb: float) -> None:
        """Have sessions that may be needed built on the worker thread, while it has nothing else to do.

        They are kept beside the `kept` used ones, and so are used ones that would go: those that were used,
        built or looked at longest ago are let go first.

        Args:
            likely: called on the worker thread for one plan after the other, until it gives `None`; then
                again with the next `expect`. It must not build, and what it raises ends it.
            most_mb: memory that all of them take together, about [MB].

        Raises:
            ConfigError: this is closed.
        """
        with self._lock:
            self._check_open()
            self._warm.spare_mb = most_mb
            self._likely = likely
            self._wake()

    def is_preparing(self, plan: Plan) -> bool:
        """Whether a plan is being built or waits for that."""
        with self._lock:
            waiting = (self._plans.name(p) for p in (self._needed, self._wanted) if p is not None)
            return self._plans.name(plan) in {self._begun, *waiting}

    def failures(self) -> dict[str, Exception]:
        """Preparations that went wrong and that `ready` has not told yet, by plan id."""
        with self._lock:
            return dict(self._failed)

    def wait(self, timeout_s: float | None = None, plan: Plan | None = None) -> bool:
        """Wait until nothing is being prepared.

        Args:
            timeout_s: how long to wait at most [s]; `None` means as long as it takes.
            plan: wait for this one only, until it is ready or has failed.

        Returns:
            Whether what was waited for has come.
        """
        with self._lock:
            plan_id = None if plan is None else self._plans.name(plan)

            def done() -> bool:
                if plan_id is not None and (plan_id in self._failed or self._warm.peek(plan_id)):
                    return True
                return not (self._needed or self._wanted or self._likely or self._begun)

            return self._changed.wait_for(done, timeout_s)

    def drop(self, plan: Plan) -> None:
        """Let the session of a plan go, so that the next one is built anew."""
        with self._lock:
            self._warm.drop(self._plans.name(plan))
        self._free()

    def warm(self) -> list[Session]:
        """All that could answer now, without that being any use of them."""
        with self._lock:
            return self._warm.every()

    def renew(self) -> None:
        """Let all sessions go, and the readouts beside them, so that the next ones are built anew."""
        with self._lock:
            self._round += 1
            self._warm.clear()
            self._wake()  # to free them
        forget_readouts(self.bundle)

    def close(self) -> None:
        """Stop the worker and let all sessions go; failures that nobody asked for are logged."""
        with self._lock:
            self._closed = True
            self._needed = self._wanted = self._likely = None
            self._changed.notify_all()
            worker = self._worker
        if worker is not None:
            worker.join()
        with self._lock:
            self._warm.clear()
            for plan_id, error in self._failed.items():
                _log.warning("sub-network %s could not be prepared: %s", plan_id, error)
            self._failed.clear()
        self._free()

    def __enter__(self) -> Sessions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wake(self) -> None:
        """Have the worker look; the lock is held."""
        if self._worker is None or not self._worker.is_alive():  # a fork has none of its parent's threads
            self._begun = None
            self._worker = Thread(target=self._work, name="sentryfuse-sessions", daemon=True)
            self._worker.start()
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._changed.wait_for(self._has_work)
                if self._closed:
                    return
                plan, likely = self._needed or self._wanted, self._likely
                if self._needed is not None:
                    self._needed = None
                elif self._wanted is not None:
                    self._wanted = None
                self._begun = None if plan is None else self._plans.name(plan)
            self._free()
            if plan is not None:
                self._build_asked(plan)
            elif likely is not None:
                self._build_likely(likely)

    def _has_work(self) -> bool:
        asked = self._needed is not None or self._wanted is not None
        return self._closed or asked or self._likely is not None or bool(self._warm.gone)

    def _build_asked(self, plan: Plan) -> None:
        failed = None
        try:
            self._build(plan)
        except Exception as error:  # kept for whoever asks: nobody waits for this thread
            failed = error
        with self._lock:
            self._begun = None
            if failed is not None and not self._closed:
                self._failed[self._plans.name(plan)] = failed
            self._changed.notify_all()

    def _build_likely(self, likely: Likely) -> None:
        """One that nobody has asked for; whoever does meanwhile finds it, or has it built if it fails."""
        plan = None
        try:
            plan = likely()
            if plan is not None:
                self._build(plan, ahead=True)
        except Exception as error:
            plan = None
            _log.info("no sub-network is built ahead: %s", error)
        with self._lock:
            if plan is None and self._likely is likely:
                self._likely = None
            self._changed.notify_all()

    def _build(self, plan: Plan, *, ahead: bool = False) -> Session:
        with building():
            with self._lock:
                self._check_open()
                plan_id = self._plans.name(plan)
                session = self._warm.peek(plan_id) if ahead else self._find(plan_id)
                if session is None and not ahead:
                    self._warm.make_room()
                begun = self._round
            if session is not None:  # another thread may have built it meanwhile
                return session
            if self.damaged:
                raise BundleError(self.damaged)
            self._free()  # before the build, so that no more than `kept` ever take memory
            started = time.perf_counter()
            session = Session(
                self.bundle,
                plan,
                threads=self.threads,
                batch=self.batch,
                engine=self.engine,
                apart=self.apart,
                probe=self._probe,
            )
            if self._built is not None:
                self._built(1e-3 * (session.times.slice_ms + session.times.build_ms))
            with self._lock:
                self._check_open()
                self._took.append(time.perf_counter() - started)
                fresh = begun == self._round
                if fresh:
                    (self._warm.add_ahead if ahead else self._warm.add)(plan_id, session)
                self._failed.pop(plan_id, None)
        self._free()
        return session if fresh else self._build(plan, ahead=ahead)

    def _find(self, plan_id: str) -> Session | None:
        """A session that is about to answer; the lock is held."""
        session = self._warm.find(plan_id)
        if self._warm.gone:
            self._changed.notify_all()  # the worker frees them
        return session

    def _free(self) -> None:
        """Free what was let go, outside the lock: it takes longer than others may wait."""
        with self._lock:
            gone, self._warm.gone = self._warm.gone, []
        del gone

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigError("these sessions are closed; make new ones with Sessions(bundle)")
