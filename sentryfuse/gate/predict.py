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


def levelled(importance: Mapping[str, Array]) -> dict[str, Array]:
    """Divide every block's importance by its mean, for planning.

    Levels between blocks say how deep a block lies rather than how many of its units can go, and a plan that
    follows them starves whole blocks. What the gate knows of the units within a block is what counts.

    Args:
        importance: block name -> `(units,)`, positive.

    Returns:
        The same shape; the order within a block does not change.

    Source:
        Our choice, made on the validation person of dsads: three seeds, mean over r = 0.6, 0.8 and 0.9 and
        over all sensors and one missing, 95.3 % against 95.2 % with the root of the mean and 95.1 % for
        magnitude.
    """
    return {
        name: (values / np.maximum(values.mean(), 1e-30)).astype(np.float32)
        for name, values in importance.items()
    }
