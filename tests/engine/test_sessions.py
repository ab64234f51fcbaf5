from __future__ import annotations

import gc
import logging
import threading
import weakref

import numpy as np
import pytest

from benchmarks.switching import alone, judge, produce
from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session, Sessions
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.measure.bench import random_windows
from sentryfuse.types import Budget, Plan
from tests.tiny import GOLDEN, NAMES, tiny_batch

pytestmark = pytest.mark.device

RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(GOLDEN / "tiny-v3.bundle")


@pytest.fixture(scope="module")
def plans(bundle):
    return [bundle.plan(None, Budget(ratio=ratio)) for ratio in RATIOS]


class Counting(OnnxRuntime):
    """Counts builds, can wait in one and can fail."""

    def __init__(self):
        self.built = self.at_once = self.most = 0
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()
        self.error: Exception | None = None

    def build(self, model, *, threads, batch):
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.begun.set()
        self.go.wait(10)
        self.built += 1
        try:
            if self.error:
                raise self.error
            return super().build(model, threads=threads, batch=batch)
        finally:
            self.at_once -= 1


def test_a_question_asked_again_gets_the_same_plan(bundle):
    with Sessions(bundle) as sessions:
        for present in (None, "acc", ("acc", "age"), ["age"], {"temp"}):
            plan = sessions.plan(present, Budget(ratio=0.3))
            assert plan == bundle.plan(present, Budget(ratio=0.3))
            assert sessions.plan(present, Budget(ratio=0.3)) is plan
        assert sessions.plan(None) == bundle.plan()
        with pytest.raises(BudgetError):
            sessions.plan(None, Budget(macs=5))
        with pytest.raises(ConfigError, match="ecg"):
            sessions.plan(("ecg",))


def test_a_question_asked_again_is_answered_from_memory(bundle, monkeypatch):
    asked = []
    real = type(bundle).plan

    def plan(self, *given):
        asked.append(given)
        return real(self, *given)

    monkeypatch.setattr(type(bundle), "plan", plan)
    with Sessions(bundle, max_plans=2) as sessions:
        for ratio in (0.0, 0.1, 0.0, 0.1, 0.0):
            sessions.plan(None, Budget(ratio=ratio))
        assert len(asked) == 2
        sessions.plan(None, Budget(ratio=0.2))  # one too many: 0.1 was asked for longest ago
        sessions.plan(None, Budget(ratio=0.0))
        assert len(asked) == 3
        sessions.plan(None, Budget(ratio=0.1))
        assert len(asked) == 4


def test_get_builds_once_and_answers_as_a_session_of_its_own(bundle, plans):
    engine = Counting()
    with Sessions(bundle, engine=engine) as sessions:
        assert sessions.ready(plans[1]) is None
        session = sessions.get(plans[1])
        assert sessions.get(plans[1]) is session
        assert sessions.ready(Plan.from_json(plans[1].to_json())) is session
        assert engine.built == 1
        batch = tiny_batch(1)
        assert np.array_equal(session.run(batch), Session(bundle, plans[1], batch=1).run(batch))


def test_the_session_used_longest_ago_goes_first_and_pinned_ones_never(bundle, plans):
    with Sessions(bundle, kept=2) as sessions:
        pinned = sessions.pin(plans[0])
        for plan in plans[1:3]:
            sessions.get(plan)
        sessions.get(plans[1])
        sessions.get(plans[3])
        assert [sessions.ready(plan) is not None for plan in plans[:4]] == [True, True, False, True]
        assert sessions.ready(plans[0]) is pinned


def test_a_session_let_go_is_freed(bundle, plans):
    with Sessions(bundle, kept=1) as sessions:
        old = weakref.ref(sessions.get(plans[0]))
        sessions.get(plans[1])
        gc.collect()
        assert old() is None


def test_what_is_prepared_becomes_ready_without_anyone_waiting(bundle, plans):
    engine = Counting()
    with Sessions(bundle, engine=engine) as sessions:
        engine.go.clear()
        sessions.prepare(plans[1])
        assert engine.begun.wait(10)
        assert sessions.ready(plans[1]) is None
        assert not sessions.wait(0)
        engine.go.set()
        assert sessions.wait(10)
        assert sessions.ready(plans[1]) is not None


def test_a_later_wish_replaces_one_that_has_not_begun(bundle, plans):
    engine = Counting()
    with Sessions(bundle, engine=engine) as sessions:
        engine.go.clear()
        sessions.prepare(plans[0])
        assert engine.begun.wait(10)
        for plan in plans[1:4]:
            sessions.prepare(plan)
        engine.go.set()
        assert sessions.wait(10)
        assert [sessions.ready(plan) is not None for plan in plans[:4]] == [True, False, False, True]
        assert engine.built == 2
        sessions.prepare(plans[3])  # there already
        assert sessions.wait(10)
        assert engine.built == 2


def test_building_is_done_on_one_thread_at_a_time_and_once_for_each_plan(bundle, plans):
    engine = Counting()
    with Sessions(bundle, engine=engine, kept=6) as sessions, Sessions(bundle, engine=engine) as others:
        threads = [threading.Thread(target=s.get, args=(p,)) for p in plans[:3] for s in (sessions,) * 3]
        threads += [threading.Thread(target=others.get, args=(plans[4],))]
        for thread in threads:
            thread.start()
        sessions.prepare(plans[3])
        for thread in threads:
            thread.join()
        sessions.wait(10)
    assert engine.built == 5
    assert engine.most == 1


def test_a_failed_preparation_is_told_once_and_may_be_tried_again(bundle, plans):
    engine = Counting()
    with Sessions(bundle, engine=engine) as sessions:
        engine.error = MemoryError("no memory")
        sessions.prepare(plans[1])
        assert sessions.wait(10)
        assert {plan_id: str(e) for plan_id, e in sessions.failures().items()} == {
            plans[1].plan_id: "no memory"
        }
        with pytest.raises(MemoryError, match="no memory"):
            sessions.ready(plans[1])
        assert sessions.ready(plans[1]) is None
        with pytest.raises(MemoryError, match="no memory"):
            sessions.get(plans[1])
        engine.error = None
        sessions.prepare(plans[1])
        assert sessions.wait(10)
        assert sessions.ready(plans[1]) is not None
        assert not sessions.failures()


def test_a_failure_nobody_asked_for_is_logged_at_the_end(bundle, plans, caplog):
    engine = Counting()
    engine.error = MemoryError("no memory")
    with caplog.at_level(logging.WARNING), Sessions(bundle, engine=engine) as sessions:
        sessions.prepare(plans[1])
        assert sessions.wait(10)
    assert plans[1].plan_id in caplog.text
    assert "no memory" in caplog.text


def test_what_is_closed_says_so(bundle, plans):
    sessions = Sessions(bundle)
    sessions.prepare(plans[0])
    sessions.close()
    sessions.close()
    for ask in (sessions.get, sessions.prepare, sessions.pin):
        with pytest.raises(ConfigError, match="closed"):
            ask(plans[1])
    assert sessions.ready(plans[0]) is None


@pytest.mark.parametrize("options", [{"kept": 0}, {"threads": 0}, {"max_plans": 0}, {"batch": 0}])
def test_numbers_that_mean_nothing_are_refused(bundle, options):
    with pytest.raises(ConfigError, match="at least 1"):
        Sessions(bundle, **options)


# The law: windows handed in by four threads that switch before each, some plans seldom and then built anew.


def judged(bundle, plans, *, engine="onnxruntime", switches=600):
    windows = random_windows(bundle)
    with Sessions(bundle, kept=4, engine=engine) as sessions:
        answered = produce(sessions, plans, windows, switches=switches, rare=0.1)
    return judge(answered, alone(bundle, plans, windows), switches=switches), answered


def test_no_window_is_lost_doubled_or_mixed_while_four_threads_switch(bundle, plans):
    others = [bundle.plan(names, Budget(ratio=0.3)) for names in (NAMES[:1], NAMES[1:])]
    verdict, answered = judged(bundle, [*plans[::2], *others])
    assert verdict == (0, 0, 0, 0)
    assert len({each.plan_id for each in answered}) == 5


class Mixing(OnnxRuntime):
    """Wrong on purpose: whatever it built answers with what it built last."""

    def build(self, model, *, threads, batch):
        self.latest = super().build(model, threads=threads, batch=batch)
        return lambda feed: self.latest(feed)


def test_an_engine_that_mixes_plans_is_caught(bundle, plans):
    verdict, _ = judged(bundle, plans, engine=Mixing(), switches=200)
    assert verdict.mixed > 0


def test_lost_doubled_and_reordered_windows_are_caught(bundle, plans):
    _, answered = judged(bundle, plans[:2], switches=40)
    wanted = alone(bundle, plans[:2], random_windows(bundle))
    assert judge(answered[:-3], wanted, switches=40).lost == 3
    assert judge([*answered, answered[-1]], wanted, switches=40).doubled == 1
    assert judge(answered[::-1], wanted, switches=40).out_of_order > 0
