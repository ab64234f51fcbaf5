"""Ranking the units (`scorers`, open to new ones by `register_scorer`), and cutting to a plan (`cut`).

`published` registers the rankings of others; their formulas are in files by what they look at (`weights`,
`gradients`, `activations`); `calibration` and `columns` collect it, `rearrangement` improves a finished
plan, `planner` makes plans as methods are compared, `evaluation` scores the models they leave. Needs torch.
"""

from sentryfuse.pruning import published as published  # registers the scorers
from sentryfuse.pruning.cut import prune
from sentryfuse.pruning.scorers import Scorer, list_scorers, make_plan, register_scorer

__all__ = ["Scorer", "list_scorers", "make_plan", "prune", "register_scorer"]
