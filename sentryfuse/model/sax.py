"""SAX tokens: every channel as a row of symbols, as in the MAESTRO paper.

Notation: B batch · T time steps · C channels · N words · D d_model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sentryfuse.graph.sax import SaxSizes, positions, symbol_edges
from sentryfuse.model.call import Call
from sentryfuse.planning.layout import Step
from sentryfuse.types import Modality


class SaxTokens(nn.Module):
    """Symbols of word averages, one token per word; `(B, T, C)` -> `(B, N, D)`.

    Each channel of a window is standardised by itself, averaged over words and mapped to one of 20 symbols
    by the quantiles of the normal distribution; 0 is reserved for "not measured". The integers enter a
    linear map as numbers. A constant window has deviation 0 and becomes the middle symbols.

    Args:
        name: prefix of the weights.
        modality: the stream.
        d_model: token width `D`.
        tokens: words aimed at.

    Source:
        MAESTRO (arXiv 2509.25278), alphabet 20, sinusoid positions.
    """

    def __init__(self, name: str, modality: Modality, d_model: int, *, tokens: int) -> None:
        super().__init__()
        self.name, self.modality = name, modality
        self.sizes = sizes = SaxSizes(modality, tokens)
        self.edges: Tensor
        self.fill: Tensor
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("edges", torch.from_numpy(symbol_edges()), persistent=False)
        self.register_buffer("fill", torch.from_numpy(sizes.fill), persistent=False)
        # a static value has no window to be standardised by, so training statistics serve instead
        self.register_buffer("mean", torch.zeros(modality.n_channels))
        self.register_buffer("std", torch.ones(modality.n_channels))
        self.project = nn.Linear(modality.n_channels, d_model)
        self.position: Tensor
        self.register_buffer(
            "position", torch.from_numpy(positions(sizes.n_tokens, d_model)), persistent=False
        )

    def forward(self, x: Tensor, *, at: Call) -> Tensor:
        """Turn the window into symbols and embed them."""
        z = (x - self.mean) / self.std
        observed = ~torch.isnan(z)
        z = torch.where(observed, z, 0.0)
        if self.modality.length > 1:
            count = observed.sum(1, keepdim=True).clamp(min=1)
            mean = z.sum(1, keepdim=True) / count
            gap = torch.where(observed, z - mean, 0.0)
            z = gap / ((gap**2).sum(1, keepdim=True) / count).sqrt().clamp(min=1e-6)
        words = self._words(z) / self._words(observed.to(z.dtype)).clamp(min=1e-6)
        symbols = 1 + (words.unsqueeze(-1) > self.edges).sum(-1)
        symbols = torch.where(self._words(observed.to(z.dtype)) > 0, symbols, 0)
        return self.project(symbols.to(z.dtype)) + self.position

    def _words(self, z: Tensor) -> Tensor:
        return z.index_select(1, self.fill).unflatten(1, (self.sizes.n_tokens, self.sizes.word)).mean(2)

    def step(self) -> Step:
        """This embedding as a step of a layout."""
        return Step(
            self.name,
            "sax",
            (f"window.{self.modality.name}",),
            f"tokens.{self.modality.name}",
            needs=(self.modality.name,),
            tokens=self.sizes.n_tokens,
            options={"tokens": self.sizes.tokens},
            macs_fixed=self.sizes.n_tokens * self.project.weight.numel(),
            params_fixed=sum(p.numel() for p in self.parameters()),
        )
