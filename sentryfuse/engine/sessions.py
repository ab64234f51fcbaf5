"""Warm sub-networks of one bundle: planned once, built on one thread at a time, the latest kept.

A runtime asks `ready` between two windows, which never waits, and tells `prepare` what it will need. What
an engine builds may answer on several threads, but building itself is not promised to be safe there, so
one lock guards it, for all `Sessions` of the process.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from threading import Condition, Lock, Thread
from types import TracebackType
from typing import Any, NamedTuple

from sentryfuse.bundle import Bundle
from sentryfuse.engine.engines import ENGINE, Engine, find_engine, list_engines
from sentryfuse.engine.session import Session
from sentryfuse.errors import ConfigError
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.types import Budget, Plan

KEPT = 4
MAX_PLANS = 64  # of some 40 kB for a model of a million weights

_log = logging.getLogger("sentryfuse.runtime")
_BUILDING = Lock()


class _Made(NamedTuple):
    """A plan with its name, which takes longer to compute than a switch may last."""

    plan: Plan
    plan_id: str
    profile: DeviceProfile | None  # held so that no other profile gets its identity


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
    ) -> None:
        if min(threads, kept, max_plans) < 1 or (batch is not None and batch < 1):
            raise ConfigError(
                "threads, kept, max_plans and batch must be at least 1, got "
                f"{threads}, {kept}, {max_plans}, {batch}"
            )
        self.bundle, self.threads, self.kept, self.batch = bundle, threads, kept, batch
        self.engine, self.max_plans, self.apart = find_engine(engine), max_plans, frozenset(apart)
        self._built = built
        self._lock = Lock()
        self._plans: OrderedDict[object, _Made] = OrderedDict()
        self._ids: OrderedDict[int, _Made] = OrderedDict()  # of plans by identity
        self._warm: OrderedDict[str, Session] = OrderedDict()
        self._pinned: dict[str, Session] = {}
        self._failed: dict[str, Exception] = {}
        self._needed: Plan | None = None  # somebody waits for it
        self._wanted: Plan | None = None  # built ahead of time
        self._begun: str | None = None
        self._changed = Condition(self._lock)
        self._worker: Thread | None = None
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process goes what it was asked for; nothing is warm there."""
        name = self.engine.name
        known = name in list_engines() and type(find_engine(name)) is type(self.engine)
        engine = name if known else self.engine
        settings = (self.threads, self.kept, engine, self.max_plans, self.batch, self.apart)
        return _again, (self.bundle, *settings)

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
        if present is not None and not isinstance(present, str):
            present = tuple(present)
        key = (present, budget, id(profile))
        with self._lock:
            made = self._plans.get(key)
            if made is not None:
                self._plans.move_to_end(key)
                return made.plan
        plan = self.bundle.plan(present, budget, profile)
        with self._lock:
            made = self._plans.setdefault(key, _Made(plan, plan.plan_id, profile))
            self._remember(made)
            if len(self._plans) > self.max_plans:
                self._plans.popitem(last=False)
        return made.plan

    def ready(self, plan: Plan) -> Session | None:
        """The session of a plan if it can answer now; never waits for a build.

        Raises:
            Exception: what went wrong when it was prepared; raised once, then it may be prepared again.
        """
        with self._lock:
            plan_id = self._id(plan)
            session = self._find(plan_id)
            if session is None and plan_id in self._failed:
                raise self._failed.pop(plan_id)
            return session

    def get(self, plan: Plan) -> Session:
        """The session of a plan, built now if need be.

        Raises:
            ConfigError: the plan belongs to another model, or this is closed.
        """
        with self._lock:
            session = self._find(self._id(plan))
        return session or self._build(plan)

    def pin(self, plan: Plan) -> Session:
        """As `get`, and it stays until `close`: for what must answer at any moment."""
        session = self.get(plan)
        with self._lock:
            plan_id = self._id(plan)
            self._pinned[plan_id] = session
            self._warm.pop(plan_id, None)
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
            plan_id = self._id(plan)
            there = plan_id == self._begun or self._find(plan_id) is not None
            if needed:
                self._needed = None if there else plan
            else:
                self._wanted = None if there else plan
            if there:
                self._changed.notify_all()
                return
            self._failed.pop(plan_id, None)
            if self._worker is None or not self._worker.is_alive():  # a fork has none of its parent's threads
                self._begun = None
                self._worker = Thread(target=self._work, name="sentryfuse-sessions", daemon=True)
                self._worker.start()
            self._changed.notify_all()

    def is_preparing(self, plan: Plan) -> bool:
        """Whether a plan is being built or waits for that."""
        with self._lock:
            waiting = (self._id(p) for p in (self._needed, self._wanted) if p is not None)
            return self._id(plan) in {self._begun, *waiting}

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
            plan_id = None if plan is None else self._id(plan)

            def done() -> bool:
                if plan_id is not None and (plan_id in self._failed or self._find(plan_id) is not None):
                    return True
                return self._needed is None and self._wanted is None and self._begun is None

            return self._changed.wait_for(done, timeout_s)

    def drop(self, plan: Plan) -> None:
        """Let the session of a plan go, so that the next one is built anew."""
        with self._lock:
            plan_id = self._id(plan)
            gone = self._warm.pop(plan_id, None), self._pinned.pop(plan_id, None)
        del gone  # freeing a session takes longer than others may wait for the lock

    def close(self) -> None:
        """Stop the worker and let all sessions go; failures that nobody asked for are logged."""
        with self._lock:
            self._closed = True
            self._needed = self._wanted = None
            self._changed.notify_all()
            worker = self._worker
        if worker is not None:
            worker.join()
        with self._lock:
            self._warm.clear()
            self._pinned.clear()
            for plan_id, error in self._failed.items():
                _log.warning("sub-network %s could not be prepared: %s", plan_id, error)
            self._failed.clear()

    def __enter__(self) -> Sessions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._changed.wait_for(
                    lambda: self._closed or self._needed is not None or self._wanted is not None
                )
                plan: Plan | None
                if self._needed is not None:
                    plan, self._needed = self._needed, None
                else:
                    plan, self._wanted = self._wanted, None
                if self._closed or plan is None:
                    return
                self._begun = plan_id = self._id(plan)
            failed = None
            try:
                self._build(plan)
            except Exception as error:  # kept for whoever asks: nobody waits for this thread
                failed = error
            with self._lock:
                self._begun = None
                if failed is not None and not self._closed:
                    self._failed[plan_id] = failed
                self._changed.notify_all()

    def _build(self, plan: Plan) -> Session:
        with _BUILDING:
            gone = []
            with self._lock:
                self._check_open()
                plan_id = self._id(plan)
                session = self._find(plan_id)  # another thread may have built it meanwhile
                while session is None and len(self._warm) >= self.kept:
                    gone.append(self._warm.popitem(last=False))
            if session is not None:
                return session
            gone.clear()  # before the build, so that no more than `kept` ever take memory; outside the lock,
            # because it takes longer than others may wait
            session = Session(
                self.bundle,
                plan,
                threads=self.threads,
                batch=self.batch,
                engine=self.engine,
                apart=self.apart,
            )
            if self._built is not None:
                self._built(1e-3 * (session.times.slice_ms + session.times.build_ms))
            with self._lock:
                self._check_open()
                self._warm[plan_id] = session
                self._failed.pop(plan_id, None)
            return session

    def _find(self, plan_id: str) -> Session | None:
        session = self._pinned.get(plan_id)
        if session is None:
            session = self._warm.get(plan_id)
            if session is not None:
                self._warm.move_to_end(plan_id)
        return session

    def _id(self, plan: Plan) -> str:
        made = self._ids.get(id(plan))
        if made is None:
            made = _Made(plan, plan.plan_id, None)
            self._remember(made)
        return made.plan_id

    def _remember(self, made: _Made) -> None:
        self._ids[id(made.plan)] = made
        self._ids.move_to_end(id(made.plan))
        if len(self._ids) > self.max_plans:
            self._ids.popitem(last=False)

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigError("these sessions are closed; make new ones with Sessions(bundle)")


def _again(
    bundle: Bundle,
    threads: int,
    kept: int,
    engine: str | Engine,
    max_plans: int,
    batch: int | None,
    apart: Collection[str],
) -> Sessions:
    return Sessions(
        bundle, threads=threads, kept=kept, engine=engine, max_plans=max_plans, batch=batch, apart=apart
    )
