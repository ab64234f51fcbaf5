"""What ends a process, lasts too long or takes too much is seen by the campaign, and the rest is done."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.reliability.apart import Death, apart
from benchmarks.reliability.record import Record
from benchmarks.reliability.tally import Tally, quantile_ms

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@needs_linux
def test_inputs_that_end_the_process_are_named_and_the_others_done():
    given = {"size": 5, "inputs": {"1": "killed", "3": "exits"}}
    found, deaths = apart("tests.reliability.dying", given)
    assert deaths == [Death(1, "signal 11"), Death(3, "exit 3")]
    assert found["came"] == [[0, "ok"], [2, "ok"], [4, "ok"]]


@needs_linux
def test_an_input_that_lasts_too_long_or_takes_too_much_does_not_end_the_work():
    given = {"size": 3, "inputs": {"0": "loops", "1": "hungry"}}
    found, deaths = apart("tests.reliability.dying", given, limit_s=0.2)
    assert not deaths
    assert found["came"] == [[0, "overdue"], [1, "no memory"], [2, "ok"]]
    assert found["grown_mb"] < 100


@needs_linux
def test_work_that_fails_by_itself_is_no_finding():
    with pytest.raises(RuntimeError, match="KeyError"):
        apart("tests.reliability.dying", {"size": 1})


def test_a_part_goes_on_where_it_was_killed_unless_seed_or_code_are_others(tmp_path):
    out = tmp_path / "x.json"
    with Record(out, "x", count=10, seed=0) as record:
        record.advance(4)
        record.found["more"] = 1
    again = Record(out, "x", count=10, seed=0)
    assert (again.done, again.found["more"]) == (4, 1)
    assert Record(out, "x", count=10, seed=1).done == 0
    changed = {**json.loads(out.read_text()), "commit": "another"}
    out.write_text(json.dumps(changed))
    assert Record(out, "x", count=10, seed=0).done == 0


def test_tallies_add_up_and_quantiles_lie_within_a_bin():
    one, two = Tally(), Tally()
    for ms in range(1, 1001):
        (one if ms % 2 else two).took(ms)
        (one if ms % 2 else two).counts["odd" if ms % 2 else "even"] += 1
    one.add(Tally(json.loads(json.dumps(two.told()))))
    assert one.counts == {"odd": 500, "even": 500}
    assert one.longest_ms == 1000
    for share in (0.5, 0.99):
        assert 1000 * share <= quantile_ms(one.bins, share) * 1.001
        assert quantile_ms(one.bins, share) <= 1050 * share
