from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sentryfuse.model import Selection
from sentryfuse.model.call import Call
from sentryfuse.model.layer import Layer, LayerShape
from sentryfuse.planning.layout import AttentionRule

D, NOTHING = 8, torch.empty(0, dtype=torch.long)
FORMS = [(norm, halves) for norm in ("pre", "post") for halves in (False, True)]


def made(norm, halves, *, groups=(0, 0, 1), d_ff=16):
    torch.manual_seed(0)
    shape = LayerShape(groups, 4, d_ff, norm=norm, halves=halves, dropout=0.0)
    return Layer("l", D, shape=shape, rule=AttentionRule("dense")).eval()


def run(layer, x, source=None, **kept):
    select = Selection(kept={f"l.{name}": units for name, units in kept.items()})
    return layer(x, source, at=Call(len(x), x.device, (), select))


@pytest.mark.parametrize(("norm", "halves"), FORMS)
def test_without_a_unit_tokens_pass_as_they_are_or_are_pooled(norm, halves):
    layer, x = made(norm, halves), torch.randn(3, 7, D)
    found = run(layer, x, attn=NOTHING, ffn=NOTHING)
    if halves:
        assert torch.equal(found, F.max_pool1d(x.mT, 3, 2, padding=1).mT)
    else:
        assert torch.equal(found, x)
    empty = made(norm, halves, groups=(), d_ff=0)
    assert not list(empty.parameters())
    assert empty.step(("x",), "y", ()).blocks == ()
    assert torch.equal(run(empty, x), found)


@pytest.mark.parametrize(("norm", "halves"), FORMS)
def test_a_branch_that_is_gone_changes_nothing_of_the_other(norm, halves):
    layer, x = made(norm, halves), torch.randn(3, 7, D)
    for gone in ("attn", "ffn"):
        small = made(norm, halves, groups=()) if gone == "attn" else made(norm, halves, d_ff=0)
        small.load_state_dict({n: t for n, t in layer.state_dict().items() if n in small.state_dict()})
        assert torch.equal(run(layer, x, **{gone: NOTHING}), run(small, x))


def test_a_source_nobody_asks_is_not_read():
    layer, x = made("pre", False), torch.randn(2, 5, D)
    bad = torch.full((2, 3, D), torch.nan)
    assert torch.isfinite(run(layer, x, bad, attn=NOTHING)).all()


@pytest.mark.parametrize(("norm", "halves"), FORMS)
def test_the_shell_of_a_block_is_what_its_absence_spares(norm, halves):
    layer = made(norm, halves)
    whole = layer.step(("x",), "y", ())
    smaller = made(norm, halves, groups=()), made(norm, halves, d_ff=0)
    for block, layer in zip(whole.blocks, smaller, strict=True):
        left = layer.step(("x",), "y", ())
        assert whole.params_fixed - left.params_fixed == block.shell_params
        assert whole.macs_per_token - left.macs_per_token == block.shell_macs
        assert [b.name for b in left.blocks] == [b.name for b in whole.blocks if b != block]
