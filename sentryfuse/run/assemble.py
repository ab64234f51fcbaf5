"""A plan -> one ONNX model: graphs of the steps that run, strung together, with sliced weights inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sentryfuse.bundle import Bundle
from sentryfuse.layout import Step
from sentryfuse.pruning.plan import check_plan
from sentryfuse.pruning.units import kept_groups, slice_weights
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
        if block.kind == "heads":
            weights[f"{name}.group_of"] = np.array(kept_groups(block, kept), np.int64)
    lengths = layout.lengths(plan.present)
    graph = GraphProto(name="sentryfuse")
    template = None
    for step in layout.route(plan.present):
        if step.op == "concat":
            graph.node.append(helper.make_node("Concat", list(step.reads), [step.writes], axis=1))
            continue
        entering = lengths[step.name][0]
        sparse = step.op == "layer" and layout.attention.is_sparse(entering)
        template = bundle.graphs[bundle.step_graphs[step.name]["sparse" if sparse else "dense"]]
        if sparse:
            n_picked = layout.attention.n_picked(entering)
            weights[f"{step.name}.pick.sampled"] = np.arange(n_picked) * entering // n_picked
            weights[f"{step.name}.pick.kept"] = np.zeros(n_picked, np.float32)
        _add_step(graph, template.graph, step, weights)
    assert template is not None
    for m in layout.modalities:
        if m.name in plan.present:
            shape: Sequence[int | str] = [batch or "B", m.length, m.n_channels]
            graph.input.append(helper.make_tensor_value_info(f"window.{m.name}", TensorProto.FLOAT, shape))
    shape = [batch or "B", len(bundle.classes)]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape))
    return ModelProto(ir_version=template.ir_version, opset_import=template.opset_import, graph=graph)


def _add_step(graph: GraphProto, template: GraphProto, step: Step, weights: dict[str, Any]) -> None:
    """Copy one step's nodes, its inner names prefixed by the step's name."""
    names = {"": "", "x": step.reads[0], "y": step.writes}
    for value in template.input:
        if value.name == "x":
            continue
        full = f"{step.name}.{value.name}"
        names[value.name] = full
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weights[full]), full))
    prefix = f"{step.name}/"
    for constant in template.initializer:
        names[constant.name] = prefix + constant.name
        copy = graph.initializer.add()
        copy.CopyFrom(constant)
        copy.name = prefix + constant.name
    for node in template.node:
        made: NodeProto = graph.node.add()
        made.CopyFrom(node)
        made.name = prefix + node.name
        made.input[:] = [names.get(name) or (prefix + name if name else "") for name in node.input]
        made.output[:] = [names.get(name) or (prefix + name if name else "") for name in node.output]
