"""One sentence says whether the layers are worth it, and none is said where nobody was asked."""

from __future__ import annotations

import pytest

from sentryfuse.readout.worth import worth

pytestmark = pytest.mark.device


def facts(alone: float, both: float, people: int = 3):
    return {"out_of_person": {"readout": alone, "transformer": 0.5, "both": both, "people": people}}


def test_a_transformer_that_adds_nothing_is_said_to_add_nothing():
    said = worth(facts(0.9, 0.902), 20_000)
    assert said is not None
    assert "as good (90.0 % against 90.2 %" in said
    assert "--ratio 1 at 0.02 MMAC" in said


def test_a_transformer_that_adds_is_said_to_add():
    said = worth(facts(0.9, 0.95, 2), 20_000)
    assert said is not None
    assert "adds 5.0 points" in said
    assert "2 validation people)" in said


def test_one_person_is_too_few_to_say():
    for both in (0.8, 0.99):
        said = worth(facts(0.9, both, 1), 20_000)
        assert said is not None
        assert "cannot tell" in said
        assert "--ratio 1" not in said


@pytest.mark.parametrize("about", [{}, {"out_of_person": {}}])
def test_without_validation_people_nothing_is_claimed(about):
    assert worth(about, 20_000) is None
    assert worth(facts(0.9, 0.9), None) is None
