"""Feed-forward, mixture of experts and the transformer layer, each at its own width.

Notation: B batch · L tokens · D d_model · F FFN channels · E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentryfuse.layout import AttentionRule, Block, Step
from sentryfuse.model.attention import Pick, Selection, SentryAttention

LOWEST = 1e9  # pads the maximum over neighbours


class FeedForward(nn.Module):
    """Two linear maps with an activation between them, `(B * L, D)` -> `(B * L, D)`.

    Args:
        name: block name; prefix of its weights.
        d_model: token width `D`.
        d_ff: FFN channels `F`.
        activation: "gelu" or "relu".
    """

    def __init__(self, name: str, d_model: int, *, d_ff: int, activation: str = "gelu") -> None:
        super().__init__()
        self.block = Block(name, "ffn", d_ff)
        self.up, self.down = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
        self.activation = F.relu if activation == "relu" else F.gelu

    def forward(self, x: Tensor, select: Selection | None = None) -> Tensor:
        """Transform every token; `select` narrows the FFN channels."""
        w_up: Tensor = self.up.weight
        b_up: Tensor = self.up.bias
        w_down: Tensor = self.down.weight
        kept = select.kept.get(self.block.name) if select else None
        if kept is not None:
            w_up, b_up, w_down = w_up[kept], b_up[kept], w_down[:, kept]
        hidden = self.activation(F.linear(x, w_up, b_up))
        xi = select.gates.get(self.block.name) if select else None
        if xi is not None:
            if xi.ndim == 2:  # one factor per window: all its tokens share it
                hidden = (hidden.unflatten(0, (len(xi), -1)) * xi.unsqueeze(1)).flatten(0, 1)
            else:
                hidden = hidden * xi
        return F.linear(hidden, w_down, self.down.bias)


class Experts(nn.Module):
    """Sparse mixture of experts: the strongest expert per token, scaled by its raw router logit.

    Every expert is computed and then selected, in torch and in the exported graph alike, and counted so.

    Args:
        name: prefix of the weights; expert `e` is block `<name>.experts.<e>`.
        d_model: token width `D`.
        d_ff: FFN channels of every expert, `(E,)`.

    Source:
        MAESTRO (arXiv 2509.25278): loss-free top-1 routing.
    """

    def __init__(self, name: str, d_model: int, *, d_ff: Sequence[int]) -> None:
        super().__init__()
        self.router = nn.Linear(d_model, len(d_ff))
        self.experts = nn.ModuleList(
            FeedForward(f"{name}.experts.{e}", d_model, d_ff=width, activation="relu")
            for e, width in enumerate(d_ff)
        )

    @property
    def members(self) -> list[FeedForward]:
        """The experts, in order."""
        return [expert for expert in self.experts if isinstance(expert, FeedForward)]

    def forward(self, x: Tensor, select: Selection | None = None) -> Tensor:
        """Route every token, `(B * L, D)` -> `(B * L, D)`."""
        logits = self.router(x)  # (B * L, E)
        weight = torch.where(logits == logits.amax(-1, keepdim=True), logits, 0.0)
        total = torch.zeros_like(x)
        for e, expert in enumerate(self.experts):
            total = total + expert(x, select) * weight[:, e : e + 1]
        return total


@dataclass(frozen=True)
class LayerShape:
    """What one transformer layer is made of.

    Attributes:
        groups: KV group of every query head, `(H,)`.
        head_dim: `K`.
        d_ff: FFN channels: one number, or one per expert.
        norm: "pre" or "post".
        halves: convolution and max-pooling with stride 2 between attention and feed-forward.
        dropout: on the two residual branches.
    """

    groups: tuple[int, ...]
    head_dim: int
    d_ff: int | tuple[int, ...]
    norm: str = "pre"
    halves: bool = False
    dropout: float = 0.1


class Layer(nn.Module):
    """Attention, optional halving, feed-forward; `(B, L, D)` -> `(B, L', D)`, `L'` = `L` or ceil(L/2).

    Inside, the tokens of all windows lie flat in one matrix, `(B * L, D)`: most of the work is then plain
    matrix products, in torch and on the device, and only attention looks at windows.
    """

    def __init__(self, name: str, d_model: int, *, shape: LayerShape, rule: AttentionRule) -> None:
        super().__init__()
        self.name, self.shape, self.d_model = name, shape, d_model
        self.attn = SentryAttention(
            f"{name}.attn", d_model, groups=shape.groups, head_dim=shape.head_dim, rule=rule
        )
        self.ffn: FeedForward | Experts
        if isinstance(shape.d_ff, int):
            self.ffn = FeedForward(f"{name}.ffn", d_model, d_ff=shape.d_ff)
        else:
            self.ffn = Experts(f"{name}.ffn", d_model, d_ff=shape.d_ff)
        self.norm_attn, self.norm_ffn = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.halve = nn.Linear(3 * d_model, d_model) if shape.halves else None
        self.drop = nn.Dropout(shape.dropout) if shape.dropout else nn.Identity()

    def forward(self, x: Tensor, select: Selection | None = None, pick: Pick | None = None) -> Tensor:
        """Transform the tokens.

        Args:
            x: tokens, `(B, L, D)`.
            select: narrows units.
            pick: fixes the sparse core (export only).

        Returns:
            `(B, L', D)`.
        """
        batch, length = x.shape[:2]
        x = x.flatten(0, 1)
        if self.shape.norm == "pre":
            x = x + self.drop(self.attn(self.norm_attn(x), (batch, length), select, pick))
            x, length = self._halve(x, batch, length)
            x = x + self.drop(self.ffn(self.norm_ffn(x), select))
        else:
            x = self.norm_attn(x + self.drop(self.attn(x, (batch, length), select, pick)))
            x, length = self._halve(x, batch, length)
            x = self.norm_ffn(x + self.drop(self.ffn(x, select)))
        return x.reshape(batch, length, self.d_model)

    @property
    def signature(self) -> str:
        """Equal for layers that share one exported graph."""
        kind = f"experts{len(self.ffn.experts)}" if isinstance(self.ffn, Experts) else "ffn"
        halves = " halves" if self.shape.halves else ""
        return f"layer {self.shape.norm} {kind}{halves} D{self.d_model} K{self.shape.head_dim}"

    def _halve(self, x: Tensor, batch: int, length: int) -> tuple[Tensor, int]:
        """Convolution and max-pooling over three neighbours with stride 2, as slices and one product."""
        if self.halve is None:
            return x, length
        y = x.reshape(batch, length, self.d_model)
        left = (length + 1) // 2
        beside = [F.pad(y, (0, 0, 1, 2), value=edge) for edge in (0.0, -LOWEST)]
        zero, lowest = (
            [padded[:, k : k + 2 * left].unflatten(1, (left, 2))[:, :, 0] for k in range(3)]
            for padded in beside
        )
        y = self.halve(torch.cat(zero, 2)) + torch.stack(lowest).amax(0)
        return y.reshape(batch * left, self.d_model), left

    def step(self, reads: str, writes: str, needs: tuple[str, ...]) -> Step:
        """This layer as a step of a layout."""
        ffns = self.ffn.members if isinstance(self.ffn, Experts) else [self.ffn]
        blocks = (self.attn.block, *(ffn.block for ffn in ffns))
        d_model = self.d_model
        routing = d_model * len(ffns) if isinstance(self.ffn, Experts) else 0
        return Step(
            self.name,
            "layer",
            (reads,),
            writes,
            needs=needs,
            blocks=blocks,
            halves=self.shape.halves,
            macs_per_token=routing + (3 * d_model * d_model if self.shape.halves else 0),
            params_fixed=sum(p.numel() for p in self.parameters())
            - sum(block.params(d_model) for block in blocks),
        )
