"""What a model computes, written down as data: the one description that every room reads.

A backbone is a short list of steps (embed, layer, concat, head). Each step says what it reads and writes,
which sensors it needs, and which prunable blocks are inside. From this list torch runs the forward pass,
the planner counts costs, the exporter writes graphs and the device puts them together; none of them knows
a backbone by name. No torch here.

    window.acc -> embed.acc -> encoder.acc.0 -> encoder.acc.1 --+
                                                                +-> join -> fusion.0 -> head -> logits
    window.bvp -> embed.bvp -> encoder.bvp.0 -> encoder.bvp.1 --+

Notation: L tokens · D d_model · H query heads · G key/value heads · K head_dim · F FFN channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

from sentryfuse.errors import ConfigError
from sentryfuse.types import Modality, check_present

Op = Literal["embed", "layer", "concat", "head"]
Kind = Literal["heads", "ffn"]
KINDS: tuple[Kind, ...] = ("heads", "ffn")


@dataclass(frozen=True, slots=True)
class AttentionRule:
    """Which attention core runs at which length, the same in torch, in the counter and on the device.

    Attributes:
        core: "sentry" (sparse from `sparse_from` tokens on) or "dense" (always dense).
        factor: `c`; `u = c * ceil(ln L)` queries are kept, as many keys are sampled.
        sparse_from: shortest length at which the sparse core is used [tokens].
    """

    core: str = "sentry"
    factor: int = 5
    sparse_from: int = 64

    def __post_init__(self) -> None:
        """Refuse a core nobody has."""
        if self.core not in ("sentry", "dense"):
            raise ConfigError(f"attention {self.core!r} is unknown; choose sentry or dense")
        if self.factor < 1 or self.sparse_from < 2:
            raise ConfigError("attention needs factor >= 1 and sparse_from >= 2")

    def n_picked(self, length: int) -> int:
        """Queries kept and keys sampled at this length, `u`; equal to `length` when dense."""
        if self.core == "dense" or length < self.sparse_from:
            return length
        return min(length, self.factor * math.ceil(math.log(length)))

    def is_sparse(self, length: int) -> bool:
        """Whether the sparse core runs at this length."""
        return self.n_picked(length) < length


@dataclass(frozen=True, slots=True)
class Block:
    """A group of units that pruning may remove: the heads of one attention, or one feed-forward's channels.

    Attributes:
        name: prefix of its weights, such as `encoder.acc.0.attn`.
        kind: "heads" or "ffn".
        units: query heads `H` or FFN channels `F`.
        groups: KV group of every head, `(H,)`, numbered from 0 without holes; empty for "ffn".
        head_dim: `K`; 0 for "ffn".
    """

    name: str
    kind: Kind
    units: int
    groups: tuple[int, ...] = ()
    head_dim: int = 0

    def groups_of(self, kept: Sequence[int]) -> list[int]:
        """KV groups that still serve a kept head, ascending."""
        return sorted({self.groups[head] for head in kept})

    def params(self, d_model: int, kept: Sequence[int] | None = None) -> int:
        """Weights owned by the kept units (all without `kept`)."""
        n = self.units if kept is None else len(kept)
        if self.kind == "ffn":
            return n * (2 * d_model + 1)
        n_groups = len(self.groups_of(range(self.units) if kept is None else kept))
        return self.head_dim * (n * (2 * d_model + 1) + n_groups * 2 * (d_model + 1))

    def macs(self, d_model: int, rule: AttentionRule, length: int, kept: Sequence[int] | None = None) -> int:
        """Multiply-accumulates of the kept units (all without `kept`) at `length` tokens [MAC]."""
        n = self.units if kept is None else len(kept)
        if self.kind == "ffn":
            return 2 * length * d_model * n
        n_groups = len(self.groups_of(range(self.units) if kept is None else kept))
        projections = 2 * length * d_model * self.head_dim * (n + n_groups)
        picked = rule.n_picked(length)
        # sparse: logits on the sampled keys, then two products for the kept queries
        core = (2 * length if picked == length else 3 * picked) * length
        return projections + core * self.head_dim * n


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of the computation.

    Attributes:
        name: prefix of the weights inside, and the submodule's path.
        op: what it does.
        reads: names of the values it reads; `window.<modality>` for raw windows.
        writes: name of the value it makes.
        needs: modalities that must all be present for it to run; empty = always.
        blocks: prunable blocks inside.
        tokens: "embed" only: tokens it makes.
        halves: the length is halved after attention, before the feed-forward.
        macs_per_token: fixed work per token that leaves the step [MAC].
        macs_fixed: fixed work per window [MAC].
        params_fixed: weights that no unit owns.
    """

    name: str
    op: Op
    reads: tuple[str, ...]
    writes: str
    needs: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    tokens: int = 0
    halves: bool = False
    macs_per_token: int = 0
    macs_fixed: int = 0
    params_fixed: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Step:
        """Rebuild from `dataclasses.asdict`."""
        blocks = tuple(Block(**{**b, "groups": tuple(b["groups"])}) for b in data["blocks"])
        lists = {key: tuple(data[key]) for key in ("reads", "needs")}
        return cls(**{**data, **lists, "blocks": blocks})


@dataclass(frozen=True)
class Layout:
    """The whole computation of one model.

    Attributes:
        d_model: token width `D`.
        modalities: every sensor, in order.
        attention: which core at which length.
        steps: in the order they run.
    """

    d_model: int
    modalities: tuple[Modality, ...]
    attention: AttentionRule
    steps: tuple[Step, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Modality names, in order."""
        return tuple(m.name for m in self.modalities)

    @cached_property
    def blocks(self) -> dict[str, Block]:
        """Every prunable block by name, in the order of the computation."""
        return {block.name: block for step in self.steps for block in step.blocks}

    def route(self, present: Iterable[str] | None) -> tuple[Step, ...]:
        """The steps that run with these sensors; steps of absent sensors are not among them.

        Args:
            present: names of the sensors that are on; `None` means all.

        Returns:
            Live steps in order, each reading only values that exist.

        Raises:
            ConfigError: an unknown name.
            NoSensorsError: no sensor is present.
        """
        on = set(check_present(present, self.names))
        have = {f"window.{name}" for name in on}
        live = []
        for step in self.steps:
            if not set(step.needs) <= on:
                continue
            reads = tuple(name for name in step.reads if name in have)
            live.append(step if reads == step.reads else replace(step, reads=reads))
            have.add(step.writes)
        return tuple(live)

    def lengths(self, present: Iterable[str] | None) -> dict[str, tuple[int, int]]:
        """Tokens that enter and leave every live step.

        Args:
            present: names of the sensors that are on; `None` means all.

        Returns:
            Step name -> (tokens in, tokens out).
        """
        length: dict[str, int] = {}
        result = {}
        for step in self.route(present):
            if step.op == "embed":
                entering = leaving = step.tokens
            elif step.op == "concat":
                entering = leaving = sum(length[name] for name in step.reads)
            elif step.op == "head":
                entering, leaving = length[step.reads[0]], 1
            else:
                entering = length[step.reads[0]]
                leaving = (entering + 1) // 2 if step.halves else entering
            length[step.writes] = leaving
            result[step.name] = (entering, leaving)
        return result

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `json.dumps`; `from_json` reads it back."""
        return {
            "d_model": self.d_model,
            "modalities": [asdict(m) for m in self.modalities],
            "attention": asdict(self.attention),
            "steps": [asdict(s) for s in self.steps],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Layout:
        """Rebuild from `to_json`."""
        return cls(
            d_model=data["d_model"],
            modalities=tuple(Modality.from_json(m) for m in data["modalities"]),
            attention=AttentionRule(**data["attention"]),
            steps=tuple(Step.from_json(s) for s in data["steps"]),
        )
