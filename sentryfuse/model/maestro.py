"""MAESTRO: one encoder per modality, then joint attention over the tokens of all present ones.

    window -> embed -> encoder layers   (per modality)
                            └── join ── codes ── fusion layers ── mean over tokens ── head

Source: MAESTRO (arXiv 2509.25278). Preset `paper` follows its layers (SAX, post-norm, halving, experts,
codes between encoders and fusion); preset `small` keeps the flow and uses what trains in minutes on two
cores (raw patches, pre-norm, no codes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import nn

from sentryfuse.errors import ConfigError
from sentryfuse.model.backbone import Backbone
from sentryfuse.model.constants import Codes
from sentryfuse.model.heads import HiddenHead, MeanHead
from sentryfuse.model.joins import Concat
from sentryfuse.model.layer import Layer
from sentryfuse.model.registry import register_model
from sentryfuse.model.sax import SaxTokens
from sentryfuse.model.shape import LayerMaker, Sizes, Widths, module_keys
from sentryfuse.model.tokens import PatchTokens
from sentryfuse.planning.layout import AttentionRule, Layout, Step
from sentryfuse.types import Modality


@dataclass(frozen=True)
class MaestroShape(Sizes):
    """Sizes of a MAESTRO model before pruning; see `Sizes` for the rest.

    Attributes:
        encoder_layers: layers per modality.
        fusion_layers: joint layers.
        experts: experts per fusion layer; 0 = a plain feed-forward.
        tokeniser: "patch" or "sax".
        norm: "pre" or "post".
        halves: every layer halves the number of tokens.
        codes: temporal and modality codes between encoders and fusion, and a head with a hidden layer.
    """

    encoder_layers: int = 2
    fusion_layers: int = 2
    experts: int = 0
    tokeniser: str = "patch"
    norm: str = "pre"
    halves: bool = False
    codes: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        super().__post_init__()
        self.at_least_one("encoder_layers", "fusion_layers")
        if self.tokeniser not in ("patch", "sax") or self.norm not in ("pre", "post"):
            raise ConfigError("tokeniser must be patch or sax, norm must be pre or post")


@register_model("maestro")
class Maestro(Backbone):
    """Per-modality encoders and joint sparse attention; arguments as in `BackboneType`."""

    shape_type: ClassVar[type[Any]] = MaestroShape
    presets: ClassVar[Mapping[str, Any]] = {
        "small": MaestroShape(),
        "paper": MaestroShape(
            n_kv_heads=1,
            experts=4,
            tokens=128,
            tokeniser="sax",
            norm="post",
            halves=True,
            codes=True,
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
        widths: Widths,
        slots: Sequence[str],
    ) -> None:
        super().__init__()
        self.modalities, self.rule, self.slots = tuple(modalities), rule, tuple(slots)
        keys = module_keys([m.name for m in modalities])
        embedding = SaxTokens if shape.tokeniser == "sax" else PatchTokens
        self.embed = nn.ModuleDict(
            {
                key: embedding(f"embed.{key}", m, shape.d_model, tokens=shape.tokens)
                for key, m in zip(keys, modalities, strict=True)
            }
        )
        make = LayerMaker(shape, rule, widths, shape.norm, shape.halves)
        self.encoder = nn.ModuleDict(
            {
                key: nn.ModuleList(make.layer(f"encoder.{key}.{i}") for i in range(shape.encoder_layers))
                for key in keys
            }
        )
        self.join = Concat()
        self.codes = Codes("codes", len(slots), shape.tokens, shape.d_model) if shape.codes else None
        self.fusion = nn.ModuleList(
            make.layer(f"fusion.{i}", experts=shape.experts) for i in range(shape.fusion_layers)
        )
        self.head: HiddenHead | MeanHead
        if shape.codes:
            self.head = HiddenHead("head", shape.d_model, n_classes, dropout=shape.dropout)
        else:
            self.head = MeanHead("head", shape.d_model, n_classes)

    def build_layout(self) -> Layout:
        """Write down the steps: encoders of the present sensors, join, codes, fusion, head."""
        steps: list[Step] = []
        ends = {}
        for m, key in zip(self.modalities, self.embed, strict=True):
            steps.append(cast(PatchTokens | SaxTokens, self.embed[key]).step())
            reads = steps[-1].writes
            for i, layer in enumerate(cast(nn.ModuleList, self.encoder[key])):
                steps.append(cast(Layer, layer).step((reads,), f"encoded.{m.name}.{i}", (m.name,)))
                reads = steps[-1].writes
            ends[m.name] = reads
        steps.append(self.join.step("join", tuple(ends.values()), "joined"))
        if self.codes is not None:
            parts = tuple(ends.get(name, f"gone.{name}") for name in self.slots)
            steps.append(self.codes.step("joined", "coded", parts))
        for i, layer in enumerate(self.fusion):
            steps.append(cast(Layer, layer).step((steps[-1].writes,), f"fused.{i}", ()))
        steps.append(self.head.step(steps[-1].writes))
        return Layout(self.head.d_model, self.modalities, self.rule, tuple(steps))
