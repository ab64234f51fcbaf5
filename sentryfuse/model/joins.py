"""Values side by side or averaged; modules without weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sentryfuse.model.call import Call
from sentryfuse.planning.layout import Step


class Concat(nn.Module):
    """Tokens of all values, one after another, `(B, L, D)` each -> `(B, sum of L, D)`."""

    def forward(self, *reads: Tensor, at: Call) -> Tensor:
        """Join the values."""
        return torch.cat(reads, 1)

    def step(self, name: str, reads: tuple[str, ...], writes: str) -> Step:
        """This join as a step of a layout."""
        return Step(name, "concat", reads, writes, leaves="sum")


class Mean(nn.Module):
    """The average of values of one length, `(B, L, D)` each -> `(B, L, D)`."""

    def forward(self, *reads: Tensor, at: Call) -> Tensor:
        """Average the values."""
        return torch.stack(reads).mean(0)

    def step(self, name: str, reads: tuple[str, ...], writes: str, needs: tuple[str, ...]) -> Step:
        """This average as a step of a layout."""
        return Step(name, "mean", reads, writes, needs=needs)
