"""Which sub-network an elastic step trains: a rule ranks the units, one draw cuts them.

The competitors to measure against are here as well: the same steps and the same draw, ranked by magnitude or
by static Taylor, whatever is present.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data import Windows
from sentryfuse.errors import ConfigError
from sentryfuse.gate.predict import levelled
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.layout import Layout
from sentryfuse.planning.plan import largest_ratio, plan_layout
from sentryfuse.pruning.calibration import Calibration
from sentryfuse.pruning.gradients import taylor_scores
from sentryfuse.pruning.weights import magnitude_scores
from sentryfuse.types import Budget

RULES = ("gate", "static", "taylor", "none")
TAYLOR_WINDOWS = 512  # seen by the rule "taylor" before every epoch
Scores = Mapping[str, NDArray[np.float32]]
Kept = dict[str, tuple[int, ...]]


class ElasticRule(Protocol):
    """Ranks the units for one elastic step."""

    def scores(self, present: tuple[str, ...]) -> Scores:
        """Importance of every unit for these sensors."""

    def new_epoch(self, *, frozen: bool) -> None:
        """Called before every epoch; `frozen` says whether the gate has stopped moving before it."""

    def freeze(self) -> None:
        """Called once, when the gate has learned and stops moving."""


class GateRule:
    """What the gate says times the size of the weights, levelled and planned as for deployment.

    While the gate learns, sizes are those at the start of the epoch. When it stops, those of that moment
    become part of it: from then on the sub-networks trained for some sensors are those of one order.
    """

    def __init__(self, model: SentryModel) -> None:
        self.model = model
        self._sizes: Scores = {}

    def scores(self, present: tuple[str, ...]) -> Scores:
        """Ask the gate."""
        found = {name: t.cpu().numpy() for name, t in self.model.gate.importance(present).items()}
        return levelled({name: s * self._sizes[name] for name, s in found.items()} if self._sizes else found)

    def new_epoch(self, *, frozen: bool) -> None:
        """Measure the weights again."""
        self._sizes = {} if frozen else magnitude_scores(self.model)

    def freeze(self) -> None:
        """Make the sizes a part of the gate."""
        self.model.gate.weigh(magnitude_scores(self.model))
        self._sizes = {}


class StaticRule:
    """One order for all sensor sets, measured before every epoch.

    Args:
        measure: scores of the model as it is now.
    """

    def __init__(self, measure: Callable[[], Scores]) -> None:
        self.measure = measure
        self._scores: Scores = {}

    def scores(self, present: tuple[str, ...]) -> Scores:
        """The same for every set of sensors."""
        if not self._scores:
            self._scores = self.measure()
        return self._scores

    def new_epoch(self, *, frozen: bool) -> None:
        """Measure the model again."""
        self._scores = self.measure()

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
        return StaticRule(partial(magnitude_scores, model))

    def taylor() -> Scores:  # afresh: a calibration keeps what it has measured
        return taylor_scores(Calibration(model, windows, n_windows=TAYLOR_WINDOWS, seed=seed))

    return StaticRule(taylor)


def draw_subnetwork(
    layout: Layout,
    scores: Scores,
    *,
    present: Sequence[str],
    ratio: float,
) -> Kept:
    """A sub-network to train, planned as for deployment.

    Args:
        layout: of the model.
        scores: who ranks the units, block name -> `(units,)`.
        present: names of the sensors that are on.
        ratio: share of the prunable MACs to remove; lowered to what the smallest sub-network allows.

    Returns:
        Block name -> kept units of the blocks that run.
    """
    ratio = min(ratio, largest_ratio(layout, present))
    return dict(
        plan_layout(layout, scores, present=present, budget=Budget(ratio=ratio), scorer="elastic").kept
    )
