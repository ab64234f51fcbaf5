"""Training windows -> gradients and activations that several rankings share; each is one pass, made once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentryfuse.data import Curriculum, Windows, batches
from sentryfuse.data.scoring import prepared
from sentryfuse.errors import ConfigError
from sentryfuse.gate.saliency import unit_factors
from sentryfuse.model import Selection
from sentryfuse.model.objective import Objective
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.pruning.columns import ColumnStatistics
from sentryfuse.pruning.weights import weight_names
from sentryfuse.types import check_present

Sensors = Sequence[str] | Literal["mixture"] | None
STATIC_WINDOWS, ORACLE_WINDOWS = 1024, 256
BATCH, MIXTURE_BATCH = 128, 16  # the mixture draws once per batch, so it needs many


@dataclass(frozen=True)
class Gradients:
    """Gradients of the loss of each window at the trained weights.

    Attributes:
        units: block name -> `dL_b / dxi` of a factor on each unit, `(windows in which it ran, units)`.
        weights: weight name -> mean gradient over those windows, shaped like the weight.
    """

    units: Mapping[str, NDArray[np.float32]]
    weights: Mapping[str, Tensor]


class Calibration:
    """Statistics of a model on training windows with some sensors on.

    A block is judged by the windows in which it ran. Nothing is computed before it is asked for.

    Args:
        model: the model to look at; put into eval mode, otherwise not changed.
        windows: where its training windows are.
        present: names of the sensors that are on; `None` means all; "mixture" draws them batch by batch as
            at the end of training, each off with an even chance, never all. Sensors that a window lacks are
            always off.
        n_windows: most windows looked at.
        seed: of the draw of windows and of the mixture.

    Raises:
        ConfigError: unknown sensors, or no training window that has any of them.
    """

    def __init__(
        self,
        model: SentryModel,
        windows: Windows,
        *,
        present: Sensors = None,
        n_windows: int = STATIC_WINDOWS,
        seed: int = 0,
    ) -> None:
        self.model = model.eval()
        self.windows = prepared(windows, model.config)
        self.mixture, self.seed = present == "mixture", seed
        names = check_present(None if self.mixture else present, model.names)
        self._on = np.array([name in names for name in windows.names])
        pool = windows.indices("train")
        pool = pool[(windows.present[pool] & self._on).any(1)]
        if not len(pool):
            raise ConfigError(
                f"{windows.name} has no training window with {' or '.join(names)} to calibrate on; "
                "give a recording that has some, or choose a scorer that needs none, such as magnitude"
            )
        self._pool = np.random.default_rng(seed).choice(pool, min(n_windows, len(pool)), replace=False)

    @cached_property
    def gradients(self) -> Gradients:
        """Gradients of units and weights, by one backward pass per batch."""
        model, blocks = self.model, self.model.layout.blocks
        units = {name: [np.zeros((0, block.units), np.float32)] for name, block in blocks.items()}
        weights = {
            name: torch.zeros_like(model.backbone.get_parameter(name))
            for block in blocks.values()
            for name in weight_names(block)
        }
        objective = Objective(model.config.target, len(model.config.classes))
        for on, chosen in self._batches():
            live = [block for step in model.layout.route(on) for block in step.blocks]
            factors = unit_factors(live, len(chosen), model.device)
            used = [name for block in live for name in weight_names(block)]
            logits = model(self._inputs(on, chosen), on, select=Selection(gates=factors))
            # summed, so that every window's own gradient arrives at its own factors
            loss = objective.loss(logits, objective.wanted(self.windows.y[chosen]).to(model.device)).sum()
            asked = [*factors.values(), *(model.backbone.get_parameter(name) for name in used)]
            if not asked:  # a pruned model may have no block for these sensors
                continue
            found = torch.autograd.grad(loss, asked, materialize_grads=True)
            for name, gradient in zip(factors, found, strict=False):
                units[name].append(gradient.cpu().numpy())
            for name, gradient in zip(used, found[len(factors) :], strict=True):
                weights[name] += gradient
        joined = {name: np.concatenate(parts) for name, parts in units.items()}
        for name, block in blocks.items():
            for weight in weight_names(block):
                weights[weight] /= max(len(joined[name]), 1)
        return Gradients(joined, weights)

    @cached_property
    @torch.no_grad()
    def activations(self) -> dict[str, ColumnStatistics]:
        """What enters the last product of every block, by one forward pass per batch.

        Answers of experts are scaled by what the expert is worth for the token.
        """
        layout, blocks = self.model.layout, self.model.layout.blocks
        found = {name: ColumnStatistics(b.units * (b.head_dim or 1)) for name, b in blocks.items()}
        expert_of = {name: list(b.groups) for name, b in blocks.items() if b.active}
        for on, chosen in self._batches():
            spans = layout.spans(on)
            lengths = {
                block.name: spans[step.name].entering if block.kind == "heads" else spans[step.name].leaving
                for step in layout.route(on)
                for block in step.blocks
            }

            def watch(
                name: str,
                rows: Tensor,
                worth: Tensor | None,
                *,
                windows: int = len(chosen),
                lengths: Mapping[str, int] = lengths,
            ) -> None:
                copies = 1
                if worth is not None:
                    rows = rows * worth[:, expert_of[name]]
                    copies = worth.shape[1] if blocks[name].capacity else 1
                values = rows.cpu().double().numpy()
                found[name].add(values, windows=windows, length=lengths[name], copies=copies)

            self.model(self._inputs(on, chosen), on, select=Selection(watch=watch))
        return found

    def _batches(self) -> Iterator[tuple[tuple[str, ...], NDArray[np.intp]]]:
        """The same windows and sensors in every pass."""
        curriculum, rng = Curriculum(), np.random.default_rng(self.seed)
        size = MIXTURE_BATCH if self.mixture else BATCH
        keep = np.broadcast_to(self._on, (len(self._pool), len(self._on)))
        for on, chosen in batches(self.windows, self._pool, batch_size=size, present=keep):
            yield curriculum.draw(on, curriculum.max_rate, rng) if self.mixture else on, chosen

    def _inputs(self, on: tuple[str, ...], chosen: NDArray[np.intp]) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(x).to(self.model.device)
            for name, x in self.windows.batch(chosen, on).items()
        }


class Calibrator:
    """The calibrations of one model, shared by its scorers.

    Args:
        model: the model to look at.
        windows: where its training windows are.
        seed: of the draw of windows.
    """

    def __init__(self, model: SentryModel, windows: Windows, *, seed: int = 0) -> None:
        self.model, self.windows, self.seed = model, windows, seed
        self._made: dict[Sensors, Calibration] = {}

    def on(self, present: tuple[str, ...] | Literal["mixture"] | None) -> Calibration:
        """The calibration with these sensors; sets that are named get fewer windows, as there are many."""
        if present not in self._made:
            n = STATIC_WINDOWS if present is None or present == "mixture" else ORACLE_WINDOWS
            self._made[present] = Calibration(
                self.model, self.windows, present=present, n_windows=n, seed=self.seed
            )
        return self._made[present]
