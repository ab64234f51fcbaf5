"""Rankings from gradients on calibration windows."""

from __future__ import annotations

import numpy as np

from sentryfuse.planning.importance import Importance, levelled
from sentryfuse.pruning.calibration import Calibration
from sentryfuse.pruning.weights import coupled_sum, weight_names


def taylor_importance(calibration: Calibration) -> Importance:
    """Mean over windows of `|dL_b / dxi|`, l2-normalised per block; zeros for blocks that did not run.

    Source:
        Michel et al., "Are Sixteen Heads Really Better than One?", NeurIPS 2019; channels alike.
    """
    found = {}
    for name, gradient in calibration.gradients.units.items():
        total = np.abs(gradient, dtype=np.float64).sum(0)
        found[name] = (total / max(float(np.linalg.norm(total)), 1e-30)).astype(np.float32)
    return found


def fisher_importance(calibration: Calibration) -> Importance:
    """Mean over windows of `(dL_b / dxi) ** 2`, not normalised: half of it is what the loss would rise by.

    Source:
        Diagonal of the empirical Fisher matrix of the factors, as in Kwon et al., NeurIPS 2022, and as
        "gradnas" in NVIDIA Model-Optimizer.
    """
    return {
        name: ((gradient.astype(np.float64) ** 2).sum(0) / max(len(gradient), 1)).astype(np.float32)
        for name, gradient in calibration.gradients.units.items()
    }


def llm_pruner_importance(calibration: Calibration) -> Importance:
    """Sum of `|w * dL/dw|` over all weights a unit owns, L the mean loss of the windows.

    Source:
        Ma et al., "LLM-Pruner", NeurIPS 2023, "param first", group sum.
    """
    tensors, gradients = calibration.model.tensors(), calibration.gradients.weights
    return {
        name: coupled_sum(
            block, {at: (tensors[at] * gradients[at]).abs() for at in weight_names(block)}
        ).numpy()
        for name, block in calibration.model.layout.blocks.items()
    }


def group_taylor_importance(calibration: Calibration) -> Importance:
    """Mean over the coupled matrices of the sum of `|w * dL/dw|`, divided by its mean in the block.

    Source:
        Group Taylor of Torch-Pruning 1.6.1, reduction and normaliser "mean"; after Molchanov et al., CVPR
        2019. It is LLM-Pruner's score levelled between blocks.
    """
    return levelled(llm_pruner_importance(calibration))
