"""A plan -> one ONNX model: graphs of the steps that run, strung together, with sliced weights inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sentryfuse.bundle import Bundle
from sentryfuse.layout import Step
from sentryfuse.pruning.plan import check_plan
from sentryfuse.pruning.units import kept_groups, slice_weights
from sentryfuse.run.constants import bank_tokens, codes, part_shares
from sentryfuse.run.fold import fold
from sentryfuse.types import Plan


def assemble(bundle: Bundle, plan: Plan, *, batch: int | None = None) -> ModelProto:
    """Build the graph of a sub-network; numpy and protobuf only.

    Args:
        bundle: graphs and weights.
        plan: which steps run and which units stay.
        batch: windows per call; a fixed number lets the engine fold all shapes, `None` leaves it open.

    Returns:
        A model with one input `window.<modality>` `(B, T, C)` per present sensor and the output `logits`.

    Raises:
        ConfigError: the plan belongs to another model.
    """
    layout = bundle.layout
    check_plan(layout, plan)
    weights: dict[str, Any] = dict(slice_weights(layout, plan.kept, bundle.weights))
    for name, kept in plan.kept.items():
        block = layout.blocks[name]
        if block.capacity:
            weights[f"{name}.seats"] = np.array(block.seats(kept), np.int64)
        elif block.groups:
            weights[f"{name}.group_of"] = np.array(kept_groups(block, kept), np.int64)
    spans = layout.spans(plan.present)
    graph = GraphProto(name="sentryfuse")
    template = None
    for step in layout.route(plan.present):
        if step.op == "concat":
            graph.node.append(helper.make_node("Concat", list(step.reads), [step.writes], axis=1))
        elif step.op == "mean":
            graph.node.append(helper.make_node("Mean", list(step.reads), [step.writes]))
        elif step.op == "bank":
            window = f"window.{plan.present[0]}"
            _add_bank(graph, step, window, bank_tokens(step, plan.present, weights))
        elif step.op == "codes":
            scale, shift = codes(step, layout.part_lengths(step, plan.present), weights)
            _add_constant(graph, f"{step.name}/scale", scale)
            _add_constant(graph, f"{step.name}/shift", shift)
            scaled = f"{step.name}/scaled"
            graph.node.append(helper.make_node("Mul", [step.reads[0], f"{step.name}/scale"], [scaled]))
            graph.node.append(helper.make_node("Add", [scaled, f"{step.name}/shift"], [step.writes]))
        else:
            span = spans[step.name]
            picks = layout.attention.picks(span.entering, span.source) if step.op == "layer" else None
            if picks:
                weights[f"{step.name}.pick.sampled"] = np.arange(picks[0]) * span.source // picks[0]
                weights[f"{step.name}.pick.kept"] = np.zeros(picks[1], np.float32)
            if step.parts:
                weights[f"{step.name}.pick.shares"] = part_shares(layout.part_lengths(step, plan.present))
            for block in step.blocks:
                if block.active:
                    left = len(block.groups_of(plan.kept[block.name]))
                    weights[f"{step.name}.pick.slots"] = np.zeros(min(block.active, left), np.float32)
                if block.capacity:
                    n_places = block.places(span.leaving, left)
                    weights[f"{step.name}.pick.places"] = np.zeros(n_places, np.float32)
            template = bundle.graphs[bundle.step_graphs[step.name]["sparse" if picks else "dense"]]
            shapes: dict[str, tuple[int | None, ...]] = {}
            if step.op != "embed":  # a window's size is in its graph
                shapes["x"] = (batch, span.entering, layout.d_model)
                shapes["source"] = (batch, span.source, layout.d_model)
            _add_step(graph, template.graph, step, weights, shapes)
    assert template is not None
    for m in layout.modalities:
        if m.name in plan.present:
            shape: Sequence[int | str] = [batch or "B", m.length, m.n_channels]
            graph.input.append(helper.make_tensor_value_info(f"window.{m.name}", TensorProto.FLOAT, shape))
    shape = [batch or "B", len(bundle.classes)]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape))
    return ModelProto(ir_version=template.ir_version, opset_import=template.opset_import, graph=graph)


def _add_constant(graph: GraphProto, name: str, value: Any) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))


def _add_bank(graph: GraphProto, step: Step, window: str, tokens: Any) -> None:
    """A constant, once per window: as many as there are windows of some sensor."""
    name = f"{step.name}/"
    _add_constant(graph, name + "tokens", tokens)
    _add_constant(graph, name + "size", np.array(tokens.shape[1:], np.int64))
    graph.node.append(helper.make_node("Shape", [window], [name + "batch"], start=0, end=1))
    graph.node.append(helper.make_node("Concat", [name + "batch", name + "size"], [name + "shape"], axis=0))
    graph.node.append(helper.make_node("Expand", [name + "tokens", name + "shape"], [step.writes]))


def _add_step(
    graph: GraphProto,
    template: GraphProto,
    step: Step,
    weights: Mapping[str, Any],
    shapes: Mapping[str, tuple[int | None, ...]],
) -> None:
    """Copy one step's nodes that are not known beforehand, inner names prefixed by the step's name."""
    reads = dict(zip(("x", "source"), step.reads, strict=False))
    known = {c.name: numpy_helper.to_array(c) for c in template.initializer}
    for value in template.input:
        if value.name not in reads:
            known[value.name] = weights[f"{step.name}.{value.name}"]
    nodes, known = fold(list(template.node), known, shapes)
    prefix = f"{step.name}/"
    names = {"": "", "y": step.writes, **reads}
    for node in nodes:
        for name in node.input:
            if name in known and name not in names:
                full = f"{step.name}.{name}"
                names[name] = full if full in weights else prefix + name
                _add_constant(graph, names[name], known[name])
        made: NodeProto = graph.node.add()
        made.CopyFrom(node)
        made.name = prefix + node.name
        made.input[:] = [names.get(name) or (prefix + name if name else "") for name in node.input]
        made.output[:] = [names.get(name) or (prefix + name if name else "") for name in node.output]
