"""Who ranks the units: one interface, and our own answer to it, the gate; needs torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sentryfuse.gate.predict import levelled
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.plan import plan_layout
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.types import Budget, Plan, check_present

Scores = Mapping[str, NDArray[np.float32]]


class Scorer(Protocol):
    """Importance of every unit, for the sensors that are present."""

    name: str

    def scores(self, present: tuple[str, ...]) -> Scores:
        """Block name -> `(units,)`, positive, higher stays longer."""

    def refine(self, plan: Plan) -> Plan:
        """A plan made from these scores, improved at no more cost; by default as it is."""
        return plan


class GateScorer(Scorer):
    """The learned gate: the only one here that knows which sensors are present."""

    name = "gate"

    def __init__(self, model: SentryModel) -> None:
        self.model = model

    def scores(self, present: tuple[str, ...]) -> Scores:
        """Ask the gate, and level what it says between the blocks."""
        return levelled({n: t.numpy() for n, t in self.model.gate.importance(present).items()})


def make_plan(
    model: SentryModel,
    present: Iterable[str] | None = None,
    budget: Budget | None = None,
    *,
    scorer: Scorer | None = None,
    profile: DeviceProfile | None = None,
) -> Plan:
    """Decide which units of a model stay; a dry run that changes nothing.

    Args:
        model: trained or pruned.
        present: names of the sensors that are on; `None` means all.
        budget: what one window may cost; `None` means everything.
        scorer: who ranks the units; `None` means the model's gate.
        profile: times measured on the device; needed for a budget in milliseconds.

    Returns:
        The plan; `prune` executes it.

    Raises:
        BudgetError: no sub-network fits; the message names the nearest budget that does.
        ConfigError: unknown sensor names.
    """
    scorer = scorer or GateScorer(model)
    names = check_present(present, model.names)
    plan = plan_layout(
        model.layout,
        scorer.scores(names),
        present=names,
        budget=budget or Budget(ratio=0.0),
        scorer=scorer.name,
        profile=profile,
    )
    return scorer.refine(plan)
