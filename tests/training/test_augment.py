"""Augmentation keeps shapes, hides only what it may, and never shows a value that was not measured."""

from __future__ import annotations

import numpy as np
import torch

from sentryfuse.training.augment import blend, hide, vary


def windows() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    partly = torch.randn(200, 20, 3)
    partly[torch.rand_like(partly) < 0.5] = torch.nan
    return {"whole": torch.randn(200, 10, 2), "partly": partly}


def test_only_values_of_sensors_that_may_miss_some_are_hidden_and_no_more_than_asked():
    batch = windows()
    made = hide(batch, {"partly", "absent"}, 0.6)
    assert torch.equal(made["whole"], batch["whole"])
    before, after = (~x["partly"].isnan() for x in (batch, made))
    assert not (after & ~before).any()
    assert torch.equal(made["partly"][after], batch["partly"][after])
    gone = 1 - after.sum((1, 2)) / before.sum((1, 2))
    assert 0.2 < gone.mean() < 0.4
    assert gone.std() > 0.1  # drawn per window
    assert gone.max() < 0.9


def test_a_window_keeps_its_mean_and_is_moved_by_the_size_asked_for():
    inside = torch.tensor([0.5, 40.0])
    batch = {"air": torch.tensor([1013.0, 0.0]) + inside * torch.randn(500, 50, 2)}
    moved = vary(batch, {"air": inside}, 0.15)["air"] - batch["air"]
    assert (moved.mean(1).abs() < 0.15 * inside).all()
    np.testing.assert_allclose(moved.std((0, 1)) / inside, [0.15 * 2**0.5] * 2, rtol=0.1)
    assert moved[..., 0].abs().max() < 0.5 * 3


def test_variation_leaves_alone_what_does_not_vary_and_what_was_not_measured():
    batch = windows() | {"static": torch.randn(200, 1, 2), "still": torch.full((200, 9, 1), 33.0)}
    batch["partly"][0] = torch.nan
    within = {name: torch.ones(x.shape[2]) for name, x in batch.items()} | {"still": torch.zeros(1)}
    made = vary(batch, within, 0.15)
    assert torch.equal(made["static"], batch["static"])
    torch.testing.assert_close(made["still"], batch["still"])
    assert torch.equal(made["partly"].isnan(), batch["partly"].isnan())
    assert not torch.equal(made["whole"], batch["whole"])


def test_a_blend_mixes_labels_as_it_mixes_windows_and_keeps_gaps():
    batch, target = windows(), torch.eye(4).repeat(50, 1)
    mixed, labels = blend(batch, target, np.random.default_rng(0), 0.4)
    torch.testing.assert_close(labels.sum(1), torch.ones(200))
    assert torch.equal(mixed["partly"].isnan(), batch["partly"].isnan())
    share = labels[0, 0]
    assert 0 <= share <= 1
    np.testing.assert_allclose(mixed["whole"].mean(), batch["whole"].mean(), atol=0.1)
