"""Importance and a budget -> a decision (`plan`) -> an ordinary smaller model (`cut`).

`units`, `cost`, `plan` and `uniform` are torch-free and run on the device; `scorers` and `cut` need torch
and load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sentryfuse.pruning.cost import count
from sentryfuse.pruning.plan import plan_layout
from sentryfuse.pruning.uniform import plan_uniform

if TYPE_CHECKING:
    from sentryfuse.pruning.cut import prune
    from sentryfuse.pruning.scorers import make_plan

_TORCH = {"prune": "cut", "make_plan": "scorers"}

__all__ = ["count", "make_plan", "plan_layout", "plan_uniform", "prune"]


def __getattr__(name: str) -> Any:
    """Load what needs torch on first use."""
    if name not in _TORCH:
        raise AttributeError(f"module 'sentryfuse.pruning' has no attribute {name!r}")
    return getattr(import_module(f"sentryfuse.pruning.{_TORCH[name]}"), name)
