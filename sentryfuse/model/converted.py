"""`nn.TransformerEncoder` -> our layers with the same answers, so that others' models can be pruned.

Notation: D d_model · H query heads · K head_dim · F FFN channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentryfuse.errors import ConfigError
from sentryfuse.model.attention import SentryAttention
from sentryfuse.model.feedforward import FeedForward
from sentryfuse.model.joins import Norm
from sentryfuse.model.layer import Layer

EPSILON = 1e-5  # of every layer norm, here and on the device


def encoder_options(encoder: nn.TransformerEncoder) -> dict[str, Any]:
    """Sizes of an encoder, in the words of a backbone's shape and of `LayerMaker`.

    Args:
        encoder: of PyTorch; before or after training.

    Returns:
        `d_model`, `n_heads`, `n_kv_heads`, `head_dim`, `d_ff`, `dropout` (fields of `Sizes`), `layers`,
        `norm` ("pre" or "post"), `activation` ("gelu" or "relu") and `final_norm` (whether one follows).

    Raises:
        ConfigError: something that has no counterpart here, by its name.
    """
    found = [_layer_options(name, layer) for name, layer in _layers(encoder)]
    for i, options in enumerate(found):
        other = [key for key in options if options[key] != found[0][key]]
        if other:
            raise ConfigError(f"encoder.layers.{i} has another {other[0]} than the first; make them equal")
    _check_norm("encoder.norm", encoder.norm)
    return {**found[0], "layers": len(found), "final_norm": encoder.norm is not None}


@torch.no_grad()
def copy_encoder(encoder: nn.TransformerEncoder, layers: Sequence[Layer], norm: Norm | None = None) -> None:
    """Put the weights of an encoder into layers of ours, which then answer as it does in eval mode.

    Biases that `bias=False` leaves out become 0. Inputs are `(B, L, D)` here, whatever `batch_first` was.
    Masks are not part of an encoder and not of a layer: absent sensors have no tokens here.

    Args:
        encoder: of PyTorch; not changed.
        layers: as many, of the sizes that `encoder_options` gives, with attention "dense".
        norm: takes the encoder's final norm, if it has one.

    Raises:
        ConfigError: something that has no counterpart here, or layers of other sizes; nothing was copied.
    """
    options = encoder_options(encoder)
    if len(layers) != options["layers"]:
        raise ConfigError(
            f"the encoder has {options['layers']} layers, {len(layers)} were given; give as many"
        )
    if (norm is not None) != options["final_norm"]:
        has = "has a final norm" if options["final_norm"] else "has no final norm"
        raise ConfigError(
            f"the encoder {has}, the layers {'none' if norm is None else 'one'}; make them alike"
        )
    for layer in layers:
        _check_target(layer, options)
    for (_, theirs), ours in zip(_layers(encoder), layers, strict=True):
        _copy_layer(theirs, ours)
    if norm is not None and encoder.norm is not None:
        _copy_norm(encoder.norm, norm.norm)


def _layers(encoder: nn.TransformerEncoder) -> Iterator[tuple[str, nn.TransformerEncoderLayer]]:
    if type(encoder) is not nn.TransformerEncoder:
        raise ConfigError(
            f"{type(encoder).__name__} cannot be converted; give an nn.TransformerEncoder, or copy the "
            "weights into layers of LayerMaker yourself"
        )
    if not len(encoder.layers):
        raise ConfigError("the encoder has no layers; give one with some")
    for i, layer in enumerate(encoder.layers):
        if type(layer) is not nn.TransformerEncoderLayer:
            raise ConfigError(
                f"encoder.layers.{i} is a {type(layer).__name__}, of which nothing is known; "
                "only nn.TransformerEncoderLayer can be converted"
            )
        yield f"encoder.layers.{i}", layer


def _layer_options(name: str, layer: nn.TransformerEncoderLayer) -> dict[str, Any]:
    attention = layer.self_attn
    if not attention._qkv_same_embed_dim or attention.bias_k is not None or attention.add_zero_attn:
        raise ConfigError(
            f"{name}.self_attn has keys of another width, bias_k or add_zero_attn, which no layer here has"
        )
    if layer.linear1.out_features % 8:
        raise ConfigError(
            f"{name} has {layer.linear1.out_features} FFN channels; they are pruned by eights, so give a "
            "multiple of 8 (zeros may fill up)"
        )
    for leaf in ("norm1", "norm2"):
        _check_norm(f"{name}.{leaf}", getattr(layer, leaf))
    return {
        "d_model": attention.embed_dim,
        "n_heads": attention.num_heads,
        "n_kv_heads": attention.num_heads,
        "head_dim": attention.head_dim,
        "d_ff": layer.linear1.out_features,
        "dropout": float(layer.dropout1.p),
        "norm": "pre" if layer.norm_first else "post",
        "activation": _activation(name, layer.activation),
    }


def _activation(name: str, found: Any) -> str:
    if found is F.relu or found is torch.relu or isinstance(found, nn.ReLU):
        return "relu"
    if found is F.gelu or (isinstance(found, nn.GELU) and found.approximate == "none"):
        return "gelu"
    said = getattr(found, "__name__", None) or repr(found)
    raise ConfigError(f"{name} has the activation {said}; relu and the exact gelu can be converted")


def _check_norm(name: str, norm: nn.Module | None) -> None:
    if norm is None:
        return
    if type(norm) is not nn.LayerNorm:
        raise ConfigError(f"{name} is a {type(norm).__name__}; only nn.LayerNorm can be converted")
    if norm.eps != EPSILON:
        raise ConfigError(f"{name} has eps {norm.eps:g}, every norm here {EPSILON:g}; answers would differ")


def _check_target(layer: Layer, options: dict[str, Any]) -> None:
    heads = tuple(range(options["n_heads"]))
    shape, have = layer.shape, layer.d_model
    if not isinstance(layer.attn, SentryAttention) or not isinstance(layer.ffn, FeedForward) or shape.halves:
        raise ConfigError(f"{layer.name} has experts or halves its tokens; convert into plain layers")
    if layer.attn.rule.core != "dense":
        raise ConfigError(
            f"{layer.name} attends sparsely to long inputs, the encoder does not; create the model with "
            "attention='dense'"
        )
    fields = ("d_model", "head_dim", "d_ff", "norm", "activation")
    found = (have, shape.head_dim, shape.d_ff, shape.norm, shape.activation, shape.groups)
    asked = (*(options[field] for field in fields), heads)
    if found != asked:
        pairs = zip((*fields, "KV groups"), found, asked, strict=True)
        name, one, other = next(pair for pair in pairs if pair[1] != pair[2])
        raise ConfigError(
            f"{layer.name} has {name} {one}, the encoder {other}; make it by encoder_options(encoder)"
        )


def _copy_layer(theirs: nn.TransformerEncoderLayer, ours: Layer) -> None:
    attn, ffn, from_attn = ours.attn, ours.ffn, theirs.self_attn
    assert isinstance(attn, SentryAttention)
    assert isinstance(ffn, FeedForward)
    for i, leaf in enumerate((attn.q, attn.k, attn.v)):
        rows = slice(i * from_attn.embed_dim, (i + 1) * from_attn.embed_dim)
        bias = from_attn.in_proj_bias
        _copy(leaf, from_attn.in_proj_weight[rows], None if bias is None else bias[rows])
    _copy(attn.o, from_attn.out_proj.weight, from_attn.out_proj.bias)
    _copy(ffn.up, theirs.linear1.weight, theirs.linear1.bias)
    _copy(ffn.down, theirs.linear2.weight, theirs.linear2.bias)
    _copy_norm(theirs.norm1, ours.norm_attn)
    _copy_norm(theirs.norm2, ours.norm_ffn)


def _copy(into: nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    into.weight.copy_(weight)
    into.bias.zero_() if bias is None else into.bias.copy_(bias)


def _copy_norm(theirs: nn.Module, ours: nn.LayerNorm) -> None:
    weight, bias = getattr(theirs, "weight", None), getattr(theirs, "bias", None)
    ours.weight.fill_(1.0) if weight is None else ours.weight.copy_(weight)
    ours.bias.zero_() if bias is None else ours.bias.copy_(bias)
