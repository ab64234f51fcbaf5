"""Counts are true: what the counter says is what torch multiplies, one by one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from sentryfuse.model.pretrained import SentryModel
from sentryfuse.model.tokens import PatchTokens
from sentryfuse.planning.cost import count
from sentryfuse.planning.layout import AttentionRule
from sentryfuse.pruning.cut import prune, selection
from tests.laws.hand_plans import any_plan, full_plan
from tests.tiny import CASES, FEW_SETS, SENSOR_SETS, tiny_batch, tiny_model, uneven_widths

aten = torch.ops.aten


class Multiplications(TorchDispatchMode):
    """Counts multiply-accumulates of every matrix product and convolution that is executed."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket
        if name in (aten.mm, aten.bmm):
            self.macs += math.prod(result.shape) * args[0].shape[-1]
        elif name in (aten.addmm, aten.baddbmm):
            self.macs += math.prod(result.shape) * args[1].shape[-1]
        elif name is aten.convolution:
            self.macs += math.prod(result.shape) * math.prod(args[1].shape[1:])
        else:
            hiding = ("mm", "matmul", "linear", "conv", "attention", "dot", "einsum")
            assert not any(part in str(name) for part in hiding), name
        return result


def multiplied(model: SentryModel, present: tuple[str, ...], select: Any = None) -> int:
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch(1).items()}
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), Multiplications() as counter:
        model(batch, present, select=select)
    return counter.macs - once_per_sensor_set(model, present) + sums_as_products(model, present)


def sums_as_products(model: SentryModel, present: tuple[str, ...]) -> int:
    """What a device multiplies by zeros and ones, and torch adds up or leaves out."""
    embeds = [model.backbone.get_submodule(s.name) for s in model.layout.route(present) if s.window]
    return sum(m.sizes.padding_macs for m in embeds if isinstance(m, PatchTokens))


def once_per_sensor_set(model: SentryModel, present: tuple[str, ...]) -> int:
    """What torch multiplies for constants of the sensors present, which a device has ready."""
    live = model.layout.route(present)
    banks = sum(len(step.parts) * model.layout.d_model for step in live if step.op == "bank")
    return banks + sum(2 * len(step.parts) ** 2 for step in live if step.op == "codes")


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
@pytest.mark.parametrize("case", CASES)
def test_the_counter_says_what_torch_multiplies(case, uneven):
    model = tiny_model(case, widths=uneven_widths(case) if uneven else None)
    for present in FEW_SETS if uneven else SENSOR_SETS:
        assert count(model.layout, present).macs == multiplied(model, present), present


@pytest.mark.parametrize("case", CASES)
def test_a_pruned_model_multiplies_what_its_plan_promised(case):
    model = tiny_model(case)
    for seed, present in enumerate(FEW_SETS):
        plan = any_plan(model.layout, present, seed=seed, vanish=True)
        small = prune(model, plan)
        assert multiplied(small, present) == plan.cost.macs == count(small.layout).macs
        assert multiplied(model, present, selection(plan)) == plan.cost.macs


@pytest.mark.parametrize("case", CASES)
def test_dense_and_prunable_parts_add_up(case):
    layout = tiny_model(case).layout
    full = full_plan(layout, SENSOR_SETS[0])
    assert full.cost == full.dense == count(layout)
    nothing, spans = count(layout, kept=dict.fromkeys(layout.blocks, ())), layout.spans(None)
    assert nothing.prunable_macs == 0
    shells = [(b.shell_macs * spans[s.name].leaving, b.shell_params) for s in layout.steps for b in s.blocks]
    macs, params = map(sum, zip(*shells, strict=True))
    assert full.cost.macs - full.cost.prunable_macs == nothing.macs + macs
    owned = sum(block.params(layout.d_model) for block in layout.blocks.values())
    assert full.cost.params - owned == nothing.params + params


@pytest.mark.parametrize("case", CASES)
def test_parameters_and_megabytes_are_those_of_the_pruned_model(case):
    model = tiny_model(case, widths=uneven_widths(case))
    for seed, present in enumerate(SENSOR_SETS):
        plan = any_plan(model.layout, present, seed=seed, vanish=True)
        small = prune(model, plan)
        runs = tuple(f"{step.name}." for step in small.layout.route(present))
        held = sum(p.numel() for n, p in small.backbone.named_parameters() if n.startswith(runs))
        assert plan.cost.params == held
        assert plan.cost.weights_mb == pytest.approx(held * 4 / 1e6)


def test_the_sparse_core_multiplies_less_than_the_dense_one():
    sparse = tiny_model("long")
    dense = count(sparse.layout).macs
    spans = sparse.layout.spans(None).values()
    assert any(sparse.layout.attention.picks(span.entering, span.source) for span in spans)
    other = SentryModel(replace(sparse.config, attention=AttentionRule("dense")))
    assert multiplied(other, SENSOR_SETS[0]) == count(other.layout).macs > dense
