"""MAESTRO: one encoder per modality, then joint attention over the tokens of all present ones.

    window -> embed -> encoder layers   (per modality)
                            └── join ── fusion layers ── mean over tokens ── head

Source: MAESTRO (arXiv 2509.25278). Preset `paper` follows its layers (post-norm, halving, experts);
preset `small` keeps the flow and uses what trains in minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from sentryfuse.errors import ConfigError
from sentryfuse.layout import AttentionRule, Layout, Step
from sentryfuse.model.backbone import Backbone
from sentryfuse.model.block import Layer, LayerShape
from sentryfuse.model.registry import register_model
from sentryfuse.model.sax import SaxTokens
from sentryfuse.model.tokens import PatchTokens
from sentryfuse.types import Modality


@dataclass(frozen=True)
class MaestroShape:
    """Sizes of a MAESTRO model before pruning.

    Attributes:
        d_model: token width `D`.
        n_heads: query heads `H` of every attention.
        n_kv_heads: key/value heads `G`; divides `n_heads`.
        head_dim: `K`.
        d_ff: FFN channels of encoder layers, and of fusion layers without experts.
        encoder_layers: layers per modality.
        fusion_layers: joint layers.
        experts: experts per fusion layer; 0 = a plain feed-forward.
        d_expert: FFN channels of an expert.
        tokens: tokens per modality aimed at.
        tokeniser: "patch" or "sax".
        norm: "pre" or "post".
        halves: every layer halves the number of tokens.
        dropout: on residual branches.
    """

    d_model: int = 64
    n_heads: int = 8
    n_kv_heads: int = 2
    head_dim: int = 8
    d_ff: int = 256
    encoder_layers: int = 2
    fusion_layers: int = 2
    experts: int = 0
    d_expert: int = 64
    tokens: int = 16
    tokeniser: str = "patch"
    norm: str = "pre"
    halves: bool = False
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
        if self.encoder_layers < 1 or self.fusion_layers < 1:
            raise ConfigError("encoder_layers and fusion_layers must be at least 1")
        if self.d_ff % 8 or self.d_expert % 8:
            raise ConfigError(f"d_ff and d_expert must be multiples of 8, got {self.d_ff}, {self.d_expert}")
        if self.tokeniser not in ("patch", "sax") or self.norm not in ("pre", "post"):
            raise ConfigError("tokeniser must be patch or sax, norm must be pre or post")


@register_model("maestro")
class Maestro(Backbone):
    """Per-modality encoders and joint sparse attention.

    Args:
        modalities: every sensor, in order.
        n_classes: labels to tell apart.
        shape: sizes before pruning, a `MaestroShape`.
        rule: which attention core at which length.
        widths: block name -> KV groups of its heads, or FFN channels; absent name = `shape`'s.
    """

    shape_type: ClassVar[type[Any]] = MaestroShape
    presets: ClassVar[Mapping[str, Any]] = {
        "small": MaestroShape(),
        "paper": MaestroShape(
            n_heads=8,
            n_kv_heads=2,
            experts=4,
            tokens=128,
            tokeniser="sax",
            norm="post",
            halves=True,
            dropout=0.1,
        ),
    }

    def __init__(
        self,
        modalities: Sequence[Modality],
        n_classes: int,
        *,
        shape: Any,
        rule: AttentionRule,
        widths: Mapping[str, int | Sequence[int]],
    ) -> None:
        super().__init__()
        self.modalities, self.rule = tuple(modalities), rule
        keys = module_keys([m.name for m in modalities])
        make = SaxTokens if shape.tokeniser == "sax" else PatchTokens
        self.embed = nn.ModuleDict(
            {
                key: make(f"embed.{key}", m, shape.d_model, tokens=shape.tokens)
                for key, m in zip(keys, modalities, strict=True)
            }
        )

        def layer(name: str, *, experts: int) -> Layer:
            groups = widths.get(f"{name}.attn")
            if groups is None:
                share = shape.n_heads // shape.n_kv_heads
                groups = [head // share for head in range(shape.n_heads)]
            d_ff: int | tuple[int, ...]
            if experts:
                d_ff = tuple(
                    _width(widths, f"{name}.ffn.experts.{e}", shape.d_expert) for e in range(experts)
                )
            else:
                d_ff = _width(widths, f"{name}.ffn", shape.d_ff)
            assert not isinstance(groups, int)
            inside = LayerShape(tuple(groups), shape.head_dim, d_ff, shape.norm, shape.halves, shape.dropout)
            return Layer(name, shape.d_model, shape=inside, rule=rule)

        self.encoder = nn.ModuleDict(
            {
                key: nn.ModuleList(
                    layer(f"encoder.{key}.{i}", experts=0) for i in range(shape.encoder_layers)
                )
                for key in keys
            }
        )
        self.fusion = nn.ModuleList(
            layer(f"fusion.{i}", experts=shape.experts) for i in range(shape.fusion_layers)
        )
        self.head = MeanHead("head", shape.d_model, n_classes)

    def build_layout(self) -> Layout:
        """Write down the steps: encoders of the present sensors, join, fusion, head."""
        steps: list[Step] = []
        tokens = []
        for m, key in zip(self.modalities, self.embed, strict=True):
            steps.append(cast(PatchTokens | SaxTokens, self.embed[key]).step())
            reads = f"tokens.{m.name}"
            for i, layer in enumerate(cast(nn.ModuleList, self.encoder[key])):
                steps.append(cast(Layer, layer).step(reads, f"encoded.{m.name}.{i}", (m.name,)))
                reads = f"encoded.{m.name}.{i}"
            tokens.append(reads)
        steps.append(Step("join", "concat", tuple(tokens), "joined"))
        reads = "joined"
        for i, layer in enumerate(self.fusion):
            steps.append(cast(Layer, layer).step(reads, f"fused.{i}", ()))
            reads = f"fused.{i}"
        steps.append(self.head.step(reads))
        return Layout(self.head.norm.normalized_shape[0], self.modalities, self.rule, tuple(steps))


class MeanHead(nn.Module):
    """Mean over tokens, norm, linear; `(B, L, D)` -> `(B, n_classes)`."""

    def __init__(self, name: str, d_model: int, n_classes: int) -> None:
        super().__init__()
        self.name = name
        self.norm, self.classify = nn.LayerNorm(d_model), nn.Linear(d_model, n_classes)

    @property
    def signature(self) -> str:
        """Equal for heads that share one exported graph."""
        return f"mean head D{self.classify.in_features} classes{self.classify.out_features}"

    def forward(self, x: Tensor) -> Tensor:
        """Logits of every window."""
        logits: Tensor = self.classify(self.norm(x.mean(1)))
        return logits

    def step(self, reads: str) -> Step:
        """This head as a step of a layout."""
        return Step(
            self.name,
            "head",
            (reads,),
            "logits",
            macs_fixed=self.classify.weight.numel(),
            params_fixed=sum(p.numel() for p in self.parameters()),
        )


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


def _width(widths: Mapping[str, int | Sequence[int]], name: str, default: int) -> int:
    width = widths.get(name, default)
    assert isinstance(width, int)
    return width
