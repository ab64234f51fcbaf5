"""One ONNX graph per kind of step, with no width and no length baked in.

While exporting, weights are inputs with dynamic dimensions, and so is what depends on a plan: the group of
every unit, the sampled key positions, vectors as long as the number of kept queries and of active experts,
and the matrix that averages each modality's tokens. On the device they become initialisers. Steps of the
same shape share one graph and differ in the weights inserted.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.export import Dim

from sentryfuse.bundle import GRAPH_OPS
from sentryfuse.model import Backbone
from sentryfuse.model.attention import Pick, SentryAttention
from sentryfuse.model.feedforward import Experts
from sentryfuse.planning.layout import Step

BATCH, LENGTH, SOURCE = 3, 70, 60  # of the example; all of these are dynamic in the graph
HEADS, GROUPS, CHANNELS = 6, 3, 24
EXPERTS = 3
SIZES = ("pick.sampled", "pick.kept", "pick.slots", "pick.places")  # inputs of sparse parts, as in `Pick`


def export_templates(backbone: Backbone) -> tuple[dict[str, ModelProto], dict[str, dict[str, str]]]:
    """Export every distinct step of a model once.

    Args:
        backbone: in eval mode; not changed.

    Returns:
        Template key -> graph whose inputs are `x` (what the step reads), weights by their name inside the
        step, and what depends on the plan (`source` for cross-attention, `SIZES`, `pick.shares`); its
        output is `y`. And step name -> {"dense": key, "sparse": key} ("sparse" for layers, unless the model
        is dense throughout).
    """
    graphs: dict[str, ModelProto] = {}
    keys: dict[str, dict[str, str]] = {}
    for step in backbone.layout.steps:
        if step.op not in GRAPH_OPS:
            continue
        module = backbone.get_submodule(step.name)
        # also where no length needs it today: a device may know a better break-even
        sparse = step.op == "layer" and backbone.layout.attention.core == "sentry"
        for core in ("dense", "sparse") if sparse else ("dense",):
            cross = " cross" if step.op == "layer" and len(step.reads) > 1 else ""
            key = f"{_signature(module)}{cross} {core}"
            keys.setdefault(step.name, {})[core] = key
            if key not in graphs:
                graphs[key] = _export(module, step, sparse=core == "sparse")
    return graphs, keys


def _signature(module: nn.Module) -> str:
    """Equal for modules that differ in weights and prunable widths only."""
    signature = getattr(module, "signature", None)
    if not isinstance(signature, str):
        raise TypeError(f"{type(module).__name__} has no signature and cannot be exported")
    return signature


class _Functional(nn.Module):
    """`f(weights, sizes, reads)`: a step without weights of its own."""

    def __init__(self, module: nn.Module, step: Step) -> None:
        super().__init__()
        self.held = [module]  # in a list, so that its weights are not ours
        self.op = step.op

    def forward(self, weights: dict[str, Tensor], sizes: dict[str, Tensor], reads: list[Tensor]) -> Any:
        options = {}
        if self.op == "layer":
            options["pick"] = Pick(**{name.removeprefix("pick."): size for name, size in sizes.items()})
        return torch.func.functional_call(self.held[0], weights, tuple(reads), options)


def _export(module: nn.Module, step: Step, *, sparse: bool) -> ModelProto:
    weights = _example_weights(module)
    batch = Dim("B", min=1, max=1 << 16)
    length, other = (Dim(name, min=2, max=1 << 16) for name in ("L", "M"))
    sizes: dict[str, Tensor] = {}
    size_shapes: dict[str, dict[int, Any]] = {}
    d_model = 0 if step.op == "embed" else _d_model(module)
    if step.op == "embed":
        modality = module.modality
        reads = {"x": torch.randn(BATCH, modality.length, modality.n_channels)}  # type: ignore[union-attr, arg-type]
        read_shapes: list[dict[int, Any]] = [{0: batch}]
    else:
        reads, read_shapes = {"x": torch.randn(BATCH, LENGTH, d_model)}, [{0: batch, 1: length}]
    if step.op == "layer" and len(step.reads) > 1:
        reads["source"] = torch.randn(BATCH, SOURCE, d_model)
        read_shapes.append({0: batch, 1: other})
    if step.parts:
        reads["pick.shares"] = torch.rand(len(step.parts), LENGTH)
        read_shapes.append({1: length})
    if sparse:
        sizes = {"pick.sampled": torch.arange(0, SOURCE, 5), "pick.kept": torch.zeros(11)}
        size_shapes = {
            "pick.sampled": {0: Dim("S", min=2, max=SOURCE)},
            "pick.kept": {0: Dim("U", min=2, max=LENGTH)},
        }
    if any(block.active for block in step.blocks):
        sizes["pick.slots"] = torch.zeros(2)
        size_shapes["pick.slots"] = {0: Dim("A", min=1, max=1 << 10)}
    if any(block.capacity for block in step.blocks):
        sizes["pick.places"] = torch.zeros(7)
        size_shapes["pick.places"] = {0: Dim("P", min=1, max=LENGTH)}
    with _silence():
        program = torch.onnx.export(
            _Functional(module, step).eval(),
            (weights, sizes, list(reads.values())),  # a dictionary at the end would be taken for keywords
            dynamo=True,
            dynamic_shapes=(_weight_shapes(module, weights), size_shapes, read_shapes),
            verbose=False,
        )
    assert program is not None
    return _renamed(program.model_proto, [*weights, *sizes, *reads])


def step_weights(module: nn.Module) -> dict[str, Tensor]:
    """What a step's graph takes as inputs: its saved tensors, and the group map of its attention."""
    weights = {name: t.detach() for name, t in module.state_dict().items()}
    for name, child in module.named_modules():
        if isinstance(child, Experts) and child.routing.capacity:
            weights[f"{name}.seats"] = child.seats
        elif isinstance(child, SentryAttention | Experts):
            weights[f"{name}.group_of"] = child.group_of
    return weights


def _example_weights(module: nn.Module) -> dict[str, Tensor]:
    """Weights of a step with `HEADS`, `GROUPS` and `CHANNELS`, whatever the model's own widths are.

    The exporter bakes in a dimension whose example is 1, such as the KV group of a block with one head.
    """
    weights = step_weights(module)
    d_model = _d_model(module) if any(hasattr(m, "block") for m in module.modules()) else 0
    for name, child in module.named_modules():
        block = getattr(child, "block", None)
        if block is None:
            continue
        if block.kind == "ffn":
            sizes: dict[str, tuple[int, ...]] = {
                "up.weight": (CHANNELS, d_model),
                "up.bias": (CHANNELS,),
                "down.weight": (d_model, CHANNELS),
            }
            if block.active:
                sizes |= {"router.weight": (EXPERTS, d_model), "router.bias": (EXPERTS,)}
                sizes["bias"] = (EXPERTS, d_model)
                if block.capacity:
                    weights[f"{name}.seats"] = torch.arange(CHANNELS).reshape(EXPERTS, -1)
                else:
                    weights[f"{name}.group_of"] = torch.arange(CHANNELS) % EXPERTS
        else:
            wide = {"q": HEADS * block.head_dim} | dict.fromkeys("kv", GROUPS * block.head_dim)
            sizes = {f"{leaf}.weight": (rows, d_model) for leaf, rows in wide.items()}
            sizes |= {f"{leaf}.bias": (rows,) for leaf, rows in wide.items()}
            sizes["o.weight"] = (d_model, HEADS * block.head_dim)
            weights[f"{name}.group_of"] = torch.arange(HEADS) % GROUPS
        weights |= {f"{name}.{leaf}": torch.ones(size) for leaf, size in sizes.items()}
    return weights


def _weight_shapes(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, dict[int, Any]]:
    shapes: dict[str, dict[int, Any]] = {name: {} for name in weights}
    count = 0
    for name, child in module.named_modules():
        block = getattr(child, "block", None)
        if block is None:
            continue
        count += 1
        units = Dim(f"u{count}", min=1, max=1 << 14)
        if block.kind == "ffn":
            wide = {"up.weight": {0: units}, "up.bias": {0: units}, "down.weight": {1: units}}
            if block.active:
                experts = Dim(f"e{count}", min=1, max=1 << 14)
                wide |= {leaf: {0: experts} for leaf in ("router.weight", "router.bias", "bias")}
                widest = {0: experts, 1: Dim(f"w{count}", min=1, max=1 << 14)}
                wide |= {"seats": widest} if block.capacity else {"group_of": {0: units}}
        else:
            groups, k = Dim(f"g{count}", min=1, max=1 << 14), block.head_dim
            wide = {"q.weight": {0: k * units}, "q.bias": {0: k * units}, "o.weight": {1: k * units}}
            wide |= {f"{kv}.{leaf}": {0: k * groups} for kv in "kv" for leaf in ("weight", "bias")}
            wide["group_of"] = {0: units}
        shapes |= {f"{name}.{leaf}": dims for leaf, dims in wide.items()}
    return shapes


def _d_model(module: nn.Module) -> int:
    d_model = getattr(module, "d_model", None)
    if not isinstance(d_model, int):
        raise TypeError(f"{type(module).__name__} has no d_model and cannot be exported")
    return d_model


def _renamed(model: ModelProto, names: list[str]) -> ModelProto:
    """Give inputs and the output stable names; drop shapes and docs that only describe the example."""
    graph = model.graph
    new = {value.name: name for value, name in zip(graph.input, names, strict=True)}
    new[graph.output[0].name] = "y"
    for value in (*graph.input, *graph.output):
        value.name = new[value.name]
    # inner names of the exporter may equal a weight's name, so they get a mark of their own
    for constant in graph.initializer:
        constant.name = new.setdefault(constant.name, f"/{constant.name}")
    for node in graph.node:
        for name in (*node.input, *node.output):
            if name:
                new.setdefault(name, f"/{name}")
        node.input[:] = [new.get(name, "") for name in node.input]
        node.output[:] = [new.get(name, "") for name in node.output]
        node.ClearField("doc_string")
        del node.metadata_props[:]
    del graph.value_info[:]
    del graph.metadata_props[:]
    del model.metadata_props[:]
    return model


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter talks on standard output, in warnings and in its log; a failure still raises."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
