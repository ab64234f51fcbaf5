"""Sizes of every value in every graph, worked out without the engine, for the largest and the smallest plans.

A graph of known operators can still ask for a terabyte, or for weights of another shape. Here the steps are
followed with real sizes: all sensors at full width, and each sensor alone at the least width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, helper, numpy_helper

from sentryfuse.bundle.container import Inconsistent
from sentryfuse.bundle.graphs import MAX_RANK
from sentryfuse.bundle.manifest import MAX_TOKENS, Manifest
from sentryfuse.bundle.operators import KINDS, OPERATORS, Shape, Value
from sentryfuse.bundle.tensors import GRAPH_OPS, block_shapes, weights_by_step
from sentryfuse.planning.layout import Block, Layout, Span, Step
from sentryfuse.planning.units import kept_groups

MAX_ELEMENTS = 10**8  # of one value within a graph, for one window
LEAST_CHANNELS = 8
Weights = Mapping[str, Shape]


def check_shapes(manifest: Manifest, graphs: Mapping[str, ModelProto], weights: Weights) -> None:
    """Follow the steps of some plans through their graphs.

    Args:
        manifest: whose routes and tensors have been checked.
        graphs: template key -> graph that `read_graph` has checked.
        weights: shapes of all weights by name.

    Raises:
        Inconsistent: a step whose graph does not take its weights, is too large or makes something else.
    """
    layout = manifest.layout
    if {len(set(_opsets(graphs.values())))} != {1}:
        raise Inconsistent("has graphs of different ONNX versions")
    _check_keys(manifest, graphs, weights)
    walk = _Walk(manifest, graphs)
    least = {name: _least(block) for name, block in layout.blocks.items()}
    largest, smallest = _Size({}, weights, 2), _Size(least, {**weights, **_sliced(layout, least)}, 1)
    for present, size in ((layout.names, largest), *(((name,), smallest) for name in layout.names)):
        spans = layout.spans(present)
        route = layout.route(present)
        made = {step.writes: spans[step.name].leaving for step in route}
        for step in route:
            _check_lengths(step, spans[step.name], made, weights)
            if step.op in GRAPH_OPS:
                walk.check(step, spans[step.name], size)


@dataclass(frozen=True)
class _Size:
    """How large a plan is: units kept per block (all where not named), shapes of its weights, windows."""

    kept: Mapping[str, Sequence[int]]
    weights: Weights
    batch: int


class _Walk:
    """Checks steps, each kind of step with the same sizes once.

    Args:
        manifest: what the steps are.
        graphs: template key -> graph.
    """

    def __init__(self, manifest: Manifest, graphs: Mapping[str, ModelProto]) -> None:
        self.manifest = manifest
        self.done: set[object] = set()
        self.nodes = {key: nodes_of(model.graph) for key, model in graphs.items()}
        self.reads = {key: [value.name for value in model.graph.input] for key, model in graphs.items()}
        self.constants = {
            key: {c.name: _constant(numpy_helper.to_array(c)) for c in model.graph.initializer}
            for key, model in graphs.items()
        }

    def check(self, step: Step, span: Span, size: _Size) -> None:
        """Follow one step through its graphs."""
        batch, kept, weights = size.batch, size.kept, size.weights
        layout = self.manifest.layout
        x: Shape = (batch, span.entering, layout.d_model)
        y: Shape = (batch, span.leaving, layout.d_model)
        if step.op == "embed":
            modality = next(m for m in layout.modalities if step.reads == (f"window.{m.name}",))
            x = (batch, modality.length, modality.n_channels)
        elif step.op == "head":
            y = (batch, len(self.manifest.classes))
        picks = layout.attention.picks(span.entering, span.source) or (
            min(2, span.source),
            min(2, span.entering),
        )
        made: dict[str, Value] = {
            "x": Value("f", x),
            "source": Value("f", (batch, span.source, layout.d_model)),
            "pick.sampled": _constant(np.arange(picks[0]) * span.source // picks[0]),
            "pick.kept": Value("f", (picks[1],)),
            "pick.shares": Value("f", (len(step.parts), span.entering)),
        }
        for block in step.blocks:
            groups = block.groups
            if groups and block.name in kept:
                groups = kept_groups(block, kept[block.name])
            leaf = block.name.removeprefix(f"{step.name}.")
            made[f"{leaf}.group_of"] = _constant(np.array(groups, np.int64))
            if block.capacity:
                units = kept.get(block.name)
                made[f"{leaf}.seats"] = _constant(np.array(block.seats(units), np.int64))
                made["pick.places"] = Value("f", (block.places(span.leaving, len(set(groups))),))
            if block.active:
                made["pick.slots"] = Value("f", (min(block.active, len(set(groups))),))
        for key in self.manifest.step_graphs[step.name].values():
            inputs = {
                name: made[name] if name in made else Value("f", weights[f"{step.name}.{name}"])
                for name in self.reads[key]
            }
            sizes = (
                key,
                y,
                *((v.kind, v.shape, v.known is None or v.known.tobytes()) for v in inputs.values()),
            )
            if sizes in self.done:
                continue
            self.done.add(sizes)
            try:
                found = follow(self.nodes[key], inputs | self.constants[key], MAX_ELEMENTS * batch)
            except ValueError as error:
                raise Inconsistent(f"has a graph {key!r} that does not fit {step.name}: {error}") from None
            if found != Value("f", y):
                raise Inconsistent(f"has a graph {key!r} that makes {found.shape} of {step.name}, not {y}")


class _Node(NamedTuple):
    """A node, taken out of its message once: asking the message again is slow."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[str, Any]


def nodes_of(graph: GraphProto) -> list[_Node]:
    """The nodes of a graph, for `follow`."""
    return [
        _Node(
            node.op_type,
            tuple(node.input),
            tuple(node.output),
            {a.name: helper.get_attribute_value(a) for a in node.attribute},
        )
        for node in graph.node
    ]


def follow(nodes: Iterable[_Node], given: Mapping[str, Value], limit: int) -> Value:
    """Work out the type and size of a graph's output `y`.

    Args:
        nodes: of `nodes_of`, in order, of known operators.
        given: inputs and constants by name.
        limit: elements that no value may exceed.

    Returns:
        What is known of `y`.

    Raises:
        ValueError: a node cannot take what it is given, or makes something too large.
    """
    values = dict(given)
    for operator, inputs, outputs, options in nodes:
        try:
            made = OPERATORS[operator].rule([values[name] for name in inputs], options)
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"{operator} is given {error}") from None
        for name, value in zip(outputs, made, strict=True):
            empty = 0 in value.shape and (value.kind != "i" or len(value.shape) > 1)
            if len(value.shape) > MAX_RANK or math.prod(value.shape) > limit or empty:
                raise ValueError(f"{operator} makes {value.shape}")
            values[name] = value
    return values["y"]


def _constant(array: NDArray[Any]) -> Value:
    kind = KINDS[helper.np_dtype_to_tensor_dtype(array.dtype)]
    return Value(kind, array.shape, array if kind == "i" else None)


def _opsets(graphs: Iterable[ModelProto]) -> list[int]:
    return [model.opset_import[0].version for model in graphs]


def _least(block: Block) -> list[int]:
    """Units of the smallest sub-network; which of them stay does not matter for sizes."""
    return list(range(1 if block.kind == "heads" else min(LEAST_CHANNELS, block.units)))


def _sliced(layout: Layout, kept: Mapping[str, Sequence[int]]) -> dict[str, Shape]:
    sliced = {}
    for name, units in kept.items():
        block = layout.blocks[name]
        for leaf, shape in block_shapes(
            block, layout.d_model, len(units), len(block.groups_of(units))
        ).items():
            sliced[f"{name}.{leaf}"] = shape
    return sliced


def _check_keys(manifest: Manifest, graphs: Mapping[str, ModelProto], weights: Weights) -> None:
    """Every step that needs a graph has one for each core, and the weights it asks for, and no other."""
    layout = manifest.layout
    owned = weights_by_step(layout, weights)
    for step in layout.steps:
        cores = manifest.step_graphs.get(step.name, {})
        wanted = {"dense"} if step.op in GRAPH_OPS else set()
        if step.op == "layer" and layout.attention.core == "sentry":
            wanted.add("sparse")
        if not wanted <= cores.keys() or (cores and not wanted):
            raise Inconsistent(f"has graphs {sorted(cores)} for step {step.name}, not {sorted(wanted)}")
        made = {"x", "source"} if len(step.reads) > 1 else {"x"}
        if step.parts:
            made.add("pick.shares")
        if any(block.active for block in step.blocks):
            made.add("pick.slots")
        for block in step.blocks:
            leaf = block.name.removeprefix(f"{step.name}.")
            made |= {f"{leaf}.seats", "pick.places"} if block.capacity else set()
            made |= {f"{leaf}.group_of"} if block.groups and not block.capacity else set()
        for core, key in cores.items():
            extra = {"pick.sampled", "pick.kept"} if core == "sparse" else set()
            asked = {value.name for value in graphs[key].graph.input}
            own = owned[step.name].keys()
            for name in sorted(asked - made - extra - own):
                raise Inconsistent(f"lacks the tensor weights.{step.name}.{name}")
            for name in sorted(own - asked):
                raise Inconsistent(f"holds a tensor weights.{step.name}.{name} that no graph asks for")
    unused = graphs.keys() - {key for cores in manifest.step_graphs.values() for key in cores.values()}
    for key in sorted(unused):
        raise Inconsistent(f"has a graph {key!r} that no step uses")


def _check_lengths(step: Step, span: Span, made: Mapping[str, int], weights: Weights) -> None:
    """Token counts that steps without a graph rely on; `made` holds those of every value."""
    if not 1 <= max(span.entering, span.leaving, span.source) <= MAX_TOKENS:
        raise Inconsistent(f"has a step {step.name} of {max(span)} tokens, the limit is {MAX_TOKENS}")
    if step.op == "mean" and len({made[read] for read in step.reads}) > 1:
        raise Inconsistent(f"has a step {step.name} that averages values of different lengths")
    if step.op == "bank":
        known = all(part.startswith("window.") for part in step.parts)
        if not known:
            raise Inconsistent(f"has a step {step.name} whose parts are not sensors")
        return
    if step.parts:
        lengths = [made.get(part, 0) for part in step.parts]
        if sum(lengths) != span.entering:
            raise Inconsistent(f"has a step {step.name} whose parts are not what it reads")
        if step.op == "codes" and max(lengths) > weights[f"{step.name}.temporal"][0]:
            raise Inconsistent(f"has a step {step.name} with more tokens than it has codes")
