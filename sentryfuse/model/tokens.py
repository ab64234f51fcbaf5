"""Raw windows -> tokens: normalise, mark what was not measured, describe each patch.

Notation: B batch · T time steps · C channels · N patches · P samples per patch · D d_model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sentryfuse.graph.patch import CLIP, LOG_SCALE, LOG_SHIFT, POWER_FLOOR, PatchSizes
from sentryfuse.model.call import Call
from sentryfuse.planning.layout import Step
from sentryfuse.types import Modality


class Normalise(nn.Module):
    """Subtract the training mean, divide by the training deviation, clip; `(B, T, C)` -> `(B, C, T)`.

    Values that were not measured (NaN) become 0, the mean, and are told apart by `observed`.
    """

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.may_miss = modality.may_miss
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(modality.n_channels))
        self.register_buffer("std", torch.ones(modality.n_channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return normalised values and, where values may miss, a 0/1 mask of the same shape."""
        # time last: the engines work along the last axis, and three channels are a poor one
        x = x.transpose(1, 2)
        z = ((x - self.mean[:, None]) / self.std[:, None]).clamp(-CLIP, CLIP)
        if not self.may_miss:
            return z, None
        observed = ~torch.isnan(x)
        return torch.where(observed, z, 0.0), observed.to(z.dtype)


class PatchTokens(nn.Module):
    """One token per patch and one for the whole window; `(B, T, C)` -> `(B, N + 1, D)`.

    A patch is described by its (averaged) values and its log power spectrum, the window by its mean,
    range, last value and mean spectrum. A static modality is one token. Where values may be missing, masks
    take the place of spectra.

    Args:
        name: prefix of the weights.
        modality: the stream.
        d_model: token width `D`.
        tokens: patches aimed at.

    Source:
        Our choice: people differ in phase and offset, spectra do not, and small models find them late.
    """

    fill: Tensor
    basis: Tensor
    slow_basis: Tensor

    def __init__(self, name: str, modality: Modality, d_model: int, *, tokens: int) -> None:
        super().__init__()
        self.name, self.modality, self.d_model = name, modality, d_model
        self.sizes = sizes = PatchSizes(modality, tokens)
        self.normalise = Normalise(modality)
        self.register_buffer("fill", torch.from_numpy(sizes.fill), persistent=False)
        self.register_buffer("basis", torch.from_numpy(sizes.basis), persistent=False)
        self.register_buffer("slow_basis", torch.from_numpy(sizes.slow_basis), persistent=False)
        self.project = nn.Linear(sizes.per_patch, d_model)
        self.summarise = None if modality.length == 1 else nn.Linear(sizes.summary, d_model)
        self.position = nn.Parameter(0.02 * torch.randn(sizes.n_tokens, d_model))

    def forward(self, x: Tensor, *, at: Call) -> Tensor:
        """Describe the windows; NaN only where the modality may miss values."""
        z, observed = self.normalise(x)
        if observed is None:
            tokens, summary = self._describe(z)
        else:
            tokens, summary = self._describe_partial(z, observed)
        y = self.project(tokens.flatten(2).flatten(0, 1)).reshape(-1, self.sizes.n_patches, self.d_model)
        if self.summarise is not None:
            y = torch.cat([y, self.summarise(summary).unsqueeze(1)], 1)
        return y + self.position

    def _patches(self, z: Tensor) -> Tensor:
        """`(B, C, T)` -> `(B, C, N, P)`."""
        if self.sizes.patch * self.sizes.n_patches != self.modality.length:
            z = z.index_select(2, self.fill)
        return z.unflatten(2, (self.sizes.n_patches, self.sizes.patch))

    def _describe(self, z: Tensor) -> tuple[Tensor, Tensor]:
        described = self._patches(z) @ self.basis  # (B, C, N, bins + 2 frequencies)
        stats = [z.mean(2), z.amax(2), z.amin(2), z[:, :, -1]]  # (B, C) each
        if not self.sizes.frequencies:
            return described.transpose(1, 2), torch.cat(stats, 1)
        values = described[..., : self.sizes.bins]
        power = _power(described[..., self.sizes.bins :], self.sizes.frequencies)
        tokens = torch.cat([values, _log(power)], -1)
        spectrum = power.mean(2)  # (B, C, frequencies)
        if self.sizes.slow:
            drift = values.mean(-1) @ self.slow_basis  # (B, C, 2 slow)
            spectrum = torch.cat([spectrum, _power(drift, self.sizes.slow)], -1)
        stats.append(_log(spectrum).flatten(1))
        return tokens.transpose(1, 2), torch.cat(stats, 1)

    def _describe_partial(self, z: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([z, observed], 1)
        values = self._patches(both) @ self.basis
        count = observed.sum(2)  # (B, C)
        seen = (count > 0).to(z.dtype)
        some = count.clamp(min=1)
        mean = z.sum(2) / some
        hidden = 2 * CLIP * (1 - observed)
        top, bottom = (z - hidden).amax(2) * seen, (z + hidden).amin(2) * seen
        length = z.shape[2]
        clock = torch.arange(1, length + 1, dtype=z.dtype, device=z.device) * observed  # (B, C, T)
        newest = clock.amax(2)
        last = (z * (clock == newest.unsqueeze(2))).sum(2) * seen
        spread = (((z - mean.unsqueeze(2)) * observed) ** 2).sum(2) / some
        stats = [mean, top, bottom, last, spread.sqrt(), count / length, newest / length, seen]
        return values.transpose(1, 2), torch.cat(stats, 1)

    def step(self) -> Step:
        """This embedding as a step of a layout."""
        return Step(
            self.name,
            "patch",
            (f"window.{self.modality.name}",),
            f"tokens.{self.modality.name}",
            needs=(self.modality.name,),
            tokens=self.sizes.n_tokens,
            options={"tokens": self.sizes.tokens},
            macs_fixed=self.sizes.macs(self.d_model),
            params_fixed=sum(p.numel() for p in self.parameters()),
        )


def _power(waves: Tensor, n: int) -> Tensor:
    """Cosine and sine parts -> power per frequency, `(..., 2 n)` -> `(..., n)`."""
    cosine, sine = waves[..., :n], waves[..., n:]
    return cosine * cosine + sine * sine


def _log(power: Tensor) -> Tensor:
    """Power on a scale of about -1..2, like the other features."""
    return LOG_SCALE * torch.log(power + POWER_FLOOR) + LOG_SHIFT
