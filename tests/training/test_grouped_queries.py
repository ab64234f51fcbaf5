"""Multi-head models become grouped-query models in closed form."""

from __future__ import annotations

import pytest
import torch

from sentryfuse.errors import ConfigError
from sentryfuse.model.attention import SentryAttention
from sentryfuse.model.pretrained import SentryModel, from_pretrained
from sentryfuse.training.grouped_queries import convert_to_gqa
from tests.tiny import BACKBONES, tiny_batch, tiny_model, tiny_windows

HEADS = 4


def multi_head(case: str = "small", *, seed: int = 0) -> SentryModel:
    """A model with as many key/value heads as query heads."""
    names = [n for n, b in tiny_model(case).layout.blocks.items() if b.kind == "heads"]
    return tiny_model(case, seed=seed, widths=dict.fromkeys(names, tuple(range(HEADS))))


def attentions(model: SentryModel) -> list[SentryAttention]:
    return [m for m in model.modules() if isinstance(m, SentryAttention)]


def answer(model: SentryModel) -> torch.Tensor:
    with torch.no_grad():
        return model({name: torch.from_numpy(x) for name, x in tiny_batch(16).items()})


def make_alike(model: SentryModel, pairs: tuple[tuple[int, int], ...], *, turned: bool) -> None:
    """Give heads of a pair the same keys and values, turned by a rotation that query and output undo."""
    torch.manual_seed(1)
    for attention in attentions(model):
        size = attention.head_dim
        for one, two in pairs:
            a, b = (slice(head * size, (head + 1) * size) for head in (one, two))
            for linear, partner in ((attention.k, attention.q), (attention.v, None)):
                turn = torch.linalg.qr(torch.randn(size, size))[0] if turned else torch.eye(size)
                with torch.no_grad():
                    linear.weight[b] = turn.T @ linear.weight[a]
                    linear.bias[b] = turn.T @ linear.bias[a]
                    if partner is not None:
                        partner.weight[b] = turn.T @ partner.weight[b]
                        partner.bias[b] = turn.T @ partner.bias[b]
                    else:
                        attention.o.weight[:, b] = attention.o.weight[:, b] @ turn


@pytest.mark.parametrize("case", BACKBONES)
def test_neighbours_that_say_the_same_are_merged_without_loss_by_their_mean(case):
    model = multi_head(case)
    make_alike(model, ((0, 1), (2, 3)), turned=False)
    made = convert_to_gqa(model, 2, method="mean")
    torch.testing.assert_close(answer(made.model), answer(model), rtol=1e-4, atol=1e-4)
    assert made.n_kv_heads == (4, 2)
    assert all(b.groups == (0, 0, 1, 1) for b in made.model.layout.blocks.values() if b.kind == "heads")


@pytest.mark.parametrize("case", BACKBONES)
def test_heads_that_are_turned_copies_are_found_and_merged_without_loss(case):
    model = multi_head(case)
    make_alike(model, ((0, 2), (1, 3)), turned=True)
    made = convert_to_gqa(model, 2, windows=tiny_windows(), method="aligned")
    several = [b.groups for b in made.model.layout.blocks.values() if b.kind == "heads"]
    assert set(several) <= {(0, 1, 0, 1), (1, 0, 1, 0)}
    torch.testing.assert_close(answer(made.model), answer(model), rtol=1e-2, atol=1e-2)
    by_mean = convert_to_gqa(model, 2, method="mean")
    assert distance(made.model, model) < 0.1 * distance(by_mean.model, model)


def distance(one: SentryModel, other: SentryModel) -> float:
    return float((answer(one) - answer(other)).abs().mean())


def test_alignment_is_nearer_to_the_old_answers_than_the_mean():
    model = multi_head(seed=3)
    aligned = convert_to_gqa(model, 2, windows=tiny_windows(), method="aligned")
    assert distance(aligned.model, model) < distance(convert_to_gqa(model, 2, method="mean").model, model)


def test_the_old_model_stays_as_it_was_and_the_new_one_is_an_ordinary_model(tmp_path):
    model = multi_head()
    before = answer(model)
    made = convert_to_gqa(model, 1, windows=tiny_windows())
    assert torch.equal(answer(model), before)
    made.model.save_pretrained(tmp_path / "model")
    assert torch.equal(answer(from_pretrained(tmp_path / "model")), answer(made.model))
    assert [row["n_windows"] for row in made.validation] == [16, 16]
    assert made.validation[1]["macs"] < made.validation[0]["macs"]


@pytest.mark.parametrize(
    ("n", "options", "words"),
    [
        (4, {"method": "mean"}, "choose 1 to 3"),
        (0, {"method": "mean"}, "choose 1 to 3"),
        (2, {"method": "median"}, "aligned or mean"),
        (2, {}, "needs windows"),
    ],
)
def test_what_cannot_be_converted_is_refused(n, options, words):
    with pytest.raises(ConfigError, match=words):
        convert_to_gqa(multi_head(), n, **options)
