"""First-order saliency, which teaches the gate, and the loss that follows it.

Every unit gets a factor `xi = 1` on its output, one per sample. In the ordinary backward pass
`|dL_b / dxi|` says how much sample `b` would notice if the unit went; no second pass is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sentryfuse.planning.layout import KINDS, Block


def unit_factors(
    blocks: Sequence[Block], batch: int, device: torch.device | None = None
) -> dict[str, Tensor]:
    """Factors `xi = 1` that record gradients, block name -> `(batch, units)`."""
    return {b.name: torch.ones(batch, b.units, requires_grad=True, device=device) for b in blocks}


def batch_saliency(factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mean over the batch of `|dL_b / dxi|` after `backward()` of a *mean* loss; block -> `(units,)`.

    Source:
        Michel et al., "Are Sixteen Heads Really Better than One?", 2019, per sample.
    """
    return {
        name: xi.grad.abs().sum(0)  # a mean loss holds 1/B of every sample's gradient already
        for name, xi in factors.items()
        if xi.grad is not None
    }


class SaliencyScale:
    """One running mean per kind of unit, so that layers stay comparable and the loss keeps its size.

    Args:
        decay: share of the old mean kept per update.
    """

    def __init__(self, decay: float = 0.98) -> None:
        self.decay = decay
        self.mean: dict[str, float] = {}

    def normalise(self, saliency: Mapping[str, Tensor], kinds: Mapping[str, str]) -> dict[str, Tensor]:
        """Divide by the running mean of the unit's kind; updates the mean first."""
        for kind in KINDS:
            values = [t for name, t in saliency.items() if kinds[name] == kind]
            if not values:
                continue
            mean = float(torch.cat(values).mean())
            old = self.mean.get(kind, mean)
            self.mean[kind] = self.decay * old + (1 - self.decay) * mean
        return {name: t / max(self.mean[kinds[name]], 1e-12) for name, t in saliency.items()}


def saliency_loss(scores: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Poisson-type loss whose minimiser is the log of the conditional mean: `mean(exp(s) - t s)`.

    Args:
        scores: log importance from the gate, block -> `(units,)`.
        targets: normalised saliency of the blocks that ran, block -> `(units,)`.

    Returns:
        Scalar; gradients reach the gate only.

    Source:
        Our reading of the saliency-alignment loss of SentryFuse (arXiv 2604.08971).
    """
    s = torch.cat([scores[name] for name in targets])
    t = torch.cat([targets[name] for name in targets]).detach()
    return poisson_loss(s, t).mean()


def poisson_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """`exp(s) - t s` for every element; both of one shape."""
    small = scores.clamp(max=8.0)  # beyond, the exponential goes on as a line: no overflow, still bounded
    return small.exp() * (1 + scores - small) - targets * scores
