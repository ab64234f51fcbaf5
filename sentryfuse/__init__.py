"""Train once; at deployment become the right smaller model for the sensors present and the budget left.

The public names. Those that need torch are loaded on first use, so a device without torch can import
this package.
"""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentryfuse import errors, sklearn
    from sentryfuse.bundle import Bundle, load_bundle
    from sentryfuse.data import Windows, load_windows, open_data
    from sentryfuse.decide import plan
    from sentryfuse.engine import Engine, Session, Sessions, register_engine
    from sentryfuse.export import export_bundle
    from sentryfuse.measure import bench, profile
    from sentryfuse.model import Backbone, list_models, register_model
    from sentryfuse.model.pretrained import SentryModel, create_model, from_pretrained
    from sentryfuse.planning.profile import DeviceProfile
    from sentryfuse.power import Meter, open_reader, read_policy, register_meter
    from sentryfuse.pruning import Scorer, prune, register_scorer
    from sentryfuse.pruning.evaluation import evaluate
    from sentryfuse.recordings import make_windows
    from sentryfuse.rivals import Comparison, compare
    from sentryfuse.runtime import Events, Result, Runtime, Status, predict, score
    from sentryfuse.stream import HealthRules, Source, open_source, register_source
    from sentryfuse.training import Callback, TrainSettings, train
    from sentryfuse.training.grouped_queries import Conversion, convert_to_gqa
    from sentryfuse.types import Budget, Cost, Modality, Plan

# whoever wants to see events asks for them; they must not appear on standard error by themselves
logging.getLogger("sentryfuse").addHandler(logging.NullHandler())

__version__ = "0.1.0"

_HOMES = {
    "Backbone": "model",
    "Budget": "types",
    "Bundle": "bundle",
    "Callback": "training",
    "Comparison": "rivals",
    "Conversion": "training.grouped_queries",
    "Cost": "types",
    "DeviceProfile": "planning.profile",
    "Engine": "engine",
    "Events": "runtime",
    "HealthRules": "stream",
    "Meter": "power",
    "Modality": "types",
    "Plan": "types",
    "Result": "runtime",
    "Runtime": "runtime",
    "Scorer": "pruning",
    "SentryModel": "model.pretrained",
    "Session": "engine",
    "Sessions": "engine",
    "Source": "stream",
    "Status": "runtime",
    "TrainSettings": "training",
    "Windows": "data",
    "bench": "measure",
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
    "plan": "decide",
    "predict": "runtime",
    "profile": "measure",
    "prune": "pruning",
    "read_policy": "power",
    "register_engine": "engine",
    "register_meter": "power",
    "register_model": "model",
    "register_scorer": "pruning",
    "register_source": "stream",
    "score": "runtime",
    "train": "training",
}
_MODULES = ("errors", "sklearn")
_NEED_TORCH = ("export", "model", "pruning", "training")  # homes
__all__ = [
    "Backbone",
    "Budget",
    "Bundle",
    "Callback",
    "Comparison",
    "Conversion",
    "Cost",
    "DeviceProfile",
    "Engine",
    "Events",
    "HealthRules",
    "Meter",
    "Modality",
    "Plan",
    "Result",
    "Runtime",
    "Scorer",
    "SentryModel",
    "Session",
    "Sessions",
    "Source",
    "Status",
    "TrainSettings",
    "Windows",
    "bench",
    "compare",
    "convert_to_gqa",
    "create_model",
    "errors",
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
    "profile",
    "prune",
    "read_policy",
    "register_engine",
    "register_meter",
    "register_model",
    "register_scorer",
    "register_source",
    "score",
    "sklearn",
    "train",
]


def _is_here(package: str) -> bool:
    """Whether a package can be imported; nothing is loaded."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # kept out by a finder, or switched off
        return False


def _can_be_had(name: str) -> bool:
    """Whether what a name needs beside a device's packages is installed."""
    home = "sklearn" if name == "sklearn" else _HOMES.get(name, "")
    needs = ("sklearn", "torch") if home == "sklearn" else ("torch",) * home.startswith(_NEED_TORCH)
    return all(map(_is_here, needs))


# `from sentryfuse import *` and `help(sentryfuse)` look at every name of this list
__all__[:] = [name for name in __all__ if _can_be_had(name)]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _HOMES and name not in _MODULES:
        raise AttributeError(f"module 'sentryfuse' has no attribute {name!r}")
    try:
        if name in _MODULES:
            return import_module(f"sentryfuse.{name}")
        value = getattr(import_module(f"sentryfuse.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name in ("torch", "sklearn"):
            raise ModuleNotFoundError(
                f"sentryfuse.{name} needs {error.name}; install it with: pip install 'sentryfuse[train]'",
                name=error.name,
            ) from None
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names that can be used here."""
    return sorted(__all__)
