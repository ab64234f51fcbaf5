"""A sub-network in parts is the sub-network: every case, every sensor apart, tokens used again."""

from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session
from sentryfuse.engine.parts import split, whole
from sentryfuse.types import Budget
from tests.tiny import GOLDEN, NAMES, SENSOR_SETS, tiny_batch

pytestmark = pytest.mark.device

BUNDLE = load_bundle(GOLDEN / "tiny-v3.bundle")


@pytest.mark.parametrize("present", SENSOR_SETS, ids="+".join)
@pytest.mark.parametrize("apart", [("age",), ("acc", "temp"), NAMES], ids="+".join)
def test_every_step_is_in_one_part_and_what_a_part_reads_is_there(present, apart):
    parts, rest = split(BUNDLE.layout, present, apart)
    assert set(parts) == set(apart) & set(present)
    steps = [step for part in (*parts.values(), rest) for step in part.steps]
    assert sorted(s.name for s in steps) == sorted(s.name for s in whole(BUNDLE.layout, present).steps)
    for part in (*parts.values(), rest):
        have = {f"window.{name}" for name in part.windows} | set(part.given)
        for step in part.steps:
            assert have.issuperset(step.reads)
            have.add(step.writes)
        assert part.writes in have
    assert set(rest.given) == {part.writes for part in parts.values()}


@pytest.mark.parametrize("present", SENSOR_SETS, ids="+".join)
def test_parts_answer_what_the_whole_answers_and_tokens_are_made_once(present):
    plan = BUNDLE.plan(present, Budget(ratio=0.4))
    one, other = tiny_batch(1, seed=1), tiny_batch(1, seed=2)
    want = Session(BUNDLE, plan, batch=1)
    session = Session(BUNDLE, plan, batch=1, apart=NAMES)
    assert session.apart == present
    tokens: dict[str, np.ndarray] = {}
    np.testing.assert_allclose(session.run(one, tokens), want.run(one), atol=1e-6)
    assert set(tokens) == set(present)
    mixed = {**other, present[0]: one[present[0]]}
    for name in present[1:]:
        del tokens[name]
    # the window of a sensor whose tokens are there is not looked at
    np.testing.assert_allclose(session.run(other, tokens), want.run(mixed), atol=1e-6)
    np.testing.assert_array_equal(session.run(mixed), session.run(mixed, {}))
