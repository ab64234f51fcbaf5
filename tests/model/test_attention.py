from __future__ import annotations

import itertools
import math

import pytest
import torch

from sentryfuse.errors import ConfigError
from sentryfuse.model.attention import SentryAttention, strided_sample
from sentryfuse.planning.layout import AttentionRule

D, K = 12, 4
GROUPS = [(0, 0, 1, 1), (0, 1, 1, 1, 2), (0, 0), (0,), (1, 0, 1)]


def by_hand(attention: SentryAttention, x: torch.Tensor, *, n_picked: int | None) -> torch.Tensor:
    """One window `(L, D)`, one head and one query at a time; the definition, not an algorithm."""
    length = len(x)
    outputs = []
    for head, group in enumerate(attention.block.groups):
        rows, kv = slice(head * K, head * K + K), slice(group * K, group * K + K)
        q = x @ attention.q.weight[rows].T + attention.q.bias[rows]
        k = x @ attention.k.weight[kv].T + attention.k.bias[kv]
        v = x @ attention.v.weight[kv].T + attention.v.bias[kv]
        kept = set(range(length))
        if n_picked is not None:
            sampled = [i * length // n_picked for i in range(n_picked)]
            logits = q @ k[sampled].T
            peaked = (logits.max(1).values - logits.mean(1)).tolist()
            kept = set(sorted(range(length), key=lambda i: -peaked[i])[:n_picked])
        rows_out = []
        for i in range(length):
            if i in kept:
                weight = torch.softmax(q[i] @ k.T / math.sqrt(K), 0)
                rows_out.append(weight @ v)
            else:
                rows_out.append(v.mean(0))
        outputs.append(torch.stack(rows_out))
    return torch.cat(outputs, 1) @ attention.o.weight.T + attention.o.bias


def make(groups, rule: AttentionRule) -> SentryAttention:
    torch.manual_seed(0)
    return SentryAttention("x.attn", D, groups=groups, head_dim=K, rule=rule).double().eval()


@pytest.mark.parametrize("length", [1, 2, 30])
@pytest.mark.parametrize("groups", GROUPS, ids=str)
@torch.no_grad()
def test_the_dense_core_is_grouped_query_attention(groups, length):
    attention = make(groups, AttentionRule("dense"))
    x = torch.randn(3, length, D, dtype=torch.float64)
    got = attention(x.flatten(0, 1), (3, length)).reshape(3, length, D)
    for i in range(3):
        torch.testing.assert_close(got[i], by_hand(attention, x[i], n_picked=None))


@pytest.mark.parametrize("length", [6, 30, 80])
@pytest.mark.parametrize("groups", GROUPS, ids=str)
@torch.no_grad()
def test_the_sparse_core_answers_its_most_peaked_queries_exactly(groups, length):
    rule = AttentionRule(factor=1, sparse_from=6)
    attention = make(groups, rule)
    x = torch.randn(3, length, D, dtype=torch.float64)
    got = attention(x.flatten(0, 1), (3, length)).reshape(3, length, D)
    picks = rule.picks(length, length)
    assert picks
    for i in range(3):
        torch.testing.assert_close(got[i], by_hand(attention, x[i], n_picked=picks[1]))


@torch.no_grad()
def test_a_sparse_core_that_keeps_every_query_is_the_dense_core():
    rule = AttentionRule(factor=30, sparse_from=6)
    x = torch.randn(2 * 40, D, dtype=torch.float64)
    sparse, dense = make((0, 0, 1), rule), make((0, 0, 1), AttentionRule("dense"))
    assert rule.picks(40, 40) is None
    torch.testing.assert_close(sparse(x, (2, 40)), dense(x, (2, 40)))


def test_the_sample_is_strided_evenly_and_never_repeats():
    for length in (6, 64, 79, 1000):
        for n in (1, 5, length // 2, length):
            sample = strided_sample(length, n).tolist()
            gaps = {b - a for a, b in itertools.pairwise(sample)}
            assert sample[0] == 0
            assert sample[-1] < length
            assert not gaps or (min(gaps) >= 1 and max(gaps) - min(gaps) <= 1)


@pytest.mark.parametrize("groups", [(), (1,), (0, 2), (1, 1), (-1, 0)], ids=str)
def test_groups_with_holes_are_refused(groups):
    with pytest.raises(ConfigError, match="without holes"):
        make(groups, AttentionRule())
