"""Every way of ranking units, by name."""

from __future__ import annotations

from collections.abc import Callable

from sentryfuse.baselines.gradients import taylor_scores
from sentryfuse.baselines.weights import magnitude_scores, random_scores
from sentryfuse.checkpoint import SentryModel
from sentryfuse.data import Windows
from sentryfuse.errors import ConfigError
from sentryfuse.pruning.scorers import GateScorer, Scorer, Scores


class StaticScorer:
    """One fixed ranking, whatever is present."""

    def __init__(self, name: str, scores: Scores) -> None:
        self.name = name
        self._scores = scores

    def scores(self, present: tuple[str, ...]) -> Scores:
        """The same for every set of sensors."""
        return self._scores


SCORERS: dict[str, Callable[[SentryModel, Windows], Scorer]] = {
    "gate": lambda model, _: GateScorer(model),
    "magnitude": lambda model, _: StaticScorer("magnitude", magnitude_scores(model)),
    "taylor": lambda model, windows: StaticScorer("taylor", taylor_scores(model, windows)),
    "random": lambda model, _: StaticScorer("random", random_scores(model)),
}


def make_scorer(name: str, model: SentryModel, windows: Windows) -> Scorer:
    """A scorer by name.

    Raises:
        ConfigError: no such scorer; the message lists those there are.
    """
    if name not in SCORERS:
        raise ConfigError(f"scorer {name!r} is unknown; there is {', '.join(SCORERS)}")
    return SCORERS[name](model, windows)
