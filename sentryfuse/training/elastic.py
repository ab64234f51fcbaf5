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

from sentryfuse.baselines.calibration import Calibration
from sentryfuse.baselines.gradients import taylor_scores
from sentryfuse.baselines.weights import magnitude_scores
from sentryfuse.checkpoint import SentryModel
from sentryfuse.data import Windows
from sentryfuse.errors import ConfigError
from sentryfuse.layout import Layout
from sentryfuse.pruning.plan import STEP, largest_ratio, plan_layout
from sentryfuse.types import Budget

RULES = ("gate", "static", "taylor", "none")
TAYLOR_WINDOWS = 512  # seen by the rule "taylor" before every epoch
Scores = Mapping[str, NDArray[np.float32]]
Kept = dict[str, tuple[int, ...]]


class ElasticRule(Protocol):
    """Ranks the units for one elastic step."""

    def scores(self, present: tuple[str, ...]) -> Scores:
        """Importance of every unit for these sensors."""

    def new_epoch(self) -> None:
        """Called before every epoch."""


class GateRule:
    """The gate as it is now; it stops moving when its own training stops."""

    def __init__(self, model: SentryModel) -> None:
        self.model = model

    def scores(self, present: tuple[str, ...]) -> Scores:
        """Ask the gate."""
        return {name: t.cpu().numpy() for name, t in self.model.gate.importance(present).items()}

    def new_epoch(self) -> None:
        """Nothing to do."""


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
            self.new_epoch()
        return self._scores

    def new_epoch(self) -> None:
        """Measure the model again."""
        self._scores = self.measure()


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
    equal_widths: float = 0.5,
    rng: np.random.Generator,
) -> Kept:
    """A sub-network to train: planned by these scores, or with equal widths in all blocks.

    Args:
        layout: of the model.
        scores: who ranks the units, block name -> `(units,)`.
        present: names of the sensors that are on.
        ratio: share of the prunable MACs to remove; lowered to what the smallest sub-network allows.
        equal_widths: how often it is the second.
        rng: decides between the two.

    Returns:
        Block name -> kept units of the blocks that run.
    """
    if rng.random() >= equal_widths:
        ratio = min(ratio, largest_ratio(layout, present))
        return dict(
            plan_layout(layout, scores, present=present, budget=Budget(ratio=ratio), scorer="elastic").kept
        )
    kept: Kept = {}
    for step in layout.route(present):
        for block in step.blocks:
            n = block.units * (1 - ratio)
            n = max(STEP, round(n / STEP) * STEP) if block.kind == "ffn" else max(1, round(n))
            best = np.argsort(-scores[block.name], kind="stable")[: min(n, block.units)]
            kept[block.name] = tuple(np.sort(best).tolist())
    return kept
