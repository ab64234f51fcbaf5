"""Feed-forward and mixture of experts, each at its own width.

Notation: B batch · L tokens · D d_model · F FFN channels · E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sentryfuse.errors import ConfigError
from sentryfuse.model.attention import Selection
from sentryfuse.planning.layout import Block

LOWEST = 1e9  # silences experts


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
        self.activation = F.relu if activation == "relu" else F.gelu
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
        hidden = _gated(self.activation(F.linear(x, w_up, b_up)), xi)
        if select and select.watch:
            select.watch(self.block.name, hidden, None)
        return F.linear(hidden, w_down, self.down.bias)


@dataclass(frozen=True)
class Routing:
    """How a mixture of experts sends tokens to experts.

    Attributes:
        active: experts per token.
        weighting: "raw" (an answer is scaled by its router logit) or "softmax" (over the active ones).
        activation: inside the experts, "gelu" or "relu".
        capacity: tokens of a window that an expert takes at most, as a multiple of its fair share
            `L * active / E`. 0: every expert computes every token, which is faster for few narrow experts.
    """

    active: int = 1
    weighting: str = "raw"
    activation: str = "relu"
    capacity: float = 0.0


TOP_ONE = Routing()


class Experts(nn.Module):
    """Sparse mixture of experts, `(B * L, D)` -> `(B * L, D)`.

    The channels of all experts lie side by side in two matrices. Without a capacity any mixture is two
    products, whatever the width of each expert; a channel's activation is scaled by what its expert is worth
    for the token, 0 if it is not active. All channels are computed, in torch and on the device alike,
    and counted so.

    With a capacity each expert takes, window by window, the tokens that chose it and want it most, and
    computes those alone; a token that finds its expert full does without it. An expert goes with its last
    channel, and its column of the router with it.

    Args:
        name: block name; prefix of the weights.
        d_model: token width `D`.
        groups: expert of every FFN channel, `(F,)`, numbered from 0 without holes.
        routing: how tokens choose.

    Raises:
        ConfigError: no channel, or experts with holes.

    Source:
        MAESTRO (arXiv 2509.25278): loss-free top-1, raw logits. Flex-MoE (arXiv 2410.08245): top-k, softmax.
        Capacity as in Switch Transformer (arXiv 2101.03961), per window, so that windows answered together
        and alone get the same answer.
    """

    group_of: Tensor
    seats: Tensor

    def __init__(self, name: str, d_model: int, *, groups: Sequence[int], routing: Routing) -> None:
        super().__init__()
        if not groups or sorted(set(groups)) != list(range(max(groups) + 1)):
            raise ConfigError(f"{name}: experts must be numbered 0, 1, ... without holes, one per channel")
        n_experts = max(groups) + 1
        self.block = Block(name, "ffn", len(groups), tuple(groups), 0, routing.active, routing.capacity)
        self.routing = routing
        self.router = nn.Linear(d_model, n_experts)
        self.up = nn.Linear(d_model, len(groups))
        self.down = nn.Linear(len(groups), d_model, bias=False)
        with torch.no_grad():  # as wide as one expert's own matrix would be
            self.down.weight.mul_(n_experts**0.5)
        bound = (n_experts / len(groups)) ** 0.5
        self.bias = nn.Parameter(torch.empty(n_experts, d_model).uniform_(-bound, bound))
        self.register_buffer("group_of", torch.tensor(groups), persistent=False)
        self.register_buffer("seats", torch.tensor(self.block.seats()), persistent=False)  # (E, W)
        self.logits: Tensor | None = None  # of the last training pass, for losses on the router

    def train(self, mode: bool = True) -> Experts:
        """As every module; lets go what the last pass left, which would keep the model from being copied."""
        self.logits = None
        return super().train(mode)

    def forward(self, x: Tensor, n_windows: int = 1, select: Selection | None = None) -> Tensor:
        """Route every token.

        Args:
            x: tokens of all windows, `(B * L, D)`.
            n_windows: `B`.
            select: narrows the channels, and the experts with them.

        Returns:
            `(B * L, D)`.
        """
        group_of, seats = self.group_of, self.seats
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
            seats = torch.tensor(self.block.seats(kept.tolist()), device=x.device)
        logits = F.linear(x, w_route, b_route)  # (B * L, E)
        if self.training and kept is None:
            self.logits = logits
        n_active = min(self.routing.active, bias.shape[0])
        active = logits >= logits.topk(n_active, -1).values[:, -1:]
        if self.routing.weighting == "raw":
            worth = torch.where(active, logits, 0.0)
        else:
            worth = torch.where(active, logits, -LOWEST).softmax(-1)
        xi = select.gates.get(self.block.name) if select else None
        act = activation(self.routing.activation)
        if not self.routing.capacity:
            hidden = _gated(act(F.linear(x, w_up, b_up)), xi)
            if select and select.watch:
                select.watch(self.block.name, hidden, worth)
            return F.linear(hidden * worth.index_select(1, group_of), w_down) + worth @ bias

        rows = self._tokens_taken(torch.where(active, logits, -LOWEST), n_windows)  # (E, N)
        places = seats.flatten()  # an empty seat reads some channel, and is silenced by `there`
        there = (places >= 0).to(x.dtype).unsqueeze(1)
        places = torch.maximum(places, torch.zeros((), dtype=torch.int64))
        w_up, b_up, w_down = (  # as (E, ...): one product for all experts
            each.index_select(0, places).unflatten(0, seats.shape) for each in (w_up, b_up, w_down.T)
        )
        asking = x.index_select(0, rows.flatten()).unflatten(0, rows.shape)  # (E, N, D)
        hidden = act(asking @ w_up.transpose(1, 2) + b_up.unsqueeze(1))  # (E, N, W)
        if xi is not None:
            factor = xi.expand(n_windows, -1).index_select(1, places).unflatten(1, seats.shape)  # (B, E, W)
            hidden = (hidden.unflatten(1, (n_windows, -1)) * factor.transpose(0, 1).unsqueeze(2)).flatten(
                1, 2
            )
        taken = worth.T.gather(1, rows)  # (E, N), 0 where a token did not choose the expert
        if select and select.watch:
            select.watch(self.block.name, *_side_by_side(hidden, taken, seats))
        said = hidden @ (w_down * there.unflatten(0, seats.shape)) + bias.unsqueeze(1)  # (E, N, D)
        said = said * taken.unsqueeze(2)
        return torch.zeros_like(x).index_add(0, rows.flatten(), said.flatten(0, 1))

    def _tokens_taken(self, wish: Tensor, n_windows: int) -> Tensor:
        """Rows of the tokens that each expert computes, window by window, `(E, B * places)`."""
        wish = wish.unflatten(0, (n_windows, -1)).permute(2, 0, 1)  # (E, B, L)
        length = wish.shape[2]
        n_places = self.block.places(length, wish.shape[0])
        first = length * torch.arange(n_windows, device=wish.device).unsqueeze(1)
        return (wish.topk(n_places, -1).indices + first).flatten(1)


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function behind "gelu" or "relu"."""
    return F.relu if name == "relu" else F.gelu


def _side_by_side(hidden: Tensor, taken: Tensor, seats: Tensor) -> tuple[Tensor, Tensor]:
    """What each expert computed, `(E, N, W)`, as rows over all channels, `(E * N, F)` and `(E * N, E)`."""
    n_experts, length = taken.shape
    rows = hidden.new_zeros(n_experts, length, int((seats >= 0).sum()))
    for expert, own in enumerate(seats):
        rows[expert][:, own[own >= 0]] = hidden[expert][:, own >= 0]
    return rows.flatten(0, 1), torch.block_diag(*taken.unsqueeze(2))


def _gated(hidden: Tensor, xi: Tensor | None) -> Tensor:
    """Hidden units times `xi`, `(units,)` or one row per window, which all its tokens share."""
    if xi is None:
        return hidden
    if xi.ndim == 2:
        return (hidden.unflatten(0, (len(xi), -1)) * xi.unsqueeze(1)).flatten(0, 1)
    return hidden * xi
