"""Rankings from gradients on calibration windows."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from sentryfuse.checkpoint import SentryModel
from sentryfuse.data import Windows, batches
from sentryfuse.gate.saliency import batch_saliency, unit_factors
from sentryfuse.model import Selection
from sentryfuse.pruning.scorers import Scores

CALIBRATION_WINDOWS = 1024
BATCH = 128


def taylor_scores(
    model: SentryModel,
    windows: Windows,
    *,
    present: tuple[str, ...] | None = None,
    n_windows: int = CALIBRATION_WINDOWS,
    seed: int = 0,
) -> Scores:
    """Mean absolute first-order saliency on training windows, l2-normalised per block.

    Args:
        model: the model to score.
        windows: where its training windows are.
        present: sensors that are on; `None` means all (the static ranking).
        n_windows: training windows looked at, at most.
        seed: of the draw of calibration windows.

    Returns:
        Block name -> `(units,)`; zeros for blocks that do not run.

    Source:
        Michel et al., NeurIPS 2019.
    """
    model.eval()
    rng = np.random.default_rng(seed)
    pool = windows.indices("train")
    pool = rng.choice(pool, min(n_windows, len(pool)), replace=False)
    mask = np.array([present is None or name in present for name in windows.names])
    keep = np.broadcast_to(mask, (len(pool), len(windows.names)))
    total = {n: np.zeros(b.units) for n, b in model.layout.blocks.items()}
    for on, chosen in batches(windows, pool, batch_size=BATCH, present=keep):
        batch = {name: torch.from_numpy(x).to(model.device) for name, x in windows.batch(chosen, on).items()}
        live = [b for step in model.layout.route(on) for b in step.blocks]
        factors = unit_factors(live, len(chosen), model.device)
        logits = model(batch, on, select=Selection(gates=factors))
        F.cross_entropy(logits, torch.from_numpy(windows.y[chosen]).to(model.device)).backward()
        for name, saliency in batch_saliency(factors).items():
            total[name] += saliency.cpu().numpy() * len(chosen)
    model.zero_grad()
    return {n: (t / max(float(np.linalg.norm(t)), 1e-30)).astype(np.float32) for n, t in total.items()}
