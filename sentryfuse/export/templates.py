"""One ONNX graph per kind of step, with no width and no length baked in.

While exporting, weights are inputs with dynamic dimensions, and so are the head-to-group map, the sampled
key positions and a vector as long as the number of kept queries. On the device they become initialisers.
Steps of the same shape share one graph and differ in the weights inserted.
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

from sentryfuse.layout import Step
from sentryfuse.model import Backbone
from sentryfuse.model.attention import Pick, SentryAttention

BATCH, LENGTH = 3, 70  # of the example; all of these are dynamic in the graph
HEADS, GROUPS, CHANNELS = 6, 3, 24
SIZES = ("pick.sampled", "pick.kept")  # inputs of the sparse core: positions, and a length


def export_templates(backbone: Backbone) -> tuple[dict[str, ModelProto], dict[str, dict[str, str]]]:
    """Export every distinct step of a model once.

    Args:
        backbone: in eval mode; not changed.

    Returns:
        Template key -> graph whose inputs are `x` (what the step reads), weights by their name inside the
        step, and for the sparse core `SIZES`; its output is `y`. And step name ->
        {"dense": key, "sparse": key} ("sparse" for layers, unless the model is dense throughout).
    """
    graphs: dict[str, ModelProto] = {}
    keys: dict[str, dict[str, str]] = {}
    for step in backbone.layout.steps:
        if step.op == "concat":
            continue
        module = backbone.get_submodule(step.name)
        # also where no length needs it today: a device may know a better break-even
        sparse = step.op == "layer" and backbone.layout.attention.core == "sentry"
        for core in ("dense", "sparse") if sparse else ("dense",):
            key = f"{_signature(module)} {core}"
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
    """`f(weights, x, pick)`: a step without weights of its own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.held = [module]  # in a list, so that its weights are not ours

    def forward(self, weights: dict[str, Tensor], x: Tensor, sizes: list[Tensor]) -> Any:
        options = {"pick": Pick(*sizes)} if sizes else {}
        return torch.func.functional_call(self.held[0], weights, (x,), options)


def _export(module: nn.Module, step: Step, *, sparse: bool) -> ModelProto:
    weights = _example_weights(module)
    batch, length = Dim("B", min=1, max=1 << 16), Dim("L", min=2, max=1 << 16)
    sizes: list[Tensor] = []
    size_shapes: list[dict[int, Any]] = []
    if step.op == "embed":
        modality = module.modality
        x = torch.randn(BATCH, modality.length, modality.n_channels)  # type: ignore[union-attr, arg-type]
        x_shape: dict[int, Any] = {0: batch}
    else:
        x, x_shape = torch.randn(BATCH, LENGTH, _d_model(module)), {0: batch, 1: length}
    if sparse:
        sizes = [torch.arange(0, LENGTH, 5), torch.zeros(11)]
        size_shapes = [{0: Dim("S", min=2, max=LENGTH)}, {0: Dim("U", min=2, max=LENGTH)}]
    with _silence():
        program = torch.onnx.export(
            _Functional(module).eval(),
            (weights, x, sizes),
            dynamo=True,
            dynamic_shapes=(_weight_shapes(module, weights), x_shape, size_shapes),
            verbose=False,
        )
    assert program is not None
    return _renamed(program.model_proto, [*weights, "x", *SIZES[: len(sizes)]])


def step_weights(module: nn.Module) -> dict[str, Tensor]:
    """What a step's graph takes as inputs: its saved tensors, and the group map of its attention."""
    weights = {name: t.detach() for name, t in module.state_dict().items()}
    for name, child in module.named_modules():
        if isinstance(child, SentryAttention):
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
        else:
            groups, k = Dim(f"g{count}", min=1, max=1 << 14), block.head_dim
            wide = {"q.weight": {0: k * units}, "q.bias": {0: k * units}, "o.weight": {1: k * units}}
            wide |= {f"{kv}.{leaf}": {0: k * groups} for kv in "kv" for leaf in ("weight", "bias")}
            wide["group_of"] = {0: units}
        shapes |= {f"{name}.{leaf}": dims for leaf, dims in wide.items()}
    return shapes


def _d_model(module: nn.Module) -> int:
    norm = next(m for m in module.modules() if isinstance(m, nn.LayerNorm))
    return int(norm.normalized_shape[0])


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
