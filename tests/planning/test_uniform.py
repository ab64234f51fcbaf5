from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sentryfuse.errors import BudgetError
from sentryfuse.planning.cost import count
from sentryfuse.planning.plan import plan_layout
from sentryfuse.planning.removals import STEP
from sentryfuse.planning.uniform import plan_uniform
from sentryfuse.types import Budget
from tests.laws.strategies import questions

pytestmark = pytest.mark.device
laws = settings(max_examples=30, deadline=None, derandomize=True)


def uniform(ask, **limits):
    return plan_uniform(ask.layout, ask.scores, present=ask.present, budget=Budget(**limits), scorer="law")


def possible(block):
    """Numbers of units a block without groups of experts can be cut to, ascending."""
    if block.kind == "heads":
        return list(range(block.units + 1))
    return sorted({*range(0, block.units, STEP), block.units})


def best(block, values, n):
    order = np.argsort(values, kind="stable")
    return tuple(sorted(order[len(order) - n :].tolist()))


@laws
@given(questions, st.sampled_from(["present", "full"]))
def test_a_uniform_plan_never_exceeds_its_budget(ask, protocol):
    ratio = ask.ratio()
    made = uniform(ask, ratio=ratio, protocol=protocol)
    of = count(ask.layout, ask.present if protocol == "present" else None).prunable_macs
    assert made.cost.prunable_macs <= (1 - Fraction(str(ratio))) * of
    assert made.cost == count(ask.layout, ask.present, kept=made.kept)


@laws
@given(questions)
def test_it_lies_between_the_largest_common_share_that_fits_and_the_next(ask):
    live = [block for step in ask.layout.route(ask.present) for block in step.blocks]
    assume(not any(block.active for block in live))
    ratio = ask.ratio()
    allowed = (1 - Fraction(str(ratio))) * count(ask.layout, ask.present).prunable_macs
    made = uniform(ask, ratio=ratio)
    shares = sorted({Fraction(n, b.units) for b in live for n in possible(b)} | {Fraction(0)}, reverse=True)
    before = {block.name: tuple(range(block.units)) for block in live}
    for share in shares:
        kept = {}
        for block in live:
            sizes = [n for n in possible(block) if Fraction(n, block.units) >= share]
            kept[block.name] = best(block, ask.scores[block.name], sizes[0])
        if count(ask.layout, ask.present, kept=kept).prunable_macs <= allowed:
            break
        before = kept
    for name, units in made.kept.items():
        assert set(kept[name]) <= set(units) <= set(before[name])
    if ratio:  # nothing is removed that need not be
        larger = []
        for block in live:
            sizes = [n for n in possible(block) if n > len(made.kept[block.name])]
            if sizes:
                more = {block.name: best(block, ask.scores[block.name], sizes[0])}
                larger.append(count(ask.layout, ask.present, kept={**made.kept, **more}).prunable_macs)
        assert max(larger) > allowed


@laws
@given(questions)
def test_every_block_keeps_the_same_share_up_to_one_step(ask):
    made = uniform(ask, ratio=ask.ratio())
    least, most = Fraction(0), Fraction(1)
    for name, kept in made.kept.items():
        block = ask.layout.blocks[name]
        step = max(block.groups, default=0) * STEP + STEP if block.capacity else STEP
        step = 1 if block.kind == "heads" else step
        assert len(kept) == block.units or block.kind == "heads" or block.capacity or len(kept) % STEP == 0
        if len(kept) > step:  # one step less is no larger a share than the common one
            least = max(least, Fraction(len(kept) - step, block.units))
        most = min(most, Fraction(len(kept), block.units))
    assert least <= most


@laws
@given(questions)
def test_experts_with_a_capacity_stay_equally_wide(ask):
    made = uniform(ask, ratio=ask.ratio())
    for name, kept in made.kept.items():
        block = ask.layout.blocks[name]
        if block.capacity and len(kept) < block.units:
            had = np.bincount(block.groups)
            left = np.bincount([block.groups[unit] for unit in kept], minlength=len(had))
            assert np.array_equal(left, np.minimum(had, left.max()))


@laws
@given(questions)
def test_uniform_plans_nest_for_rising_ratios(ask):
    plans = [uniform(ask, ratio=ratio) for ratio in sorted(ask.ratio() for _ in range(4))]
    for larger, smaller in itertools.pairwise(plans):
        assert smaller.is_nested_in(larger)


@laws
@given(questions)
def test_what_is_impossible_is_so_for_both_allocations_and_in_the_same_words(ask):
    macs = ask.smallest().cost.macs
    uniform(ask, macs=macs)
    messages = []
    for make in (plan_uniform, plan_layout):
        with pytest.raises(BudgetError) as caught:
            make(ask.layout, ask.scores, present=ask.present, budget=Budget(macs=macs - 1), scorer="law")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_budget_in_milliseconds_needs_a_profile():
    from tests.laws.strategies import random_question

    with pytest.raises(BudgetError, match="times measured on the device"):
        uniform(random_question(0), latency_ms=1.0)
