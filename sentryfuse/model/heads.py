"""Tokens -> logits. Notation: B batch · L tokens · M modalities · D d_model · C classes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from sentryfuse.model.call import Call
from sentryfuse.planning.layout import Step


class MeanHead(nn.Module):
    """Mean over tokens, norm, linear; `(B, L, D)` -> `(B, C)`.

    Args:
        name: prefix of the weights.
        d_model: `D`.
        n_classes: `C`.
    """

    def __init__(self, name: str, d_model: int, n_classes: int) -> None:
        super().__init__()
        self.name, self.d_model = name, d_model
        self.norm, self.classify = nn.LayerNorm(d_model), nn.Linear(d_model, n_classes)

    def forward(self, x: Tensor, *, at: Call) -> Tensor:
        """Logits of every window."""
        logits: Tensor = self.classify(self.norm(x.mean(1)))
        return logits

    def step(self, reads: str) -> Step:
        """This head as a step of a layout."""
        return _step(self, "mean head", reads, macs=self.classify.weight.numel())


class LinearHead(nn.Module):
    """Mean over tokens, linear; `(B, L, D)` -> `(B, C)`.

    Args:
        name: prefix of the weights.
        d_model: `D`.
        n_classes: `C`.
    """

    def __init__(self, name: str, d_model: int, n_classes: int) -> None:
        super().__init__()
        self.name, self.d_model = name, d_model
        self.classify = nn.Linear(d_model, n_classes)

    def forward(self, x: Tensor, *, at: Call) -> Tensor:
        """Logits of every window."""
        logits: Tensor = self.classify(x.mean(1))
        return logits

    def step(self, reads: str) -> Step:
        """This head as a step of a layout."""
        return _step(self, "linear head", reads, macs=self.classify.weight.numel())


class HiddenHead(nn.Module):
    """Mean over tokens, one hidden layer as wide as a token, linear; `(B, L, D)` -> `(B, C)`.

    Args:
        name: prefix of the weights.
        d_model: `D`.
        n_classes: `C`.
        dropout: on the hidden layer.

    Source:
        MAESTRO (arXiv 2509.25278).
    """

    def __init__(self, name: str, d_model: int, n_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.name, self.d_model = name, d_model
        self.hidden, self.classify = nn.Linear(d_model, d_model), nn.Linear(d_model, n_classes)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, *, at: Call) -> Tensor:
        """Logits of every window."""
        logits: Tensor = self.classify(self.drop(torch.relu(self.hidden(x.mean(1)))))
        return logits

    def step(self, reads: str) -> Step:
        """This head as a step of a layout."""
        return _step(
            self, "hidden head", reads, macs=self.hidden.weight.numel() + self.classify.weight.numel()
        )


class ModalityHead(nn.Module):
    """Mean over the tokens of each modality, norm, all side by side, linear; `(B, L, D)` -> `(B, C)`.

    Args:
        name: prefix of the weights.
        d_model: `D`.
        n_modalities: `M`.
        n_classes: `C`.

    Source:
        Flex-MoE (NeurIPS 2024); the norm is our choice.
    """

    def __init__(self, name: str, d_model: int, n_modalities: int, n_classes: int) -> None:
        super().__init__()
        self.name, self.d_model, self.n_modalities = name, d_model, n_modalities
        self.norm, self.classify = nn.LayerNorm(d_model), nn.Linear(n_modalities * d_model, n_classes)

    def forward(self, x: Tensor, *, at: Call) -> Tensor:
        """Logits of every window."""
        shares = torch.block_diag(*(torch.full((1, n), 1 / n) for n in at.parts)).to(at.device)  # (M, L)
        logits: Tensor = self.classify(self.norm(shares @ x).flatten(1))
        return logits

    def step(self, reads: str, parts: tuple[str, ...]) -> Step:
        """This head as a step of a layout."""
        step = _step(self, "modality head", reads, macs=self.classify.weight.numel())
        return replace(step, parts=parts, macs_per_entering=self.n_modalities * self.d_model)


def _step(head: MeanHead | LinearHead | HiddenHead | ModalityHead, op: str, reads: str, *, macs: int) -> Step:
    return Step(
        head.name,
        op,
        (reads,),
        "logits",
        leaves="one",
        macs_fixed=macs,
        params_fixed=sum(p.numel() for p in head.parameters()),
    )
