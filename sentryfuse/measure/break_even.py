"""From which length on the sparse attention core is faster on this device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sentryfuse.bundle import Bundle
from sentryfuse.engine.engines import Engine
from sentryfuse.engine.session import Session
from sentryfuse.types import Plan

TURNS = 41


def break_even(
    bundle: Bundle, windows: Sequence[Mapping[str, Any]], *, threads: int, engine: Engine
) -> int | None:
    """Time both cores at the lengths that the model's longest layer has, with fewer and fewer sensors.

    Args:
        bundle: whose layers are timed.
        windows: of all sensors.
        threads: of the engine.
        engine: to time.

    Returns:
        The shortest of those lengths from which on the sparse core was never slower; one more than the
        longest where it always was; `None` for a model that has one core only, or too few tokens for two.
    """
    lengths = {longest(bundle, bundle.names[:n]): bundle.names[:n] for n in range(1, len(bundle.names) + 1)}
    if bundle.layout.attention.core == "dense":
        return None
    best: int | None = None
    for length in sorted(lengths, reverse=True):
        if replace(bundle.layout.attention, sparse_from=length).picks(length, length) is None:
            break
        sessions = [
            Session(bundle.with_break_even(start), _dense(bundle, lengths[length], start),
                    threads=threads, batch=1, engine=engine)
            for start in (length, length + 1)
        ]  # fmt: skip
        sparse_ms, dense_ms = _medians(sessions, windows[0])
        if sparse_ms > dense_ms:
            return length + 1 if best is None else best
        best = length
    return best


def longest(bundle: Bundle, present: Sequence[str]) -> int:
    """Tokens of the longest layer with these sensors."""
    spans = bundle.layout.spans(present)
    return max((spans[s.name].entering for s in bundle.layout.route(present) if s.blocks), default=0)


def _dense(bundle: Bundle, present: Sequence[str], sparse_from: int) -> Plan:
    return bundle.with_break_even(sparse_from).plan(present)


def _medians(sessions: Sequence[Session], window: Mapping[str, Any]) -> list[float]:
    times: list[list[float]] = [[] for _ in sessions]
    for session in sessions:
        session.run(window)
    for _ in range(TURNS):
        for session, own in zip(sessions, times, strict=True):
            started = time.perf_counter_ns()
            session.run(window)
            own.append((time.perf_counter_ns() - started) / 1e6)
    return [statistics.median(own) for own in times]
