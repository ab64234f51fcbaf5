from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sentryfuse.errors import ConfigError
from sentryfuse.model.backbone import Backbone
from sentryfuse.pruning.calibration import Calibration, Calibrator
from sentryfuse.pruning.gradients import fisher_importance
from tests.tiny import tiny_model, tiny_windows

WINDOWS = tiny_windows()


@pytest.fixture
def passes(monkeypatch):
    """Sensors and number of windows of every pass through a model."""
    seen = []
    forward = Backbone.forward

    def counting(self, windows, present=None, **rest):
        seen.append((tuple(present), len(next(iter(windows.values())))))
        return forward(self, windows, present, **rest)

    monkeypatch.setattr(Backbone, "forward", counting)
    return seen


def test_nothing_is_computed_before_it_is_asked_for_and_then_once(passes):
    calibration = Calibration(tiny_model(), WINDOWS)
    assert not passes
    assert calibration.gradients is calibration.gradients
    backward = list(passes)
    assert calibration.activations is calibration.activations
    assert passes == backward * 2, "both passes see the same windows"
    assert sum(n for _, n in backward) == len(WINDOWS.indices("train"))


def test_the_mixture_switches_sensors_off_at_random_but_never_all(passes):
    model = tiny_model()
    windows = tiny_windows(3000)
    calibration = Calibration(model, windows, present="mixture", n_windows=640)
    seen = calibration.activations
    assert sum(n for _, n in passes) == 640
    share = np.average(["acc" in on for on, _ in passes], weights=[n for _, n in passes])
    assert all(on for on, _ in passes)
    assert len({on for on, _ in passes}) == 7, "every set of sensors is drawn"
    assert 0.4 < share < 0.72, "in 4 of 7 sets, where all sensors are there"
    drawn = list(passes)
    assert calibration.gradients.units["encoder.acc.0.attn"].shape[0] == seen["encoder.acc.0.attn"].windows
    assert passes == drawn * 2, "both passes draw the same sensors"


def test_a_block_is_judged_by_the_windows_in_which_it_ran():
    """Were absent windows counted as zeros, a branch would lose worth by being off."""
    model = tiny_model()
    alone = np.isin(np.arange(len(WINDOWS)), np.flatnonzero(WINDOWS.present.all(1)))
    only = replace(WINDOWS, split=np.where(alone, WINDOWS.split, 2).astype(np.int8))
    off = replace(WINDOWS, present=WINDOWS.present.copy())
    off.present[~alone, 0] = False  # elsewhere, acc is off
    want = fisher_importance(Calibration(model, only))["encoder.acc.0.ffn"]
    found = fisher_importance(Calibration(model, off))["encoder.acc.0.ffn"]
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-7)


def test_windows_that_lack_a_sensor_never_show_it(passes):
    model = tiny_model()
    _ = Calibration(model, WINDOWS, present=("temp",)).gradients
    has = WINDOWS.present[WINDOWS.indices("train"), WINDOWS.names.index("temp")]
    assert passes == [(("temp",), has.sum())]
    assert has.sum() < len(has)


def test_calibrations_are_shared_by_sensors():
    calibrator = Calibrator(tiny_model(), tiny_windows(3000))
    assert calibrator.on(None) is calibrator.on(None)
    assert calibrator.on(("acc",)) is calibrator.on(("acc",))
    assert calibrator.on(("acc",)) is not calibrator.on(("temp",))


def test_a_sensor_that_no_training_window_has_cannot_be_calibrated_on():
    windows = replace(WINDOWS, present=WINDOWS.present.copy())
    windows.present[:, 0] = False
    with pytest.raises(ConfigError, match="no training window with acc to calibrate on"):
        Calibration(tiny_model(), windows, present=("acc",))
    with pytest.raises(ConfigError, match="unknown sensor"):
        Calibration(tiny_model(), windows, present=("sonar",))


def test_few_windows_are_drawn_by_seed(passes):
    model = tiny_model()
    found = [
        Calibration(model, WINDOWS, n_windows=8, seed=seed).activations["fusion.0.ffn"].mean
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert sum(n for _, n in passes) == 24
