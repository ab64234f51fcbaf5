from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.planning.layout import Block
from sentryfuse.planning.plan import check_plan, plan_layout
from sentryfuse.planning.uniform import plan_uniform
from sentryfuse.pruning.calibration import Calibrator
from sentryfuse.pruning.rearrangement import rearrange, rearranged
from sentryfuse.pruning.scorers import make_scorer
from sentryfuse.types import Budget, Cost
from tests.tiny import CASES, FEW_SETS, tiny_model, tiny_windows, uneven_widths

WINDOWS = tiny_windows(24)


def length(gradient, kept):
    """Squared length of the summed gradients of the units that go."""
    gone = [unit for unit in range(gradient.shape[1]) if unit not in kept]
    return float((gradient[:, gone].sum(1) ** 2).sum())


def as_published(gradient, n_pruned):
    """The greedy search written with vectors, from the least Fisher information on."""
    order = sorted(range(gradient.shape[1]), key=lambda u: float((gradient[:, u] ** 2).sum()))
    gone = order[:n_pruned]
    for unit in order[n_pruned:]:
        gone.append(unit)
        without = [(gradient[:, [u for u in gone if u != one]].sum(1) ** 2).sum() for one in gone]
        gone.pop(int(np.argmin(without)))
    return tuple(sorted(set(range(gradient.shape[1])) - set(gone)))


def test_units_that_cancel_out_go_together():
    gradient = np.array([[1.1, -1.1, 1.0, 1.0]], np.float32)
    kept = rearranged(Block("b", "ffn", 4), (0, 1), gradient)
    assert len(kept) == 2
    assert length(gradient, kept) < 0.02 < 3.9 < length(gradient, (0, 1))


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_published_search(seed):
    rng = np.random.default_rng(seed)
    gradient = rng.normal(0, rng.random(16) + 0.5, (20, 16)).astype(np.float32)
    fisher = (gradient**2).sum(0)
    for n_kept in (1, 5, 15):
        kept = tuple(sorted(np.argsort(-fisher, kind="stable")[:n_kept].tolist()))
        found = rearranged(Block("b", "ffn", 16), kept, gradient)
        assert found == as_published(gradient.astype(np.float64), 16 - n_kept)
        assert length(gradient, found) <= length(gradient, kept)


@pytest.mark.usefixtures("units_go_one_by_one")
@pytest.mark.parametrize("allocate", [plan_layout, plan_uniform])
@pytest.mark.parametrize("case", CASES)
def test_a_plan_gets_no_dearer_and_groups_that_are_gone_stay_gone(case, allocate):
    model = tiny_model(case, widths=uneven_widths(case))
    layout, rng = model.layout, np.random.default_rng(0)
    gradients = {n: rng.normal(size=(9, b.units)).astype(np.float32) for n, b in layout.blocks.items()}
    scores = {n: (g**2).mean(0) for n, g in gradients.items()}
    changed = 0
    for present in FEW_SETS:
        for ratio in (0.0, 0.2, 0.4):
            plan = allocate(layout, scores, present=present, budget=Budget(ratio=ratio), scorer="x")
            found = rearrange(layout, plan, gradients)
            check_plan(layout, found)
            assert found.cost.macs <= plan.cost.macs
            assert found.cost.params <= plan.cost.params
            assert ratio or found == plan
            for name, kept in plan.kept.items():
                block = layout.blocks[name]
                assert len(found.kept[name]) == len(kept)
                assert set(block.groups_of(found.kept[name])) <= set(block.groups_of(kept))
                assert length(gradients[name], found.kept[name]) <= length(gradients[name], kept) + 1e-3
                if block.capacity:
                    widths = [[block.groups[u] for u in units] for units in (found.kept[name], kept)]
                    assert sorted(widths[0]) == sorted(widths[1]), "experts stay equally wide"
            changed += found.kept != plan.kept
    assert changed


@pytest.mark.usefixtures("units_go_one_by_one")
def test_only_kwon_refines_a_plan():
    model = tiny_model("sparse")
    calibrator = Calibrator(model, WINDOWS)
    changed = {}
    for name in ("fisher", "kwon", "kwon-mix", "kwon-oracle", "gate"):
        scorer = make_scorer(name, calibrator)
        plan = plan_layout(
            model.layout, scorer.importance(("acc", "age")), present=("acc", "age"),
            budget=Budget(ratio=0.4), scorer=name,
        )  # fmt: skip
        changed[name] = scorer.refine(plan) != plan
    assert changed == {"fisher": False, "kwon": True, "kwon-mix": True, "kwon-oracle": True, "gate": False}


def test_where_no_layer_runs_nothing_is_rearranged():
    model = tiny_model()
    beside = Cost(macs=5, prunable_macs=0, params=7, weights_mb=28e-6)
    importance = {n: np.ones(b.units, np.float32) for n, b in model.layout.blocks.items()}
    gradients = {name: np.ones((3, block.units), np.float32) for name, block in model.layout.blocks.items()}
    for ratio in (0.5, 1.0):
        plan = plan_layout(model.layout, importance, budget=Budget(ratio=ratio), scorer="x", beside=beside)
        assert rearrange(model.layout, plan, gradients).cost.macs == plan.cost.macs
