"""Flex-MoE: the tokens of all modalities in one transformer, a mixture of experts in every other layer.

    window -> embed --+
                      +-- join -- experts layer -- plain layer -- ... -- mean per modality -- head
    absent -> bank ---+

Source: Flex-MoE (arXiv 2410.08245), with a factorised bank and a normal attention residual.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentryfuse.errors import ConfigError
from sentryfuse.model.backbone import Backbone
from sentryfuse.model.constants import Bank
from sentryfuse.model.feedforward import Experts, Routing
from sentryfuse.model.heads import ModalityHead
from sentryfuse.model.joins import Concat
from sentryfuse.model.layer import Layer
from sentryfuse.model.registry import register_model
from sentryfuse.model.shape import LayerMaker, Sizes, Widths, module_keys
from sentryfuse.model.tokens import PatchTokens
from sentryfuse.planning.layout import AttentionRule, Layout, Step
from sentryfuse.types import Modality

ROUTER_WEIGHT = 0.01  # of the balance and choice losses, as published


@dataclass(frozen=True)
class FlexMoEShape(Sizes):
    """Sizes of a Flex-MoE model before pruning; see `Sizes` for the rest.

    Attributes:
        layers: joint layers; the first, third, ... have experts.
        experts: experts per mixture.
        active: experts that answer each token.
        bank_tokens: tokens that stand for an absent modality.
        capacity: tokens an expert takes, as a multiple of its fair share; see `Routing`.
    """

    layers: int = 4
    experts: int = 4
    active: int = 2
    capacity: float = 0.0
    bank_tokens: int = 1

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        super().__post_init__()
        self.at_least_one("layers", "experts", "active", "bank_tokens")
        if self.active > self.experts:
            raise ConfigError(f"{self.active} of {self.experts} experts cannot be active; choose fewer")
        if not 0 <= self.capacity < float("inf"):
            raise ConfigError(
                f"capacity must be 0 or a positive number, got {self.capacity}; 1 is a fair share"
            )


@register_model("flexmoe")
class FlexMoE(Backbone):
    """Early fusion of tokens with experts and a missing-modality bank; arguments as in `BackboneType`."""

    shape_type: ClassVar[type[Any]] = FlexMoEShape
    presets: ClassVar[Mapping[str, Any]] = {
        "small": FlexMoEShape(),
        "paper": FlexMoEShape(
            d_model=128,
            n_heads=4,
            n_kv_heads=1,
            head_dim=32,
            d_expert=256,
            layers=1,
            experts=16,
            active=4,
            capacity=1.0,
            bank_tokens=16,
            dropout=0.5,
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
        self.embed = nn.ModuleDict(
            {
                keys[m.name]: PatchTokens(f"embed.{keys[m.name]}", m, shape.d_model, tokens=shape.tokens)
                for m in modalities
            }
        )
        self.bank = nn.ModuleDict(
            {
                key: Bank(f"bank.{key}", name, slots, shape.d_model, tokens=shape.bank_tokens)
                for name, key in keys.items()
            }
        )
        self.join = Concat()
        make = LayerMaker(shape, rule, widths)
        routing = Routing(shape.active, "softmax", "gelu", shape.capacity)
        self.layers = nn.ModuleList(
            make.layer(f"layers.{i}", experts=0 if i % 2 else shape.experts, routing=routing)
            for i in range(shape.layers)
        )
        self.head = ModalityHead("head", shape.d_model, len(slots), n_classes)

    def build_layout(self) -> Layout:
        """Write down the steps: tokens of present sensors, the bank for absent ones, joint layers, head."""
        steps: list[Step] = [cast(PatchTokens, embed).step() for embed in self.embed.values()]
        tokens = tuple(f"tokens.{name}" for name in self.slots)
        steps += [cast(Bank, b).step(t) for b, t in zip(self.bank.values(), tokens, strict=True)]
        steps.append(self.join.step("join", tokens, "joined"))
        for i, layer in enumerate(self.layers):
            steps.append(cast(Layer, layer).step((steps[-1].writes,), f"fused.{i}", ()))
        steps.append(self.head.step(steps[-1].writes, tokens))
        return Layout(self.head.d_model, self.modalities, self.rule, tuple(steps))

    def router_loss(
        self, present: Sequence[str], mean: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor | None:
        """Balance the experts; with sensors missing, also send tokens to the expert of that sensor set.

        Args:
            present: the sensors that were on.
            mean: means over the windows of this pass -> means over a batch that it is a part of; `None` = it
                was the whole batch. Balance is a property of a batch: parts that lean to different experts
                are balanced together.

        Returns:
            The weighted sum over all mixtures; they forget the pass it was about.

        Source:
            G- and S-router losses of Flex-MoE. Which expert a sensor set has is our choice (`expert_of`),
            since the published rule runs out of experts from five modalities on.
        """
        mixtures = [m for m in self.modules() if isinstance(m, Experts) and m.logits is not None]
        if not mixtures:
            return None
        mean = mean or (lambda value: value)
        total = torch.zeros((), device=self.head.classify.weight.device)
        for mixture in mixtures:
            assert mixture.logits is not None
            logits, n_experts = mixture.logits, mixture.logits.shape[1]
            mixture.logits = None
            chances = logits.softmax(1)
            active = logits.topk(min(mixture.routing.active, n_experts), 1).indices
            use = torch.zeros_like(logits).scatter(1, active, 1.0)
            first = 0
            if set(present) < set(self.slots) and n_experts > 1:
                expert = torch.full((len(logits),), expert_of(present, n_experts), device=logits.device)
                total = total + mean(F.cross_entropy(logits, expert))
                first = 1  # expert 0 belongs to windows with all sensors
            for load in (mean(chances.mean(0))[first:], mean((use * chances).mean(0))[first:]):
                total = total + load.var(correction=0) / load.mean().square().clamp(min=1e-9)
        return ROUTER_WEIGHT * total


def expert_of(present: Sequence[str], n_experts: int) -> int:
    """The expert that a set of sensors with some missing is sent to, 1..n_experts-1; any set has one.

    Args:
        present: names of the sensors that are on.
        n_experts: experts of the mixture, >= 2; expert 0 is for all sensors.

    Source:
        A checksum of the sorted names: equal on every machine; our choice.
    """
    return 1 + zlib.crc32("\n".join(sorted(present)).encode()) % (n_experts - 1)
