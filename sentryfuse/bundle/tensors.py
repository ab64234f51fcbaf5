"""Which tensors a layout asks for, and their shapes: checked before a byte of them is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle.container import Entry, Inconsistent
from sentryfuse.bundle.manifest import Manifest
from sentryfuse.gate.predict import NumpyGate
from sentryfuse.planning.layout import Block, Layout, Step

# steps with a graph, weights of the steps that become constants, and inputs that depend on the plan alone
GRAPH_OPS = ("embed", "layer", "head")
CONSTANT_WEIGHTS = {
    "bank": ("base", "given"),
    "codes": ("hidden.weight", "hidden.bias", "budget.weight", "budget.bias", "temporal", "modality"),
}
STATISTICS = ("mean", "std", "normalise.mean", "normalise.std")  # of an embedding; measured, not trained
LARGEST = 1e6  # of a trained number; more comes from a flipped bit or a training that went wrong
MAX_GRAPH = 2**24  # bytes of one graph; constants that describe long windows take most of it
Shapes = Mapping[str, tuple[int, ...]]


def check_tensors(manifest: Manifest, entries: Mapping[str, Entry]) -> None:
    """Compare names, types and shapes with the layout.

    Args:
        manifest: its fields are of the right types.
        entries: tensors as the header lists them.

    Raises:
        Inconsistent: naming the first tensor that is missing, too many, or of another shape.
    """
    graphs = {f"graph.{i}" for i in range(len(manifest.graphs))}
    bytes_wanted = {name for name in entries if name.startswith("graph.")}
    for name in sorted(graphs ^ bytes_wanted):
        verb = "lacks" if name in graphs else "has no key for"
        raise Inconsistent(f"{verb} the tensor {name}")
    for name, entry in entries.items():
        kind = name.split(".", 1)[0]
        if kind not in ("weights", "gate", "graph") or "." not in name:
            raise Inconsistent(f"holds a tensor {name}, which is neither weights, gate nor graph")
        if (entry.dtype == np.uint8) != (kind == "graph"):
            raise Inconsistent(f"holds {name} as {entry.dtype}")
        if kind == "graph" and (len(entry.shape) != 1 or entry.shape[0] > MAX_GRAPH):
            raise Inconsistent(f"holds a graph {name} of more than {MAX_GRAPH} bytes")
    weights = {n.removeprefix("weights."): e.shape for n, e in entries.items() if n.startswith("weights.")}
    _check_shapes(
        "gate",
        _gate_shapes(manifest.layout, entries),
        {n.removeprefix("gate."): e.shape for n, e in entries.items() if n.startswith("gate.")},
    )
    owned = weights_by_step(manifest.layout, weights)
    for step in manifest.layout.steps:
        _check_step(manifest.layout, step, owned[step.name])


def weights_by_step(layout: Layout, weights: Shapes) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of every step's weights by their names inside it; steps never lie in one another.

    Raises:
        Inconsistent: a weight of no step.
    """
    owned: dict[str, dict[str, tuple[int, ...]]] = {step.name: {} for step in layout.steps}
    for name, shape in weights.items():
        at = name.rfind(".")
        while at > 0 and name[:at] not in owned:
            at = name.rfind(".", 0, at)
        if at <= 0:
            raise Inconsistent(f"holds weights.{name}, which belongs to no step")
        owned[name[:at]][name[at + 1 :]] = shape
    return owned


def block_shapes(block: Block, d_model: int, units: int, groups: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a block's weights by their names inside it, for so many units in so many groups."""
    if block.kind == "ffn":
        shapes: dict[str, tuple[int, ...]] = {
            "up.weight": (units, d_model),
            "up.bias": (units,),
            "down.weight": (d_model, units),
        }
        if block.active:
            experts = {"router.weight": (groups, d_model), "router.bias": (groups,)}
            return shapes | experts | {"bias": (groups, d_model)}
        return shapes | {"down.bias": (d_model,)}
    wide = {"q": units * block.head_dim} | dict.fromkeys("kv", groups * block.head_dim)
    shapes = {"o.weight": (d_model, units * block.head_dim), "o.bias": (d_model,)}
    for leaf, rows in wide.items():
        shapes |= {f"{leaf}.weight": (rows, d_model), f"{leaf}.bias": (rows,)}
    return shapes


def check_values(layout: Layout, weights: Mapping[str, NDArray[Any]], gate: NumpyGate) -> None:
    """Refuse numbers that are finite and still make every answer meaningless.

    Raises:
        Inconsistent: a trained number out of range, a deviation that is not positive, or a gate that
            overflows.
    """
    measured = {f"{step.name}.{leaf}" for step in layout.steps if step.op == "embed" for leaf in STATISTICS}
    for name, values in weights.items():
        if name not in measured and max(-values.min(), values.max()) > LARGEST:
            raise Inconsistent(f"holds a number beyond {LARGEST:g} in weights.{name}")
        if name in measured and name.endswith("std") and not values.min() > 0:
            raise Inconsistent(f"holds deviations that are not positive in weights.{name}")
    with np.errstate(all="ignore"):
        for present in (layout.names, *((name,) for name in layout.names)):
            scores = gate.importance(present)
            if not all(np.isfinite(s).all() and s.sum(dtype=np.float64) < 3e38 for s in scores.values()):
                raise Inconsistent(f"holds a gate whose scores overflow with {'+'.join(present)}")


def _check_step(layout: Layout, step: Step, own: Shapes) -> None:
    d_model = layout.d_model
    left = dict(own)
    for block in step.blocks:
        inside = block.name.removeprefix(f"{step.name}.")
        found = {n.removeprefix(f"{inside}."): left.pop(n) for n in own if n.startswith(f"{inside}.")}
        wanted = block_shapes(block, d_model, block.units, len(set(block.groups)))
        _check_shapes(f"weights.{block.name}", wanted, found)
    if step.op in CONSTANT_WEIGHTS:
        _check_shapes(f"weights.{step.name}", _constant_shapes(step, d_model, left), left)
    if step.op == "embed":
        channels = next(m.n_channels for m in layout.modalities if f"window.{m.name}" in step.reads)
        measured = {name: shape for name, shape in left.items() if name in STATISTICS}
        _check_shapes(f"weights.{step.name}", dict.fromkeys(measured, (channels,)), measured)
    shared = sum(d_model for block in step.blocks if not block.active)  # the biases that leave a block
    held = sum(math.prod(shape) for name, shape in left.items() if name not in STATISTICS) + shared
    if held != step.params_fixed:
        raise Inconsistent(
            f"holds {held} weights of {step.name} beside its units, the layout says {step.params_fixed}"
        )
    if step.blocks and step.op != "layer":
        raise Inconsistent(f"has a step {step.name} ({step.op}) with units")


def _constant_shapes(step: Step, d_model: int, own: Shapes) -> dict[str, tuple[int, ...]]:
    parts = len(step.parts)
    if step.op == "bank":
        return {"base": (step.tokens, d_model), "given": (parts, d_model)}
    hidden = own.get("hidden.bias", (1,))[0]
    longest = own.get("temporal", (1,))[0]
    return {
        "hidden.weight": (hidden, parts),
        "hidden.bias": (hidden,),
        "budget.weight": (parts, hidden),
        "budget.bias": (parts,),
        "temporal": (longest, d_model),
        "modality": (parts, d_model),
    }


def _gate_shapes(layout: Layout, entries: Mapping[str, Entry]) -> dict[str, tuple[int, ...]]:
    units = sum(block.units for block in layout.blocks.values())
    hidden, code = (
        entries[name].shape[0] if name in entries and entries[name].shape else 1
        for name in ("gate.hidden.bias", "gate.code.bias")
    )
    return {
        "hidden.weight": (hidden, len(layout.names)),
        "hidden.bias": (hidden,),
        "code.weight": (code, hidden),
        "code.bias": (code,),
        "units.weight": (units, code),
        "units.bias": (units,),
    }


def _check_shapes(what: str, wanted: Shapes, found: Shapes) -> None:
    for name in sorted(wanted.keys() - found.keys()):
        raise Inconsistent(f"lacks the tensor {what}.{name}")
    for name in sorted(found.keys() - wanted.keys()):
        raise Inconsistent(f"holds a tensor {what}.{name} that nothing asks for")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise Inconsistent(f"holds {what}.{name} as {found[name]}, the layout asks for {shape}")
