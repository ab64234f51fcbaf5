"""What the gate is compared with: published ways of ranking units, behind the same interface; needs torch."""

from sentryfuse.baselines.scorers import SCORERS, make_scorer

__all__ = ["SCORERS", "make_scorer"]
