"""Small encoders of somebody's own that use, together, every operator a device can write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

D = 16
Made = Callable[[int, int], nn.Module]  # steps and channels of the window -> module


class Turn(nn.Module):
    """`(B, T, C)` <-> `(B, C, T)`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Lambda(nn.Module):
    """A linear layer per step, then any function of `(B, T, D)`, then a linear layer."""

    def __init__(self, channels: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(channels, D), nn.Linear(D, D), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def per_step(function: Callable[[Tensor], Tensor]) -> Made:
    return lambda steps, channels: Lambda(channels, function)


def chain(*inner: Any) -> Made:
    """Layers on `(B, C, T)` that begin with a convolution to `D` channels."""
    return lambda steps, channels: nn.Sequential(
        Turn(), nn.Conv1d(channels, D, 5, padding=2), *(make() for make in inner), Turn()
    )


class Spectrogram(nn.Module):
    """2-D: channels as an image of `(8, T // 8)`; asymmetric sizes throughout."""

    def __init__(self, steps: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, (3, 2), stride=(1, 2), padding=(1, 0))
        self.norm, self.pool = nn.BatchNorm2d(8), nn.MaxPool2d((2, 1))
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.average, self.few = nn.AvgPool2d((2, 1)), nn.AdaptiveAvgPool2d((2, 3))
        self.last = nn.Linear(16, D)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        y = x[:, : t // 8 * 8].reshape(b, 8, -1, c).permute(0, 3, 1, 2)
        y = F.silu(self.norm(self.conv(y)))
        y = self.few(self.average(self.depth(self.pool(y))))
        return self.last(y.movedim(3, 1).flatten(2))


class Attends(nn.Module):
    """A vision-transformer-like one: patches by `unfold`, a class token, positions looked up, attention."""

    def __init__(self, steps: int, channels: int) -> None:
        super().__init__()
        self.patch = nn.Linear(8 * channels, D)
        self.cls = nn.Parameter(torch.randn(1, 1, D))
        self.position = nn.Embedding(99, D)
        self.layer = nn.TransformerEncoderLayer(D, 4, 24, dropout=0.1, batch_first=True, activation="gelu")
        self.mha = nn.MultiheadAttention(D, 2)  # steps first

    def forward(self, x: Tensor) -> Tensor:
        y = self.patch(x.unfold(1, 8, 4).flatten(2))
        y = torch.cat([self.cls.expand(y.shape[0], -1, -1), y], 1)
        y = self.layer(y + self.position(torch.arange(y.shape[1])))
        z = y.transpose(0, 1)
        return y + self.mha(z, z, z, need_weights=False)[0].transpose(0, 1)


class Causal(nn.Module):
    """Attention with a mask, written by hand and by torch."""

    def __init__(self, steps: int, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * D)
        self.register_buffer("mask", torch.ones(steps, steps).tril().bool())

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y + F.scaled_dot_product_attention(q, k, v, attn_mask=self.get_buffer("mask"), scale=0.5)
        logits = torch.matmul(q, k.mT) / D**0.5
        logits = logits.masked_fill(~self.get_buffer("mask"), float("-inf"))
        y = y + torch.bmm(logits.log_softmax(-1).exp(), v)
        return F.normalize(torch.where(self.get_buffer("mask")[-1, :, None], y, v), dim=-1)


class Temporal(nn.Module):
    """Convolutions that look back, their weights normed; halved, and doubled again; mixed by einsum."""

    def __init__(self, steps: int, channels: int) -> None:
        super().__init__()
        convs = [nn.Conv1d(channels, D, 3, padding=2), nn.Conv1d(D, D, 3, padding=4, dilation=2)]
        self.convs = nn.ModuleList(weight_norm(conv) for conv in convs)
        self.up = nn.Upsample(scale_factor=2)
        self.mix, self.steps = nn.Parameter(torch.randn(D, D) / 4), nn.Parameter(torch.randn(5, steps) / 8)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.convs[0](x.transpose(1, 2))[:, :, :-2])
        y = self.convs[1](y)[:, :, :-4]
        y = self.up(y[:, :, ::2])[:, :, : x.shape[1]]
        y = torch.einsum("bct,cd->btd", y, self.mix)
        own = self.steps + y[:, :5, :1]
        return torch.einsum("lt,btd->bld", self.steps, y) + torch.einsum("btc, blt -> blc", y, own)


class Residual(nn.Module):
    """A residual block with activations in place, as torchvision writes them."""

    def __init__(self, steps: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(channels, D, 7, stride=2, padding=3, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm1d(D) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv1d(D, D, 3, padding="same", bias=False) for _ in range(2))
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout1d(0.2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.transpose(1, 2))
        y = self.relu(self.norms[0](self.convs[0](x)))
        y = self.norms[1](self.convs[1](self.drop(y)))
        y += x
        return self.relu(y).transpose(1, 2)


class Whole(nn.Module):
    """One token of statistics over the window, by every reduction there is."""

    def __init__(self, steps: int, channels: int) -> None:
        super().__init__()
        self.last = nn.Linear(9 * channels, D)
        self.register_buffer("weight", torch.linspace(-1, 1, steps)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        parts = [x.mean(1), x.sum(dim=1) / 50, x.amax(1), x.amin(1), x.std(1), x.var(1, correction=0)]
        parts += [x.max(1)[0], x.min(1).values, (x * self.get_buffer("weight")).mean(1)]
        return self.last(torch.cat(parts, -1)).unsqueeze(1)


class Pads(nn.Module):
    """Padding of every kind, slices, repeats, zeros as many as there are windows."""

    def __init__(self, steps: int, channels: int) -> None:
        super().__init__()
        kinds: tuple[Any, ...] = ("zeros", "reflect", "replicate", "circular")
        self.convs = nn.ModuleList(nn.Conv1d(channels, D, 4, padding=3, padding_mode=kind) for kind in kinds)
        self.start = nn.Parameter(torch.randn(1, D))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.stack([conv(x.transpose(1, 2)) for conv in self.convs], 1).sum(1)
        y = F.pad(y, (2, -1), value=0.5)[:, :, 1::3].transpose(1, 2)
        first = torch.zeros(x.shape[0], 1, D) + self.start
        again = self.start.unsqueeze(0).repeat(x.shape[0], 2, 1)
        picked = y[:, torch.tensor([0, 2, 2])]
        return torch.cat([first, again, y.flip(1), picked, y[:, -1:], y.narrow(1, 0, 2)], 1)


ENCODERS: dict[str, Made] = {
    "linear": lambda steps, channels: nn.Linear(channels, D),
    "cnn": chain(lambda: nn.BatchNorm1d(D), nn.ReLU, lambda: nn.MaxPool1d(4), lambda: nn.Dropout(0.3)),
    "dilated": chain(lambda: nn.Conv1d(D, D, 3, stride=2, dilation=2, groups=4), nn.GELU),
    "even lengths": chain(lambda: nn.Conv1d(D, D, 4, padding="same"), nn.Tanh),
    "norms": chain(
        lambda: nn.GroupNorm(4, D), lambda: nn.InstanceNorm1d(D), lambda: nn.BatchNorm1d(D, affine=False)
    ),
    "norms of steps": per_step(
        lambda y: F.layer_norm(F.rms_norm(y, (D,)), (D,)) + F.layer_norm(y, (D,), torch.ones(D))
    ),
    "pooled": chain(
        lambda: nn.AvgPool1d(3, 2, padding=1),
        lambda: nn.AvgPool1d(3, 1, padding=1, count_include_pad=False),
        lambda: nn.MaxPool1d(3, 1, padding=1, dilation=1),
        lambda: nn.AdaptiveAvgPool1d(6),
        lambda: nn.AdaptiveMaxPool1d(3),
    ),
    "uneven pieces": chain(lambda: nn.AdaptiveAvgPool1d(5)),
    "activations": chain(
        nn.SiLU, nn.Mish, nn.SELU, nn.Softplus, lambda: nn.ELU(0.7), nn.LeakyReLU, nn.Hardswish, nn.Softsign
    ),
    "more activations": chain(
        nn.ReLU6, nn.Hardtanh, lambda: nn.PReLU(D), nn.Hardsigmoid, nn.Sigmoid, nn.LogSigmoid,
        lambda: nn.GELU("tanh"), lambda: nn.Softplus(2.0), nn.PReLU,
    ),
    "gated": chain(lambda: nn.Conv1d(D, 2 * D, 1), lambda: nn.GLU(1)),
    "softmax": per_step(lambda y: y.softmax(-1) * y.log_softmax(1)),
    "mathematics": per_step(
        lambda y: y.exp().clamp(max=5).log1p() + y.abs().sqrt() + y.sin() * y.cos() + torch.erf(y)
        + (1 + y**2).reciprocal() - (y.square() + 2) ** 1.5 / 9 + (y.abs() + 1).log() + (y * y + 1).rsqrt()
    ),
    "arithmetic": per_step(
        lambda y: 1 - y + 2 / (y * y + 1) + torch.maximum(y, -y) - torch.minimum(y, y / 3)
        + torch.add(y, y, alpha=2) + y.neg().clamp(-1, 1) - y.clamp_min(0.1) / (y.abs() + 1)
    ),
    "spectrogram": Spectrogram,
    "attends": Attends,
    "causal": Causal,
    "temporal": Temporal,
    "residual": Residual,
    "whole": Whole,
    "pads": Pads,
}  # fmt: skip


def encoder(name: str, steps: int, channels: int, *, seed: int = 0) -> nn.Module:
    """One of them, with random weights, statistics that are not the trivial ones, in eval mode."""
    torch.manual_seed(seed)
    module = ENCODERS[name](steps, channels)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:  # biases of 0 and norms of 1 would hide mistakes
                parameter.add_(0.1 * torch.randn_like(parameter))
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
    return module.eval()
