from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sentryfuse.data import by_subject, describe, load_windows, subject_floor, training_statistics

ROOM = Path(os.environ.get("SENTRYFUSE_DATA", Path(__file__).parents[2] / "../shared/data"))
FILES = sorted(ROOM.glob("*.npz")) if ROOM.is_dir() else []

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not FILES, reason="no recordings; set SENTRYFUSE_DATA to their folder"),
]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_real_recording_loads_and_normalises(path):
    windows = load_windows(path)
    told = describe(windows)
    assert sum(told["classes"].values()) == told["n_windows"] == len(windows)
    train = windows.indices("train")
    statistics = training_statistics(windows, train)
    some = windows.batch(train[:: max(1, len(train) // 500)])
    for name in windows.names:
        assert (statistics.std[name] > 0).all()
        scaled = (some[name] - statistics.mean[name]) / statistics.std[name]
        assert 0.2 < np.nanstd(scaled) < 3
    standardised = by_subject(windows, subject_floor(windows, train)).batch(train[:50])
    assert all(np.isfinite(x).any() and not np.isinf(x).any() for x in standardised.values())
