"""What a configuration costs: MACs as executed, weights, bytes; counted, not measured. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sentryfuse.planning.layout import Layout
from sentryfuse.types import Cost

BYTES_PER_WEIGHT = 4  # float32


def published_macs(layout: Layout) -> int:
    """MACs of one window with all sensors as papers count mixtures: only the experts that answer a token.

    Experts without a capacity are all executed, and counted by `count`; this is for comparing with published
    numbers of unpruned models.

    Args:
        layout: of a model whose experts are equally wide.
    """
    spans, macs = layout.spans(None), count(layout).macs
    for step in layout.steps:
        for block in step.blocks:
            if block.active and not block.capacity:
                n_experts, length = max(block.groups) + 1, spans[step.name].leaving
                width = block.units // n_experts
                macs -= 2 * length * layout.d_model * width * (n_experts - block.active)
                macs -= length * layout.d_model * n_experts  # the biases of all experts, as a product
    return macs


def count(
    layout: Layout,
    present: Iterable[str] | None = None,
    *,
    kept: Mapping[str, Sequence[int]] | None = None,
) -> Cost:
    """Count one window.

    Args:
        layout: of the model.
        present: names of the sensors that are on; `None` means all. Absent ones cost nothing.
        kept: block name -> kept units, none where the block is gone; an absent name means all of that
            block's.

    Returns:
        The cost; elementwise work (norms, activations, softmax) is not in MACs.
    """
    spans = layout.spans(present)
    fixed = prunable = params = 0
    for step in layout.route(present):
        span = spans[step.name]
        fixed += step.macs_fixed + step.macs_per_token * span.leaving + step.macs_per_entering * span.entering
        params += step.params_fixed
        for block in step.blocks:
            units = None if kept is None else kept.get(block.name)
            prunable += block.macs(layout.d_model, layout.attention, span, units)
            shell_macs, shell_params = block.shell_of(units, span.leaving)
            fixed -= shell_macs
            params += block.params(layout.d_model, units) - shell_params
    return Cost(
        macs=fixed + prunable,
        prunable_macs=prunable,
        params=params,
        weights_mb=params * BYTES_PER_WEIGHT / 1e6,
    )


def with_beside(cost: Cost, beside: Cost | None) -> Cost:
    """A cost, and that of what runs beside it, none of which can be pruned."""
    if beside is None:
        return cost
    return Cost(
        macs=cost.macs + beside.macs,
        prunable_macs=cost.prunable_macs,
        params=cost.params + beside.params,
        weights_mb=(cost.params + beside.params) * BYTES_PER_WEIGHT / 1e6,
    )
