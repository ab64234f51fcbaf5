"""Values side by side, averaged or normalised: what stands between layers."""

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


class Norm(nn.Module):
    """Layer norm of every token, `(B, L, D)` -> `(B, L, D)`; what ends a stack of layers with norm first.

    Args:
        name: prefix of the weights.
        d_model: `D`.
    """

    def __init__(self, name: str, d_model: int) -> None:
        super().__init__()
        self.name, self.norm = name, nn.LayerNorm(d_model)

    def forward(self, x: Tensor, *, at: Call) -> Tensor:
        """Normalise the tokens."""
        y: Tensor = self.norm(x)
        return y

    def step(self, reads: str, writes: str, needs: tuple[str, ...] = ()) -> Step:
        """This norm as a step of a layout."""
        params = sum(p.numel() for p in self.parameters())
        return Step(self.name, "norm", (reads,), writes, needs=needs, params_fixed=params)
