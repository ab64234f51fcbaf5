"""What patch tokens see of a window, before any weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sentryfuse.graph.patch import SUMMARY_CLIP
from sentryfuse.model.tokens import PatchTokens
from sentryfuse.types import Modality
from tests.tiny import tiny_model, tiny_windows


def embedding(*, may_miss: bool = False, length: int = 64, within: float = 0.5) -> PatchTokens:
    """Of a sensor with a large offset, whose deviation of 42 is almost all between windows."""
    made = PatchTokens(
        "embed.flow", Modality("flow", 10.0, length, ("a", "b"), may_miss=may_miss), 16, tokens=4
    )
    made.normalise.mean.fill_(80.0)
    made.normalise.std.fill_(42.0)
    made.measure(torch.full((2,), within), flow(400, length=length, gaps=may_miss))
    return made


def flow(n: int, *, seed: int = 0, length: int = 64, gaps: bool = False) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    x = rng.choice([32.0, 80.0, 125.0], (n, 1, 1)) + 0.5 * rng.normal(size=(n, length, 2))
    if gaps:
        x[rng.random(x.shape) < 0.3] = np.nan
    return torch.from_numpy(x.astype(np.float32))


def patch_parts(made: PatchTokens, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values in training units, and standardised by the window, `(B, N, C, bins)` each."""
    tokens, _ = made.describe(x)
    bins = made.sizes.bins
    if made.modality.may_miss:
        return tokens[:, :, :2], tokens[:, :, 2:4]
    return tokens[..., :bins], tokens[..., bins : 2 * bins]


@pytest.mark.parametrize("may_miss", [False, True])
@torch.no_grad()
def test_a_patch_is_seen_in_training_units_and_standardised_by_its_window(may_miss):
    made, x = embedding(may_miss=may_miss), flow(5, gaps=may_miss)
    units, own = patch_parts(made, x)
    moved_units, moved_own = patch_parts(made, 3 * x - 40)
    torch.testing.assert_close(moved_own, own, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(moved_units, units, atol=0.5)
    z = (x - 80) / 42
    if not may_miss:
        expected = z.transpose(1, 2).unflatten(2, (*units.shape[1:2], 16)).transpose(1, 2)
        torch.testing.assert_close(units, expected, atol=1e-5, rtol=1e-5)
        inside = (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True)
        torch.testing.assert_close(own.transpose(2, 3).flatten(1, 2), inside, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("may_miss", [False, True])
@torch.no_grad()
def test_a_channel_that_stands_still_is_zero_and_not_rounding(may_miss):
    made = embedding(may_miss=may_miss)
    _, own = patch_parts(made, torch.full((3, 64, 2), 125.3))
    assert own.abs().max() < 1e-3
    quiet = torch.full((3, 64, 2), 125.0) + 1e-3 * torch.randn(3, 64, 2)
    assert patch_parts(made, quiet)[1].abs().max() < 0.3
    still = embedding(may_miss=may_miss, within=0.0)
    assert torch.equal(still.within, torch.ones(2))


@pytest.mark.parametrize("may_miss", [False, True])
@torch.no_grad()
def test_every_statistic_is_standardised_by_itself(may_miss):
    made = embedding(may_miss=may_miss)
    _, summary = made.describe(flow(300, seed=1, gaps=may_miss))
    standard = ((summary - made.summary_mean) / made.summary_std).numpy()
    assert standard.shape[1] == made.sizes.summary
    spread = np.subtract(*np.quantile(standard, [0.75, 0.25], axis=0)) / 1.349
    varies = standard.std(0) > 0
    assert varies.sum() >= standard.shape[1] - 4  # the last value may always, or never, be missing
    continuous = spread[varies & (spread > 0.1)]
    assert len(continuous) > 10
    assert 0.7 < continuous.min() <= continuous.max() < 1.5


@torch.no_grad()
def test_a_few_wild_windows_do_not_make_the_others_look_alike():
    calm, wild = embedding(), embedding()
    x = flow(400)
    x[:20] *= 1e4
    wild.measure(torch.full((2,), 0.5), x)
    assert (wild.summary_std / calm.summary_std).max() < 2
    beyond = torch.full((2, 64, 2), 1e9)
    beyond[:, 5] = -1e9
    assert torch.isfinite(wild(beyond, at=None)).all()
    assert SUMMARY_CLIP < 10


@torch.no_grad()
def test_nothing_measured_is_finite_and_says_so():
    made = embedding(may_miss=True)
    x = flow(2, gaps=True)
    x[0] = torch.nan
    tokens, summary = made.describe(x)
    assert torch.isfinite(tokens).all()
    assert not tokens[0].any()
    assert summary[0, -2:].tolist() == [0, 0]
    assert summary[1, -2:].tolist() == [1, 1]


def test_what_was_measured_is_kept_with_the_weights_and_is_none_of_them():
    model = tiny_model()
    held = {n for n in model.tensors() if n.startswith("embed.acc.")}
    measured = {f"embed.acc.{n}" for n in ("normalise.mean", "normalise.std", "within")}
    measured |= {"embed.acc.summary_mean", "embed.acc.summary_std"}
    assert measured <= held
    trained = {n for n, _ in model.backbone.named_parameters()}
    assert not measured & trained
    step = model.layout.steps[0]
    assert step.params_fixed == sum(model.tensors()[n].numel() for n in held & trained)


def test_a_static_sensor_has_no_window_to_be_standardised_by():
    made = PatchTokens("embed.age", Modality("age", 0.0, 1, ("years",)), 16, tokens=4)
    assert (made.sizes.per_patch, made.summarise) == (1, None)
    assert not hasattr(made, "within")


def test_training_measures_what_embeddings_standardise_by():
    from sentryfuse.training import TrainSettings, train

    model, windows = tiny_model(), tiny_windows()
    before = {n: t.clone() for n, t in model.tensors().items() if "summary_" in n or "within" in n}
    assert len(before) == 6
    train(model, windows, settings=TrainSettings(epochs=1, batch_size=32, elastic="none", readout="none"))
    assert not any(torch.equal(t, model.tensors()[n]) for n, t in before.items())
