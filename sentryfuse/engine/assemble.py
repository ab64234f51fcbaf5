"""A plan -> one ONNX model: graphs of the steps that run, strung together, with sliced weights inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from sentryfuse.bundle import Bundle
from sentryfuse.engine.constants import bank_tokens, codes, part_shares
from sentryfuse.engine.fuse import OPSET, OWN
from sentryfuse.engine.parts import Part, whole
from sentryfuse.engine.recipe import Nodes, Recipe, make_recipe
from sentryfuse.engine.wire import Pieces, model_bytes, model_header, node_bytes, tensor_pieces
from sentryfuse.planning.layout import Span, Step
from sentryfuse.planning.plan import check_plan
from sentryfuse.planning.units import kept_groups, slice_block
from sentryfuse.types import Plan

Array = NDArray[Any]


def assemble(bundle: Bundle, plan: Plan, *, batch: int | None = None) -> ModelProto:
    """Build the graph of a sub-network in plain ONNX; numpy and protobuf only.

    Args:
        bundle: graphs and weights.
        plan: which steps run and which units stay.
        batch: windows per call; a fixed number lets the engine fold all shapes, `None` leaves it open.

    Returns:
        A model with one input `window.<modality>` `(B, T, C)` per present sensor and the output `logits`.

    Raises:
        ConfigError: the plan belongs to another model.
    """
    model: ModelProto = ModelProto.FromString(assemble_bytes(bundle, plan, batch=batch, fused=False))
    return model


def assemble_bytes(
    bundle: Bundle, plan: Plan, *, batch: int | None = None, fused: bool, part: Part | None = None
) -> bytes:
    """As `assemble`, serialised; with `fused` in fewer nodes, some of which only onnxruntime knows.

    With `part` only its steps: values it is given are inputs beside its windows, and what it writes is the
    output.
    """
    ways = _ASSEMBLERS.setdefault(bundle, {})
    assembler = ways.get((batch, fused))
    if assembler is None:
        assembler = ways[batch, fused] = _Assembler(bundle, batch=batch, fused=fused)
    return assembler.assemble(plan, part or whole(bundle.layout, plan.present))


class _Assembler:
    """Assembles sub-networks of one bundle; what plans have in common is made when first needed.

    Holds parts of the bundle rather than the bundle, which would otherwise live as long as this.
    """

    def __init__(self, bundle: Bundle, *, batch: int | None, fused: bool) -> None:
        self.layout, self.weights, self.classes = bundle.layout, bundle.weights, bundle.classes
        self.graphs, self.step_graphs = bundle.graphs, bundle.step_graphs
        self.windows = {f"window.{m.name}": (m.length, m.n_channels) for m in bundle.layout.modalities}
        self.batch, self.fused = batch, fused
        template = next(iter(bundle.graphs.values()))
        self.header = model_header(template, opset=OPSET if fused else 0, own=OWN if fused else "")
        self._recipes: dict[tuple[str, str, tuple[str, ...]], Recipe] = {}

    def assemble(self, plan: Plan, part: Part) -> bytes:
        layout = self.layout
        check_plan(layout, plan)
        spans = layout.spans(plan.present)
        free: int | str = self.batch or "B"
        made = {step.writes: (free, spans[step.name].leaving, layout.d_model) for step in layout.steps
                if step.name in spans}  # fmt: skip
        windows = {f"window.{name}": (free, *self.windows[f"window.{name}"]) for name in part.windows}
        inputs = windows | {value: made[value] for value in part.given}
        graph = _Graph()
        for step in part.steps:
            lengths = layout.part_lengths(step, plan.present) if step.parts else []
            if step.op == "concat":
                graph.run(step.name, "Concat", step.reads, step.writes, axis=1)
            elif step.op == "mean":
                graph.run(step.name, "Mean", step.reads, step.writes)
            elif step.op == "bank":
                tokens = bank_tokens(step, plan.present, self.weights)
                _add_bank(graph, step, next(iter(inputs)), tokens)
            elif step.op == "codes":
                scale, shift = codes(step, lengths, self.weights)
                graph.hold(f"{step.name}/scale", scale)
                graph.hold(f"{step.name}/shift", shift)
                scaled = f"{step.name}/scaled"
                graph.run(step.name, "Mul", (step.reads[0], f"{step.name}/scale"), scaled)
                graph.run(f"{step.name}+", "Add", (scaled, f"{step.name}/shift"), step.writes)
            else:
                self._add_step(graph, step, plan, spans[step.name], lengths)
        graph.finish(part.writes)
        shape = (free, len(self.classes)) if part.writes == "logits" else made[part.writes]
        return model_bytes(
            graph.pieces, inputs=inputs.items(), output=(part.writes, shape), header=self.header
        )

    def _add_step(self, graph: _Graph, step: Step, plan: Plan, span: Span, lengths: list[int]) -> None:
        picks = self.layout.attention.picks(span.entering, span.source) if step.op == "layer" else None
        brought: dict[str, Array] = {}
        if picks:
            brought["pick.sampled"] = np.arange(picks[0]) * span.source // picks[0]
            brought["pick.kept"] = np.zeros(picks[1], np.float32)
        if step.parts:
            brought["pick.shares"] = part_shares(lengths)
        cut = len(step.name) + 1
        for block in step.blocks:
            kept = plan.kept[block.name]
            for name, value in slice_block(block, kept, self.weights).items():
                brought[name[cut:]] = value
            if block.capacity:
                brought[f"{block.name[cut:]}.seats"] = np.array(block.seats(kept), np.int64)
            elif block.groups:
                brought[f"{block.name[cut:]}.group_of"] = np.array(kept_groups(block, kept), np.int64)
            if block.active:
                left = len(block.groups_of(kept))
                brought["pick.slots"] = np.zeros(min(block.active, left), np.float32)
            if block.capacity:
                left = len(block.groups_of(kept))
                brought["pick.places"] = np.zeros(block.places(span.leaving, left), np.float32)
        shapes: dict[str, tuple[int | None, ...]] = {
            "x": (self.batch, span.entering, self.layout.d_model),
            "source": (self.batch, span.source, self.layout.d_model),
        }
        if step.op == "embed":
            shapes = {"x": (self.batch, *self.windows[step.reads[0]])}
        core = "sparse" if picks else "dense"
        recipe = self._recipes.get((step.name, core, step.reads))
        if recipe is None:
            recipe = self._make_recipe(step, core, brought, shapes)
            self._recipes[step.name, core, step.reads] = recipe
        graph.follow(recipe, step.writes, recipe.fill(brought, shapes))

    def _make_recipe(
        self,
        step: Step,
        core: str,
        brought: Mapping[str, Array],
        shapes: Mapping[str, tuple[int | None, ...]],
    ) -> Recipe:
        template = self.graphs[self.step_graphs[step.name][core]]
        inputs = {value.name for value in template.graph.input} - {"x", "source"}
        constant = {name: self.weights[f"{step.name}.{name}"] for name in inputs - brought.keys()}
        brought = {name: value for name, value in brought.items() if name in inputs}
        return make_recipe(step, template, constant, brought, shapes, fused=self.fused)


_ASSEMBLERS: WeakKeyDictionary[Bundle, dict[tuple[int | None, bool], _Assembler]] = WeakKeyDictionary()


class _Graph:
    """Nodes and initialisers so far, as bytes, and which values exist in which shape."""

    def __init__(self) -> None:
        self.pieces: Pieces = []
        self._held: set[str] = set()
        self._flat: set[str] = set()  # values that exist flat
        self._waiting: dict[str, tuple[Nodes, Mapping[str, Pieces]]] = {}  # and only so, until needed in full

    def hold(self, name: str, value: Array) -> None:
        """Add a constant."""
        self.pieces += tensor_pieces(name, value)

    def run(self, name: str, op: str, reads: Sequence[str], writes: str, **options: Any) -> None:
        """Add one plain node."""
        for value in reads:
            self._unflatten(value)
        self.pieces.append(node_bytes(helper.make_node(op, list(reads), [writes], name=name, **options)))

    def follow(self, recipe: Recipe, writes: str, held: Mapping[str, Pieces]) -> None:
        """Add one step."""
        for value in recipe.full:
            self._unflatten(value)
        for value, nodes in recipe.enter.items():
            if value not in self._flat:
                self._add(nodes, held)
                self._flat.add(value)
        self._add(recipe.nodes, held)
        if recipe.leave is not None:
            self._waiting[writes] = recipe.leave, held
            self._flat.add(writes)

    def finish(self, value: str) -> None:
        """Give a value its full shape, for whoever reads it outside."""
        self._unflatten(value)

    def _unflatten(self, value: str) -> None:
        if value in self._waiting:
            self._add(*self._waiting.pop(value))

    def _add(self, nodes: Nodes, held: Mapping[str, Pieces]) -> None:
        self.pieces += nodes.pieces
        for name in nodes.holds:
            if name not in self._held:
                self._held.add(name)
                self.pieces += held[name]


def _add_bank(graph: _Graph, step: Step, given: str, tokens: Any) -> None:
    """A constant, once per window: as many as there are of some input."""
    name = f"{step.name}/"
    graph.hold(f"{name}tokens", tokens)
    graph.hold(f"{name}size", np.array(tokens.shape[1:], np.int64))
    graph.run(f"{name}1", "Shape", [given], f"{name}batch", start=0, end=1)
    graph.run(f"{name}2", "Concat", [f"{name}batch", f"{name}size"], f"{name}shape", axis=0)
    graph.run(f"{name}3", "Expand", [f"{name}tokens", f"{name}shape"], step.writes)
