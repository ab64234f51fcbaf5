"""A torch module of somebody's own -> a program: `torch.export` lists what it does, `aten` says what that is.

The module is traced in inference mode. What differs in training is kept where the program has it too:
dropout, and batch norms that follow the batch.
"""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn

from sentryfuse.errors import ConfigError
from sentryfuse.model import aten_arithmetic, aten_layers, aten_shapes
from sentryfuse.model.aten import Builder, Windows, convert, known, shape_of
from sentryfuse.model.encoder import Encoder, ProgramModule, TracedEncoder
from sentryfuse.planning.program import MAX_NODES, WINDOW, Program, shown
from sentryfuse.types import Modality

__all__ = ["known", "trace"]
assert all((aten_arithmetic, aten_layers, aten_shapes))  # each registers the operators it knows

N_WINDOWS = 3  # of the example; any number but 0 and 1, which torch takes for constants
TOLERANCE = 1e-4  # of the largest number
# What torch would rather know of the number of windows is of no interest here; older ones cannot be told.
UNGUARDED: dict[str, Any] = {
    name: True
    for name in inspect.signature(torch.export.export).parameters
    if name == "prefer_deferred_runtime_asserts_over_guards"
}
TORCH = str(Path(torch.__file__).parent)
FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in .*\n\s*(?P<code>.*)$', re.MULTILINE)
# Operators that may answer with the memory of what they read.
ALIASING = (
    *("view", "reshape", "transpose", "permute", "slice", "select", "squeeze", "unsqueeze", "expand", "t"),
    *("flatten", "unflatten", "chunk", "split", "split_with_sizes", "unbind", "narrow", "unfold", "getitem"),
    *("contiguous", "detach", "alias", "to", "dropout", "feature_dropout"),
)


def trace(
    encoder: nn.Module | Encoder, modality: Modality, d_model: int
) -> tuple[TracedEncoder, ProgramModule]:
    """Write a module down as a program.

    Args:
        encoder: of the sensor.
        modality: whose windows it reads.
        d_model: width of the tokens it must make.

    Returns:
        What a configuration holds of it, and a module with its weights that gives the same answers.

    Raises:
        ConfigError: what the module does cannot be written on a device, naming the operator and the line of
            its source; or it is not what a sensor's encoder does.
    """
    given = encoder if isinstance(encoder, Encoder) else Encoder(encoder)
    if not isinstance(given.module, nn.Module):
        raise ConfigError(
            f"the encoder of {modality.name} is of the type {type(given.module).__name__}; give a torch "
            "module, or an Encoder with one"
        )
    try:
        module = copy.deepcopy(given.module).cpu().float().eval()
    except RuntimeError as error:
        raise ConfigError(
            f"the encoder of {modality.name} cannot be copied ({_first_line(error)}); use "
            "torch.nn.utils.parametrizations instead of hooks that compute weights"
        ) from error
    example = torch.randn(
        N_WINDOWS, modality.length, modality.n_channels, generator=torch.Generator().manual_seed(0)
    )
    name = f"the encoder of {modality.name}"
    exported = _exported(module, example, name)
    builder = _built(exported, modality, name)
    program = Program(tuple(builder.weights), tuple(builder.nodes))
    try:
        program.tokens(modality.length, modality.n_channels, d_model)
    except ConfigError as error:
        raise ConfigError(
            f"{name} {error}; its D must be the model's d_model, say by a linear layer"
        ) from None
    made = ProgramModule(program)
    made.load_state_dict(builder.tensors)
    _check_answers(module, made.eval(), example, name)
    return TracedEncoder(program, given.physical), made


def _exported(module: nn.Module, example: Tensor, name: str) -> torch.export.ExportedProgram:
    try:
        with torch.no_grad():
            found = module(example)
    except Exception as error:
        raise ConfigError(
            f"{name} cannot run on windows {shown((-1, *example.shape[1:]))}: {_first_line(error)}"
        ) from error
    if not isinstance(found, Tensor) or found.ndim != 3 or len(found) != len(example):
        got = shown((*found.shape,)) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(f"{name} makes {got} of {len(example)} windows; it must make tokens, (B, L, D)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            windows = {0: torch.export.Dim.AUTO}
            exported = torch.export.export(
                module, (example,), dynamic_shapes=(windows,), strict=False, **UNGUARDED
            )
    except Exception as error:
        raise ConfigError(
            f"{name} cannot be traced: {_first_line(error)}{_where(str(error))}; what it does must not "
            "depend on the numbers in a window"
        ) from error
    (window,) = exported.graph_signature.user_inputs
    (read,) = (node for node in exported.graph.nodes if node.name == window)
    size = read.meta["val"].shape[0]
    room = None if isinstance(size, int) else exported.range_constraints.get(size.node.expr)
    if isinstance(size, int) or (room is not None and room.lower == room.upper):
        raise ConfigError(
            f"{name} fixes the number of windows, which must stay open; say x.shape[0] or -1, not len(x)"
        )
    return exported


def _built(exported: torch.export.ExportedProgram, modality: Modality, name: str) -> Builder:
    """Every node of torch's graph as nodes of a program."""
    builder = Builder(_trained(exported))
    signature = exported.graph_signature
    held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = signature.inputs_to_lifted_tensor_constants
    env: dict[fx.Node, Any] = {}
    nodes = list(exported.graph.nodes)
    for node in nodes:
        if node.op == "placeholder":
            if node.name in signature.inputs_to_parameters:
                tensor = exported.state_dict[held[node.name]]
                env[node] = builder.parameter(held[node.name], tensor)
            elif node.name in held or node.name in constants:
                target = held.get(node.name) or constants[node.name]
                both = {**exported.state_dict, **exported.constants}
                env[node] = both[target].detach().clone()
                builder.called[id(env[node])] = (target, env[node])
            else:
                env[node] = builder.window(WINDOW, (-1, modality.length, modality.n_channels))
        elif node.op == "call_function":
            try:
                env[node] = _after(builder, node, env, nodes)
            except ConfigError as error:
                _refuse(name, node, str(error))
            if len(builder.nodes) > MAX_NODES:
                raise ConfigError(f"{name} has more than {MAX_NODES} operators; make it smaller")
        elif node.op == "output":
            builder.finish(env[node.args[0][0]])
    return builder


def _after(builder: Builder, node: fx.Node, env: dict[fx.Node, Any], nodes: list[fx.Node]) -> Any:
    """The value of one node of torch's graph."""
    found = node.meta.get("val")
    if isinstance(found, torch.SymInt | torch.SymFloat | torch.SymBool):
        return Windows()
    args: Any = fx.node.map_arg(node.args, lambda n: env[n])
    kwargs: Any = fx.node.map_arg(node.kwargs, lambda n: env[n])
    if not isinstance(node.target, torch._ops.OpOverload):
        if getattr(node.target, "__name__", "") == "getitem":
            return args[0][args[1]]
        raise ConfigError("is no operator of torch")
    if found is None:
        return None  # an assertion of torch's own
    sizes = [shape_of(part) for part in (found if isinstance(found, tuple | list) else [found])]
    changes = node.target._schema.name.endswith("_") and not isinstance(args[0], Tensor)
    if changes:
        _check_alone(node, nodes)
    value = convert(builder, node.target, args, kwargs, sizes)
    if changes:
        env[node.args[0]] = value  # type: ignore[index]
    return value


def _check_alone(node: fx.Node, nodes: list[fx.Node]) -> None:
    """Refuse a change in place of what is read later under another name."""
    first = node.args[0]
    assert isinstance(first, fx.Node)
    at = nodes.index(node)
    same, grown = {first}, True
    while grown:
        near = {n for n in nodes[:at] if _aliases(n) and (n in same or n.args[0] in same)}
        near |= {n.args[0] for n in near}  # type: ignore[misc]
        same, grown = same | near, not near <= same
    later = {*nodes[at + 1 :]}
    if any(user in later for other in same - {first} for user in other.users):
        raise ConfigError("changes in place what is read later under another name")


def _aliases(node: fx.Node) -> bool:
    """Whether a node may answer with the memory of what it reads."""
    target = node.target
    name = target._schema.name.split("::")[-1] if isinstance(target, torch._ops.OpOverload) else str(target)
    name = "getitem" if "getitem" in name else name
    is_one = name in ALIASING or name.endswith("_")
    return node.op == "call_function" and is_one and bool(node.args) and isinstance(node.args[0], fx.Node)


def _trained(exported: torch.export.ExportedProgram) -> dict[str, bool]:
    """Parameter -> whether training changes it."""
    return {name: parameter.requires_grad for name, parameter in exported.named_parameters()}


def _check_answers(module: nn.Module, made: ProgramModule, example: Tensor, name: str) -> None:
    """Compare with the module itself, and one window with all of them."""
    with torch.no_grad():
        want, got, alone = module(example), made(example), module(example[:1])
    scale = max(1.0, float(want.abs().max()))
    if not torch.isfinite(want).all():
        raise ConfigError(f"{name} makes numbers that are not finite of windows of ordinary size")
    if float((got - want).abs().max()) > TOLERANCE * scale:
        raise ConfigError(f"{name} gives other answers as a program; please report what it is made of")
    if float((alone - want[:1]).abs().max()) > TOLERANCE * scale or alone.shape != want[:1].shape:
        raise ConfigError(f"{name} mixes windows: what it makes of one depends on the others beside it")


def _refuse(name: str, node: fx.Node, why: str) -> NoReturn:
    """An error about one node of torch's graph."""
    target = node.target
    op = target._schema.name.replace("::", ".") if isinstance(target, torch._ops.OpOverload) else target
    raise ConfigError(f"{name}: {op} {why}{_where(node.stack_trace or '')}")


def _where(text: str) -> str:
    """The line of somebody's own source that a stack trace ends in."""
    frames = [found for found in FRAME.finditer(text) if not found["file"].startswith(TORCH)]
    if not frames:
        return ""
    last = frames[-1]
    return f" ({Path(last['file']).name}, line {last['line']}: {last['code'].strip()[:80]})"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
