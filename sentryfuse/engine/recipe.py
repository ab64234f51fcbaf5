"""What of one step's graph is the same for every plan, made once: its nodes as bytes, the values it holds.

A step's template works for any width. Which of its nodes are left after folding, under which names, and
most constants depend on the model alone. For a plan only the cut weights and a few sizes are filled in.

With a fixed batch, tokens pass from step to step as `(B * L, D)`, named `<value>/flat`, where both sides
take them so; the reshapes between are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper, shape_inference

from sentryfuse.engine.fold import Work, compute, fold
from sentryfuse.engine.fuse import fuse
from sentryfuse.engine.wire import Pieces, node_bytes, tensor_pieces
from sentryfuse.planning.layout import Step

Array = NDArray[Any]
Shapes = Mapping[str, tuple[int | None, ...]]
SMALL = 16  # numbers; equal constants up to this size are one


class Nodes(NamedTuple):
    """Nodes as bytes, and the initialisers they read, by name in the graph."""

    pieces: tuple[bytes, ...]
    holds: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """One step, ready to be filled in.

    Attributes:
        nodes: what an engine runs.
        enter: value -> what flattens it, for values this step reads flat.
        full: values this step reads in their full shape.
        leave: what gives the value this step writes its full shape, where it is made flat.
        fixed: initialisers that no plan changes, by name in the graph.
        filled: initialisers that a plan decides: name in the step -> name in the graph.
        values: known values that the work reads, by name in the step.
        work: what is computed for a plan.
    """

    nodes: Nodes
    enter: Mapping[str, Nodes]
    full: frozenset[str]
    leave: Nodes | None
    fixed: Mapping[str, Pieces]
    filled: Mapping[str, str]
    values: Mapping[str, Array]
    work: tuple[Work, ...]

    def fill(self, brought: Mapping[str, Array], shapes: Shapes) -> dict[str, Pieces]:
        """All initialisers for one plan, by name in the graph.

        Args:
            brought: cut weights, head maps and picks, by name in the step.
            shapes: of `x` and `source`.
        """
        values = {**self.values, **brought}
        compute(self.work, values, shapes)
        made = {full: tensor_pieces(full, values[name]) for name, full in self.filled.items()}
        return {**self.fixed, **made}


def flat_name(value: str) -> str:
    """Name in the graph of a value's tokens as `(B * L, D)`."""
    return f"{value}/flat"


def make_recipe(
    step: Step,
    template: ModelProto,
    constant: Mapping[str, Array],
    brought: Mapping[str, Array],
    shapes: Shapes,
    *,
    fused: bool,
) -> Recipe:
    """Fold and name one step's nodes.

    Args:
        step: as it runs, with the values it really reads.
        template: its graph.
        constant: weights that no plan cuts, by name in the step.
        brought: all other inputs of the graph but what the step reads, for some plan.
        shapes: of what the step reads, `x` and `source`, for that plan; `None` = never known.
        fused: use onnxruntime's own operators.

    Returns:
        The recipe, for every plan with sizes known where `shapes` has them.
    """
    graph = template.graph
    reads = dict(zip(("x", "source"), step.reads, strict=False))
    values = {c.name: numpy_helper.to_array(c) for c in graph.initializer} | dict(constant)
    left, work = fold(graph.node, [*values, *brought], shapes)
    work = _settled(work, values)
    example = values | dict(brought)
    compute(work, example, shapes)

    sizes = _sizes(left, example, shapes)
    enter = _flattening(left, example, sizes, {n: shape for n, shape in shapes.items() if n in reads})
    leave = _unflattening(left, example, sizes)
    inner = [node for node in left if node is not leave and node not in enter.values()]
    if fused:
        needed = {"y", *(node.input[0] for node in left if node is leave)}
        inner = fuse(inner, values, sizes, needed, settled=step.op == "embed")
        example = values | example
    full = {reads[name] for node in inner for name in node.input if name in reads}

    prefix = f"{step.name}/"
    names = {"": "", "y": step.writes, **reads}
    names |= {node.output[0]: flat_name(reads[name]) for name, node in enter.items()}
    if leave is not None:
        names[leave.input[0]] = flat_name(step.writes)
    outer = [*enter.values(), *([leave] if leave is not None else [])]
    fixed: dict[str, Pieces] = {}
    filled: dict[str, str] = {}
    for name in dict.fromkeys(name for node in (*inner, *outer) for name in node.input):
        if name in names or name not in example:
            continue
        own = f"{step.name}.{name}" if name in constant or name in brought else prefix + name
        if name in values:
            names[name] = own if name in constant else _shared_name(values[name]) or own
            fixed[names[name]] = tensor_pieces(names[name], values[name])
        else:
            names[name] = filled[name] = own

    def made(nodes: Sequence[NodeProto]) -> Nodes:
        holds = dict.fromkeys(names[name] for node in nodes for name in node.input if name in example)
        return Nodes(tuple(_named(node, names, prefix) for node in nodes), tuple(holds))

    return Recipe(
        nodes=made(inner),
        enter={reads[name]: made([node]) for name, node in enter.items()},
        full=frozenset(full),
        leave=made([leave]) if leave is not None else None,
        fixed=fixed,
        filled=filled,
        values={n: values[n] for n in (*filled, *(n for w in work for n in w.inputs)) if n in values},
        work=tuple(work),
    )


def _settled(work: Iterable[Work], values: dict[str, Array]) -> list[Work]:
    """Do the work that no plan changes; return the rest."""
    later = []
    for each in work:
        if all(name in values for name in each.inputs):
            compute([each], values, {})
        else:
            later.append(each)
    return later


def _sizes(left: Sequence[NodeProto], known: Mapping[str, Array], shapes: Shapes) -> dict[str, list[int]]:
    """Shapes of what the nodes read and make, as far as ONNX can infer them; 0 = not known."""
    read = {name for node in left for name in node.input}
    graph = helper.make_graph(
        left,
        "step",
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(x, name) for name, x in known.items() if name in read],
    )
    found = shape_inference.infer_shapes(helper.make_model(graph)).graph
    return {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*found.value_info, *found.output)
    }


def _flattening(
    left: Sequence[NodeProto], known: Mapping[str, Array], sizes: Mapping[str, list[int]], reads: Shapes
) -> dict[str, NodeProto]:
    """What a step reads -> the node that only makes `(B * L, D)` of it."""
    found = {}
    for node in left:
        shape = reads.get(node.input[0], ()) if node.op_type == "Reshape" else ()
        batch, length, width = shape if len(shape) == 3 else (None,) * 3
        if batch is None or length is None or node.input[1] not in known:
            continue
        if sizes.get(node.output[0]) == [batch * length, width]:
            found[node.input[0]] = node
    return found


def _unflattening(
    left: Sequence[NodeProto], known: Mapping[str, Array], sizes: Mapping[str, list[int]]
) -> NodeProto | None:
    """The node that only makes `(B, L, D)` of `(B * L, D)` for the next step, if there is one."""
    for node in left:
        if node.output[0] != "y" or node.op_type != "Reshape" or node.input[1] not in known:
            continue
        before, after = sizes.get(node.input[0], []), sizes.get("y", [])
        if len(before) == 2 and len(after) == 3 and before == [prod(after[:2]), after[2]]:
            return node
    return None


def _shared_name(value: Array) -> str | None:
    """One name for all small constants that are equal."""
    if value.size > SMALL:
        return None
    return f"constant/{value.dtype.str[1:]}{value.shape}{value.tobytes().hex()}".replace(" ", "")


def _named(node: NodeProto, names: Mapping[str, str], prefix: str) -> bytes:
    """The node as bytes, with names of the whole graph."""
    made = NodeProto()
    made.CopyFrom(node)
    made.name = prefix + node.name
    made.input[:] = [names.get(name, prefix + name) for name in node.input]
    made.output[:] = [names.get(name, prefix + name) for name in node.output]
    return node_bytes(made)
