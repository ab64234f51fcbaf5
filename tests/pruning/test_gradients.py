from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.pruning.calibration import Calibration
from sentryfuse.pruning.gradients import (
    fisher_importance,
    group_taylor_importance,
    llm_pruner_importance,
    taylor_importance,
)
from tests.pruning.by_hand import unit_gradients, weight_gradients
from tests.tiny import NAMES, tiny_model, tiny_windows, uneven_widths

WINDOWS = tiny_windows(24)
SOME = ["experts", "flexmoe", "taken", "mult"]


@pytest.mark.parametrize("case", SOME)
@pytest.mark.parametrize("present", [None, ("temp", "age")])
def test_taylor_and_fisher_are_means_over_single_windows(case, present):
    model = tiny_model(case, widths=uneven_widths(case))
    calibration = Calibration(model, WINDOWS, present=present)
    taylor, fisher = taylor_importance(calibration), fisher_importance(calibration)
    for name, gradients in unit_gradients(model, WINDOWS, present or NAMES).items():
        if not gradients:
            assert not taylor[name].any()
            assert not fisher[name].any()
            continue
        first = np.mean([abs(g) for g in gradients], axis=0)
        second = np.mean([g * g for g in gradients], axis=0)
        np.testing.assert_allclose(taylor[name], first / np.sqrt((first**2).sum()), rtol=2e-3, atol=1e-5)
        np.testing.assert_allclose(fisher[name], second, rtol=2e-3, atol=1e-5 * second.max())


@pytest.mark.parametrize("case", SOME)
def test_llm_pruner_and_group_taylor_sum_over_the_weights_of_a_unit(case):
    model = tiny_model(case, widths=uneven_widths(case))
    calibration = Calibration(model, WINDOWS)
    sums, levelled = llm_pruner_importance(calibration), group_taylor_importance(calibration)
    gradients = weight_gradients(model, WINDOWS)
    tensors = {name: t.double().numpy() for name, t in model.tensors().items()}
    for name, block in model.layout.blocks.items():
        k = block.head_dim
        effect = {
            leaf: abs(tensors[f"{name}.{leaf}.weight"] * gradients[f"{name}.{leaf}.weight"])
            for leaf in (("q", "k", "v", "o") if k else ("up", "down"))
        }
        want = []
        for unit in range(block.units):
            if k:
                group = block.groups[unit]
                own, shared = slice(unit * k, unit * k + k), slice(group * k, group * k + k)
                both = effect["k"][shared].sum() + effect["v"][shared].sum()
                one = effect["q"][own].sum() + effect["o"][:, own].sum()
                want.append(one + both / block.groups.count(group))
            else:
                want.append(effect["up"][unit].sum() + effect["down"][:, unit].sum())
        np.testing.assert_allclose(sums[name], want, rtol=2e-3, atol=1e-5 * max(want))
        np.testing.assert_allclose(levelled[name], np.array(want) / np.mean(want), rtol=2e-3, atol=1e-4)


def test_calibrating_leaves_no_gradient_behind():
    model = tiny_model()
    assert Calibration(model, WINDOWS).gradients.weights
    assert all(p.grad is None for p in model.parameters())
