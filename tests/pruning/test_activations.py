from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.pruning.activations import (
    energy_importance,
    flap_importance,
    minitron_importance,
    wanda_sp_importance,
)
from sentryfuse.pruning.calibration import Calibration
from sentryfuse.pruning.columns import ColumnStatistics
from tests.pruning.by_hand import last_inputs
from tests.tiny import tiny_model, tiny_windows, uneven_widths

WINDOWS = tiny_windows(24)
SOME = ["sparse", "experts", "flexmoe", "taken", "mult"]


@pytest.fixture(scope="module", params=SOME)
def seen(request):
    """A calibration, and per block: its width of a unit, output weights, tokens of each window."""
    model = tiny_model(request.param, widths=uneven_widths(request.param))
    tensors = model.tensors()
    tokens = last_inputs(model, WINDOWS)
    blocks = {
        name: (block, tensors[f"{name}.{'o' if block.head_dim else 'down'}.weight"].double().numpy())
        for name, block in model.layout.blocks.items()
    }
    return Calibration(model, WINDOWS), {name: (*blocks[name], tokens[name]) for name in blocks}


def columns(block, unit):
    width = block.head_dim or 1
    return range(unit * width, (unit + 1) * width)


def test_wanda_is_mean_weight_times_norm_of_the_column(seen):
    calibration, blocks = seen
    scores = wanda_sp_importance(calibration)
    for name, (block, out, tokens) in blocks.items():
        for unit in range(block.units):
            want = 0.0
            for c in columns(block, unit):
                norm = np.sqrt(sum(x * x for window in tokens for x in window[:, c]))
                want += np.mean([abs(w) for w in out[:, c]]) * norm / np.sqrt(len(tokens))
            assert scores[name][unit] == pytest.approx(want, rel=1e-3, abs=1e-6)


def test_the_energy_is_variance_times_squared_weights(seen):
    calibration, blocks = seen
    scores = energy_importance(calibration)
    for name, (block, out, tokens) in blocks.items():
        every = np.concatenate(tokens)
        for unit in range(block.units):
            want = sum(every[:, c].var() * (out[:, c] ** 2).sum() for c in columns(block, unit))
            assert scores[name][unit] == pytest.approx(want, rel=1e-3, abs=1e-6)


def test_minitron_takes_the_mean_magnitude_of_each_window(seen):
    calibration, blocks = seen
    scores = minitron_importance(calibration)
    for name, (block, _, tokens) in blocks.items():
        for unit in range(block.units):
            squares = [
                sum(np.mean(abs(window[:, c])) ** 2 for window in tokens) for c in columns(block, unit)
            ]
            want = np.sqrt(sum(squares) / len(tokens))
            assert scores[name][unit] == pytest.approx(want, rel=1e-3, abs=1e-6)


def test_flap_standardises_fluctuation_and_subtracts_the_least_of_each_kind(seen):
    calibration, blocks = seen
    scores = flap_importance(calibration)
    want: dict[str, list[float]] = {}
    kinds: dict[str, list[float]] = {}
    for name, (block, out, tokens) in blocks.items():
        metric = np.concatenate(tokens).var(0) * (out**2).sum(0)
        if block.kind == "heads":
            metric = metric**2
        standard = (metric - np.mean(metric)) / np.std(metric)
        want[name] = [np.mean([standard[c] for c in columns(block, u)]) for u in range(block.units)]
        kinds.setdefault(block.kind, []).extend(want[name])
    for name, values in want.items():
        least = min(kinds[blocks[name][0].kind])
        np.testing.assert_allclose(scores[name], np.array(values) - least, atol=2e-3)


def test_statistics_do_not_depend_on_how_windows_are_cut_into_batches():
    rng = np.random.default_rng(0)
    rows = rng.normal(1000.0, 1e-3, (60, 2, 3))  # 60 windows of 2 tokens; the mean dwarfs the spread
    results = []
    for size in (60, 7, 1):
        made = ColumnStatistics(3)
        for i in range(0, 60, size):
            part = rows[i : i + size]
            made.add(part.reshape(-1, 3), windows=len(part), length=2)
        results.append(made)
    for made in results:
        np.testing.assert_allclose(made.mean, rows.mean((0, 1)))
        np.testing.assert_allclose(made.variance, rows.var((0, 1)), rtol=1e-4)
        np.testing.assert_allclose(made.magnitude, np.sqrt((abs(rows).mean(1) ** 2).mean(0)))
        np.testing.assert_allclose(made.norm, np.sqrt((rows**2).sum((0, 1)) / 60))
