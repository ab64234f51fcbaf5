"""A training on another device takes the same steps."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from sentryfuse.pruning.evaluation import evaluate
from sentryfuse.training import TrainSettings, train
from tests.model.encoders import encoder
from tests.tiny import tiny_model, tiny_windows
from tests.training.elsewhere import DEVICE, Device
from tests.training.together import comparable

WINDOWS = tiny_windows(60)
SETTINGS = TrainSettings(epochs=1, batch_size=16, seed=3, warm_up=0.0, gate_until=0.6, readout="none")
RULES = {
    "small": "gate",
    "flexmoe": "gate",
    "taken": "taylor",
    "mult": "static",
    "sparse": "none",
    "encoder": "gate",
}


def made(case):
    """With an encoder of one's own, whose batch norms and positions must come along, too."""
    if case == "encoder":
        return tiny_model().with_encoders(
            {"acc": encoder("spectrogram", 64, 3), "temp": encoder("pads", 13, 1)}
        )
    return tiny_model(case)


def check_same(case, device, path):
    settings = replace(SETTINGS, elastic=RULES[case])
    here, there = made(case), made(case)
    expected = train(here, WINDOWS, settings=settings)
    found = train(there, WINDOWS, settings=settings, device=device, state_file=path)
    for name in ("loss", "elastic_loss", "gate_loss", "accuracy", "validation"):
        assert found[0][name] == pytest.approx(expected[0][name], abs=1e-4), name
    assert there.device == torch.device("cpu"), "it comes back"
    for name, tensor in comparable(here).items():
        torch.testing.assert_close(comparable(there)[name], tensor, atol=1e-4, rtol=0, msg=name)
    rows = [
        evaluate(
            here,
            WINDOWS,
            ratios=(0.0, 0.5),
            missing_rates=(0.4,),
            scorers=("gate", "taylor"),
            device=place,
        )
        for place in ("cpu", device)
    ]
    assert [row["macs"] for row in rows[0]] == [row["macs"] for row in rows[1]]
    np.testing.assert_allclose(
        [row["accuracy"] for row in rows[0]], [row["accuracy"] for row in rows[1]], atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", RULES)
def test_nothing_is_forgotten_on_the_cpu(case, monkeypatch, tmp_path):
    optimizers = sys.modules["torch.optim.optimizer"]
    monkeypatch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: ["cpu", DEVICE.type])
    with Device():
        check_same(case, DEVICE, tmp_path / "state.safetensors")


def test_a_forgotten_tensor_would_be_noticed():
    with Device():
        away = torch.ones(3).to(DEVICE)
        assert (2 * away + torch.zeros(3, device=DEVICE)).cpu().tolist() == [2, 2, 2]
        with pytest.raises(RuntimeError, match="is not on"):
            away + torch.ones(3)
        with pytest.raises(RuntimeError, match="is not on"):
            tiny_model()(
                {"age": torch.ones(1, 1, 2).to(DEVICE)},
                ("age",),
            )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("case", RULES)
def test_a_gpu_trains_what_the_cpu_trains(case, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    check_same(case, "cuda", tmp_path / "state.safetensors")
