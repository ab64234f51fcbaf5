from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sentryfuse.gate.saliency import SaliencyScale, batch_saliency, saliency_loss, unit_factors
from sentryfuse.model import Selection
from tests.tiny import CASES, tiny_batch, tiny_model

LABELS = torch.tensor([0, 2, 1, 1])


@pytest.mark.parametrize("present", [("acc", "temp", "age"), ("temp",)], ids="+".join)
@pytest.mark.parametrize("case", CASES)
def test_one_backward_pass_gives_what_a_pass_per_window_gives(case, present):
    model = tiny_model(case)
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch(4).items()}
    live = [b for step in model.layout.route(present) for b in step.blocks]
    factors = unit_factors(live, 4)
    logits = model(batch, present, select=Selection(gates=factors))
    F.cross_entropy(logits, LABELS).backward()
    together = batch_saliency(factors)
    assert together.keys() == {b.name for b in live}

    total = {b.name: torch.zeros(b.units) for b in live}
    for i in range(4):
        alone = {b.name: torch.ones(b.units, requires_grad=True) for b in live}
        window = {name: x[i : i + 1] for name, x in batch.items()}
        logits = model(window, present, select=Selection(gates=alone))
        F.cross_entropy(logits, LABELS[i : i + 1]).backward()
        for name, xi in alone.items():
            assert xi.grad is not None
            total[name] += xi.grad.abs() / 4
    for name, saliency in total.items():
        torch.testing.assert_close(together[name], saliency, rtol=1e-4, atol=1e-6)
    assert sum(float(s.max()) > 0 for s in total.values()) > len(total) / 2  # an expert may idle


def test_saliency_foretells_what_the_loss_gains_when_a_factor_moves():
    model = tiny_model()
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch(1).items()}
    live = [b for step in model.layout.route(None) for b in step.blocks]
    factors = unit_factors(live, 1)
    loss = F.cross_entropy(model(batch, select=Selection(gates=factors)), LABELS[:1])
    loss.backward()
    before = float(loss.detach())
    for name, saliency in batch_saliency(factors).items():
        unit = int(saliency.argmax())
        moved = {n: xi.detach().clone() for n, xi in factors.items()}
        moved[name][0, unit] += 0.01
        with torch.no_grad():
            other = F.cross_entropy(model(batch, select=Selection(gates=moved)), LABELS[:1])
        expected = 0.01 * float(saliency[unit])
        assert abs(float(other) - before) == pytest.approx(expected, rel=0.05, abs=2e-6)


def test_factors_without_a_gradient_are_left_out():
    factors = unit_factors(list(tiny_model().layout.blocks.values()), 2)
    assert batch_saliency(factors) == {}


def test_the_best_score_is_the_log_of_the_conditional_mean():
    torch.manual_seed(0)
    seen = torch.distributions.Exponential(torch.tensor([0.2, 1.0, 30.0])).sample((60,))
    scores = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.stack([saliency_loss({"x": scores}, {"x": row}) for row in seen]).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(scores.detach().exp(), seen.mean(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("start", [-20.0, 7.0, 9.0, 50.0])
def test_the_loss_pulls_back_from_anywhere(start):
    """A score far above its target must come down, also where the exponential is cut short."""
    scores = torch.full((2,), start, requires_grad=True)
    loss = saliency_loss({"x": scores}, {"x": torch.tensor([0.5, 2.0])})
    loss.backward()
    assert torch.isfinite(loss)
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad.sign() == (1 if start > 0 else -1)).all()


def test_targets_get_no_gradient_and_blocks_without_target_do_not_count():
    scores = {"x": torch.zeros(2, requires_grad=True), "y": torch.zeros(3, requires_grad=True)}
    target = torch.ones(2, requires_grad=True)
    saliency_loss(scores, {"x": target}).backward()
    assert target.grad is None
    assert scores["x"].grad is not None
    assert scores["y"].grad is None


def test_the_scale_makes_the_mean_of_each_kind_one_and_keeps_layers_comparable():
    scale = SaliencyScale(decay=0.5)
    kinds = {"a": "heads", "b": "heads", "c": "ffn"}
    saliency = {
        "a": torch.tensor([1.0, 3.0]),
        "b": torch.tensor([8.0]),
        "c": torch.tensor([1e-4, 3e-4]),
    }
    made = scale.normalise(saliency, kinds)
    assert float(torch.cat([made["a"], made["b"]]).mean()) == pytest.approx(1)
    assert float(made["c"].mean()) == pytest.approx(1)
    assert float(made["b"][0] / made["a"][0]) == pytest.approx(8)
    scale.normalise({name: 3 * t for name, t in saliency.items()}, kinds)
    assert scale.mean["heads"] == pytest.approx(0.5 * 4 + 0.5 * 12)


def test_the_scale_of_nothing_is_no_division_by_zero():
    made = SaliencyScale().normalise({"a": torch.zeros(3)}, {"a": "heads"})
    assert (made["a"] == 0).all()
