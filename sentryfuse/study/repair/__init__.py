"""A plan and the usual outputs of units -> a sliced model corrected for the units it lost; needs torch.

A unit that goes leaves a gap in the last product of its block. From the mean and covariance of what enters
that product on training windows, the gap is filled in closed form by the units that stay: no gradients, no
labels, and the result costs what a plainly pruned model costs.

`moments` and `repair` are numpy alone; `collect` needs a model that runs.
"""

from sentryfuse.study.repair.collect import collect_conditional, collect_moments
from sentryfuse.study.repair.moments import ConditionalMoments, Moments, blend
from sentryfuse.study.repair.repair import REPAIRS, compensate

__all__ = [
    "REPAIRS",
    "ConditionalMoments",
    "Moments",
    "blend",
    "collect_conditional",
    "collect_moments",
    "compensate",
]
