"""What a step is told beside the values it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sentryfuse.model.attention import Selection


@dataclass(frozen=True)
class Call:
    """One pass through one step.

    Attributes:
        n_windows: `B`.
        device: where the values are.
        parts: tokens of each of the step's parts, 0 for those that do not exist; a window that is there
            counts 1.
        select: units that take part; `None` means all.
    """

    n_windows: int
    device: torch.device
    parts: Sequence[int] = ()
    select: Selection | None = None
