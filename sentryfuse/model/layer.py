"""The transformer layer: attention, optional halving and a feed-forward or a mixture of experts.

Notation: B batch · L tokens · D d_model · F FFN channels · E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentryfuse.model.attention import SentryAttention
from sentryfuse.model.call import Call
from sentryfuse.model.feedforward import TOP_ONE, Experts, FeedForward, Routing
from sentryfuse.planning.layout import AttentionRule, Step

LOWEST = 1e9  # pads the maximum over neighbours


@dataclass(frozen=True)
class LayerShape:
    """What one transformer layer is made of.

    Attributes:
        groups: KV group of every query head, `(H,)`.
        head_dim: `K`.
        d_ff: FFN channels: one number, or the expert of every channel.
        routing: of the experts, if there are any.
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
    routing: Routing = TOP_ONE


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
            self.ffn = Experts(f"{name}.ffn", d_model, groups=shape.d_ff, routing=shape.routing)
        self.norm_attn, self.norm_ffn = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.halve = nn.Linear(3 * d_model, d_model) if shape.halves else None
        self.drop = nn.Dropout(shape.dropout) if shape.dropout else nn.Identity()

    def forward(self, x: Tensor, source: Tensor | None = None, *, at: Call) -> Tensor:
        """Transform the tokens.

        Args:
            x: tokens, `(B, L, D)`.
            source: tokens that keys and values come from, `(B, L', D)`; `None` = `x`.
            at: with the units that take part.

        Returns:
            `(B, L'', D)`, `L''` as the class says.
        """
        select = at.select
        batch, length = x.shape[:2]
        x, pre = x.flatten(0, 1), self.shape.norm == "pre"
        asked = None
        if source is not None:
            flat = source.flatten(0, 1)
            asked = (self.norm_attn(flat) if pre else flat, source.shape[1])
        y = self.attn(self.norm_attn(x) if pre else x, (batch, length), asked, select)
        x = x + self.drop(y)
        x, length = self._halve(x if pre else self.norm_attn(x), batch, length)
        into = self.norm_ffn(x) if pre else x
        y = self.ffn(into, batch, select) if isinstance(self.ffn, Experts) else self.ffn(into, select)
        x = x + self.drop(y)
        return (x if pre else self.norm_ffn(x)).reshape(batch, length, self.d_model)

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

    def step(self, reads: tuple[str, ...], writes: str, needs: tuple[str, ...]) -> Step:
        """This layer as a step of a layout; a second read is the source of cross-attention."""
        blocks, d_model = (self.attn.block, self.ffn.block), self.d_model
        return Step(
            self.name,
            "layer",
            reads,
            writes,
            needs=needs,
            blocks=blocks,
            leaves="half" if self.shape.halves else "same",
            options=self._options(),
            macs_per_token=3 * d_model * d_model if self.shape.halves else 0,
            params_fixed=sum(p.numel() for p in self.parameters())
            - sum(block.params(d_model) for block in blocks),
        )

    def _options(self) -> dict[str, str]:
        if not isinstance(self.ffn, Experts):
            return {"norm": self.shape.norm}
        routing = self.ffn.routing
        return {"norm": self.shape.norm, "weighting": routing.weighting, "activation": routing.activation}
