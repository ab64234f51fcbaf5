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


def test_variation_is_of_the_size_asked_for_in_training_deviations():
    batch = {"whole": torch.zeros(500, 10, 2)}
    made = vary(batch, {"whole": torch.tensor([1.0, 10.0])}, 0.1)["whole"]
    np.testing.assert_allclose(made.std((0, 1)), [0.1, 1.0], rtol=0.1)
    assert vary(windows(), {"whole": torch.ones(2), "partly": torch.ones(3)}, 0.1)["partly"].isnan().any()


def test_a_blend_mixes_labels_as_it_mixes_windows_and_keeps_gaps():
    batch, target = windows(), torch.eye(4).repeat(50, 1)
    mixed, labels = blend(batch, target, np.random.default_rng(0), 0.4)
    torch.testing.assert_close(labels.sum(1), torch.ones(200))
    assert torch.equal(mixed["partly"].isnan(), batch["partly"].isnan())
    share = labels[0, 0]
    assert 0 <= share <= 1
    np.testing.assert_allclose(mixed["whole"].mean(), batch["whole"].mean(), atol=0.1)
