"""The whole model, trained by default settings, on recordings that are hard in one known way each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

import sentryfuse as sf
from sentryfuse.data import Windows
from tests.awkward import AWKWARD


def with_validation(windows: Windows) -> Windows:
    """A quarter of the people to learn from choose the epoch instead."""
    people = np.unique(windows.subject[windows.split == 0])
    chosen = people[-max(1, round(0.25 * len(people))) :]
    return replace(windows, split=np.where(np.isin(windows.subject, chosen), 1, windows.split))


@pytest.mark.slow
@pytest.mark.parametrize("name", AWKWARD)
def test_ours_is_at_least_a_random_forest_minus_a_point(name):
    windows = with_validation(AWKWARD[name](0))
    model = sf.create_model("maestro", modalities=windows.modalities, classes=windows.classes)
    sf.train(model, windows)
    found = sf.compare(model, windows, ratios=[0.0, 0.8], rivals=["random forest"])
    for presence in ("all", "one missing"):
        *ours, forest = (row["accuracy"] for row in found.rows if row["presence"] == presence)
        assert min(ours) >= forest - 0.01, found.verdict
