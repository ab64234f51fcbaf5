"""Plans made by hand for tiny models: any units of any block, whatever a planner would choose."""

from __future__ import annotations

import numpy as np

from sentryfuse.planning.cost import count
from sentryfuse.planning.layout import Layout
from sentryfuse.types import Budget, Plan


def any_plan(layout: Layout, present: tuple[str, ...], *, seed: int, vanish: bool = False) -> Plan:
    """Random units in every live block, from a single one to all; with `vanish` also none in some blocks."""
    rng = np.random.default_rng(seed)
    kept = {}
    for step in layout.route(present):
        for block in step.blocks:
            n = int(rng.choice([*([0] * vanish), 1, int(rng.integers(1, block.units + 1)), block.units]))
            kept[block.name] = tuple(sorted(rng.permutation(block.units)[:n].tolist()))
    if not any(kept.values()):
        kept[next(iter(kept))] = (0,)
    return hand_plan(layout, present, kept)


def full_plan(layout: Layout, present: tuple[str, ...]) -> Plan:
    """Every unit of what runs."""
    live = [b for step in layout.route(present) for b in step.blocks]
    return hand_plan(layout, present, {b.name: tuple(range(b.units)) for b in live})


def hand_plan(layout: Layout, present: tuple[str, ...], kept: dict[str, tuple[int, ...]]) -> Plan:
    """A plan that keeps these units, with its true cost."""
    return Plan(
        present=present,
        kept=kept,
        budget=Budget(),
        scorer="hand",
        cost=count(layout, present, kept=kept),
        dense=count(layout, present),
    )
