"""What training has shown of saliency so far, and the gate fitted to all of it at once.

Notation: N steps remembered · M modalities · U units of all blocks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sentryfuse.gate.gate import SentryGate
from sentryfuse.gate.saliency import poisson_loss

STEPS, LEARNING_RATE, WEIGHT_DECAY = 500, 1e-2, 1e-2
EPSILON = 1e-4  # smaller gradients are noise, and Adam would make them as large as any other
FORGOTTEN = 1 / 3  # of the steps, the oldest: the network has changed since


class SaliencyMemory:
    """Sensors present and normalised saliency of every step that taught the gate.

    One gradient step for each of them teaches the gate the mean and hardly anything of the sensors. To fit
    it to all of them takes a second or two.

    Args:
        gate: whose units are remembered.

    Source:
        Our choice: without it, the order of units in shared layers was nearly the same for every set of
        sensors.
    """

    def __init__(self, gate: SentryGate) -> None:
        self.sizes = dict(gate.sizes)
        self.masks: list[Tensor] = []
        self.saliency: list[Tensor] = []

    def add(self, present_mask: Tensor, targets: Mapping[str, Tensor]) -> None:
        """Remember a step.

        Args:
            present_mask: 1 where a sensor was on, `(M,)`.
            targets: normalised saliency of the blocks that ran, block -> `(units,)`.
        """
        parts = [targets.get(name, torch.full((n,), torch.nan)).cpu() for name, n in self.sizes.items()]
        self.masks.append(present_mask.cpu())
        self.saliency.append(torch.cat(parts))

    def fit(self, gate: SentryGate) -> None:
        """Minimise the saliency loss over all steps but the oldest, then forget them.

        Args:
            gate: changed in place, from where it is.
        """
        first = int(FORGOTTEN * len(self.masks))
        if not self.masks[first:]:
            return
        device = gate.units.weight.device
        masks = torch.stack(self.masks[first:]).to(device)  # (N, M)
        targets = torch.stack(self.saliency[first:]).to(device)  # (N, U), NaN where a block did not run
        ran = ~targets.isnan()
        targets = targets.nan_to_num()
        optimizer = torch.optim.AdamW(
            gate.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, eps=EPSILON
        )
        slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=STEPS)
        for _ in range(STEPS):
            scores = torch.cat(list(gate(masks).values()), -1)
            loss = (poisson_loss(scores, targets) * ran).sum() / ran.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            slower.step()
        gate.zero_grad()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.masks.clear()
        self.saliency.clear()

    def tensors(self) -> dict[str, Tensor]:
        """What a resumed training must get back; empty if nothing is remembered."""
        if not self.masks:
            return {}
        return {"masks": torch.stack(self.masks), "saliency": torch.stack(self.saliency)}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        self.masks = list(tensors.get("masks", torch.empty(0)))
        self.saliency = list(tensors.get("saliency", torch.empty(0)))
