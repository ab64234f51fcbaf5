"""The sub-networks that elastic steps train: a rule ranks the units, the planner cuts at a drawn ratio.

The competitors to measure against are here as well: the same steps and the same draw, ranked by magnitude or
by static Taylor, whatever is present.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from sentryfuse.data import Windows
from sentryfuse.errors import ConfigError
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.importance import Importance
from sentryfuse.planning.layout import Layout
from sentryfuse.planning.plan import plan_layout
from sentryfuse.pruning.calibration import Calibration
from sentryfuse.pruning.gradients import taylor_importance
from sentryfuse.pruning.scorers import GateScorer, Scorer
from sentryfuse.pruning.weights import magnitude_importance
from sentryfuse.types import Budget

STATIC = {"static": "magnitude", "taylor": "taylor"}  # rules of one order for all sensors -> their scorer
RULES = ("gate", *STATIC, "none")
TAYLOR_WINDOWS = 512  # seen by the rule "taylor" before every epoch
Kept = dict[str, tuple[int, ...]]


class ElasticRule(Scorer, Protocol):
    """Ranks the units for elastic steps, while the model that it ranks changes."""

    def new_epoch(self, *, frozen: bool) -> None:
        """Called before every epoch; `frozen` says whether the gate has stopped moving before it."""

    def freeze(self) -> None:
        """Called once, when the gate has learned and stops moving."""


class GateRule(GateScorer, ElasticRule):
    """The gate's importance times the size of the weights, levelled and planned as for deployment.

    While the gate learns, sizes are those at the start of the epoch. When it stops, those of that moment
    become part of it: from then on the sub-networks trained for some sensors are those of one order.
    """

    def new_epoch(self, *, frozen: bool) -> None:
        """Measure the weights again."""
        self.sizes = {} if frozen else magnitude_importance(self.model)

    def freeze(self) -> None:
        """Make the sizes a part of the gate."""
        self.model.gate.weigh(magnitude_importance(self.model))
        self.sizes = {}


class StaticRule(ElasticRule):
    """One order for all sensor sets, measured before every epoch.

    Args:
        name: of the rule.
        measure: importance of the units of the model as it is now.
    """

    def __init__(self, name: str, measure: Callable[[], Importance]) -> None:
        self.name = name
        self._measure = measure
        self._importance: Importance = {}

    def importance(self, present: tuple[str, ...]) -> Importance:
        """The same for every set of sensors."""
        if not self._importance:
            self._importance = self._measure()
        return self._importance

    def new_epoch(self, *, frozen: bool) -> None:
        """Measure the model again."""
        self._importance = self._measure()

    def freeze(self) -> None:
        """Nothing to do: the order does not come from the gate."""


def make_rule(name: str, model: SentryModel, windows: Windows, *, seed: int = 0) -> ElasticRule | None:
    """The rule behind `--elastic`; `None` for "none".

    Args:
        name: "gate"; "static": by weight magnitude; "taylor": by first-order saliency on training windows
            with all sensors; "none".
        model: whose units are ranked.
        windows: prepared for the model; seen by "taylor" alone.
        seed: of the draw of those windows.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in RULES:
        raise ConfigError(f"elastic {name!r} is unknown; choose one of {', '.join(RULES)}")
    if name == "none":
        return None
    if name == "gate":
        return GateRule(model)
    if name == "static":
        return StaticRule(name, partial(magnitude_importance, model))

    def taylor() -> Importance:  # afresh: a calibration keeps what it has measured
        return taylor_importance(Calibration(model, windows, n_windows=TAYLOR_WINDOWS, seed=seed))

    return StaticRule(name, taylor)


def draw_subnetwork(
    layout: Layout,
    importance: Importance,
    *,
    present: Sequence[str],
    ratio: float,
) -> Kept:
    """A sub-network to train, planned as for deployment.

    Args:
        layout: of the model.
        importance: of every unit, block name -> `(units,)`.
        present: names of the sensors that are on.
        ratio: share of the prunable MACs to remove.

    Returns:
        Block name -> kept units of the blocks that run, none where a block is gone.
    """
    return dict(
        plan_layout(layout, importance, present=present, budget=Budget(ratio=ratio), scorer="elastic").kept
    )
