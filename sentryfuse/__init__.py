"""Train once; at deployment become the right smaller model for the sensors present and the budget left.

The public names. Those that need torch are loaded on first use, so a device without torch can import
this package.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentryfuse.bundle import Bundle, load_bundle
    from sentryfuse.data import Windows, load_windows, open_data
    from sentryfuse.engine import Session, Sessions
    from sentryfuse.export import export_bundle
    from sentryfuse.model import list_models, register_model
    from sentryfuse.model.pretrained import SentryModel, create_model, from_pretrained
    from sentryfuse.power import open_reader, read_policy
    from sentryfuse.pruning import make_plan as plan
    from sentryfuse.pruning import prune, register_scorer
    from sentryfuse.pruning.evaluation import evaluate
    from sentryfuse.recordings import make_windows
    from sentryfuse.rivals import Comparison, compare
    from sentryfuse.runtime import Events, Result, Runtime, Status, predict
    from sentryfuse.stream import HealthRules, open_source
    from sentryfuse.training import TrainSettings, train
    from sentryfuse.training.grouped_queries import Conversion, convert_to_gqa
    from sentryfuse.types import Budget, Cost, Modality, Plan

# whoever wants to see events asks for them; they must not appear on standard error by themselves
logging.getLogger("sentryfuse").addHandler(logging.NullHandler())

__version__ = "0.1.0"

_HOMES = {
    "Budget": "types",
    "Bundle": "bundle",
    "Comparison": "rivals",
    "Conversion": "training.grouped_queries",
    "Cost": "types",
    "Events": "runtime",
    "HealthRules": "stream",
    "Modality": "types",
    "Plan": "types",
    "Result": "runtime",
    "Runtime": "runtime",
    "SentryModel": "model.pretrained",
    "Session": "engine",
    "Sessions": "engine",
    "Status": "runtime",
    "TrainSettings": "training",
    "Windows": "data",
    "compare": "rivals",
    "convert_to_gqa": "training.grouped_queries",
    "create_model": "model.pretrained",
    "evaluate": "pruning.evaluation",
    "export_bundle": "export",
    "from_pretrained": "model.pretrained",
    "list_models": "model",
    "load_bundle": "bundle",
    "load_windows": "data",
    "make_windows": "recordings",
    "open_data": "data",
    "open_reader": "power",
    "open_source": "stream",
    "plan": "pruning",
    "predict": "runtime",
    "prune": "pruning",
    "read_policy": "power",
    "register_model": "model",
    "register_scorer": "pruning",
    "train": "training",
}
_ALIASES = {"plan": "make_plan"}

__all__ = [
    "Budget",
    "Bundle",
    "Comparison",
    "Conversion",
    "Cost",
    "Events",
    "HealthRules",
    "Modality",
    "Plan",
    "Result",
    "Runtime",
    "SentryModel",
    "Session",
    "Sessions",
    "Status",
    "TrainSettings",
    "Windows",
    "compare",
    "convert_to_gqa",
    "create_model",
    "evaluate",
    "export_bundle",
    "from_pretrained",
    "list_models",
    "load_bundle",
    "load_windows",
    "make_windows",
    "open_data",
    "open_reader",
    "open_source",
    "plan",
    "predict",
    "prune",
    "read_policy",
    "register_model",
    "register_scorer",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sentryfuse' has no attribute {name!r}")
    home = f"sentryfuse.{_HOMES[name]}"
    try:
        value = getattr(import_module(home), _ALIASES.get(name, name))
    except ModuleNotFoundError as error:
        if error.name == "torch":
            raise ModuleNotFoundError(
                f"sentryfuse.{name} needs {error.name}; install it with: pip install 'sentryfuse[train]'",
                name=error.name,
            ) from None
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
