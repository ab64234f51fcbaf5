"""Weights and gate of a bundle: their names and shapes, and numbers that make every answer meaningless."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle.container import Entry, Inconsistent
from sentryfuse.gate.predict import NumpyGate
from sentryfuse.planning.layout import Layout

LARGEST = 1e6  # of a trained number; more comes from a flipped bit or a training that went wrong
LEAST = float(np.finfo(np.float32).tiny)  # of a deviation, so that its reciprocal is finite
# last part of the names of what is measured, not trained
MEASURED = ("mean", "std", "within", "summary_mean", "summary_std")
Shapes = Mapping[str, tuple[int, ...]]


def check_names(layout: Layout, entries: Mapping[str, Entry]) -> None:
    """Every tensor is a weight or one of the gate's, and the gate's have the shapes that it needs.

    Raises:
        Inconsistent: naming the first tensor that is missing, too many, or of another shape.
    """
    for name in entries:
        if name.split(".", 1)[0] not in ("weights", "gate", "readout") or "." not in name:
            raise Inconsistent(f"holds a tensor {name}, which is of neither weights, gate nor readout")
    found = {n.removeprefix("gate."): e.shape for n, e in entries.items() if n.startswith("gate.")}
    wanted = _gate_shapes(layout, entries)
    for name in sorted(wanted.keys() ^ found.keys()):
        verb = "lacks the tensor" if name in wanted else "holds a tensor that nothing asks for,"
        raise Inconsistent(f"{verb} gate.{name}")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise Inconsistent(f"holds gate.{name} as {found[name]}, the layout asks for {shape}")


def check_values(weights: Mapping[str, NDArray[Any]], layout: Layout, gate: NumpyGate) -> None:
    """Refuse numbers that are finite and still make every answer meaningless.

    Raises:
        Inconsistent: a trained number out of range, or a gate that overflows.
    """
    own = _measured_by_programs(layout)
    for name, values in weights.items():
        kind = name.rsplit(".", 1)[-1]
        if kind not in MEASURED and name not in own and max(-values.min(), values.max()) > LARGEST:
            raise Inconsistent(f"holds a number beyond {LARGEST:g} in weights.{name}")
        if kind in ("std", "within", "summary_std") and values.min() < LEAST:
            raise Inconsistent(f"holds deviations that are not positive in weights.{name}")
    with np.errstate(all="ignore"):
        for present in (layout.names, *((name,) for name in layout.names)):
            scores = gate.importance(present)
            if not all(np.isfinite(s).all() and s.sum(dtype=np.float64) < 3e38 for s in scores.values()):
                raise Inconsistent(f"holds a gate whose scores overflow with {'+'.join(present)}")


def _measured_by_programs(layout: Layout) -> set[str]:
    """Names of constants and running statistics of encoders of somebody's own."""
    return {
        f"{step.name}.own.{weight.name}"
        for step in layout.steps
        if step.program is not None
        for weight in step.program.weights
        if weight.role == "measured"
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
