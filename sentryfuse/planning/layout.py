"""What a model computes, written down as data: the one description that every room reads.

A backbone is a short list of steps. Each says what it reads and writes, which sensors it needs, and which
prunable blocks are inside. From this list torch runs the forward pass, the planner counts costs and the
device writes its graph; none of them knows a backbone by name. No torch here.

    window.acc -> embed.acc -> encoder.acc.0 -> encoder.acc.1 --+
                                                                +-> join -> fusion.0 -> head -> logits
    window.bvp -> embed.bvp -> encoder.bvp.0 -> encoder.bvp.1 --+

A step's `op` names its kind. Kinds are open: one is a torch module that runs it and a function that writes
it as ONNX (`sentryfuse.graph.kinds.emits`); nothing in this room knows any of them.

Notation: L tokens · D d_model · H query heads · G key/value heads · K head_dim · F FFN channels ·
E experts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Interval, Len

from sentryfuse.errors import ConfigError
from sentryfuse.planning.program import Program
from sentryfuse.types import Modality, Name, check_present

Kind = Literal["heads", "ffn"]
KINDS: tuple[Kind, ...] = ("heads", "ffn")
WINDOW = "window."  # prefix of the values that are raw windows

# What a file may ask for; a model made here stays far below.
MAX_WIDTH = 1 << 14  # d_model, units of a block, head_dim
MAX_TOKENS = 1 << 16
Width = Annotated[int, Interval(ge=0, le=MAX_WIDTH)]
Tokens = Annotated[int, Interval(ge=0, le=MAX_TOKENS)]
Amount = Annotated[int, Interval(ge=0, le=10**15)]  # of MACs or weights
Names = Annotated[tuple[Name, ...], Len(0, 2000)]
Option = str | bool | int | float


# Which weights a unit owns: the rows or columns that count units go with it, those that count groups with
# the last unit of the group (KV head, expert). A head has `head_dim` rows each. A weight without either is
# nobody's and stays.
LEAVES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "heads": {
        "q.weight": ("unit", "d_model"),
        "q.bias": ("unit",),
        "k.weight": ("group", "d_model"),
        "k.bias": ("group",),
        "v.weight": ("group", "d_model"),
        "v.bias": ("group",),
        "o.weight": ("d_model", "unit"),
        "o.bias": ("d_model",),
    },
    "ffn": {
        "up.weight": ("unit", "d_model"),
        "up.bias": ("unit",),
        "down.weight": ("d_model", "unit"),
        "down.bias": ("d_model",),
    },
    "experts": {
        "up.weight": ("unit", "d_model"),
        "up.bias": ("unit",),
        "down.weight": ("d_model", "unit"),
        "router.weight": ("group", "d_model"),
        "router.bias": ("group",),
        "bias": ("group", "d_model"),
    },
}


class Span(NamedTuple):
    """Tokens of a step: those that enter, those that leave, and those that keys and values come from."""

    entering: int
    leaving: int
    source: int


@dataclass(frozen=True, slots=True)
class AttentionRule:
    """Which attention core runs at which length, the same in torch, in the counter and on the device.

    Attributes:
        core: "sentry" (sparse from `sparse_from` tokens on) or "dense" (always dense).
        factor: `c`; `u = c * ceil(ln L)` queries are kept, as many keys are sampled.
        sparse_from: shortest length at which the sparse core is used [tokens].
    """

    core: Literal["sentry", "dense"] = "sentry"
    factor: Annotated[int, Interval(ge=1, le=MAX_WIDTH)] = 5
    sparse_from: Annotated[int, Interval(ge=2, le=1 << 31)] = 64

    def __post_init__(self) -> None:
        """Refuse a core nobody has."""
        if self.core not in ("sentry", "dense"):
            raise ConfigError(f"attention {self.core!r} is unknown; choose sentry or dense")
        if self.factor < 1 or self.sparse_from < 2:
            raise ConfigError("attention needs factor >= 1 and sparse_from >= 2")

    def picks(self, length: int, source: int) -> tuple[int, int] | None:
        """Sizes of the sparse core, or `None` where the dense core runs.

        Args:
            length: tokens that ask [tokens].
            source: tokens that are asked; `length` in self-attention [tokens].

        Returns:
            Keys sampled and queries kept, each `c * ceil(ln length)` of its own length.
        """
        if self.core == "dense" or min(length, source) < self.sparse_from:
            return None
        sampled, kept = (min(n, self.factor * math.ceil(math.log(n))) for n in (source, length))
        return (sampled, kept) if kept < length else None


@dataclass(frozen=True, slots=True)
class Block:
    """A group of units that pruning may remove: the heads of one attention, or one feed-forward's channels.

    Units may share something that goes with the last of them: query heads a key/value head, FFN channels
    of a mixture of experts their expert, with its column of the router. With the last unit of all the block
    is gone: its products, its shell and the sum with what enters it; tokens pass as they are.

    Attributes:
        name: prefix of its weights, such as `encoder.acc.0.attn`.
        kind: "heads" or "ffn".
        units: query heads `H` or FFN channels `F`.
        groups: what each unit shares, `(units,)`, numbered from 0 without holes: its KV group, or its
            expert; empty for a plain feed-forward.
        head_dim: `K`; 0 for "ffn".
        active: experts that answer each token; 0 without experts.
        capacity: tokens an expert takes, as a multiple of its fair share; 0 = it computes all of them.
        shell: names inside the step of what surrounds the block and goes with its last unit, such as
            `norm_attn`; a bias of its own that no unit owns goes as well.
        shell_params: weights of all that, among the step's `params_fixed`.
        shell_macs: work of all that per token that leaves, among the step's `macs_per_token` [MAC].
    """

    name: Name
    kind: Kind
    units: Annotated[int, Interval(ge=1, le=MAX_WIDTH)]
    groups: Annotated[tuple[Width, ...], Len(0, MAX_WIDTH)] = ()
    head_dim: Width = 0
    active: Width = 0
    capacity: Annotated[float, Interval(ge=0, le=MAX_WIDTH)] = 0.0
    shell: Annotated[tuple[Name, ...], Len(0, 16)] = ()
    shell_params: Amount = 0
    shell_macs: Amount = 0

    def __post_init__(self) -> None:
        """Refuse units without a place among the others."""
        if self.groups and (
            len(self.groups) != self.units or set(self.groups) != set(range(max(self.groups) + 1))
        ):
            raise ConfigError(
                f"{self.name}: groups must be numbered 0, 1, ... without holes, one per unit ({self.units})"
            )
        if self.kind == "heads" and not (self.groups and self.head_dim and not self.active):
            raise ConfigError(f"{self.name}: heads need the KV group of each and a head_dim of at least 1")
        if self.kind == "ffn" and (self.head_dim or bool(self.groups) != bool(self.active)):
            raise ConfigError(f"{self.name}: experts need the expert of each channel and active experts")

    @property
    def leaves(self) -> Mapping[str, tuple[str, ...]]:
        """Its weights by their names inside it, and what each axis of them counts; see `LEAVES`."""
        return LEAVES["experts" if self.active else self.kind]

    def shapes(self, d_model: int) -> dict[str, tuple[int, ...]]:
        """Shapes of its weights by their names inside it."""
        width = self.head_dim or 1
        sizes = {"unit": self.units * width, "group": len(set(self.groups)) * width, "d_model": d_model}
        return {leaf: tuple(sizes[axis] for axis in axes) for leaf, axes in self.leaves.items()}

    def groups_of(self, kept: Sequence[int]) -> list[int]:
        """Groups that still have a kept unit, ascending."""
        return sorted({self.groups[unit] for unit in kept}) if self.groups else []

    def seats(self, kept: Sequence[int] | None = None) -> list[list[int]]:
        """Channels of each expert that still has one, padded with -1 to the widest, `(E, W)`.

        Numbers count the kept channels, not those of the whole block.
        """
        kept = range(self.units) if kept is None else kept
        own: dict[int, list[int]] = {group: [] for group in self.groups_of(kept)}
        for place, unit in enumerate(kept):
            own[self.groups[unit]].append(place)
        widest = max(map(len, own.values()), default=0)
        return [seats + [-1] * (widest - len(seats)) for seats in own.values()]

    def places(self, length: int, experts: int) -> int:
        """Tokens that each of so many experts takes of a window of `length` tokens."""
        fair = self.capacity * length * min(self.active, experts) / experts
        return min(length, max(1, int(fair)))

    def params(self, d_model: int, kept: Sequence[int] | None = None) -> int:
        """Weights owned by the kept units (all without `kept`)."""
        return int(self.params_of(d_model, *self._sizes(kept)))

    def shell_of(self, kept: Sequence[int] | None, leaving: int) -> tuple[int, int]:
        """MACs and weights that the step is spared when `kept` is empty, of `leaving` tokens; else none."""
        return (0, 0) if kept is None or len(kept) else (self.shell_macs * leaving, self.shell_params)

    def macs(self, d_model: int, rule: AttentionRule, span: Span, kept: Sequence[int] | None = None) -> int:
        """Multiply-accumulates of the kept units (all without `kept`) on `span` tokens [MAC]."""
        units, groups = self._sizes(kept)
        if self.capacity and units:  # all experts are computed at the width of the widest
            units = groups * len(self.seats(kept)[0])
        return int(self.macs_of(d_model, rule, span, units, groups))

    def params_of(self, d_model: int, units: Any, groups: Any) -> Any:
        """Weights of so many units in so many groups; numbers or arrays of them."""
        if self.kind == "ffn":  # of an expert: its column of the router, and the bias that leaves it
            return units * (2 * d_model + 1) + groups * (2 * d_model + 1)
        return self.head_dim * (units * (2 * d_model + 1) + groups * 2 * (d_model + 1))

    def macs_of(self, d_model: int, rule: AttentionRule, span: Span, units: Any, groups: Any) -> Any:
        """Multiply-accumulates of so many units in so many groups; numbers or arrays of them [MAC].

        Experts with a capacity are equally wide here, and `groups` is a number.
        """
        if self.kind == "ffn":
            length = span.leaving
            if self.capacity and groups:  # the products of the tokens taken, and the router
                return 2 * self.places(length, groups) * d_model * units + length * d_model * groups
            return 2 * length * d_model * (units + groups)
        length, source = span.entering, span.source
        projections = 2 * d_model * self.head_dim * (length * units + source * groups)
        picks = rule.picks(length, source)
        core = 2 * length * source
        if picks:  # logits on the sampled keys, then two products for the kept queries
            core = length * picks[0] + 2 * picks[1] * source
        return projections + core * self.head_dim * units

    def _sizes(self, kept: Sequence[int] | None) -> tuple[int, int]:
        if kept is None:
            return self.units, len(set(self.groups))
        return len(kept), len(self.groups_of(kept))


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of the computation.

    Attributes:
        name: prefix of the weights inside, and the submodule's path.
        op: its kind.
        reads: names of the values it reads; `window.<modality>` for raw windows.
        writes: name of the value it makes; `logits` for the answer.
        needs: modalities that must all be present for it to run; empty = always.
        lacks: modalities that must all be absent for it to run.
        parts: values that it tells apart, in order, whether they exist or not; `window.<modality>` for a
            sensor itself.
        blocks: prunable blocks inside.
        tokens: tokens it makes whatever it reads; 0 = as `leaves` says.
        leaves: tokens that leave: as many as entered, half of them (rounded up), the sum over all values
            read, or one vector per window.
        options: what its kind must know beyond sizes, such as `{"norm": "pre"}`.
        macs_per_token: fixed work per token that leaves the step [MAC].
        macs_per_entering: fixed work per token that enters it [MAC].
        macs_fixed: fixed work per window [MAC].
        params_fixed: weights that no unit owns.
        program: what a step of the kind `encoder` computes; `None` for all others.
    """

    name: Name
    op: Name
    reads: Names
    writes: Name
    needs: Names = ()
    lacks: Names = ()
    parts: Names = ()
    blocks: Annotated[tuple[Block, ...], Len(0, 16)] = ()
    tokens: Tokens = 0
    leaves: Literal["same", "half", "sum", "one"] = "same"
    options: Annotated[Mapping[Name, Option], Len(0, 64)] = field(default_factory=dict, hash=False)
    macs_per_token: Amount = 0
    macs_per_entering: Amount = 0
    macs_fixed: Amount = 0
    params_fixed: Amount = 0
    program: Program | None = None

    @property
    def window(self) -> str | None:
        """The modality whose raw windows it reads; `None` where it reads tokens."""
        return self.reads[0].removeprefix(WINDOW) if self.reads and self.reads[0].startswith(WINDOW) else None


@dataclass(frozen=True)
class Layout:
    """The whole computation of one model.

    Attributes:
        d_model: token width `D`.
        modalities: every sensor, in order.
        attention: which core at which length.
        steps: in the order they run.
    """

    d_model: Annotated[int, Interval(ge=1, le=MAX_WIDTH)]
    modalities: Annotated[tuple[Modality, ...], Len(1, 64)]
    attention: AttentionRule
    steps: Annotated[tuple[Step, ...], Len(1, 2000)]

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
            if not set(step.needs) <= on or set(step.lacks) & on:
                continue
            reads = tuple(name for name in step.reads if name in have)
            live.append(step if reads == step.reads else replace(step, reads=reads))
            have.add(step.writes)
        return tuple(live)

    def spans(self, present: Iterable[str] | None) -> dict[str, Span]:
        """Tokens that enter and leave every live step.

        Args:
            present: names of the sensors that are on; `None` means all.

        Returns:
            Step name -> its span.
        """
        length: dict[str, int] = {}
        result = {}
        for step in self.route(present):
            first = length.get(step.reads[0], 0) if step.reads else 0
            entering = leaving = first
            if step.tokens:
                entering = leaving = step.tokens
            elif step.leaves == "sum":
                entering = leaving = sum(length[name] for name in step.reads)
            elif step.leaves == "one":
                leaving = 1
            elif step.leaves == "half":
                leaving = (entering + 1) // 2
            length[step.writes] = leaving
            result[step.name] = Span(entering, leaving, length.get(step.reads[-1], 0) if step.reads else 0)
        return result

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `json.dumps`."""
        return {
            "d_model": self.d_model,
            "modalities": [asdict(m) for m in self.modalities],
            "attention": asdict(self.attention),
            "steps": [_step_json(s) for s in self.steps],
        }


def _step_json(step: Step) -> dict[str, Any]:
    """All fields, without the program where there is none."""
    return {key: value for key, value in asdict(step).items() if key != "program" or value is not None}
