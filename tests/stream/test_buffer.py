from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.stream.buffer import SampleBuffer

pytestmark = pytest.mark.device


def rows(times):
    return np.column_stack([times, times]).astype(np.float32)


def fill(buffer, *groups, **options):
    return [buffer.add(np.array(g, float), rows(np.array(g, float)), **options) for g in groups]


@given(st.lists(st.lists(st.integers(0, 40), max_size=6), max_size=20))
def test_samples_are_sorted_once_each_whatever_the_order(groups):
    buffer = SampleBuffer(64, 2, 1.0)
    added = fill(buffer, *groups)
    expected = sorted({t for g in groups for t in g})
    assert buffer.times_s.tolist() == expected
    assert buffer.values.tolist() == [[t, t] for t in expected]
    assert sum(a.duplicate for a in added) == sum(map(len, groups)) - len(expected)


def test_the_first_of_two_samples_of_one_time_stays():
    buffer = SampleBuffer(8, 1, 1.0)
    buffer.add(np.array([1.0]), np.array([[10.0]], np.float32))
    added = buffer.add(np.array([1.0]), np.array([[20.0]], np.float32))
    assert added.duplicate == 1
    assert buffer.values.tolist() == [[10.0]]


def test_the_oldest_go_when_there_is_no_room():
    buffer = SampleBuffer(4, 2, 1.0)
    added = fill(buffer, [1, 2, 3], [4, 5], [9, 10, 11, 12, 13, 14], [8])
    assert [a.dropped for a in added] == [0, 1, 6, 1]
    assert buffer.times_s.tolist() == [11, 12, 13, 14]
    assert added[3].reordered == 1


def test_memory_stays_what_it_was():
    buffer = SampleBuffer(16, 2, 1.0)
    held = buffer.nbytes
    for k in range(500):
        fill(buffer, [3 * k + 1, 3 * k], [3 * k + 2])
        buffer.forget_before(3 * k - 5)
        assert len(buffer) <= 8
    assert buffer.nbytes == held


def test_holes_only_refuses_what_lies_on_others():
    buffer = SampleBuffer(16, 2, 1.0)
    fill(buffer, [0, 1, 2, 5, 6])
    (added,) = fill(buffer, [0.9, 1.5, 3, 4, 5, 5.1], only_holes=True)
    assert (added.crowded, added.duplicate, added.reordered) == (2, 1, 3)
    assert buffer.times_s.tolist() == [0, 1, 1.5, 2, 3, 4, 5, 6]


def test_forgetting_and_clearing():
    buffer = SampleBuffer(16, 2, 1.0)
    fill(buffer, [0, 1, 2, 3])
    buffer.forget_before(1.5)
    assert buffer.times_s.tolist() == [2, 3]
    buffer.clear()
    assert len(buffer) == 0
    fill(buffer, [1])
    assert buffer.times_s.tolist() == [1]
