"""The sliced model, the big model that slices on the fly and the masked big model are one function."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentryfuse.model import Selection
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.pruning.cut import prune, selection
from sentryfuse.types import Plan
from tests.laws.hand_plans import any_plan, full_plan
from tests.tiny import CASES, SENSOR_SETS, tiny_batch, tiny_model, uneven_widths

laws = settings(max_examples=8, deadline=None, derandomize=True)
close = functools.partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)


@functools.cache
def model_of(case: str, uneven: bool) -> SentryModel:
    return tiny_model(case, widths=uneven_widths(case) if uneven else None)


def answer(model: SentryModel, present: tuple[str, ...], select: Selection | None = None):
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch(seed=3).items()}
    with torch.no_grad():
        return model(batch, present, select=select)


def gates(model: SentryModel, plan: Plan) -> Selection:
    """One for every kept unit, zero for every other; experts without a kept unit leave the mixture."""
    made, among = {}, {}
    for name, kept in plan.kept.items():
        block = model.layout.blocks[name]
        units = list(range(block.units))
        if block.active:
            left = block.groups_of(kept)
            units = [unit for unit in units if block.groups[unit] in left]
            among[name] = torch.tensor(units)
        made[name] = torch.tensor([float(unit in kept) for unit in units])
    return Selection(kept=among, gates=made)


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
@pytest.mark.parametrize("case", CASES)
@laws
@given(present=st.sampled_from(SENSOR_SETS), seed=st.integers(0, 10**6))
def test_cut_equals_mask(case, uneven, present, seed):
    model = model_of(case, uneven)
    plan = any_plan(model.layout, present, seed=seed)
    cut = answer(prune(model, plan), present)
    close(answer(model, present, selection(plan)), cut)
    close(answer(model, present, gates(model, plan)), cut)


@pytest.mark.parametrize("case", CASES)
def test_the_mask_is_not_the_whole_model(case):
    model = model_of(case, False)
    plan = any_plan(model.layout, SENSOR_SETS[0], seed=1)
    masked = answer(model, SENSOR_SETS[0], gates(model, plan))
    assert (masked - answer(model, SENSOR_SETS[0])).abs().max() > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_a_plan_that_keeps_everything_changes_no_bit(case):
    model = model_of(case, True)
    for present in SENSOR_SETS:
        plan = full_plan(model.layout, present)
        assert torch.equal(answer(prune(model, plan), present), answer(model, present))


@pytest.mark.parametrize("case", CASES)
def test_factors_may_differ_from_window_to_window(case):
    model = model_of(case, False)
    names = SENSOR_SETS[0]
    torch.manual_seed(0)
    factors = {n: torch.rand(3, b.units) for n, b in model.layout.blocks.items()}
    together = answer(model, names, Selection(gates=factors))
    for i in range(3):
        alone = answer(model, names, Selection(gates={n: xi[i] for n, xi in factors.items()}))
        close(alone[i], together[i])
