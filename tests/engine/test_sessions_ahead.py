"""Sub-networks built before anybody asks: what they answer, what memory they take, what they let be."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session, Sessions
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.engine.warm import WarmSessions, memory_mb
from sentryfuse.types import Budget
from tests.tiny import GOLDEN, SENSOR_SETS, tiny_batch

pytestmark = pytest.mark.device

BUNDLE = load_bundle(GOLDEN / "tiny-v3.bundle")
PLANS = [BUNDLE.plan(present, Budget(ratio=ratio)) for ratio in (0.0, 0.4) for present in SENSOR_SETS]
ALL_MB = sum(map(memory_mb, PLANS))


class Held(OnnxRuntime):
    """Counts builds, and waits in one while it is told to."""

    def __init__(self):
        self.built = 0
        self.go, self.begun = threading.Event(), threading.Event()
        self.go.set()
        self.error: Exception | None = None
        self.seen = lambda: None

    def build(self, model, *, threads, batch):
        self.seen()
        self.begun.set()
        assert self.go.wait(20)
        self.built += 1
        if self.error:
            raise self.error
        return super().build(model, threads=threads, batch=batch)


def one_by_one(plans):
    """As `Sessions.expect` asks for them."""
    left = iter(plans)
    return lambda: next(left, None)


def test_what_was_built_ahead_answers_as_if_it_were_built_when_asked_for():
    with Sessions(BUNDLE) as sessions:
        sessions.expect(one_by_one(PLANS), most_mb=ALL_MB)
        assert sessions.wait(30)
        for plan in PLANS:
            ahead = sessions.ready(plan)
            assert ahead is not None
            batch = tiny_batch(1)
            assert np.array_equal(ahead.run(batch), Session(BUNDLE, plan, batch=1).run(batch))


def test_whatever_is_built_ahead_the_used_ones_stay():
    with Sessions(BUNDLE, kept=3) as sessions:
        used = [sessions.get(plan) for plan in PLANS[:3]]
        sessions.expect(one_by_one(PLANS[3:]), most_mb=ALL_MB / 3)
        assert sessions.wait(30)
        assert [sessions.look(plan) for plan in PLANS[:3]] == [0.0] * 3
        assert [sessions.ready(plan) for plan in PLANS[:3]] == used


def test_a_used_one_that_would_go_is_kept_while_there_is_room():
    engine = Held()
    with Sessions(BUNDLE, kept=1, engine=engine) as sessions:
        sessions.expect(lambda: None, most_mb=ALL_MB)
        first = sessions.get(PLANS[0])
        sessions.get(PLANS[1])
        assert sessions.look(PLANS[0]) == memory_mb(PLANS[0])
        assert sessions.get(PLANS[0]) is first
        assert engine.built == 2


class Named(Session):
    """A session that was never built: the store knows its plan alone."""

    def __init__(self, plan):
        self.plan = plan


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 4),
    st.floats(0, 1.2 * ALL_MB),
    st.lists(st.tuples(st.sampled_from(["ahead", "use"]), st.integers(0, len(PLANS) - 1)), max_size=40),
)
def test_the_spare_ones_hold_their_memory_and_the_latest_used_are_there(kept, most_mb, steps):
    warm = WarmSessions(kept)
    used: list[str] = []
    warm.spare_mb = most_mb
    for what, i in steps:
        name = str(i)
        if what == "ahead":
            if warm.peek(name) is None:
                warm.add_ahead(name, Named(PLANS[i]))
        else:
            if warm.find(name) is None:
                warm.make_room()
                warm.add(name, Named(PLANS[i]))
            used = [name, *(other for other in used if other != name)][:kept]
        assert [warm.look(other) for other in used] == [0.0] * len(used)
        spare = [look for j in range(len(PLANS)) if (look := warm.look(str(j)))]
        assert sum(spare) <= most_mb + 1e-9
        there = {id(session) for j in range(len(PLANS)) if (session := warm.peek(str(j)))}
        assert not there & {id(session) for session in warm.gone}


def test_what_is_needed_goes_before_what_is_only_likely():
    engine = Held()
    with Sessions(BUNDLE, engine=engine) as sessions:
        engine.go.clear()
        asked: list[None] = []
        asked_before: list[int] = []
        engine.seen = lambda: asked_before.append(len(asked))

        def likely():
            asked.append(None)
            return PLANS[len(asked) - 1] if len(asked) < 4 else None

        sessions.expect(likely, most_mb=ALL_MB)
        assert engine.begun.wait(20)
        sessions.prepare(PLANS[6], needed=True)
        engine.go.set()
        assert sessions.wait(20, PLANS[6])
        assert asked_before[:2] == [1, 1]  # the one under way when it was needed, then the needed one


def test_who_asks_for_what_is_being_built_ahead_gets_that_one():
    engine = Held()
    with Sessions(BUNDLE, engine=engine) as sessions:
        engine.go.clear()
        sessions.expect(one_by_one(PLANS[:1]), most_mb=ALL_MB)
        assert engine.begun.wait(20)
        sessions.prepare(PLANS[0], needed=True)
        engine.go.set()
        assert sessions.wait(20, PLANS[0])
        assert sessions.ready(PLANS[0]) is not None
        assert sessions.wait(20)
        assert engine.built == 1


def test_a_build_ahead_that_fails_is_nobody_s_until_somebody_asks():
    engine = Held()
    engine.error = MemoryError("no memory")
    with Sessions(BUNDLE, engine=engine) as sessions:
        sessions.expect(one_by_one(PLANS[:1]), most_mb=ALL_MB)
        assert sessions.wait(20)
        assert sessions.ready(PLANS[0]) is None
        assert not sessions.failures()
        sessions.prepare(PLANS[0], needed=True)
        assert sessions.wait(20)
        with pytest.raises(MemoryError, match="no memory"):
            sessions.ready(PLANS[0])


def test_closing_waits_for_the_build_under_way_and_leaves_no_thread():
    engine = Held()
    sessions = Sessions(BUNDLE, engine=engine)
    engine.go.clear()
    sessions.expect(one_by_one(PLANS), most_mb=ALL_MB)
    assert engine.begun.wait(20)
    threading.Timer(0.05, engine.go.set).start()
    sessions.close()
    assert engine.built == 1
    assert not any(thread.name == "sentryfuse-sessions" for thread in threading.enumerate())
    assert [sessions.look(plan) for plan in PLANS] == [None] * len(PLANS)


ENDS = """
import threading, time
from tests.engine.test_sessions_ahead import BUNDLE, PLANS, Held, one_by_one
from sentryfuse.engine import Sessions

class Slow(Held):
    def build(self, model, *, threads, batch):
        made = super().build(model, threads=threads, batch=batch)
        time.sleep(0.3)
        print("built", flush=True)
        return made

engine = Slow()
sessions = Sessions(BUNDLE, engine=engine)
sessions.expect(one_by_one(PLANS), most_mb=1e3)
assert engine.begun.wait(20)
"""


def test_a_program_that_ends_in_a_build_waits_for_it_and_begins_no_other():
    """Python would take the thread away on its way out of the engine, which ends the process by a signal."""
    root = GOLDEN.parents[1]
    done = subprocess.run([sys.executable, "-c", ENDS], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "built\n"), done.stderr
