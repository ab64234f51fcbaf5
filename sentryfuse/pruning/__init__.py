"""Who ranks the units (`scorers` and what they look at), and the smaller model a plan yields (`cut`).

Formulas of published rankings are in files by what they look at (`weights`, `gradients`, `activations`);
`calibration` and `columns` collect it, `rearrangement` improves a finished plan, `planner` makes plans as
methods are compared, `evaluation` scores the models they leave. Needs torch.
"""

from sentryfuse.pruning.cut import prune
from sentryfuse.pruning.scorers import make_plan

__all__ = ["make_plan", "prune"]
