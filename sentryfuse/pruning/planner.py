"""A scorer and a budget -> a plan for any set of sensors: how methods are compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from sentryfuse.errors import ConfigError
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.cost import count
from sentryfuse.planning.layout import Layout
from sentryfuse.planning.plan import plan_layout
from sentryfuse.planning.uniform import plan_uniform
from sentryfuse.pruning.scorers import Scorer
from sentryfuse.types import Budget, Plan, check_present

SENSORS = ("aware", "blind")
ALLOCATIONS = {"global": plan_layout, "uniform": plan_uniform}


def make_planner(
    model: SentryModel,
    scorer: Scorer,
    budget: Budget,
    *,
    sensors: str = "aware",
    allocation: str = "global",
) -> Callable[[tuple[str, ...]], Plan]:
    """How a method decides for each set of sensors what stays.

    Args:
        model: whose units are planned.
        scorer: ranks them.
        budget: what one window may cost.
        sensors: "aware" drops the branches of absent sensors first and plans what is left for the budget;
            "blind" makes one plan with all sensors on, and runs whatever of it the sensors present reach.
            A blind plan holds the budget with all sensors; with fewer its cost is counted, not planned, and
            both protocols of a ratio are the same to it.
        allocation: "global" ranks all blocks together by importance per MAC; "uniform" keeps the same share
            of units in every block.

    Returns:
        Present names -> plan. Plans are made when first asked for and kept.

    Raises:
        ConfigError: unknown words; the planner raises `BudgetError` where no sub-network fits.
    """
    if sensors not in SENSORS:
        raise ConfigError(f"sensors {sensors!r} is unknown; choose one of {', '.join(SENSORS)}")
    if allocation not in ALLOCATIONS:
        raise ConfigError(f"allocation {allocation!r} is unknown; choose one of {', '.join(ALLOCATIONS)}")
    layout, allocate = model.layout, ALLOCATIONS[allocation]

    @cache
    def aware(present: tuple[str, ...]) -> Plan:
        names = check_present(present, layout.names)
        made = allocate(layout, scorer.importance(names), present=names, budget=budget, scorer=scorer.name)
        return scorer.refine(made)

    @cache
    def blind(present: tuple[str, ...]) -> Plan:
        return part_of(layout, aware(layout.names), present)

    return aware if sensors == "aware" else blind


def part_of(layout: Layout, plan: Plan, present: tuple[str, ...]) -> Plan:
    """What of a plan made for all sensors runs with some of them.

    Args:
        layout: of the model.
        plan: made for all sensors.
        present: names of the sensors that are on.

    Returns:
        The same units of the blocks that run, with their own cost.
    """
    names = check_present(present, layout.names)
    live = [block.name for step in layout.route(names) for block in step.blocks]
    kept = {name: plan.kept[name] for name in live}
    return Plan(
        present=names,
        kept=kept,
        budget=plan.budget,
        scorer=plan.scorer,
        cost=count(layout, names, kept=kept),
        dense=count(layout, names),
        binding=plan.binding,
    )
