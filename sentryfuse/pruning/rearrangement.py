"""Exchange units within a block so that those that go disturb the loss least together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from sentryfuse.planning.cost import count
from sentryfuse.planning.layout import Block, Layout
from sentryfuse.types import Plan


def rearrange(layout: Layout, plan: Plan, gradients: Mapping[str, NDArray[np.float32]]) -> Plan:
    """Rearrange every block of a plan; what it costs does not rise.

    Args:
        layout: of the model.
        plan: any plan for it.
        gradients: block name -> gradient of each window's loss by each unit's factor, `(windows, units)`.

    Returns:
        A plan with as many units in every block.
    """
    if plan.readout_alone:
        return plan
    kept = {
        name: rearranged(layout.blocks[name], units, gradients[name]) for name, units in plan.kept.items()
    }
    before, after = (count(layout, plan.present, kept=k) for k in (plan.kept, kept))
    spared = {f.name: getattr(after, f.name) - getattr(before, f.name) for f in fields(before)}
    cost = replace(plan.cost, **{name: getattr(plan.cost, name) + d for name, d in spared.items()})
    return replace(plan, kept=kept, cost=cost)


def rearranged(block: Block, kept: tuple[int, ...], gradient: NDArray[np.float32]) -> tuple[int, ...]:
    """Exchange kept and pruned units so that the sum of the pruned units' gradients gets shorter.

    Groups that are gone stay gone, and experts with a capacity keep their widths, so nothing gets dearer.

    Args:
        block: whose units.
        kept: units that stay, ascending.
        gradient: of each window's loss by each unit's factor, `(windows, units)`.

    Returns:
        As many units, ascending.

    Source:
        Kwon et al., "A Fast Post-Training Pruning Framework for Transformers", NeurIPS 2022, mask
        rearrangement: greedy, over the off-diagonal of the Fisher matrix. Ours starts from the plan's units
        and looks at single windows, not at batches.
    """
    gone = set(range(block.units)) - set(kept)
    if not gone:
        return kept
    products = gradient.astype(np.float64).T @ gradient  # (units, units)
    own = products.diagonal()
    live = set(block.groups_of(kept))
    total = products[:, sorted(gone)].sum(1)  # of each unit's gradient with the sum of those that go
    for unit in sorted(kept, key=lambda u: (own[u], u)):
        candidates = [unit, *(u for u in sorted(gone) if _may_return(block, u, unit, live))]
        total = total + products[:, unit]
        # without u the sum is shorter by 2 <u, sum> - <u, u>, squared
        stays = candidates[int(np.argmax(2 * total[candidates] - own[candidates]))]
        gone = (gone | {unit}) - {stays}
        total = total - products[:, stays]
    return tuple(sorted(set(range(block.units)) - gone))


def _may_return(block: Block, unit: int, instead: int, live: set[int]) -> bool:
    if block.capacity:
        return block.groups[unit] == block.groups[instead]
    return not block.groups or block.groups[unit] in live
