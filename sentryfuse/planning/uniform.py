"""The same share of units in every block: how most published pruning spends its budget. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from sentryfuse.planning.importance import Importance
from sentryfuse.planning.layout import Layout
from sentryfuse.planning.plan import follow
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.planning.removals import removals_of
from sentryfuse.types import Budget, Plan, check_present


def plan_uniform(
    layout: Layout,
    importance: Importance,
    *,
    present: Iterable[str] | None = None,
    budget: Budget,
    scorer: str,
    profile: DeviceProfile | None = None,
) -> Plan:
    """Keep the largest common share of units per block that fits.

    Every block rounds the share up to what it can have: whole heads, FFN widths that are multiples of 8;
    experts with a capacity stay equally wide. Steps are coarse, so blocks go down one by one, the least
    important per MAC first; otherwise much of a small budget would stay unused, since all blocks lose a head
    at once.

    Args:
        layout: of the model.
        importance: of every unit, block name -> `(units,)`, higher stays longer; of any scale.
        present: names of the sensors that are on; `None` means all.
        budget: any limits; several at once all hold.
        scorer: name of who ranked the units; written into the plan.
        profile: times measured on the device; needed for a budget in milliseconds or millijoules.

    Returns:
        The plan; its cost never exceeds the budget, and the next larger share for all blocks would.

    Raises:
        BudgetError: no sub-network fits; the message names the nearest budget that does.
        ConfigError: importance with missing blocks, wrong lengths or values that are not finite.
    """
    names = check_present(present, layout.names)
    removals = removals_of(layout, names, importance, profile)
    if removals:
        gone = np.concatenate([removal.taken / removal.block.units for removal in removals])
        worth = np.concatenate([removal.price for removal in removals])
        place = np.empty(len(gone))  # the share that is gone decides; what it was worth, only between equals
        place[np.lexsort((worth, gone))] = np.arange(len(gone))
        ends = np.cumsum([len(removal.price) for removal in removals])
        removals = [
            replace(removal, price=price)
            for removal, price in zip(removals, np.split(place, ends[:-1]), strict=True)
        ]
    return follow(layout, names, removals, budget=budget, scorer=scorer, profile=profile)
