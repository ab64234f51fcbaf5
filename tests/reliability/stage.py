"""A stage for faults, made in milliseconds: the golden bundle and noise, of which one sensor is hurt."""

from __future__ import annotations

import numpy as np

from benchmarks.reliability.fault_stage import Stage
from sentryfuse.bundle import load_bundle
from tests.tiny import GOLDEN

WINDOWS, WINDOW_S = 200, 4


def small_stage() -> Stage:
    """Noise of all sensors; `acc` alone is taken for trials, since its samples fill the whole window."""
    bundle = load_bundle(GOLDEN / "tiny-v3.bundle")
    rng = np.random.default_rng(5)
    recorded = {
        m.name: rng.standard_normal((round(WINDOW_S * m.rate_hz) * WINDOWS or WINDOWS, m.n_channels)).astype(
            np.float32
        )
        for m in bundle.layout.modalities
    }
    stage = Stage(bundle, recorded, rng.integers(0, len(bundle.classes), WINDOWS))
    stage.moving = [m for m in stage.moving if m.name == "acc"]
    return stage
