"""Laws of what a stream leaves for those who look at it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.bundle import load_bundle
from sentryfuse.errors import ConfigError
from sentryfuse.runtime import Events, Runtime
from sentryfuse.runtime.asked import Asked
from sentryfuse.runtime.times import BUCKETS_S, Times
from sentryfuse.serve.board import KEPT, Board, finite
from sentryfuse.stream import CutWindow, Verdict, open_source
from tests.tiny import GOLDEN, MODALITIES, NAMES

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    table = tmp_path_factory.mktemp("board") / "table.csv"
    table.write_text("time_s,acc.x,acc.y,acc.z\n" + "".join(f"{k / 16},1,2,3\n" for k in range(64)), "utf-8")
    with (
        open_source(f"replay:{table}", MODALITIES) as source,
        Runtime(load_bundle(GOLDEN / "tiny-v3.bundle"), source) as made,
    ):
        yield made


def row(window_id, status="OK"):
    return {
        "window_id": window_id,
        "status": status,
        "reason": "for a test",
        "latency_ms": 1.0,
        "delay_ms": 2.0,
    }


@pytest.mark.parametrize("n", [0, 1, 7, KEPT, KEPT + 50])
def test_a_board_keeps_the_latest_and_stays_bounded(runtime, n):
    board = Board(runtime)
    for window_id in range(n):
        board.take(row(window_id))
    assert len(board.rows) == min(n, KEPT)
    assert sum(board.statuses.values()) == sum(board.latency.counts) == n
    for since in (0, 1, n - 3, n, n + 5):
        for most in (1, 5, KEPT):
            ids = [each["window_id"] for each in board.since(since, most)]
            assert ids == list(range(max(0, since), n))[-min(most, KEPT) :]
    assert [each["window_id"] for each in board.latest(5)] == list(range(n))[-5:]


def test_ready_is_a_window_answered_and_not_long_ago(runtime):
    board = Board(runtime)
    assert "no window" in board.why_not_ready()
    board.take(row(0))
    assert board.why_not_ready() == ""
    board.take(row(1, "STALE"))
    assert "window 1 is STALE: for a test" in board.why_not_ready()
    board.take(row(2, "DEGRADED"))
    assert board.why_not_ready() == ""
    board.answered_at_s -= board.patience_s + 1
    assert "ago" in board.why_not_ready()


@given(st.lists(st.floats(0, 20)))
def test_every_time_is_in_one_bucket(times):
    seen = Times()
    for time_s in times:
        seen.see(time_s)
    for k, bound in enumerate((*BUCKETS_S, math.inf)):
        assert sum(seen.counts[: k + 1]) == sum(time_s <= bound for time_s in times)


def test_numbers_that_json_does_not_know_become_null():
    assert finite({"a": (math.nan, "b", [1.5, -math.inf])}) == {"a": [None, "b", [1.5, None]]}


def window(present):
    return CutWindow(
        window_id=0,
        end_s=1.0,
        values={name: np.ones((1, 1, 1), np.float32) for name in present},
        present=tuple(present),
        verdicts={name: Verdict.OK if name in present else Verdict.SILENT for name in NAMES},
        changed=dict.fromkeys(NAMES, False),
    )


SETS = st.sets(st.sampled_from(NAMES))


@given(st.lists(st.tuples(SETS, SETS.filter(bool)), min_size=1))
def test_only_sensors_asked_for_are_used_and_those_that_return_have_changed(steps):
    asked, before = Asked(NAMES, Events()), set(NAMES)
    for there, wanted in steps:
        asked.only(wanted)
        whole = window([name for name in NAMES if name in there])
        seen = asked.narrow(whole)
        assert set(seen.present) == set(seen.values) == there & wanted
        assert list(seen.present) == [name for name in NAMES if name in seen.present]
        for name in NAMES:
            off = name not in wanted
            assert seen.verdicts[name] is (Verdict.OFF if off else whole.verdicts[name])
            assert seen.changed[name] == (name in there & wanted - before)
        before = wanted


def test_asking_for_all_is_no_change_and_what_is_unknown_changes_nothing():
    events = Events()
    asked = Asked(NAMES, events)
    asked.only(None)
    asked.only(NAMES[::-1])
    assert not events.counts
    for names, said in ((["ecg"], "no sensor ecg"), ([], "no sensor is left")):
        with pytest.raises(ConfigError, match=said):
            asked.only(names)
    assert asked.names == NAMES
    asked.only(["age"])
    assert [(event["kind"], event["sensors"]) for event in events.latest] == [("sensors", ["age"])]
