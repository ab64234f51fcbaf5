"""The kinds of steps that can be written as ONNX; one more registers its own function.

@emits("conv", reads=(1, 1))
def conv(graph: Graph, site: Site, x: Tokens) -> Tokens: ...
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import BundleError
from sentryfuse.graph.writer import Graph, Tokens
from sentryfuse.planning.layout import AttentionRule, Block, Span, Step
from sentryfuse.planning.program import Program
from sentryfuse.planning.units import slice_leaves
from sentryfuse.register import Register
from sentryfuse.types import Modality

Array = NDArray[np.float32]


class Misfit(BundleError):
    """Weights or options that do not fit the step they belong to."""


class Window(str):
    """Name of a sensor's window, as a kind of step that reads windows gets it; others ask it for tokens."""

    __slots__ = ()

    @property
    def length(self) -> int:
        """Tokens, which a window has none of."""
        raise Misfit(f"has a step that reads {self}, where its kind needs tokens")

    full = flat = length


@dataclass
class Site:
    """One step of a sub-network: what is known when it is written.

    Attributes:
        step: of the layout.
        modality: whose raw windows it reads; `None` where it reads tokens.
        span: tokens that enter and leave.
        parts: tokens of each of `step.parts`, 0 for those that do not exist.
        present: sensors that are on.
        kept: block name -> units that stay.
        tensors: all weights of the step by their names inside it, uncut.
        d_model: `D`.
        n_classes: `K`.
        rule: which attention core at which length.
        batch: windows per call; `None` = any number.
        anchor: an input of the graph, as long as there are windows.
        read: names of weights that were asked for.
        asked: names of options that were asked for.
        trained: numbers among them that training changes.
        ran: the step's program was asked for.
    """

    step: Step
    modality: Modality | None
    span: Span
    parts: Sequence[int]
    present: Sequence[str]
    kept: Mapping[str, Sequence[int]]
    tensors: Mapping[str, Array]
    d_model: int
    n_classes: int
    rule: AttentionRule
    batch: int | None
    anchor: str
    read: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    trained: int = 0
    ran: bool = False

    def weight(self, name: str, *shape: int) -> Array:
        """A trained weight of the step.

        Args:
            name: inside the step.
            shape: it must have.

        Raises:
            Misfit: it is missing or has another shape.
        """
        found = self.tensors.get(name)
        if found is None:
            raise Misfit(f"lacks the weight {self.step.name}.{name}")
        if found.shape != shape:
            raise Misfit(f"holds {self.step.name}.{name} as {found.shape}, where {shape} is needed")
        if name not in self.read:
            self.trained += found.size
        self.read.add(name)
        return found

    def rows(self, name: str) -> int:
        """Rows of a weight whose number of rows nothing else says; 0 without it."""
        found = self.tensors.get(name)
        return found.shape[0] if found is not None and found.ndim else 0

    def measured(self, name: str, *shape: int) -> Array:
        """A number that was measured on training windows; as `weight`, but none that a budget counts."""
        value = self.weight(name, *shape)
        self.trained -= value.size
        return value

    def block(self, block: Block) -> dict[str, Array]:
        """Weights of the units of a block that stay, by their names inside the step.

        Raises:
            Misfit: one is missing or has another shape.
        """
        prefix = f"{block.name[len(self.step.name) + 1 :]}."
        own = {}
        for leaf, shape in block.shapes(self.d_model).items():
            before = self.trained
            own[leaf] = self.weight(prefix + leaf, *shape)
            if {"unit", "group"} & {*block.leaves[leaf]}:
                self.trained = before  # counted with the units
        return {
            prefix + leaf: value for leaf, value in slice_leaves(block, self.kept[block.name], own).items()
        }

    def surrounds(self, block: Block, *names: str, macs: int = 0) -> None:
        """Say what goes with a block's last unit; the layout must say the same, since budgets count that.

        Args:
            block: of the step.
            names: of what surrounds it, inside the step.
            macs: for every token that leaves [MAC].

        Raises:
            Misfit: the layout says something else.
        """
        inside = f"{block.name[len(self.step.name) + 1 :]}."
        own = {inside + leaf for leaf, axes in block.leaves.items() if set(axes) == {"d_model"}}
        around = tuple(f"{name}." for name in names)
        params = sum(t.size for name, t in self.tensors.items() if name in own or name.startswith(around))
        if (block.shell, block.shell_params, block.shell_macs) != (names, params, macs):
            raise Misfit(
                f"has a block {block.name} with which {params} weights ({', '.join(names)}) and {macs} "
                "multiplications per token go, where the layout says otherwise"
            )

    def option(self, name: str, allowed: Sequence[Any] = ()) -> Any:
        """An option of the step, one of those allowed.

        Raises:
            Misfit: it is missing or none of them.
        """
        found = self.step.options.get(name)
        if found is None or (allowed and found not in allowed):
            raise Misfit(f"has a step {self.step.name} whose option {name} is {found!r:.40}")
        self.asked.add(name)
        return found

    def size(self, name: str, most: int) -> int:
        """An option that is a whole number from 1 on.

        Raises:
            Misfit: it is not.
        """
        found = self.option(name)
        if type(found) is not int or not 1 <= found <= most:
            raise Misfit(f"has a step {self.step.name} whose option {name} is {found!r:.40}, not 1 to {most}")
        return found

    def program(self) -> Program:
        """The program of the step.

        Raises:
            Misfit: it has none.
        """
        if self.step.program is None:
            raise Misfit(f"has a step {self.step.name} ({self.step.op}) without a program")
        self.ran = True
        return self.step.program

    def multiplies(self, *, per_token: int = 0, per_entering: int = 0, fixed: int = 0) -> None:
        """Say what is multiplied beside the units; the layout must say the same, since budgets count that.

        Args:
            per_token: for every token that leaves [MAC].
            per_entering: for every token that enters [MAC].
            fixed: for every window [MAC].

        Raises:
            Misfit: the layout says something else.
        """
        step = self.step
        if (per_token, per_entering, fixed) != (step.macs_per_token, step.macs_per_entering, step.macs_fixed):
            raise Misfit(
                f"has a step {step.name} that multiplies {per_token} times per token, {per_entering} per "
                f"token that enters and {fixed} per window, where the layout says otherwise"
            )


Emit = Callable[..., Tokens]
EmitTogether = Callable[[Graph, Sequence[Site], Sequence[Sequence[Any]]], Sequence[Tokens]]


@dataclass(frozen=True)
class StepKind:
    """How one kind of step is written.

    Attributes:
        emit: `(graph, site, *reads) -> tokens`; a step that reads windows gets the input's name instead.
        reads: fewest and most values that it reads.
        together: writes several steps at once, `(graph, sites, reads of each) -> tokens of each`.
        alike: steps with equal answers may be written together; `None` = alone.
    """

    emit: Emit
    reads: tuple[int, int]
    together: EmitTogether | None = None
    alike: Callable[[Site], Hashable] | None = None


_KINDS: Register[StepKind] = Register(
    "kind of step", group="sentryfuse.steps", decorator="sentryfuse.graph.emits"
)


def emits(
    op: str,
    *,
    reads: tuple[int, int] = (1, 1),
    together: EmitTogether | None = None,
    alike: Callable[[Site], Hashable] | None = None,
) -> Callable[[Emit], Emit]:
    """Register the function that writes a kind of step.

    An installed package makes its own known by an entry point of the group `sentryfuse.steps`, whose name is
    the kind; the device needs that package, and it must not import torch.

    Args:
        op: the kind, as `Step.op` names it.
        reads: fewest and most values that it reads.
        together: see `StepKind`.
        alike: see `StepKind`.

    Raises:
        ConfigError: the kind exists.
    """

    def register(emit: Emit) -> Emit:
        _KINDS.add(op, StepKind(emit, reads, together, alike))
        return emit

    return register


def kind_of(step: Step) -> StepKind:
    """How a step is written.

    Raises:
        Misfit: nobody registered its kind.
    """
    if not _KINDS.has(step.op):
        raise Misfit(f"has a step {step.name} of the kind {step.op}, which is not known here")
    kind = _KINDS.find(step.op)
    least, most = kind.reads
    if not least <= len(step.reads) <= most:
        raise Misfit(f"has a step {step.name} ({step.op}) with {len(step.reads)} reads")
    return kind


def takes_what_is_there(step: Step) -> bool:
    """Whether a step goes on without some of what it reads, as joins do; others need all of it."""
    return kind_of(step).reads[1] > 2
