"""Feed-forward, mixture of experts and the transformer layer, each at its own width.

Notation: B batch · L tokens · D d_model · F FFN channels · E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentryfuse.errors import ConfigError
from sentryfuse.layout import AttentionRule, Block, Step
from sentryfuse.model.attention import Pick, Selection, SentryAttention

LOWEST = 1e9  # pads the maximum over neighbours, and silences experts


class FeedForward(nn.Module):
    """Two linear maps with an activation between them, `(B * L, D)` -> `(B * L, D)`.

    Args:
        name: block name; prefix of its weights.
        d_model: token width `D`.
        d_ff: FFN channels `F`.
    """

    def __init__(self, name: str, d_model: int, *, d_ff: int) -> None:
        super().__init__()
        self.block = Block(name, "ffn", d_ff)
        self.up, self.down = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor, select: Selection | None = None) -> Tensor:
        """Transform every token; `select` narrows the FFN channels."""
        w_up: Tensor = self.up.weight
        b_up: Tensor = self.up.bias
        w_down: Tensor = self.down.weight
        kept = select.kept.get(self.block.name) if select else None
        if kept is not None:
            w_up, b_up, w_down = w_up[kept], b_up[kept], w_down[:, kept]
        xi = select.gates.get(self.block.name) if select else None
        return F.linear(_gated(F.gelu(F.linear(x, w_up, b_up)), xi), w_down, self.down.bias)


@dataclass(frozen=True)
class Routing:
    """How a mixture of experts sends tokens to experts.

    Attributes:
        active: experts per token.
        weighting: "raw" (an answer is scaled by its router logit) or "softmax" (over the active ones).
        activation: inside the experts, "gelu" or "relu".
    """

    active: int = 1
    weighting: str = "raw"
    activation: str = "relu"


class Experts(nn.Module):
    """Sparse mixture of experts, `(B * L, D)` -> `(B * L, D)`.

    The channels of all experts lie side by side in two matrices, so that any mixture is two products,
    whatever the width of each expert; a channel's activation is scaled by what its expert is worth for the
    token, 0 if it is not active. All channels are computed, in torch and in the exported graph alike, and
    counted so. An expert goes with its last channel, and its column of the router with it.

    Args:
        name: block name; prefix of the weights.
        d_model: token width `D`.
        groups: expert of every FFN channel, `(F,)`, numbered from 0 without holes.
        routing: how tokens choose.

    Raises:
        ConfigError: no channel, or experts with holes.

    Source:
        MAESTRO (arXiv 2509.25278): loss-free top-1, raw logits. Flex-MoE (arXiv 2410.08245): top-k, softmax.
    """

    group_of: Tensor

    def __init__(self, name: str, d_model: int, *, groups: Sequence[int], routing: Routing) -> None:
        super().__init__()
        if not groups or sorted(set(groups)) != list(range(max(groups) + 1)):
            raise ConfigError(f"{name}: experts must be numbered 0, 1, ... without holes, one per channel")
        n_experts = max(groups) + 1
        self.block = Block(name, "ffn", len(groups), tuple(groups), active=routing.active)
        self.routing = routing
        self.router = nn.Linear(d_model, n_experts)
        self.up = nn.Linear(d_model, len(groups))
        self.down = nn.Linear(len(groups), d_model, bias=False)
        with torch.no_grad():  # as wide as one expert's own matrix would be
            self.down.weight.mul_(n_experts**0.5)
        bound = (n_experts / len(groups)) ** 0.5
        self.bias = nn.Parameter(torch.empty(n_experts, d_model).uniform_(-bound, bound))
        self.register_buffer("group_of", torch.tensor(groups), persistent=False)
        self.logits: Tensor | None = None  # of the last training pass, for losses on the router

    def forward(self, x: Tensor, select: Selection | None = None, pick: Pick | None = None) -> Tensor:
        """Route every token; `select` narrows the channels, and the experts with them."""
        group_of = self.group_of
        w_route: Tensor = self.router.weight
        b_route: Tensor = self.router.bias
        w_up: Tensor = self.up.weight
        b_up: Tensor = self.up.bias
        w_down: Tensor = self.down.weight
        bias: Tensor = self.bias
        kept = select.kept.get(self.block.name) if select else None
        if kept is not None:
            left, group_of = torch.unique(group_of[kept], return_inverse=True)
            w_route, b_route, bias = w_route[left], b_route[left], bias[left]
            w_up, b_up, w_down = w_up[kept], b_up[kept], w_down[:, kept]
        logits = F.linear(x, w_route, b_route)  # (B * L, E)
        if self.training and kept is None:
            self.logits = logits
        n_active = min(self.routing.active, bias.shape[0])
        if pick is not None and pick.slots is not None:
            n_active = pick.slots.shape[0]
        active = logits >= logits.topk(n_active, -1).values[:, -1:]
        if self.routing.weighting == "raw":
            worth = torch.where(active, logits, 0.0)
        else:
            worth = torch.where(active, logits, -LOWEST).softmax(-1)
        hidden = activation(self.routing.activation)(F.linear(x, w_up, b_up))
        hidden = hidden * worth.index_select(1, group_of)
        xi = select.gates.get(self.block.name) if select else None
        return F.linear(_gated(hidden, xi), w_down) + worth @ bias


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function behind "gelu" or "relu"."""
    return F.relu if name == "relu" else F.gelu


def _gated(hidden: Tensor, xi: Tensor | None) -> Tensor:
    """Hidden units times `xi`, `(units,)` or one row per window, which all its tokens share."""
    if xi is None:
        return hidden
    if xi.ndim == 2:
        return (hidden.unflatten(0, (len(xi), -1)) * xi.unsqueeze(1)).flatten(0, 1)
    return hidden * xi


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
    routing: Routing = Routing()


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

    def forward(
        self,
        x: Tensor,
        source: Tensor | None = None,
        *,
        select: Selection | None = None,
        pick: Pick | None = None,
    ) -> Tensor:
        """Transform the tokens.

        Args:
            x: tokens, `(B, L, D)`.
            source: tokens that keys and values come from, `(B, L', D)`; `None` = `x`.
            select: narrows units.
            pick: fixes the sizes of sparse parts (export only).

        Returns:
            `(B, L'', D)`, `L''` as the class says.
        """
        batch, length = x.shape[:2]
        x, pre = x.flatten(0, 1), self.shape.norm == "pre"
        asked = None
        if source is not None:
            flat = source.flatten(0, 1)
            asked = (self.norm_attn(flat) if pre else flat, source.shape[1])
        y = self.attn(self.norm_attn(x) if pre else x, (batch, length), asked, select, pick)
        x = x + self.drop(y)
        x, length = self._halve(x if pre else self.norm_attn(x), batch, length)
        into = self.norm_ffn(x) if pre else x
        y = self.ffn(into, select, pick) if isinstance(self.ffn, Experts) else self.ffn(into, select)
        x = x + self.drop(y)
        return (x if pre else self.norm_ffn(x)).reshape(batch, length, self.d_model)

    @property
    def signature(self) -> str:
        """Equal for layers that share one exported graph."""
        kind = "ffn"
        if isinstance(self.ffn, Experts):
            kind = f"experts {self.ffn.routing.weighting} {self.ffn.routing.activation}"
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
            halves=self.shape.halves,
            macs_per_token=3 * d_model * d_model if self.shape.halves else 0,
            params_fixed=sum(p.numel() for p in self.parameters())
            - sum(block.params(d_model) for block in blocks),
        )
