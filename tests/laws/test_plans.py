"""Budgets hold, plans nest, groups stay whole: for any layout, scores and sensors. No torch."""

from __future__ import annotations

import itertools
import json
import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentryfuse.errors import BudgetError
from sentryfuse.planning.cost import count
from sentryfuse.planning.plan import plan_layout
from sentryfuse.planning.removals import STEP
from sentryfuse.planning.units import kept_groups
from sentryfuse.types import Budget, Cost, Plan
from tests.laws.strategies import questions

pytestmark = pytest.mark.device
laws = settings(max_examples=30, deadline=None, derandomize=True)


@laws
@given(questions)
def test_a_ratio_removes_at_least_its_share_and_never_nothing(ask):
    ratio = ask.ratio()
    made = ask.plan(ratio=ratio)
    assert made.cost.prunable_macs <= (1 - Fraction(str(ratio))) * made.dense.prunable_macs
    assert made.cost == count(ask.layout, ask.present, kept=made.kept)
    assert made.dense == count(ask.layout, ask.present)
    if ratio > 0:
        assert made.cost.prunable_macs < made.dense.prunable_macs
        assert made.binding == "ratio"
    else:
        assert made.cost == made.dense
        assert made.binding == "none"


@laws
@given(questions, st.floats(1e-300, 1e-6))
def test_even_the_smallest_ratio_is_no_silent_no_op(ask, ratio):
    made = ask.plan(ratio=ratio)
    assert made.cost.prunable_macs < made.dense.prunable_macs


@laws
@given(questions)
def test_the_full_protocol_counts_absent_branches_as_savings(ask):
    ratio = ask.ratio()
    allowed = (1 - Fraction(str(ratio))) * count(ask.layout).prunable_macs
    made = ask.plan(ratio=ratio, protocol="full")
    assert made.cost.prunable_macs <= allowed
    if made.dense.prunable_macs <= allowed:
        assert made.cost == made.dense, "nothing has to go, so nothing goes"


@laws
@given(questions, st.sets(st.sampled_from(["ratio", "macs", "memory_mb"]), min_size=1))
def test_every_limit_holds_when_several_are_given_at_once(ask, asked):
    dense, least = count(ask.layout, ask.present), ask.smallest().cost
    limits = {
        "ratio": ask.ratio(),
        "macs": int(ask.rng.integers(least.macs, dense.macs + 10)),
        "memory_mb": int(ask.rng.integers(least.params, dense.params + 10)) * 4 / 1e6,
    }
    made = ask.plan(**{name: limits[name] for name in asked})
    if "ratio" in asked:
        share = Fraction(made.cost.prunable_macs, dense.prunable_macs)
        assert share <= 1 - Fraction(str(limits["ratio"]))
    if "macs" in asked:
        assert made.cost.macs <= limits["macs"]
    if "memory_mb" in asked:
        assert made.cost.weights_mb <= limits["memory_mb"]
    assert made.binding in {*asked, "none"}
    assert (made.binding == "none") == (made.cost == made.dense)


@laws
@given(questions)
def test_a_plan_asked_for_what_it_costs_is_the_same_plan(ask):
    made = ask.plan(ratio=ask.ratio())
    assert ask.plan(macs=made.cost.macs).kept == made.kept


@laws
@given(questions)
def test_an_impossible_budget_names_the_nearest_one_and_that_one_works(ask):
    least = ask.smallest().cost
    for name, value in {"macs": least.macs - 1, "memory_mb": (least.params - 1) * 4 / 1e6}.items():
        if value <= 0:
            continue
        with pytest.raises(BudgetError) as caught:
            ask.plan(**{name: value})
        advice = str(caught.value).split(";")[-1]
        nearest = float(re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", advice)[-1])
        made = ask.plan(**{name: nearest})
        if name == "macs":
            assert nearest == least.macs == made.cost.macs
        else:
            assert least.weights_mb <= made.cost.weights_mb <= nearest < least.weights_mb + 0.001


@laws
@given(questions, st.sampled_from(["present", "full"]))
def test_any_ratio_can_be_met_since_blocks_may_lose_all_they_have(ask, protocol):
    made = ask.plan(ratio=1, protocol=protocol)
    assert made.cost.prunable_macs == 0
    assert not any(made.kept.values())
    assert made.kept.keys() == {b.name for step in ask.layout.route(ask.present) for b in step.blocks}


@laws
@given(questions)
def test_a_readout_answers_alone_as_soon_as_no_layer_is_left(ask):
    beside = Cost(macs=5, prunable_macs=0, params=7, weights_mb=28e-6)
    for limits in (
        {"ratio": 1.0},
        {"ratio": ask.ratio()},
        {"macs": int(ask.rng.integers(6, count(ask.layout, ask.present).macs))},
    ):
        made = plan_layout(
            ask.layout,
            ask.scores,
            present=ask.present,
            budget=Budget(**limits),
            scorer="law",
            beside=beside,
        )
        assert made.readout_alone == (not any(made.kept.values()))
        if made.readout_alone:
            assert made.cost == beside
        assert made.cost.macs <= limits.get("macs", math.inf)


@laws
@given(questions)
def test_plans_nest_for_rising_ratios(ask):
    plans = [ask.plan(ratio=ratio) for ratio in sorted(ask.ratio() for _ in range(4))]
    for larger, smaller in itertools.pairwise(plans):
        assert smaller.is_nested_in(larger)
        assert smaller.cost.macs <= larger.cost.macs
        assert smaller.cost.params <= larger.cost.params


@laws
@given(questions)
def test_plans_nest_across_kinds_of_limits(ask):
    least, dense = ask.smallest().cost, count(ask.layout, ask.present)
    by_ratio = ask.plan(ratio=ask.ratio())
    by_memory = ask.plan(memory_mb=int(ask.rng.integers(least.params, dense.params + 1)) * 4 / 1e6)
    assert by_ratio.is_nested_in(by_memory) or by_memory.is_nested_in(by_ratio)


@laws
@given(questions)
def test_within_a_block_the_units_that_stay_are_the_most_important(ask):
    made = ask.plan(ratio=ask.ratio())
    for name, kept in made.kept.items():
        block = ask.layout.blocks[name]
        gone = sorted(set(range(block.units)) - set(kept))
        stay = np.sort(ask.scores[name][list(kept)])
        if block.capacity:
            continue
        if block.active:  # the last channels are those of one expert, so a few may stay out of turn
            stay = stay[STEP:]
        if gone and len(stay):
            assert stay[0] >= ask.scores[name][gone].max()


@laws
@given(questions)
def test_the_last_channels_of_a_mixture_are_of_as_few_experts_as_hold_them(ask):
    for name, kept in ask.plan(ratio=ask.ratio()).kept.items():
        block = ask.layout.blocks[name]
        if block.active and not block.capacity and 0 < len(kept) <= STEP:
            widest = np.sort(np.bincount(block.groups))[::-1]
            fewest = int(np.searchsorted(np.cumsum(widest), min(STEP, block.units))) + 1
            assert len(block.groups_of(kept)) == fewest


@laws
@given(questions)
def test_experts_that_take_tokens_become_narrower_together_each_by_its_worst(ask):
    for name, kept in ask.plan(ratio=ask.ratio()).kept.items():
        block = ask.layout.blocks[name]
        if not block.capacity:
            continue
        group_of, scores = np.array(block.groups), ask.scores[name]
        before, after = np.bincount(group_of), np.bincount(group_of[list(kept)])
        if not kept:
            continue
        assert after.max() % STEP == 0 or after.max() == before.max()
        np.testing.assert_array_equal(after, np.minimum(before, after.max()))
        for group in range(len(before)):
            own = np.flatnonzero(group_of == group)
            gone = np.setdiff1d(own, kept)
            if len(gone):
                assert scores[np.intersect1d(own, kept)].min() >= scores[gone].max()


@laws
@given(questions)
def test_groups_stay_whole(ask):
    made = ask.plan(ratio=ask.ratio())
    live = {b.name: b for step in ask.layout.route(ask.present) for b in step.blocks}
    assert made.kept.keys() == live.keys()
    for name, block in live.items():
        kept = made.kept[name]
        assert list(kept) == sorted(set(kept))
        assert set(kept) <= set(range(block.units))
        if block.capacity:
            assert {block.groups[unit] for unit in kept} in (set(block.groups), set())
        elif block.kind == "ffn":
            assert len(kept) % STEP == 0 or len(kept) == block.units
        else:
            groups = kept_groups(block, kept)
            assert sorted(set(groups)) == list(range(len(set(groups))))
            together = {(block.groups[a], new) for a, new in zip(kept, groups, strict=True)}
            assert len(together) == len(set(groups)), "a group was split or two were merged"


@laws
@given(questions)
def test_the_same_question_gets_the_same_plan(ask):
    ratio = ask.ratio()
    again = plan_layout(
        ask.layout,
        dict(sorted(ask.scores.items(), reverse=True)),
        present=ask.present[::-1],
        budget=Budget(ratio=ratio),
        scorer="law",
    )
    assert again == ask.plan(ratio=ratio)


@laws
@given(questions)
def test_scores_of_one_kind_may_have_any_scale(ask):
    ratio = ask.ratio()
    factor = {"heads": 2.0**20, "ffn": 2.0**-20}  # powers of two: exact in floating point
    scaled = {
        name: values.astype(np.float64) * factor[ask.layout.blocks[name].kind]
        for name, values in ask.scores.items()
    }
    again = plan_layout(ask.layout, scaled, present=ask.present, budget=Budget(ratio=ratio), scorer="law")
    assert again.kept == ask.plan(ratio=ratio).kept


@laws
@given(questions)
def test_a_plan_survives_json(ask):
    made = ask.plan(ratio=ask.ratio(), macs=10**12)
    again = Plan.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert again.plan_id == made.plan_id


@laws
@given(questions)
def test_what_a_plan_saves_is_the_sum_over_its_blocks(ask):
    made = ask.plan(ratio=ask.ratio())
    macs = params = 0
    for step in ask.layout.route(ask.present):
        span = ask.layout.spans(ask.present)[step.name]
        for block in step.blocks:
            for units, sign in ((None, 1), (made.kept[block.name], -1)):
                macs += sign * block.macs(ask.layout.d_model, ask.layout.attention, span, units)
                params += sign * block.params(ask.layout.d_model, units)
            if not made.kept[block.name]:
                macs += block.shell_macs * span.leaving
                params += block.shell_params
    assert made.dense.macs - made.cost.macs == macs
    assert made.dense.params - made.cost.params == params
    assert math.isclose(made.cost.weights_mb, made.cost.params * 4e-6)
