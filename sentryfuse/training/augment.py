"""Training windows made a little different each time they are seen.

Notation: B batch · T time steps · C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
import torch
from torch import Tensor

Batch = Mapping[str, Tensor]  # modality -> raw windows `(B, T, C)`


def vary(batch: Batch, std: Mapping[str, Tensor], size: float) -> dict[str, Tensor]:
    """Random gain per window and channel, and noise.

    Args:
        batch: windows.
        std: modality -> training deviation, `(C,)`.
        size: deviation of the gain, and of the noise [training deviations].
    """
    made = {}
    for name, x in batch.items():
        gain = 1 + size * torch.randn(x.shape[0], 1, x.shape[2])
        made[name] = x * gain + size * std[name] * torch.randn_like(x)
    return made


def hide(batch: Batch, names: Set[str], most: float) -> dict[str, Tensor]:
    """Fewer values than were measured.

    Args:
        batch: windows.
        names: sensors that may miss single values.
        most: largest share of the values that is hidden; the share is drawn per window and sensor.

    Source:
        Our choice, made on three of four folds of the training patients of physionet2012: up to 0.6 hidden
        has an AUROC of 84.7 % against 83.9 % without. The test patients show no gain.
    """
    made = dict(batch)
    for name in batch.keys() & names:
        x = batch[name]
        share = most * torch.rand(len(x), 1, 1)
        made[name] = torch.where(torch.rand_like(x) < share, torch.nan, x)
    return made


def blend(
    batch: Batch, target: Tensor, rng: np.random.Generator, size: float
) -> tuple[dict[str, Tensor], Tensor]:
    """Each window mixed with another one, and the labels with them.

    Args:
        batch: windows.
        target: label distributions, `(B, n_classes)`.
        rng: draws pairs and shares.
        size: `a` of Beta(a, a), from which the share is drawn.

    Source:
        mixup (ICLR 2018).
    """
    share = float(rng.beta(size, size))
    other = torch.from_numpy(rng.permutation(len(target)))
    mixed = {}
    for name, x in batch.items():
        both = share * x + (1 - share) * x[other]
        mixed[name] = torch.where(both.isnan(), x, both)
    return mixed, share * target + (1 - share) * target[other]
