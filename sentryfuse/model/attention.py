"""SentryAttend: grouped-query attention whose heads may be cut one by one, with a dense and a sparse core.

Notation:
    B batch · L tokens · D d_model · H query heads · G key/value heads · K head_dim
    S sampled keys · U kept queries (`AttentionRule.picks`)

    groups = (0, 0, 1, 1):   q0 q1 | q2 q3      a query head can go alone; a key/value head goes
                              kv0  |  kv1       with the last query head it serves
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentryfuse.errors import ConfigError
from sentryfuse.planning.layout import AttentionRule, Block

# block name, what enters its last product `(rows, columns)`, worth of each expert for each row `(rows, E)`
Watch = Callable[[str, Tensor, Tensor | None], None]


@dataclass(frozen=True)
class Selection:
    """Which units take part in a forward pass, without changing the model, and who looks on.

    Attributes:
        kept: block name -> indices of the units that take part, `(units kept,)`; absent name = all, none =
            the whole block is left out. The weights are sliced on the fly, so a smaller selection is also
            faster.
        gates: block name -> factor `xi` on every unit, `(B, units)` or `(units,)`; absent name = ones.
        watch: called in every block with what enters its last product, after gates: one row per token, one
            column per FFN channel or per dimension of each head. Where there are experts, also what each is
            worth for the row; the product is scaled by it.
    """

    kept: Mapping[str, Tensor] = field(default_factory=dict)
    gates: Mapping[str, Tensor] = field(default_factory=dict)
    watch: Watch | None = None


def dense_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention, one key/value head per query head.

    Args:
        q: `(B, H, L, K)`.
        k: `(B, H, L', K)`.
        v: `(B, H, L', K)`.

    Returns:
        `(B, H, L, K)`.
    """
    return F.scaled_dot_product_attention(q, k, v)


def sparse_attention(q: Tensor, k: Tensor, v: Tensor, sampled: Tensor, n_kept: int) -> Tensor:
    """Exact attention for the most peaked queries of each head, the mean value for all others.

    How peaked a query is: max - mean of its logits on one evenly strided sample of the keys. Nothing is
    random, so the same window always gets the same answer.

    Args:
        q: `(B, H, L, K)`.
        k: `(B, H, L', K)`.
        v: `(B, H, L', K)`.
        sampled: positions of the sampled keys, `(S,)`.
        n_kept: queries kept, `U`.

    Returns:
        `(B, H, L, K)`.

    Source:
        ProbSparse attention (Informer, AAAI 2021) with one shared, strided key sample and grouped queries;
        the shared sample is our choice.
    """
    with torch.no_grad():  # a choice, not a value: no gradient passes through it
        keys = k.index_select(2, sampled)
        keys = keys - keys.mean(2, keepdim=True)  # the largest logit minus their mean, in one product
        peaked = (q @ keys.transpose(-1, -2)).amax(-1)  # (B, H, L)
        rows = peaked.topk(n_kept, -1).indices  # (B, H, U)
    rows = rows.unsqueeze(-1).expand(-1, -1, -1, q.shape[-1])
    exact = dense_attention(torch.gather(q, 2, rows), k, v)
    return torch.scatter(v.mean(2, keepdim=True).expand_as(q), 2, rows, exact)


def strided_sample(length: int, n_sampled: int, device: torch.device | None = None) -> Tensor:
    """`n_sampled` evenly strided positions out of `length`, `(n_sampled,)`."""
    return torch.arange(n_sampled, device=device) * length // n_sampled


class SentryAttention(nn.Module):
    """Attention within windows, over flat tokens, `(B * L, D)` -> `(B * L, D)`.

    Keys and values come from the tokens themselves, or from a second sequence of each window.

    Args:
        name: block name; prefix of its weights.
        d_model: token width `D`.
        groups: KV group of every query head, `(H,)`, numbered from 0 without holes.
        head_dim: `K`.
        rule: which core at which length.

    Raises:
        ConfigError: no head, or groups with holes.

    Source:
        SentryFuse (arXiv 2604.08971), sparse grouped-query attention; details are our choice.
    """

    group_of: Tensor

    def __init__(
        self, name: str, d_model: int, *, groups: Sequence[int], head_dim: int, rule: AttentionRule
    ) -> None:
        super().__init__()
        if not groups or sorted(set(groups)) != list(range(max(groups) + 1)):
            raise ConfigError(
                f"{name}: KV groups {tuple(groups)} must be numbered 0, 1, ... without holes, one per head"
            )
        self.block = Block(name, "heads", len(groups), tuple(groups), head_dim)
        self.rule, self.head_dim = rule, head_dim
        n_kv_heads = max(groups) + 1
        self.q = nn.Linear(d_model, len(groups) * head_dim)
        self.k = nn.Linear(d_model, n_kv_heads * head_dim)
        self.v = nn.Linear(d_model, n_kv_heads * head_dim)
        self.o = nn.Linear(len(groups) * head_dim, d_model)
        self.register_buffer("group_of", torch.tensor(groups), persistent=False)

    def forward(
        self,
        x: Tensor,
        shape: tuple[int, int],
        source: tuple[Tensor, int] | None = None,
        select: Selection | None = None,
    ) -> Tensor:
        """Attend within each window.

        Args:
            x: tokens of all windows, `(B * L, D)`.
            shape: windows and tokens per window, `(B, L)`.
            source: where keys and values come from, `(B * L', D)`, and `L'`; `None` = `x` itself.
            select: narrows the heads.

        Returns:
            `(B * L, D)`.
        """
        wo: Tensor = self.o.weight
        kept = select.kept.get(self.block.name) if select else None
        if kept is not None:
            wo = wo[:, self._rows(kept)]
        heads = self.heads(x, shape, source, select)
        if select and select.watch:
            select.watch(self.block.name, heads, None)
        return F.linear(heads, wo, self.o.bias)

    def heads(
        self,
        x: Tensor,
        shape: tuple[int, int],
        source: tuple[Tensor, int] | None = None,
        select: Selection | None = None,
    ) -> Tensor:
        """What the heads say, side by side, before the output product: `(B * L, H * K)`; as `forward`."""
        group_of = self.group_of
        wq: Tensor = self.q.weight
        wk: Tensor = self.k.weight
        wv: Tensor = self.v.weight
        bq: Tensor = self.q.bias
        bk: Tensor = self.k.bias
        bv: Tensor = self.v.bias
        kept = select.kept.get(self.block.name) if select else None
        if kept is not None:
            groups, group_of = torch.unique(group_of[kept], return_inverse=True)
            rows, kv_rows = self._rows(kept), self._rows(groups)
            wq, wk, wv = wq[rows], wk[kv_rows], wv[kv_rows]
            bq, bk, bv = bq[rows], bk[kv_rows], bv[kv_rows]
        batch, length = shape
        n_heads, n_groups = wq.shape[0] // self.head_dim, wk.shape[0] // self.head_dim
        # one product for q, k and v
        if source is None:
            joint = self._split(F.linear(x, torch.cat([wq, wk, wv]), torch.cat([bq, bk, bv])), batch, length)
            q, first = joint[:, :n_heads], n_heads
        else:
            q = self._split(F.linear(x, wq, bq), batch, length)
            joint = self._split(
                F.linear(source[0], torch.cat([wk, wv]), torch.cat([bk, bv])), batch, source[1]
            )
            first = 0
        k = joint.index_select(1, first + group_of)  # (B, H, L', K)
        v = joint.index_select(1, first + n_groups + group_of)
        sampled, n_kept = self._picks(length, source[1] if source else length)
        out = dense_attention(q, k, v) if sampled is None else sparse_attention(q, k, v, sampled, n_kept)
        xi = select.gates.get(self.block.name) if select else None
        if xi is not None:
            out = out * xi[..., None, None]  # (B, H, 1, 1), or (H, 1, 1)
        return out.transpose(1, 2).reshape(x.shape[0], wq.shape[0])

    def _split(self, flat: Tensor, batch: int, length: int) -> Tensor:
        """`(B * L, heads * K)` -> `(B, heads, L, K)`."""
        return flat.reshape(batch, length, -1, self.head_dim).transpose(1, 2)

    def _picks(self, length: int, source: int) -> tuple[Tensor | None, int]:
        """Sampled keys and kept queries of the sparse core, or `None` for the dense one."""
        sizes = self.rule.picks(length, source)
        return (
            (None, 0) if sizes is None else (strided_sample(source, sizes[0], self.group_of.device), sizes[1])
        )

    def _rows(self, units: Tensor) -> Tensor:
        within = torch.arange(self.head_dim, device=units.device)
        return (units[:, None] * self.head_dim + within).flatten()
