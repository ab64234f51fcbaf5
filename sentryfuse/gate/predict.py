"""The trained gate in numpy, as the device runs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sentryfuse.planning.layout import Layout

Array = NDArray[np.float32]


class NumpyGate:
    """Presence of sensors -> importance of every unit; the same numbers as `SentryGate`.

    Args:
        layout: the model whose units are scored.
        tensors: the gate's weights, `hidden`, `code` and `units`, each with `.weight` and `.bias`.
    """

    def __init__(self, layout: Layout, tensors: Mapping[str, Array]) -> None:
        self.names = layout.names
        self.sizes = {name: block.units for name, block in layout.blocks.items()}
        self._layers = [
            (tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in ("hidden", "code", "units")
        ]

    def importance(self, present: Iterable[str]) -> dict[str, Array]:
        """Importance of every unit for these sensors: block name -> `(units,)`, positive."""
        on = set(present)
        x = np.array([name in on for name in self.names], np.float32)
        for weight, bias in self._layers[:-1]:
            x = weight @ x + bias
            x = x / (1 + np.exp(-x))  # SiLU
        weight, bias = self._layers[-1]
        ends = np.cumsum(list(self.sizes.values()))[:-1]
        scores = np.split(np.exp(weight @ x + bias), ends)
        return dict(zip(self.sizes, scores, strict=True))
