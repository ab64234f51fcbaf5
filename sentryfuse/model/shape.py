"""Sizes that all backbones have in common, and how layers are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from sentryfuse.errors import ConfigError
from sentryfuse.model.feedforward import Routing
from sentryfuse.model.layer import Layer, LayerShape
from sentryfuse.planning.layout import AttentionRule

Widths = Mapping[str, int | Sequence[int]]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model before pruning.

    Attributes:
        d_model: token width `D`.
        n_heads: query heads `H` of every attention.
        n_kv_heads: key/value heads `G`; divides `n_heads`.
        head_dim: `K`.
        d_ff: FFN channels of layers without experts.
        d_expert: FFN channels of an expert.
        tokens: tokens per modality aimed at.
        dropout: on residual branches.
    """

    kv_heads_of: ClassVar[Mapping[str, str]] = {"n_kv_heads": "n_heads"}  # field -> that of its queries

    d_model: int = 64
    n_heads: int = 8
    n_kv_heads: int = 2
    head_dim: int = 8
    d_ff: int = 256
    d_expert: int = 64
    tokens: int = 16
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        for name in ("d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff", "d_expert", "tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_heads % self.n_kv_heads:
            raise ConfigError(
                f"{self.n_heads} query heads cannot be split over {self.n_kv_heads} key/value heads; "
                "choose n_kv_heads that divides n_heads"
            )
        if self.d_ff % 8 or self.d_expert % 8:
            raise ConfigError(f"d_ff and d_expert must be multiples of 8, got {self.d_ff}, {self.d_expert}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is a rate within 0 <= rate < 1, got {self.dropout}")

    def at_least_one(self, *names: str) -> None:
        """Refuse a number of layers or experts that is not positive."""
        for name in names:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class LayerMaker:
    """Makes layers of one model, at their widths.

    Attributes:
        sizes: before pruning.
        rule: which attention core at which length.
        widths: block name -> group of every unit, or number of FFN channels; absent name = `sizes`'.
        norm: "pre" or "post".
        halves: every layer halves the number of tokens.
        activation: of plain feed-forwards, "gelu" or "relu".
    """

    sizes: Sizes
    rule: AttentionRule
    widths: Widths
    norm: str = "pre"
    halves: bool = False
    activation: str = "gelu"

    def layer(self, name: str, *, experts: int = 0, routing: Routing | None = None) -> Layer:
        """One layer; with `experts` a mixture of that many takes the place of the feed-forward."""
        sizes = self.sizes
        share = sizes.n_heads // sizes.n_kv_heads
        groups = self.widths.get(f"{name}.attn", [head // share for head in range(sizes.n_heads)])
        d_ff = self.widths.get(f"{name}.ffn", sizes.d_ff)
        if experts:
            even = [channel // sizes.d_expert for channel in range(experts * sizes.d_expert)]
            d_ff = self.widths.get(f"{name}.ffn", even)
        if isinstance(groups, int) or isinstance(d_ff, int) == bool(experts):
            raise ConfigError(
                f"the widths of {name} do not fit its kind: heads and experts are given as the group of "
                "every unit, a feed-forward as a number of channels"
            )
        shape = LayerShape(
            tuple(groups),
            sizes.head_dim,
            d_ff if isinstance(d_ff, int) else tuple(d_ff),
            self.norm,
            self.halves,
            sizes.dropout,
            routing or Routing(),
            self.activation,
        )
        return Layer(name, sizes.d_model, shape=shape, rule=self.rule)


def module_keys(names: Sequence[str]) -> list[str]:
    """Names under which torch accepts submodules, one per modality.

    Raises:
        ConfigError: two modalities would share a key.
    """
    keys = [name.replace(".", "_") for name in names]
    taken = nn.ModuleDict()
    keys = [f"{key}_" if hasattr(taken, key) else key for key in keys]
    if len(set(keys)) != len(keys) or not keys:
        raise ConfigError(f"modalities {', '.join(names)} need different names (a dot counts as _)")
    return keys
