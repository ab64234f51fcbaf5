from __future__ import annotations

import numpy as np
import pytest
import torch

from sentryfuse.pruning.weights import (
    group_magnitude_importance,
    magnitude_importance,
    magnitude_l1_importance,
    magnitude_l2_importance,
    magnitude_sp_importance,
)
from tests.tiny import CASES, tiny_model, uneven_widths


def owned(model, block, unit):
    """Every weight that one unit owns, and how much of it is the unit's."""
    tensors = {name: t.double().numpy() for name, t in model.tensors().items()}
    at, k = block.name, block.head_dim
    if block.kind == "ffn":
        row, column = tensors[f"{at}.up.weight"][unit], tensors[f"{at}.down.weight"][:, unit]
        return [(w, 1.0) for w in (*row, *column)]
    group = block.groups[unit]
    share = 1 / block.groups.count(group)
    found = []
    for i in range(k):
        found += [(w, 1.0) for w in tensors[f"{at}.q.weight"][unit * k + i]]
        found += [(w, 1.0) for w in tensors[f"{at}.o.weight"][:, unit * k + i]]
        for leaf in ("k", "v"):
            found += [(w, share) for w in tensors[f"{at}.{leaf}.weight"][group * k + i]]
    return found


@pytest.mark.parametrize("case", ["small", "experts", "taken"])
def test_l1_and_l2_sum_over_all_weights_of_a_unit_and_its_share_of_the_group(case):
    model = tiny_model(case, widths=uneven_widths(case))
    l1, l2, group = (
        magnitude_l1_importance(model),
        magnitude_l2_importance(model),
        group_magnitude_importance(model),
    )
    for name, block in model.layout.blocks.items():
        parts = [owned(model, block, unit) for unit in range(block.units)]
        first = [sum(abs(w) * share for w, share in unit) for unit in parts]
        second = np.array([sum(w * w * share for w, share in unit) for unit in parts])
        np.testing.assert_allclose(l1[name], first, rtol=1e-5)
        np.testing.assert_allclose(l2[name], second, rtol=1e-5)
        np.testing.assert_allclose(group[name], second / second.mean(), rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_kv_group_is_counted_once_however_many_heads_share_it(case):
    model = tiny_model(case, widths=uneven_widths(case))
    tensors = model.tensors()
    scores = magnitude_l1_importance(model)
    for name, block in model.layout.blocks.items():
        if block.kind == "heads":
            whole = sum(float(tensors[f"{name}.{leaf}.weight"].abs().sum()) for leaf in "qkvo")
            assert scores[name].sum() == pytest.approx(whole, rel=1e-5)


def test_magnitude_sp_looks_at_output_columns_only():
    model = tiny_model("mult", widths=uneven_widths("mult"))
    scores = magnitude_sp_importance(model)
    tensors = model.tensors()
    for name, block in model.layout.blocks.items():
        out = tensors[f"{name}.{'o' if block.head_dim else 'down'}.weight"].double().numpy()
        width = block.head_dim or 1
        for unit in range(block.units):
            columns = range(unit * width, (unit + 1) * width)
            want = sum(np.sqrt(sum(w * w for w in out[:, c])) for c in columns)
            assert scores[name][unit] == pytest.approx(want, rel=1e-5)


def test_magnitude_sees_what_enters_and_what_leaves():
    model = tiny_model()
    with torch.no_grad():
        tensors = model.tensors()
        tensors["fusion.0.ffn.up.weight"][5] = 0
        tensors["fusion.0.ffn.down.weight"][:, 6] *= 100
        tensors["fusion.0.attn.v.weight"][4:8] = 0  # the second KV group: heads 2 and 3
        tensors["fusion.0.attn.o.weight"][:, 4:8] *= 100  # head 1
    scores = magnitude_importance(model)
    assert scores["fusion.0.ffn"][5] == 0
    assert scores["fusion.0.ffn"].argmax() == 6
    assert (scores["fusion.0.attn"][2:] == 0).all()
    assert scores["fusion.0.attn"].argmax() == 1
    assert scores["fusion.0.ffn"].mean() == pytest.approx(1)
