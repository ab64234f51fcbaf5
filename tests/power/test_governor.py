"""Laws of following a policy: it never flaps, settles, and is careful when it cannot see (F16, F17)."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.power import Governor, Reading, open_reader, read_policy

pytestmark = pytest.mark.device

CHARGE = "100%:ratio=0,50%/55%:ratio=0.4,20%/25%:ratio=0.8;dwell_s=10;lost_after_s=60"
WATTS = "15W:ratio=0,8W/9W:ratio=0.6,3W/4W:ratio=0.9;dwell_s=10;lost_after_s=60"
BAD = (None, math.nan, math.inf, -math.inf, -0.1, 1.01)


def reading(left, at_s, watch="charge"):
    if watch == "charge":
        return Reading(at_s=at_s, label="replayed", scope="x", charge=left)
    return Reading(at_s=at_s, label="replayed", scope="x", cap_w=left)


def follow(governor, *values, start_s=0.0, step_s=100.0):
    """Levels after each value, far enough apart that dwell time does not matter."""
    watch = governor.policy.watch
    seen = []
    for i, value in enumerate(values):
        now_s = start_s + i * step_s
        seen.append(governor.update(reading(value, now_s, watch), now_s).index)
    return seen


def test_levels_go_down_at_one_threshold_and_up_at_another():
    governor = Governor(read_policy(CHARGE))
    values = (1.0, 0.51, 0.5, 0.54, 0.55, 0.5, 0.2, 0.24, 0.25, 0.56, 0.1, 0.9)
    assert follow(governor, *values) == [0, 0, 1, 1, 0, 1, 2, 2, 1, 0, 2, 0]
    assert governor.bad_readings == 0


def test_the_first_reading_takes_the_level_its_value_belongs_to():
    for value, level in ((1.0, 0), (0.52, 0), (0.5, 1), (0.22, 1), (0.0, 2)):
        assert follow(Governor(read_policy(CHARGE)), value) == [level]


def test_every_change_says_why():
    governor = Governor(read_policy(CHARGE))
    first = governor.update(reading(0.8, 0.0), 0.0)
    assert (first.changed, first.reason, first.budget.ratio) == (False, "charge 80 % is left", 0.0)
    down = governor.update(reading(0.48, 20.0), 20.0)
    assert (down.changed, down.reason) == (True, "charge 48 % is at or below 50 %")
    still = governor.update(reading(0.4, 30.0), 30.0)
    assert (still.changed, still.reason) == (False, down.reason)
    up = governor.update(reading(0.9, 40.0), 40.0)
    assert up.reason == "charge 90 % is at or above 55 %"
    lost = governor.update(None, 100.0)
    assert lost.reason == "no good reading for 60 s: the most careful level"
    assert (lost.index, lost.changed, governor.changes) == (2, True, 3)


def test_a_limit_in_watts_is_followed_at_once_by_factors_of_ten():
    governor = Governor(read_policy(WATTS))
    assert follow(governor, 100, 10, 1, 10, 100, 0, 8.5) == [0, 0, 2, 0, 0, 2, 1]
    assert governor.update(reading(0.5, 700.0, "cap_w"), 700.0).reason == (
        "the limit on power 0.5 W is at or below 3 W"
    )


def test_toggling_every_window_changes_once_per_dwell_time():
    governor = Governor(read_policy(CHARGE))
    changes = []
    for i in range(1000):
        now_s = 0.1 * i
        if governor.update(reading((0.1, 0.9)[i % 2], now_s), now_s).changed:
            changes.append(now_s)
    assert governor.changes == len(changes)
    assert 9 <= len(changes) <= 10


values = st.floats(0, 1) | st.sampled_from([0.2, 0.25, 0.5, 0.55]) | st.sampled_from(BAD) | st.floats()
steps = st.floats(0, 20) | st.sampled_from([0.0, 0.1, 10.0, 60.0, 1e6])
stories = st.lists(st.tuples(steps, st.none() | values), max_size=60)


@given(stories)
def test_there_is_at_most_one_change_in_a_dwell_time(story):
    governor = Governor(read_policy(CHARGE))
    now_s, changed_s, level = 0.0, [], None
    for step_s, value in story:
        now_s += step_s
        decision = governor.update(reading(value, now_s), now_s)
        assert decision.changed == (level is not None and decision.index != level)
        level = decision.index
        if decision.changed:
            changed_s.append(now_s)
    assert all(b - a >= governor.policy.dwell_s for a, b in pairwise(changed_s))
    assert governor.changes == len(changed_s)


@given(stories, st.floats(0, 1))
def test_a_constant_reading_settles_at_one_level(story, value):
    governor = Governor(read_policy(CHARGE))
    now_s = 0.0
    for step_s, before in story:
        now_s += step_s
        governor.update(reading(before, now_s), now_s)
    now_s += governor.policy.dwell_s + 0.001  # sums of floats may fall short of it
    settled = governor.update(reading(value, now_s), now_s).index
    for _ in range(50):
        now_s += 3.0
        decision = governor.update(reading(value, now_s), now_s)
        assert (decision.index, decision.changed) == (settled, False)
    fits = 2 if value <= 0.2 else 1 if value <= 0.5 else 0
    assert settled in (fits, fits + 1)
    if settled > fits:
        assert value < governor.policy.levels[settled].back_at


@given(st.sampled_from([(1, 0.5, 0.55), (2, 0.2, 0.25)]), st.booleans(), st.data())
def test_noise_between_two_thresholds_never_changes_the_level(band, from_above, data):
    index, at, back_at = band
    governor = Governor(read_policy(CHARGE))
    start = back_at + 0.01 if from_above else at - 0.01
    level = governor.update(reading(start, 0.0), 0.0).index
    assert level == (index - 1 if from_above else index)
    noise = st.floats(at, back_at, exclude_min=True, exclude_max=True)
    for i, value in enumerate(data.draw(st.lists(noise, max_size=50)), 1):
        assert governor.update(reading(value, 11.0 * i), 11.0 * i).index == level


@pytest.mark.parametrize("value", BAD)
def test_what_cannot_be_left_keeps_the_last_level_and_is_counted(value):
    governor = Governor(read_policy(CHARGE))
    governor.update(reading(0.8, 0.0), 0.0)
    for now_s in range(1, 60):
        assert governor.update(reading(value, float(now_s)), float(now_s)).index == 0
    assert governor.bad_readings == 59
    decision = governor.update(reading(value, 60.0), 60.0)
    assert (decision.index, decision.changed) == (2, True)


def test_until_the_first_good_reading_the_most_careful_level_holds():
    governor = Governor(read_policy(CHARGE))
    decision = governor.update(None, 0.0)
    assert (decision.index, decision.changed) == (2, False)
    assert decision.reason == "no good reading yet: the most careful level"
    decision = governor.update(reading(0.9, 1.0), 1.0)
    assert (decision.index, decision.changed) == (0, True), "the first good reading is not kept waiting"


def test_a_reading_that_is_given_again_and_again_grows_old():
    governor = Governor(read_policy(CHARGE))
    old = reading(0.9, 0.0)
    assert [governor.update(old, now_s).index for now_s in (0.0, 30.0, 59.9, 60.0)] == [0, 0, 0, 2]
    assert governor.bad_readings == 1


def test_an_older_reading_does_not_replace_a_newer_one():
    governor = Governor(read_policy(CHARGE))
    governor.update(reading(0.9, 50.0), 50.0)
    assert governor.update(reading(0.1, 40.0), 51.0).index == 0
    assert governor.bad_readings == 1


def test_after_a_silence_the_level_returns_by_its_second_threshold():
    governor = Governor(read_policy(CHARGE))
    governor.update(reading(0.9, 0.0), 0.0)
    assert governor.update(None, 60.0).index == 2
    assert governor.update(reading(0.22, 75.0), 75.0).index == 2
    assert governor.update(reading(0.9, 90.0), 90.0).index == 0


@given(st.lists(st.tuples(st.floats(), st.floats(), st.none() | values), max_size=40))
def test_any_clock_and_any_reading_is_answered(story):
    governor = Governor(read_policy(CHARGE))
    for now_s, at_s, value in story:
        decision = governor.update(reading(value, at_s), now_s)
        assert decision.level is governor.policy.levels[decision.index]
        assert decision.reason
        governor.update(None, now_s)


def test_the_clock_is_the_monotonic_one_where_none_is_given(tmp_path):
    path = tmp_path / "day.csv"
    path.write_text("time_s,charge\n0,0.9\n")
    governor = Governor(read_policy(CHARGE))
    assert governor.update(open_reader(f"trace:{path}").read()).index == 0


def test_one_level_never_changes():
    governor = Governor(read_policy("100%:ratio=0.5"))
    assert follow(governor, 1.0, 0.0, None, 0.5) == [0, 0, 0, 0]


def test_a_trace_drives_a_policy_from_end_to_end(tmp_path):
    path = tmp_path / "day.csv"
    path.write_text("time_s,charge\n0,1.0\n600,0.48\n900,nan\n1200,0.19\n1800,0.9\n")
    governor = Governor(read_policy(CHARGE))
    reader = open_reader(f"trace:{path}", needs="charge", now_s=1000.0)
    ratios: dict[int, float | None] = {}
    for t in range(0, 2000, 5):
        decision = governor.update(reader.read(1000.0 + t), 1000.0 + t)
        if decision.changed or not ratios:
            ratios[t] = decision.budget.ratio
    assert ratios == {0: 0.0, 600: 0.4, 955: 0.8, 1800: 0.0}
