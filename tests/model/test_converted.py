"""Encoders of PyTorch, converted: the same answers, and a sentence for what has no counterpart."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sentryfuse.errors import ConfigError
from sentryfuse.model import Call, LayerMaker, Norm, Sizes, copy_encoder, encoder_options
from sentryfuse.planning.layout import AttentionRule

D, HEADS = 24, 3


def encoder(*, final: bool = False, layers: int = 2, **options) -> nn.TransformerEncoder:
    torch.manual_seed(3)
    layer = nn.TransformerEncoderLayer(D, HEADS, **{"dim_feedforward": 40, "dropout": 0.1, **options})
    norm = nn.LayerNorm(D) if final else None
    made = nn.TransformerEncoder(layer, layers, norm=norm, enable_nested_tensor=False)
    with torch.no_grad():
        for p in made.parameters():  # biases of 0, norms of 1 and equal layers would hide mistakes
            p.add_(0.1 * torch.randn_like(p))
    return made.eval()


def targets(options, *, core="dense"):
    fields = {
        key: options[key] for key in ("d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff", "dropout")
    }
    make = LayerMaker(
        Sizes(**fields), AttentionRule(core), {}, norm=options["norm"], activation=options["activation"]
    )
    layers = [make.layer(f"layers.{i}").eval() for i in range(options["layers"])]
    return layers, Norm("norm", D) if options["final_norm"] else None


def ours(layers, norm, x):
    at = Call(len(x), x.device)
    for layer in layers:
        x = layer(x, at=at)
    return x if norm is None else norm(x, at=at)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", F.gelu, nn.ReLU(), nn.GELU()], ids=repr)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_answers_are_the_same(norm_first, activation, bias, batch_first):
    theirs = encoder(
        norm_first=norm_first, activation=activation, bias=bias, batch_first=batch_first, final=norm_first
    )
    layers, norm = targets(encoder_options(theirs))
    copy_encoder(theirs, layers, norm)
    for length in (1, 7, 130):
        x = torch.randn(2, length, D)
        with torch.no_grad():
            want = theirs(x) if batch_first else theirs(x.transpose(0, 1)).transpose(0, 1)
            torch.testing.assert_close(ours(layers, norm, x), want, atol=1e-5, rtol=1e-5)


class Odd(nn.TransformerEncoderLayer):
    pass


def with_layer(change) -> nn.TransformerEncoder:
    made = encoder()
    change(made)
    return made


def widen_last(made):
    made.layers[1] = nn.TransformerEncoderLayer(D, HEADS, 48)


def replace_last(made):
    made.layers[1] = Odd(D, HEADS, 40)


def add_keys(made):
    made.layers[0].self_attn = nn.MultiheadAttention(D, HEADS, add_bias_kv=True)


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (nn.Linear(2, 2), "Linear cannot be converted"),
        (encoder(activation=F.silu), "activation silu"),
        (encoder(activation=nn.GELU("tanh")), "activation GELU"),
        (encoder(activation=partial(F.gelu, approximate="tanh")), "activation functools.partial"),
        (encoder(layer_norm_eps=1e-12), "norm1 has eps 1e-12"),
        (encoder(dim_feedforward=30), "30 FFN channels"),
        (with_layer(widen_last), "encoder.layers.1 has another d_ff"),
        (with_layer(replace_last), "encoder.layers.1 is a Odd"),
        (with_layer(add_keys), "encoder.layers.0.self_attn has"),
        (with_layer(lambda made: setattr(made, "norm", nn.RMSNorm(D))), "encoder.norm is a RMSNorm"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_its_name(theirs, said):
    with pytest.raises(ConfigError, match=said):
        encoder_options(theirs)


def test_layers_that_do_not_fit_are_refused_and_left_alone():
    theirs = encoder()
    options = encoder_options(theirs)
    layers, _ = targets(options)
    sparse, _ = targets(options, core="sentry")
    pre, _ = targets({**options, "norm": "pre"})
    shared, _ = targets({**options, "n_kv_heads": 1})
    before = [p.clone() for p in layers[0].parameters()]
    for given, norm, said in (
        (layers[:1], None, "has 2 layers, 1 were given"),
        (layers, Norm("norm", D), "has no final norm, the layers one"),
        (sparse, None, "attention='dense'"),
        (pre, None, "has norm pre, the encoder post"),
        (shared, None, "has KV groups"),
        ([layers[0], pre[1]], None, "layers.1 has norm"),
    ):
        with pytest.raises(ConfigError, match=said):
            copy_encoder(theirs, given, norm)
    assert all(torch.equal(a, b) for a, b in zip(before, layers[0].parameters(), strict=True))
