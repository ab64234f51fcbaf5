from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session
from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.runtime import Change, replay
from sentryfuse.types import Budget
from tests.tiny import GOLDEN, NAMES, tiny_windows

pytestmark = pytest.mark.device

WINDOWS = tiny_windows(24)
RATIOS = (0.0, 0.3)
SESSIONS: dict[str, Session] = {}  # to answer single windows, built once for all examples
SETS = st.one_of(st.none(), st.sets(st.sampled_from(NAMES)).map(tuple))


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(GOLDEN / "tiny-v3.bundle")


@st.composite
def schedules(draw):
    starts = draw(st.sets(st.integers(1, 23), max_size=5))
    return [Change(start, draw(SETS), draw(st.sampled_from(RATIOS))) for start in (0, *sorted(starts))]


def in_force(schedule, position):
    return [change for change in schedule if change.from_window <= position][-1]


@given(schedules())
@settings(max_examples=8, deadline=None)
def test_every_window_gets_one_answer_in_order_as_if_it_were_alone(bundle, schedule):
    indices = np.arange(24)[::-1]
    records = replay(bundle, WINDOWS, indices=indices, schedule=schedule)
    assert [record["t_s"] for record in records] == [4.0 * i for i in range(24)]
    for position, (index, record) in enumerate(zip(indices, records, strict=True)):
        change = in_force(schedule, position)
        wanted = set(NAMES if change.present is None else change.present)
        has = {n for n, on in zip(NAMES, WINDOWS.present[index], strict=True) if on}
        assert set(record["present"]) == wanted & has
        assert record["ratio"] == change.ratio
        if not record["present"]:
            assert record["status"] == "REFUSED"
            assert {record[key] for key in ("answer", "correct", "latency_ms", "plan_id")} == {None}
            continue
        assert record["status"] == ("OK" if len(record["present"]) == 3 else "DEGRADED")
        plan = bundle.plan(record["present"], Budget(ratio=change.ratio))
        assert record["plan_id"] == plan.plan_id
        if plan.plan_id not in SESSIONS:
            SESSIONS[plan.plan_id] = Session(bundle, plan, batch=1)
        alone = SESSIONS[plan.plan_id].run(WINDOWS.batch(np.array([index]), plan.present))
        assert record["answer"] == bundle.classes[alone[0].argmax()]
        assert record["correct"] == (alone[0].argmax() == WINDOWS.y[index])
        assert record["latency_ms"] > 0


def test_a_switch_is_told_once_at_the_window_that_is_answered_by_another_sub_network(bundle):
    schedule = [Change(0, ("acc", "age"), 0.0), Change(4, ("acc",), 0.0), Change(8, ("acc",), 0.3)]
    records = replay(bundle, WINDOWS, indices=np.arange(12), schedule=schedule)
    assert [i for i, record in enumerate(records) if record["switched"]] == [4, 8]
    assert [i for i, r in enumerate(records) if r["switch_ms"] is not None] == [4, 8]
    assert len({record["plan_id"] for record in records}) == 3


def test_a_wish_that_changes_nothing_is_no_switch(bundle):
    schedule = [Change(0, ("acc",), 0.3), Change(3, ("acc",), 0.3), Change(6, (), 0.3)]
    schedule.append(Change(8, ("acc",), 0.3))
    records = replay(bundle, WINDOWS, indices=np.arange(10), schedule=schedule)
    assert not any(record["switched"] for record in records)
    assert [r["status"] for r in records] == [*["DEGRADED"] * 6, *["REFUSED"] * 2, *["DEGRADED"] * 2]


def test_a_sub_network_used_lately_is_not_built_again(bundle, monkeypatch):
    module = importlib.import_module("sentryfuse.engine.sessions")
    built = []

    def build(bundle, plan, **options):
        built.append(plan.present)
        return Session(bundle, plan, **options)

    monkeypatch.setattr(module, "Session", build)
    sets = [("acc",), ("age",), ("acc", "age")]
    turns = [Change(i, sets[i % 3], 0.0) for i in range(12)]
    replay(bundle, WINDOWS, indices=np.arange(12), schedule=turns)
    assert built == sets
    built.clear()
    many = [(on, ratio) for on in sets for ratio in (0.0, 0.3)]  # more than are kept
    turns = [Change(i, *many[i % len(many)]) for i in range(12)]
    replay(bundle, WINDOWS, indices=np.arange(12), schedule=turns)
    assert len(built) == 12


@pytest.mark.parametrize(
    ("schedule", "error"),
    [
        ([], ConfigError),
        ([Change(1, None, 0.0)], ConfigError),
        ([Change(0, None, 0.0), Change(5, None, 0.3), Change(5, None, 0.0)], ConfigError),
        ([Change(0, None, 0.0), Change(99, ("ecg",), 0.0)], ConfigError),
        ([Change(0, None, 0.0), Change(99, None, 1.001)], BudgetError),
        ([Change(0, None, 1.5)], BudgetError),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused_before_the_first_window(bundle, schedule, error):
    with pytest.raises(error):
        replay(bundle, WINDOWS, indices=np.arange(3), schedule=schedule)
