"""Parts of a model that depend on nothing but which sensors are present.

For a fixed set of sensors they are constants: on the device they are computed once per plan, in numpy
(`sentryfuse.graph.constants`), and cost nothing per window.

Notation: M modalities · P tokens · L tokens of all parts · D d_model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sentryfuse.model.call import Call
from sentryfuse.planning.layout import Step


class Bank(nn.Module):
    """Tokens that stand for an absent sensor: a base, and a share for every sensor that is present.

    Args:
        name: prefix of the weights.
        absent: the modality it stands for.
        modalities: names of all modalities, in order, `M`.
        d_model: `D`.
        tokens: `P`.

    Source:
        Missing-modality bank of Flex-MoE (NeurIPS 2024) in factorised form: `base + sum of given[i]` over
        present `i` takes `P * D + M * D` weights instead of `2^M * P * D`.
    """

    def __init__(
        self, name: str, absent: str, modalities: Sequence[str], d_model: int, *, tokens: int
    ) -> None:
        super().__init__()
        self.name, self.absent, self.modalities = name, absent, tuple(modalities)
        self.base = nn.Parameter(0.02 * torch.randn(tokens, d_model))
        self.given = nn.Parameter(0.02 * torch.randn(len(modalities), d_model))

    def forward(self, *, at: Call) -> Tensor:
        """The tokens for the sensors that are there, `(B, P, D)`."""
        present = torch.tensor([float(n > 0) for n in at.parts], device=at.device)
        return (self.base + present @ self.given).expand(at.n_windows, -1, -1)

    def step(self, writes: str) -> Step:
        """This bank as a step of a layout."""
        return Step(
            self.name,
            "bank",
            (),
            writes,
            lacks=(self.absent,),
            parts=tuple(f"window.{name}" for name in self.modalities),
            tokens=len(self.base),
            params_fixed=self.base.numel() + self.given.numel(),
        )


class Codes(nn.Module):
    """What a modality is worth among those present, and where tokens come from; `(B, L, D)` -> same.

    Args:
        name: prefix of the weights.
        n_modalities: `M`.
        length: longest part [tokens].
        d_model: `D`.

    Source:
        Temporal and modality codes of MAESTRO (arXiv 2509.25278). Its budget network, `M -> M -> M` on the
        presence mask, chose a number of queries by rounding, which no gradient passes; here its output
        scales the tokens (our choice), and the number of queries is the constant of `AttentionRule`.
    """

    def __init__(self, name: str, n_modalities: int, length: int, d_model: int) -> None:
        super().__init__()
        self.name = name
        self.hidden = nn.Linear(n_modalities, n_modalities)
        self.budget = nn.Linear(n_modalities, n_modalities)
        self.temporal = nn.Parameter(0.02 * torch.randn(length, d_model))
        self.modality = nn.Parameter(0.02 * torch.randn(n_modalities, d_model))

    def forward(self, x: Tensor, *, at: Call) -> Tensor:
        """Mark the tokens of every part."""
        present = torch.tensor([float(n > 0) for n in at.parts], device=at.device)
        scale = 2 * torch.sigmoid(self.budget(torch.relu(self.hidden(present))))
        parts = [
            (scale[i].expand(n, 1), self.temporal[:n] + self.modality[i]) for i, n in enumerate(at.parts) if n
        ]
        return x * torch.cat([s for s, _ in parts]) + torch.cat([code for _, code in parts])

    def step(self, reads: str, writes: str, parts: tuple[str, ...]) -> Step:
        """These codes as a step of a layout."""
        return Step(
            self.name,
            "codes",
            (reads,),
            writes,
            parts=parts,
            params_fixed=sum(p.numel() for p in self.parameters()),
        )
