"""SentryGate: which sensors are present -> how important every head and FFN channel is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sentryfuse.planning.layout import Layout

HIDDEN, RANK = 64, 16
LEAST = 1e-6  # factor of a unit whose weights are nothing


class SentryGate(nn.Module):
    """A small network from the presence of sensors to the log importance of every unit.

    A unit's score is a bias (its importance whatever is present) plus a product of rank 16 that depends on
    the presence. The last layer starts at zero, so that before training all units are equal.

    Args:
        layout: the model whose units are scored.

    Source:
        SentryFuse (arXiv 2604.08971); the architecture is our choice.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.names = layout.names
        self.sizes = {name: block.units for name, block in layout.blocks.items()}
        self.hidden = nn.Linear(len(self.names), HIDDEN)
        self.code = nn.Linear(HIDDEN, RANK)
        self.units = nn.Linear(RANK, sum(self.sizes.values()))
        nn.init.zeros_(self.units.weight)
        nn.init.zeros_(self.units.bias)

    def forward(self, present_mask: Tensor) -> dict[str, Tensor]:
        """Score every unit.

        Args:
            present_mask: 1 where a sensor is on, `(M,)` or `(B, M)`.

        Returns:
            Block name -> log importance `(units,)` or `(B, units)`; only comparable within one kind.
        """
        code = F.silu(self.code(F.silu(self.hidden(present_mask))))
        scores = self.units(code).split(list(self.sizes.values()), -1)
        return dict(zip(self.sizes, scores, strict=True))

    def mask_of(self, present: Iterable[str]) -> Tensor:
        """The input for a set of sensor names, `(M,)`."""
        on = set(present)
        return torch.tensor([float(name in on) for name in self.names], device=self.hidden.weight.device)

    @torch.no_grad()
    def weigh(self, factors: Mapping[str, NDArray[np.float32]]) -> None:
        """Multiply the importance of every unit by a constant, whatever is present.

        Args:
            factors: block name -> `(units,)`, not negative; 0 counts as a very small number.
        """
        joined = np.concatenate([factors[name] for name in self.sizes])
        self.units.bias.add_(torch.from_numpy(np.log(np.maximum(joined, LEAST))).to(self.units.bias))

    @torch.no_grad()
    def importance(self, present: Iterable[str]) -> Mapping[str, Tensor]:
        """Importance of every unit for these sensors: block name -> `(units,)`, positive."""
        return {name: s.exp() for name, s in self(self.mask_of(present)).items()}
