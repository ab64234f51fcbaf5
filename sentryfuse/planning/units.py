"""Which weights a unit owns, and slicing them: the one table for all backbones, torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sentryfuse.planning.layout import Block, Layout

Array = NDArray[np.float32]


def slice_block(block: Block, kept: Sequence[int], tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Cut the weights of one block down to the kept units.

    | block | leading dimension cut | last dimension cut | untouched |
    | --- | --- | --- | --- |
    | heads | q (heads), k, v (KV groups that still serve a head) | o | o.bias |
    | ffn | up | down.weight | down.bias |
    | ffn of experts | up; router, bias (experts that still have a channel) | down.weight | |

    Args:
        block: the block as it is now.
        kept: indices of the units that stay, ascending.
        tensors: all weights by name; only this block's are read.

    Returns:
        This block's weights by name; those of a full block are returned as they are.
    """
    at = block.name
    if block.kind == "ffn":
        rows: slice | NDArray[np.intp] = slice(None)
        if len(kept) < block.units:
            rows = np.asarray(kept, np.intp)
        cut = {
            f"{at}.up.weight": tensors[f"{at}.up.weight"][rows],
            f"{at}.up.bias": tensors[f"{at}.up.bias"][rows],
            f"{at}.down.weight": tensors[f"{at}.down.weight"][:, rows],
        }
        if not block.groups:
            return cut | {f"{at}.down.bias": tensors[f"{at}.down.bias"]}
        experts = np.asarray(block.groups_of(kept), np.intp)
        for leaf in ("router.weight", "router.bias", "bias"):
            cut[f"{at}.{leaf}"] = tensors[f"{at}.{leaf}"][experts]
        return cut
    within = np.arange(block.head_dim)
    heads = (np.asarray(kept, np.intp)[:, None] * block.head_dim + within).ravel()
    groups = (np.asarray(block.groups_of(kept), np.intp)[:, None] * block.head_dim + within).ravel()
    cut = {f"{at}.o.bias": tensors[f"{at}.o.bias"], f"{at}.o.weight": tensors[f"{at}.o.weight"][:, heads]}
    for leaf, rows in (("q", heads), ("k", groups), ("v", groups)):
        for kind in ("weight", "bias"):
            cut[f"{at}.{leaf}.{kind}"] = tensors[f"{at}.{leaf}.{kind}"][rows]
    return cut


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
        kept: block name -> kept units; steps that hold only unnamed blocks do not run.
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
        for name, value in tensors.items():
            if name.startswith(prefix) and name not in result:
                result[name] = value
    return result
