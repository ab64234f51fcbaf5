"""A recording played as a stream: sensors and budget change, every window is answered.

One window at a time, in order. Between two windows the sub-network may change; sessions used lately
are kept, others are built when they are needed, before the window that needs them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.data import Windows
from sentryfuse.data.matching import matched
from sentryfuse.data.scoring import prepared
from sentryfuse.engine.session import Session
from sentryfuse.engine.sessions import Sessions
from sentryfuse.errors import ConfigError
from sentryfuse.readout import PersonFeatures
from sentryfuse.runtime.person import features_of_person
from sentryfuse.stream import window_length_s
from sentryfuse.target import THRESHOLD, Target
from sentryfuse.types import Budget, check_present


class Change(NamedTuple):
    """What holds from one window of the stream on, until the next change.

    Attributes:
        from_window: position in the stream, 0 is the first window.
        present: names of the sensors that are on; `None` means all, an empty tuple none.
        ratio: share of the prunable MACs to remove.
    """

    from_window: int
    present: tuple[str, ...] | None
    ratio: float


def replay(
    bundle: Bundle,
    windows: Windows,
    *,
    indices: NDArray[np.integer[Any]],
    schedule: Sequence[Change],
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Answer windows one after the other while sensors and budget change.

    A sensor is on when the schedule says so and the window has it.

    Args:
        bundle: of `load_bundle`.
        windows: the recording.
        indices: which windows, in the order of the stream, `(n,)`.
        schedule: changes in order; the first one at window 0.
        threads: of the engine.

    Returns:
        One dictionary per window: `t_s` (start of the window [s]), `present`, `ratio`, `status`
        ("OK", "DEGRADED" with some sensor missing, "REFUSED" with none), `answer` (as `Target.said`),
        `correct` (`None` without labels), `latency_ms` (without switching), `switched`, `switch_ms`,
        `plan_id`; `None` where nothing was answered.

    Raises:
        ConfigError: unknown sensors, a recording of another model, or a schedule out of order.
        BudgetError: a ratio outside 0..1.
    """
    windows = matched(bundle.layout.modalities, bundle.classes, windows, target=bundle.target, labels=False)
    changes = _checked(schedule, bundle)
    windows = prepared(windows, bundle)
    step_s = window_length_s(windows.modalities)
    records = []
    labelled = windows.labelled
    raw = replace(windows, by_subject=None)
    people: dict[int, PersonFeatures | None] = {}
    with Sessions(bundle, threads=threads) as sessions:
        stream = _Stream(sessions)
        for position, index in enumerate(indices):
            while len(changes) > 1 and changes[1].from_window <= position:
                changes.pop(0)
            now = changes[0]
            has = {name for name, on in zip(windows.names, windows.present[index], strict=True) if on}
            on = tuple(name for name in now.present or () if name in has)
            record = {"t_s": position * step_s, "present": list(on), "ratio": now.ratio}
            if not on:
                records.append(record | _refused())
                continue
            took_ms = stream.switch(on, now.ratio)
            batch, plain = (each.batch(np.array([index]), on) for each in (windows, raw))
            person = people.setdefault(int(windows.subject[index]), features_of_person(bundle))
            started = time.perf_counter()
            probabilities = stream.current.run(batch, person=person, raw=plain)
            latency_ms = 1e3 * (time.perf_counter() - started)
            records.append(
                record
                | {
                    "status": "OK" if len(on) == len(bundle.names) else "DEGRADED",
                    "answer": bundle.target.said(probabilities[0], bundle.classes),
                    "correct": _right(bundle.target, probabilities[0], windows.y[index])
                    if labelled
                    else None,
                    "latency_ms": latency_ms,
                    "switched": took_ms is not None,
                    "switch_ms": took_ms,
                    "plan_id": stream.current.plan.plan_id,
                }
            )
    return records


def _right(target: Target, answer: NDArray[np.float32], truth: Any) -> bool | None:
    """Whether a class, or every label, was told; `None` of numbers."""
    if target.task == "regression":
        return None
    if target.task == "multilabel":
        return bool(((answer >= THRESHOLD) == (truth > 0)).all())
    return bool(answer.argmax() == truth)


class _Stream:
    """The sub-network in force."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.current: Session
        self._in_force: str | None = None

    def switch(self, present: tuple[str, ...], ratio: float) -> float | None:
        """Put a sub-network in force.

        Returns:
            Time from the wish to a session that can answer [ms]; `None` if it was in force, and for
            the first one, which replaces nothing.
        """
        started = time.perf_counter()
        session = self.sessions.get(self.sessions.plan(present, Budget(ratio=ratio)))
        before, plan_id = self._in_force, session.plan.plan_id
        if plan_id == before:
            return None
        self.current, self._in_force = session, plan_id
        return None if before is None else 1e3 * (time.perf_counter() - started)


def _checked(schedule: Sequence[Change], bundle: Bundle) -> list[Change]:
    """Complete and check the whole schedule before the first window."""
    starts = [change.from_window for change in schedule]
    if not starts or starts[0] != 0 or starts != sorted(set(starts)):
        raise ConfigError(f"a schedule must start at window 0 and rise, got {starts}; give changes in order")
    changes = []
    for change in schedule:
        on: tuple[str, ...] = ()
        if change.present is None or change.present:
            on = check_present(change.present, bundle.names)
            bundle.plan(on, Budget(ratio=change.ratio))
        changes.append(Change(change.from_window, on, change.ratio))
    return changes


def _refused() -> dict[str, Any]:
    return {
        "status": "REFUSED",
        "answer": None,
        "correct": None,
        "latency_ms": None,
        "switched": False,
        "switch_ms": None,
        "plan_id": None,
    }
