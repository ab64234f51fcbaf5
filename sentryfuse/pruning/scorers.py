"""Who ranks the units: one interface, several answers; needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from sentryfuse.checkpoint import SentryModel
from sentryfuse.data import Windows, batches
from sentryfuse.errors import ConfigError
from sentryfuse.gate.predict import levelled
from sentryfuse.gate.saliency import batch_saliency, unit_factors
from sentryfuse.model import Selection
from sentryfuse.profile import DeviceProfile
from sentryfuse.pruning.plan import plan_layout
from sentryfuse.types import Budget, Plan, check_present

Scores = Mapping[str, NDArray[np.float32]]
CALIBRATION_WINDOWS = 1024
BATCH = 128


class Scorer(Protocol):
    """Importance of every unit, for the sensors that are present."""

    name: str

    def scores(self, present: tuple[str, ...]) -> Scores:
        """Block name -> `(units,)`, positive, higher stays longer."""


class GateScorer:
    """The learned gate: the only one here that knows which sensors are present."""

    name = "gate"

    def __init__(self, model: SentryModel) -> None:
        self.model = model

    def scores(self, present: tuple[str, ...]) -> Scores:
        """Ask the gate, and level what it says between the blocks."""
        return levelled({n: t.numpy() for n, t in self.model.gate.importance(present).items()})


class StaticScorer:
    """One fixed ranking, whatever is present."""

    def __init__(self, name: str, scores: Scores) -> None:
        self.name = name
        self._scores = scores

    def scores(self, present: tuple[str, ...]) -> Scores:
        """The same for every set of sensors."""
        return self._scores


def magnitude_scores(model: SentryModel) -> Scores:
    """Product of the norms of what enters and leaves a unit, divided by its mean in the block.

    Source:
        Magnitude pruning of coupled weights; head: value rows and output columns (K/V of a group count for
        each of its heads), channel: up row and down column. Mean-normalised per block as in Torch-Pruning,
        so that no layer is emptied because its weights are small.
    """
    found = {}
    tensors = model.tensors()
    for name, block in model.layout.blocks.items():
        if block.kind == "ffn":
            into = tensors[f"{name}.up.weight"].norm(dim=1)
            out = tensors[f"{name}.down.weight"].norm(dim=0)
        else:
            groups = torch.tensor(block.groups)
            value = tensors[f"{name}.v.weight"].unflatten(0, (-1, block.head_dim))
            into = value.norm(dim=(1, 2))[groups]
            out = tensors[f"{name}.o.weight"].unflatten(1, (-1, block.head_dim)).norm(dim=(0, 2))
        score = into * out
        found[name] = (score / score.mean().clamp(min=1e-12)).numpy()
    return found


def taylor_scores(
    model: SentryModel, windows: Windows, *, present: tuple[str, ...] | None = None, seed: int = 0
) -> Scores:
    """Mean absolute first-order saliency on training windows, l2-normalised per block.

    Args:
        model: the model to score.
        windows: where its training windows are.
        present: sensors that are on; `None` means all (the static ranking).
        seed: of the draw of calibration windows.

    Returns:
        Block name -> `(units,)`; zeros for blocks that do not run.

    Source:
        Michel et al., NeurIPS 2019.
    """
    model.eval()
    rng = np.random.default_rng(seed)
    pool = windows.indices("train")
    pool = rng.choice(pool, min(CALIBRATION_WINDOWS, len(pool)), replace=False)
    mask = np.array([present is None or name in present for name in windows.names])
    keep = np.broadcast_to(mask, (len(pool), len(windows.names)))
    total = {n: np.zeros(b.units) for n, b in model.layout.blocks.items()}
    for on, chosen in batches(windows, pool, batch_size=BATCH, present=keep):
        batch = {name: torch.from_numpy(x) for name, x in windows.batch(chosen, on).items()}
        live = [b for step in model.layout.route(on) for b in step.blocks]
        factors = unit_factors(live, len(chosen))
        logits = model(batch, on, select=Selection(gates=factors))
        F.cross_entropy(logits, torch.from_numpy(windows.y[chosen])).backward()
        for name, saliency in batch_saliency(factors).items():
            total[name] += saliency.numpy() * len(chosen)
    model.zero_grad()
    return {n: (t / max(float(np.linalg.norm(t)), 1e-30)).astype(np.float32) for n, t in total.items()}


def random_scores(model: SentryModel, *, seed: int = 0) -> Scores:
    """Uniform random importance, the floor of every comparison."""
    rng = np.random.default_rng(seed)
    return {n: rng.random(b.units, dtype=np.float32) for n, b in model.layout.blocks.items()}


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


def make_plan(
    model: SentryModel,
    present: Iterable[str] | None = None,
    budget: Budget | None = None,
    *,
    scorer: Scorer | None = None,
    profile: DeviceProfile | None = None,
) -> Plan:
    """Decide which units of a model stay; a dry run that changes nothing.

    Args:
        model: trained or pruned.
        present: names of the sensors that are on; `None` means all.
        budget: what one window may cost; `None` means everything.
        scorer: who ranks the units; `None` means the model's gate.
        profile: times measured on the device; needed for a budget in milliseconds.

    Returns:
        The plan; `prune` executes it.

    Raises:
        BudgetError: no sub-network fits; the message names the nearest budget that does.
        ConfigError: unknown sensor names.
    """
    scorer = scorer or GateScorer(model)
    names = check_present(present, model.names)
    return plan_layout(
        model.layout,
        scorer.scores(names),
        present=names,
        budget=budget or Budget(ratio=0.0),
        scorer=scorer.name,
        profile=profile,
    )
