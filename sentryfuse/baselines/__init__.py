"""What the gate is compared with: published ways of ranking units, behind the same interface; needs torch.

Formulas are in files by what they look at (`weights`, `gradients`, `activations`); `calibration` and
`columns` collect it, `rearrangement` improves a finished plan, `planner` makes plans as methods are compared.
"""

from sentryfuse.baselines.calibration import Calibration, Calibrator
from sentryfuse.baselines.planner import make_planner
from sentryfuse.baselines.scorers import SCORERS, check_scorer, make_scorer

__all__ = ["SCORERS", "Calibration", "Calibrator", "check_scorer", "make_planner", "make_scorer"]
