"""What a model is taught: loss of outputs, and of a sub-network's beside the whole network's; needs torch.

Notation: B windows · K outputs (classes, numbers or labels).
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sentryfuse.target import Target


class Objective:
    """Losses of one task.

    Args:
        target: what is asked for, with what training windows are standardised by.
        n_outputs: `K`.
        label_smoothing: share of a class's probability spread over all classes; of classes alone.

    Attributes:
        word: name of `right`.
    """

    def __init__(self, target: Target, n_outputs: int, *, label_smoothing: float = 0.0) -> None:
        self.target, self.n_outputs, self.spread = target, n_outputs, label_smoothing
        self.word = "r2" if target.task == "regression" else "accuracy"

    def wanted(self, y: NDArray[Any]) -> Tensor:
        """What outputs are compared with, `(B, K)`: label distributions, standardised numbers, or labels."""
        if self.target.of_classes:
            return F.one_hot(torch.from_numpy(y), self.n_outputs).float()
        if self.target.task == "regression":
            return torch.from_numpy(self.target.standardised(y)).float()
        return torch.from_numpy(y).float()

    def loss(self, outputs: Tensor, wanted: Tensor) -> Tensor:
        """Loss of each window, `(B,)`: cross-entropy, squared error, or that of each label."""
        if self.target.of_classes:
            return F.cross_entropy(outputs, wanted, reduction="none", label_smoothing=self.spread)
        if self.target.task == "regression":
            return F.mse_loss(outputs, wanted, reduction="none").mean(1)
        return F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none").mean(1)

    def distil(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """How far outputs are from a teacher's, mean over windows."""
        if self.target.of_classes:
            return F.kl_div(outputs.log_softmax(1), teacher.softmax(1), reduction="batchmean")
        if self.target.task == "regression":
            return F.mse_loss(outputs, teacher)
        soft = teacher.sigmoid()
        own = F.binary_cross_entropy_with_logits(outputs, soft, reduction="none")
        least = F.binary_cross_entropy(soft, soft, reduction="none")
        return (own - least).mean()

    @torch.no_grad()
    def right(self, outputs: Tensor, wanted: Tensor) -> float:
        """Share of answers that are right, or R2 against the training mean; of a batch, for progress."""
        if self.target.of_classes:
            return float((outputs.argmax(1) == wanted.argmax(1)).float().mean())
        if self.target.task == "regression":
            return 1 - float(F.mse_loss(outputs, wanted)) / max(float((wanted**2).mean()), 1e-9)
        return float(((outputs > 0) == (wanted > 0.5)).float().mean())
