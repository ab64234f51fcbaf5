"""MulT, lite: every modality asks every other one, then remembers what it heard.

    tokens.i --+--> pair i<-j --+
    tokens.j --+    pair i<-k --+-- mean -- memory layer of i --+
                                                                +-- join -- mean per modality -- head
    absent i ------------------------- bank of i ---------------+

Source: MulT (ACL 2019). Ours: no self pairs; the pair outputs of a target are averaged with its own tokens
instead of concatenated and projected, so that an absent source leaves no hole and its pairs do not run; one
memory layer per target; mean instead of last step. See docs/reproduction.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import nn

from sentryfuse.model.backbone import Backbone
from sentryfuse.model.constants import Bank
from sentryfuse.model.heads import ModalityHead
from sentryfuse.model.joins import Concat, Mean
from sentryfuse.model.layer import Layer
from sentryfuse.model.registry import register_model
from sentryfuse.model.shape import LayerMaker, Sizes, Widths, module_keys
from sentryfuse.model.tokens import PatchTokens
from sentryfuse.planning.layout import AttentionRule, Layout, Step
from sentryfuse.types import Modality


@dataclass(frozen=True)
class MulTShape(Sizes):
    """Sizes of a MulT model before pruning; see `Sizes` for the rest.

    Attributes:
        pair_layers: cross-attention layers per pair.
        memory_layers: self-attention layers per target.
        pair_heads: query heads of a pair; they share `pair_kv_heads` key/value heads.
        pair_kv_heads: key/value heads of a pair.
        pair_ff: FFN channels of a pair.
    """

    kv_heads_of: ClassVar[Mapping[str, str]] = {"n_kv_heads": "n_heads", "pair_kv_heads": "pair_heads"}

    pair_layers: int = 1
    memory_layers: int = 1
    pair_heads: int = 4
    pair_kv_heads: int = 1
    pair_ff: int = 64

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        super().__post_init__()
        self.at_least_one("pair_layers", "memory_layers")
        self.pair()

    def pair(self) -> Sizes:
        """Sizes of the pair layers."""
        return Sizes(
            d_model=self.d_model,
            n_heads=self.pair_heads,
            n_kv_heads=self.pair_kv_heads,
            head_dim=self.head_dim,
            d_ff=self.pair_ff,
            dropout=self.dropout,
        )


@register_model("mult")
class MulT(Backbone):
    """Pairwise cross-attention; arguments as in `BackboneType`."""

    shape_type: ClassVar[type[Any]] = MulTShape
    presets: ClassVar[Mapping[str, Any]] = {
        "small": MulTShape(),
        "paper": MulTShape(
            d_model=32,
            n_heads=4,
            n_kv_heads=1,
            d_ff=128,
            pair_ff=128,
            pair_layers=3,
            tokens=64,
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
        keys = dict(zip(slots, module_keys(slots), strict=True))
        own = [keys[m.name] for m in modalities]
        self.embed = nn.ModuleDict(
            {
                key: PatchTokens(f"embed.{key}", m, shape.d_model, tokens=shape.tokens)
                for key, m in zip(own, modalities, strict=True)
            }
        )
        pair, memory = LayerMaker(shape.pair(), rule, widths), LayerMaker(shape, rule, widths)
        self.pair = nn.ModuleDict(
            {
                i: nn.ModuleDict(
                    {
                        j: nn.ModuleList(pair.layer(f"pair.{i}.{j}.{n}") for n in range(shape.pair_layers))
                        for j in own
                        if j != i
                    }
                )
                for i in own
            }
        )
        self.mean = nn.ModuleDict({i: Mean() for i in own})
        self.join = Concat()
        self.memory = nn.ModuleDict(
            {
                i: nn.ModuleList(memory.layer(f"memory.{i}.{n}") for n in range(shape.memory_layers))
                for i in own
            }
        )
        self.bank = nn.ModuleDict(
            {key: Bank(f"bank.{key}", name, slots, shape.d_model, tokens=1) for name, key in keys.items()}
        )
        self.head = ModalityHead("head", shape.d_model, len(slots), n_classes)

    def build_layout(self) -> Layout:
        """Write down the steps: pairs of present sensors, their mean and memory, the bank, head."""
        steps: list[Step] = [cast(PatchTokens, embed).step() for embed in self.embed.values()]
        names = dict(zip(self.embed, (m.name for m in self.modalities), strict=True))
        for i, target in names.items():
            heard = [f"tokens.{target}"]
            for j, layers in cast(nn.ModuleDict, self.pair[i]).items():
                reads = f"tokens.{target}"
                for n, layer in enumerate(cast(nn.ModuleList, layers)):
                    writes = f"pair.{target}.{names[j]}.{n}"
                    both = (reads, f"tokens.{names[j]}")
                    steps.append(cast(Layer, layer).step(both, writes, (target, names[j])))
                    reads = writes
                heard.append(reads)
            steps.append(
                cast(Mean, self.mean[i]).step(f"mean.{i}", tuple(heard), f"heard.{target}", (target,))
            )
            memory = cast(nn.ModuleList, self.memory[i])
            for n, layer in enumerate(memory):
                writes = f"memory.{target}.{n}" if n + 1 < len(memory) else f"remembered.{target}"
                steps.append(cast(Layer, layer).step((steps[-1].writes,), writes, (target,)))
        ends = tuple(f"remembered.{name}" for name in self.slots)
        steps += [cast(Bank, b).step(end) for b, end in zip(self.bank.values(), ends, strict=True)]
        steps.append(self.join.step("join", ends, "joined"))
        steps.append(self.head.step("joined", ends))
        return Layout(self.head.d_model, self.modalities, self.rule, tuple(steps))
