"""What a model computes, what that costs, and which units stay for a budget. Numpy only.

`layout` is the model written down, `cost` counts it, `units` says which weights a unit owns, `plan` and
`uniform` decide, `profile` knows what this device takes for it.
"""

from sentryfuse.planning.cost import count
from sentryfuse.planning.plan import plan_layout
from sentryfuse.planning.uniform import plan_uniform

__all__ = ["count", "plan_layout", "plan_uniform"]
