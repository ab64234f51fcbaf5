from __future__ import annotations

import pytest

from sentryfuse.readout.threads import side_by_side

threadpoolctl = pytest.importorskip("threadpoolctl")


def limits():
    return {p["filepath"]: p["num_threads"] for p in threadpoolctl.threadpool_info()}


def test_pieces_come_back_in_order_and_the_first_error_is_raised():
    assert side_by_side(lambda x: x * x, range(5)) == [0, 1, 4, 9, 16]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda x: 1 // x, [1, 0, 2])


def test_libraries_have_one_thread_meanwhile_and_what_they_had_afterwards():
    side_by_side(lambda x: x, [0])  # loads what it needs
    before = limits()
    inside = side_by_side(lambda _: [n for path, n in limits().items() if "blas" in path], [0, 1])
    assert inside
    assert all(n == 1 for found in inside for n in found)
    assert limits() == before
