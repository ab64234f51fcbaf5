"""Rankings from what enters the last product of a block; no gradients, no labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sentryfuse.planning.importance import Importance
from sentryfuse.planning.layout import KINDS, Block
from sentryfuse.pruning.calibration import Calibration
from sentryfuse.pruning.columns import Array, ColumnStatistics
from sentryfuse.pruning.weights import weight_names


def wanda_sp_importance(calibration: Calibration) -> Importance:
    """Mean magnitude of the output weights of a column times the norm of what enters it, summed per unit.

    Source:
        Wanda (Sun et al., ICLR 2024), by columns as "Wanda-sp" in the code of FLAP. Collected once on the
        whole model, not again after each layer that is cut: a plan is not known before.
    """
    return {
        block.name: _by_unit(block, np.abs(out).mean(0) * seen.norm).sum(1).astype(np.float32)
        for block, seen, out in _columns(calibration)
    }


def flap_importance(calibration: Calibration) -> Importance:
    """Variance of what enters a column times its squared output weights, standardised per block.

    For heads the product is squared before and averaged over their dimensions after standardising. FLAP cuts
    at one threshold over all blocks; our planner asks for positive numbers, so the least of each kind of
    unit is subtracted.

    Source:
        An et al., "Fluctuation-based Adaptive Structured Pruning", AAAI 2024: WIFV, AL-AM.
    """
    found: dict[str, Array] = {}
    for block, seen, out in _columns(calibration):
        metric = seen.variance * (out**2).sum(0)
        if block.kind == "heads":
            metric = metric**2
        spread = float(metric.std())
        metric = (metric - metric.mean()) / spread if spread else np.zeros_like(metric)
        found[block.name] = _by_unit(block, metric).mean(1)
    blocks = calibration.model.layout.blocks
    for kind in KINDS:
        ran = [n for n, seen in calibration.activations.items() if blocks[n].kind == kind and seen.windows]
        least = min((float(found[name].min()) for name in ran), default=0.0)
        found |= {name: found[name] - least for name in ran}
    return {name: values.astype(np.float32) for name, values in found.items()}


def minitron_importance(calibration: Calibration) -> Importance:
    """Mean magnitude over the tokens of a window; root mean square over windows, norm over a head.

    Source:
        Muralidharan et al., "Minitron", NeurIPS 2024, as in NVIDIA Model-Optimizer: heads and channels alike
        at the input of the last product.
    """
    return {
        block.name: np.sqrt((_by_unit(block, seen.magnitude) ** 2).sum(1)).astype(np.float32)
        for block, seen, _ in _columns(calibration)
    }


def energy_importance(calibration: Calibration) -> Importance:
    """Variance of what enters a column times its squared output weights, summed per unit.

    Source:
        Our stand-in for the ranking of CORP (arXiv 2602.05243), whose own rule we have not read.
    """
    return {
        block.name: _by_unit(block, seen.variance * (out**2).sum(0)).sum(1).astype(np.float32)
        for block, seen, out in _columns(calibration)
    }


def _columns(calibration: Calibration) -> Iterator[tuple[Block, ColumnStatistics, Array]]:
    """Every block, what entered its last product, and the weights of that product, `(D, columns)`."""
    tensors = calibration.model.tensors()
    for name, block in calibration.model.layout.blocks.items():
        out = tensors[weight_names(block)[-1]].double().numpy()
        yield block, calibration.activations[name], out


def _by_unit(block: Block, columns: Array) -> NDArray[np.float64]:
    """`(columns,)` -> `(units, columns of a unit)`."""
    return columns.reshape(block.units, -1)
