from __future__ import annotations

import pytest

from sentryfuse.bundle import load_bundle
from sentryfuse.planning import removals
from sentryfuse.planning.importance import levelled
from sentryfuse.planning.plan import plan_layout
from sentryfuse.types import Budget
from tests.tiny import GOLDEN, SENSOR_SETS

pytestmark = pytest.mark.device


@pytest.mark.parametrize("remembered", [1, 16])
def test_plans_from_memory_are_those_that_are_made_anew(monkeypatch, remembered):
    monkeypatch.setattr(removals, "REMEMBERED", remembered)
    bundle = load_bundle(GOLDEN / "tiny-v3.bundle")
    for ratio in (0.0, 0.3, 0.6):
        for present in (*SENSOR_SETS, *SENSOR_SETS[::-1]):
            anew = levelled(bundle.gate.importance(present))
            budget = Budget(ratio=ratio)
            plan = plan_layout(bundle.layout, anew, present=present, budget=budget, scorer="gate")
            assert bundle.plan(present, budget) == plan
    assert len(bundle._priced._found) == min(remembered, len(SENSOR_SETS))
