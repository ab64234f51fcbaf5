"""The transformer layer: attention, optional halving and a feed-forward or a mixture of experts.

Notation: B batch · L tokens · D d_model · F FFN channels · E experts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentryfuse.errors import ConfigError
from sentryfuse.model.attention import Selection, SentryAttention
from sentryfuse.model.call import Call
from sentryfuse.model.feedforward import TOP_ONE, Experts, FeedForward, Routing
from sentryfuse.planning.layout import AttentionRule, Step

LOWEST = 1e9  # pads the maximum over neighbours
Branch = TypeVar("Branch", bound=SentryAttention | FeedForward | Experts)


@dataclass(frozen=True)
class LayerShape:
    """What one transformer layer is made of.

    Attributes:
        groups: KV group of every query head, `(H,)`; empty where the attention has been cut away.
        head_dim: `K`.
        d_ff: FFN channels: one number, or the expert of every channel; 0 or empty where the feed-forward has
            been cut away.
        routing: of the experts, if there are any.
        norm: "pre" or "post".
        halves: convolution and max-pooling with stride 2 between attention and feed-forward.
        dropout: on the two residual branches.
        activation: of a plain feed-forward, "gelu" or "relu"; experts have that of their routing.
    """

    groups: tuple[int, ...]
    head_dim: int
    d_ff: int | tuple[int, ...]
    norm: str = "pre"
    halves: bool = False
    dropout: float = 0.1
    routing: Routing = TOP_ONE
    activation: str = "gelu"

    def __post_init__(self) -> None:
        """Refuse words that nobody knows."""
        if self.norm not in ("pre", "post") or self.activation not in ("gelu", "relu"):
            raise ConfigError(
                f"norm {self.norm!r} or activation {self.activation!r} is unknown; norm is pre or post "
                "and activation gelu or relu"
            )


class Layer(nn.Module):
    """Attention, optional halving, feed-forward; `(B, L, D)` -> `(B, L', D)`, `L'` = `L` or ceil(L/2).

    A branch without units is not there: its norm, its products and its sum. The product inside the halving
    goes with the feed-forward; the pooling stays, since later layers count on as many tokens.

    Inside, the tokens of all windows lie flat in one matrix, `(B * L, D)`: most of the work is then plain
    matrix products, in torch and on the device, and only attention looks at windows.
    """

    def __init__(self, name: str, d_model: int, *, shape: LayerShape, rule: AttentionRule) -> None:
        super().__init__()
        self.name, self.shape, self.d_model = name, shape, d_model
        self.attn: SentryAttention | None = None
        if shape.groups:
            self.norm_attn = nn.LayerNorm(d_model)
            self.attn = SentryAttention(
                f"{name}.attn", d_model, groups=shape.groups, head_dim=shape.head_dim, rule=rule
            )
        self.ffn: FeedForward | Experts | None = None
        self.halve: nn.Linear | None = None
        if shape.d_ff:
            if isinstance(shape.d_ff, int):
                self.ffn = FeedForward(f"{name}.ffn", d_model, d_ff=shape.d_ff, activation=shape.activation)
            else:
                self.ffn = Experts(f"{name}.ffn", d_model, groups=shape.d_ff, routing=shape.routing)
            self.norm_ffn = nn.LayerNorm(d_model)
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
        attn, ffn = _left(self.attn, select), _left(self.ffn, select)
        if attn is not None:
            asked = None
            if source is not None:
                flat = source.flatten(0, 1)
                asked = (self.norm_attn(flat) if pre else flat, source.shape[1])
            x = x + self.drop(attn(self.norm_attn(x) if pre else x, (batch, length), asked, select))
            x = x if pre else self.norm_attn(x)
        x, length = self._halve(x, batch, length, whole=ffn is not None)
        if ffn is not None:
            into = self.norm_ffn(x) if pre else x
            y = ffn(into, batch, select) if isinstance(ffn, Experts) else ffn(into, select)
            x = x + self.drop(y)
            x = x if pre else self.norm_ffn(x)
        return x.reshape(batch, length, self.d_model)

    def _halve(self, x: Tensor, batch: int, length: int, *, whole: bool) -> tuple[Tensor, int]:
        """Convolution (if `whole`) and max-pooling over three neighbours with stride 2, as slices."""
        if not self.shape.halves:
            return x, length
        y = x.reshape(batch, length, self.d_model)
        left = (length + 1) // 2
        beside = [F.pad(y, (0, 0, 1, 2), value=edge) for edge in (0.0, -LOWEST)]
        zero, lowest = (
            [padded[:, k : k + 2 * left].unflatten(1, (left, 2))[:, :, 0] for k in range(3)]
            for padded in beside
        )
        y = torch.stack(lowest).amax(0)
        if whole and self.halve is not None:
            y = self.halve(torch.cat(zero, 2)) + y
        return y.reshape(batch * left, self.d_model), left

    def step(self, reads: tuple[str, ...], writes: str, needs: tuple[str, ...]) -> Step:
        """This layer as a step of a layout; a second read is the source of cross-attention."""
        d_model = self.d_model
        blocks = []
        if self.attn is not None:
            beside = _n_weights(self.norm_attn) + self.attn.o.bias.numel()
            blocks.append(replace(self.attn.block, shell=("norm_attn",), shell_params=beside))
        if self.ffn is not None:
            own = self.ffn.down.bias  # None of experts
            beside = _n_weights(self.norm_ffn, self.halve) + (0 if own is None else own.numel())
            shell = ("norm_ffn",) if self.halve is None else ("norm_ffn", "halve")
            macs = 0 if self.halve is None else self.halve.weight.numel()
            block = replace(self.ffn.block, shell=shell, shell_params=beside, shell_macs=macs)
            blocks.append(block)
        return Step(
            self.name,
            "layer",
            reads,
            writes,
            needs=needs,
            blocks=tuple(blocks),
            leaves="half" if self.shape.halves else "same",
            options=self._options(),
            macs_per_token=0 if self.halve is None else self.halve.weight.numel(),
            params_fixed=sum(p.numel() for p in self.parameters())
            - sum(block.params(d_model) for block in blocks),
        )

    def _options(self) -> dict[str, str]:
        if isinstance(self.ffn, FeedForward) and self.shape.activation != "gelu":
            return {"norm": self.shape.norm, "activation": self.shape.activation}
        if not isinstance(self.ffn, Experts):
            return {"norm": self.shape.norm}
        routing = self.ffn.routing
        return {"norm": self.shape.norm, "weighting": routing.weighting, "activation": routing.activation}


def _left(branch: Branch | None, select: Selection | None) -> Branch | None:
    """A branch, unless it has lost all of its units."""
    if branch is None or select is None:
        return branch
    kept = select.kept.get(branch.block.name)
    return branch if kept is None or len(kept) else None


def _n_weights(*modules: nn.Module | None) -> int:
    return sum(p.numel() for module in modules if module is not None for p in module.parameters())
