from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.planning.layout import Block
from sentryfuse.planning.units import kept_groups, slice_block, slice_weights
from tests.laws.strategies import random_question

pytestmark = pytest.mark.device

D = 6
HEADS = Block("l.attn", "heads", 4, (0, 0, 1, 2), 2)
FFN = Block("l.ffn", "ffn", 10)
EXPERTS = Block("l.moe", "ffn", 5, (0, 0, 1, 2, 2), active=1)


def weights(block: Block) -> dict[str, np.ndarray]:
    """Every weight is a different number, so a wrong slice cannot hide."""
    if block.kind == "ffn":
        shapes = {"up.weight": (block.units, D), "up.bias": (block.units,)}
        shapes |= {"down.weight": (D, block.units)}
        if block.active:
            n = max(block.groups) + 1
            shapes |= {"router.weight": (n, D), "router.bias": (n,), "bias": (n, D)}
        else:
            shapes["down.bias"] = (D,)
    else:
        rows = {"q": block.units, "k": max(block.groups) + 1, "v": max(block.groups) + 1}
        shapes = {f"{leaf}.weight": (n * block.head_dim, D) for leaf, n in rows.items()}
        shapes |= {f"{leaf}.bias": (n * block.head_dim,) for leaf, n in rows.items()}
        shapes |= {"o.weight": (D, block.units * block.head_dim), "o.bias": (D,)}
    made, start = {}, 0
    for leaf, shape in shapes.items():
        size = int(np.prod(shape))
        made[f"{block.name}.{leaf}"] = np.arange(start, start + size, dtype=np.float32).reshape(shape)
        start += size
    return made


def test_a_head_takes_its_rows_and_leaves_its_group_until_it_is_the_last():
    full = weights(HEADS)
    cut = slice_block(HEADS, [0, 2], full)
    assert np.array_equal(cut["l.attn.q.weight"], full["l.attn.q.weight"][[0, 1, 4, 5]])
    assert np.array_equal(cut["l.attn.q.bias"], full["l.attn.q.bias"][[0, 1, 4, 5]])
    for leaf in "kv":  # group 0 still serves head 0, group 1 serves head 2, group 2 is gone
        assert np.array_equal(cut[f"l.attn.{leaf}.weight"], full[f"l.attn.{leaf}.weight"][:4])
        assert np.array_equal(cut[f"l.attn.{leaf}.bias"], full[f"l.attn.{leaf}.bias"][:4])
    assert np.array_equal(cut["l.attn.o.weight"], full["l.attn.o.weight"][:, [0, 1, 4, 5]])
    assert np.array_equal(cut["l.attn.o.bias"], full["l.attn.o.bias"])
    assert kept_groups(HEADS, [0, 2]) == (0, 1)
    assert kept_groups(HEADS, [1, 3]) == (0, 1)


def test_an_ffn_channel_takes_its_row_above_and_its_column_below():
    full = weights(FFN)
    cut = slice_block(FFN, [1, 7], full)
    assert np.array_equal(cut["l.ffn.up.weight"], full["l.ffn.up.weight"][[1, 7]])
    assert np.array_equal(cut["l.ffn.up.bias"], full["l.ffn.up.bias"][[1, 7]])
    assert np.array_equal(cut["l.ffn.down.weight"], full["l.ffn.down.weight"][:, [1, 7]])
    assert np.array_equal(cut["l.ffn.down.bias"], full["l.ffn.down.bias"])


@pytest.mark.parametrize("block", [HEADS, FFN, EXPERTS], ids=["heads", "ffn", "experts"])
def test_keeping_everything_changes_nothing(block):
    full = weights(block)
    cut = slice_block(block, range(block.units), full)
    assert cut.keys() == full.keys()
    assert all(np.array_equal(cut[name], full[name]) for name in full)


def test_an_expert_goes_with_its_last_channel_and_its_column_of_the_router_with_it():
    full = weights(EXPERTS)
    cut = slice_block(EXPERTS, [1, 4], full)
    assert np.array_equal(cut["l.moe.up.weight"], full["l.moe.up.weight"][[1, 4]])
    assert np.array_equal(cut["l.moe.down.weight"], full["l.moe.down.weight"][:, [1, 4]])
    for leaf in ("router.weight", "router.bias", "bias"):
        assert np.array_equal(cut[f"l.moe.{leaf}"], full[f"l.moe.{leaf}"][[0, 2]])
    assert kept_groups(EXPERTS, [1, 4]) == (0, 1)


@pytest.mark.parametrize("block", [HEADS, FFN, EXPERTS], ids=["heads", "ffn", "experts"])
@pytest.mark.parametrize("kept", [[0], [1, 3], [0, 1, 2]])
def test_the_counter_and_the_slices_agree_on_the_number_of_weights(block, kept):
    cut = slice_block(block, kept, weights(block))
    shared = 0 if block.active else D  # the bias that leaves it has no unit, unless each expert has one
    assert sum(t.size for t in cut.values()) == block.params(D, kept) + shared


def test_weights_of_steps_that_do_not_run_stay_behind():
    ask = next(q for q in map(random_question, range(100)) if "encoder.a.0.attn" in q.layout.blocks)
    tensors: dict[str, np.ndarray] = {"embed.a.project.weight": np.zeros(1, np.float32)}
    for block in ask.layout.blocks.values():
        tensors |= weights(block)
    tensors["encoder.a.0.norm_attn.weight"] = np.zeros(D, np.float32)
    kept = {n: tuple(range(b.units)) for n, b in ask.layout.blocks.items() if n.startswith("fusion")}
    alive = slice_weights(ask.layout, kept, tensors)
    assert not [name for name in alive if name.startswith("encoder.")]
    assert "embed.a.project.weight" in alive
    everything = {n: tuple(range(b.units)) for n, b in ask.layout.blocks.items()}
    assert slice_weights(ask.layout, everything, tensors).keys() == tensors.keys()
