"""A plan -> an ordinary smaller model: same class, smaller numbers; needs torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from sentryfuse.errors import ConfigError
from sentryfuse.model import Selection
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.plan import check_plan
from sentryfuse.planning.units import kept_groups, slice_weights
from sentryfuse.types import Plan


def prune(model: SentryModel, plan: Plan) -> SentryModel:
    """Cut a trained model down to a plan, without fine-tuning.

    Args:
        model: the big model; not changed.
        plan: which units stay. Sensors the plan does not name are gone from the result.

    Returns:
        A new model whose gate scores the units that are left, so it can be pruned again.

    Raises:
        ConfigError: the plan belongs to another model.
    """
    layout = model.layout
    if not any(plan.kept.values()):
        raise ConfigError(
            "a plan without a unit leaves no model to prune; deploy the whole bundle and ask it for ratio 1"
        )
    check_plan(layout, plan)
    tensors = {name: t.numpy() for name, t in model.tensors().items()}
    gate = {name: t for name, t in tensors.items() if name.startswith("gate.")}
    small = slice_weights(layout, plan.kept, tensors)
    for step in layout.steps:
        if not set(step.needs) <= set(plan.present):
            small = {name: t for name, t in small.items() if not name.startswith(f"{step.name}.")}
    units, start = [], 0
    for name, block in layout.blocks.items():
        units += [start + unit for unit in plan.kept.get(name, ())]
        start += block.units
    sensors = [layout.names.index(name) for name in plan.present]
    gate["gate.hidden.weight"] = gate["gate.hidden.weight"][:, sensors]
    gate["gate.units.weight"] = gate["gate.units.weight"][units]
    gate["gate.units.bias"] = gate["gate.units.bias"][units]
    widths = dict(model.config.widths) | {  # blocks that are gone already stay so
        name: kept_groups(layout.blocks[name], kept) if layout.blocks[name].groups else len(kept)
        for name, kept in plan.kept.items()
    }
    config = replace(
        model.config,
        modalities=tuple(m for m in model.config.modalities if m.name in plan.present),
        widths=widths,
        subject_floor={name: v for name, v in model.config.subject_floor.items() if name in plan.present},
        subject_prior={name: v for name, v in model.config.subject_prior.items() if name in plan.present},
        encoders={name: e for name, e in model.config.encoders.items() if name in plan.present},
        about={**model.config.about, "pruned": {"plan_id": plan.plan_id, "present": plan.present}},
    )
    result = SentryModel(config)
    result.load_tensors(
        {n: torch.from_numpy(np.ascontiguousarray(t)).clone() for n, t in (small | gate).items()}
    )
    return result.with_mixture(model.mixture).eval()


def selection(plan: Plan, device: torch.device | None = None) -> Selection:
    """The plan as a selection for a forward pass of the big model; weights are sliced on the fly."""
    return Selection(
        kept={name: torch.tensor(kept, dtype=torch.long, device=device) for name, kept in plan.kept.items()}
    )
