"""Which weights a unit owns, and slicing them: the one table for all backbones, torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sentryfuse.planning.layout import Block, Layout

Array = NDArray[np.float32]


def slice_leaves(block: Block, kept: Sequence[int], leaves: Mapping[str, Array]) -> dict[str, Array]:
    """Cut the weights of one block down to the kept units; nothing is left of a block without units.

    Args:
        block: the block as it is now.
        kept: indices of the units that stay, ascending.
        leaves: its weights by their names inside it.

    Returns:
        The same names; the weights of a full block are returned as they are.

    Source:
        `LEAVES` says which axis of which weight goes with what.
    """
    if len(kept) == block.units:
        return dict(leaves)
    if not len(kept):
        return {}
    width = np.arange(block.head_dim or 1)
    rows = {
        axis: (np.asarray(which, np.intp)[:, None] * len(width) + width).ravel()
        for axis, which in (("unit", kept), ("group", block.groups_of(kept)))
    }
    cut = {}
    for leaf, axes in block.leaves.items():
        value = leaves[leaf]
        if axes[0] in rows:
            value = value[rows[axes[0]]]
        elif axes[-1] in rows:
            value = value[:, rows[axes[-1]]]
        cut[leaf] = value
    return cut


def slice_block(block: Block, kept: Sequence[int], tensors: Mapping[str, Array]) -> dict[str, Array]:
    """As `slice_leaves`, out of all weights of a model by their full names, and so named."""
    at = block.name
    own = slice_leaves(block, kept, {leaf: tensors[f"{at}.{leaf}"] for leaf in block.leaves})
    return {f"{at}.{leaf}": value for leaf, value in own.items()}


def kept_groups(block: Block, kept: Sequence[int]) -> tuple[int, ...]:
    """Group of every kept unit, renumbered from 0 without holes."""
    left = block.groups_of(kept)
    return tuple(left.index(block.groups[unit]) for unit in kept)


def slice_weights(
    layout: Layout, kept: Mapping[str, Sequence[int]], tensors: Mapping[str, Array]
) -> dict[str, Array]:
    """Weights of the sub-network: kept units of the blocks named, everything else of steps that run.

    Args:
        layout: of the model the tensors belong to.
        kept: block name -> kept units, none where the block is gone; steps that hold only unnamed blocks do
            not run.
        tensors: all weights of the backbone by name.

    Returns:
        The sub-network's weights by name.
    """
    result: dict[str, Array] = {}
    live = [s for s in layout.steps if not s.blocks or s.blocks[0].name in kept]
    owned = {b.name: b for s in live for b in s.blocks}
    for block in owned.values():
        result |= slice_block(block, kept[block.name], tensors)
    for step in live:
        prefix = f"{step.name}."
        gone = tuple(
            f"{inside}."
            for block in step.blocks
            if not len(kept[block.name])
            for inside in (block.name, *(prefix + name for name in block.shell))
        )
        for name, value in tensors.items():
            if name.startswith(prefix) and name not in result and not name.startswith(gone):
                result[name] = value
    return result
