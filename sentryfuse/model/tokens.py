"""Raw windows -> tokens: normalise, mark what was not measured, describe each patch.

Notation: B batch · T time steps · C channels · N patches · P samples per patch · D d_model.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sentryfuse.planning.layout import Step
from sentryfuse.types import Modality

CLIP = 10.0  # training standard deviations; a broken sensor must not blow up the rest
MAX_BINS = 16  # longest patches are averaged down to this many values, and frequencies, per channel
POWER_FLOOR = 1e-3  # keeps the logarithm of a silent frequency finite [training deviations squared]


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
        length, channels = modality.length, modality.n_channels
        patch = math.ceil(length / tokens)
        if patch > MAX_BINS:
            patch = math.ceil(patch / MAX_BINS) * MAX_BINS
        self.patch, self.n_patches = patch, math.ceil(length / patch)
        self.normalise = Normalise(modality)
        # the last sample is repeated to fill the last patch
        steps = np.minimum(np.arange(self.patch * self.n_patches), length - 1)
        self.register_buffer("fill", torch.from_numpy(steps), persistent=False)
        averages = _averages(patch)
        waves = _fourier(patch) if patch >= 8 and not modality.may_miss else np.empty((patch, 0))
        self.bins, self.frequencies = averages.shape[1], waves.shape[1] // 2
        basis = np.concatenate([averages, waves], 1).astype(np.float32)
        self.register_buffer("basis", torch.from_numpy(basis), persistent=False)
        # what changes from patch to patch: too slow for a spectrum of one patch
        slow_waves = _fourier(self.n_patches) if waves.size and self.n_patches >= 8 else np.empty((1, 0))
        self.slow = slow_waves.shape[1] // 2
        self.register_buffer("slow_basis", torch.from_numpy(slow_waves.astype(np.float32)), persistent=False)
        per_patch = 2 * self.bins if modality.may_miss else self.bins + self.frequencies
        summary = 8 if modality.may_miss else 4 + self.frequencies + self.slow
        self.project = nn.Linear(per_patch * channels, d_model)
        self.summarise = None if length == 1 else nn.Linear(summary * channels, d_model)
        self.position = nn.Parameter(0.02 * torch.randn(self.n_tokens, d_model))

    @property
    def n_tokens(self) -> int:
        """Tokens this modality contributes."""
        return self.n_patches + (0 if self.modality.length == 1 else 1)

    @property
    def signature(self) -> str:
        """Equal for embeddings that share one exported graph."""
        m = self.modality
        gaps = " gaps" if m.may_miss else ""
        return f"patch T{m.length} C{m.n_channels} P{self.patch} N{self.n_patches} D{self.d_model}{gaps}"

    def forward(self, x: Tensor) -> Tensor:
        """Describe the windows; NaN only where the modality may miss values."""
        z, observed = self.normalise(x)
        if observed is None:
            tokens, summary = self._describe(z)
        else:
            tokens, summary = self._describe_partial(z, observed)
        y = self.project(tokens.flatten(2).flatten(0, 1)).reshape(-1, self.n_patches, self.d_model)
        if self.summarise is not None:
            y = torch.cat([y, self.summarise(summary).unsqueeze(1)], 1)
        return y + self.position

    def _patches(self, z: Tensor) -> Tensor:
        """`(B, C, T)` -> `(B, C, N, P)`."""
        if self.patch * self.n_patches != self.modality.length:
            z = z.index_select(2, self.fill)
        return z.unflatten(2, (self.n_patches, self.patch))

    def _describe(self, z: Tensor) -> tuple[Tensor, Tensor]:
        described = self._patches(z) @ self.basis  # (B, C, N, bins + 2 frequencies)
        stats = [z.mean(2), z.amax(2), z.amin(2), z[:, :, -1]]  # (B, C) each
        if not self.frequencies:
            return described.transpose(1, 2), torch.cat(stats, 1)
        values = described[..., : self.bins]
        power = _power(described[..., self.bins :], self.frequencies)
        tokens = torch.cat([values, _log(power)], -1)
        spectrum = power.mean(2)  # (B, C, frequencies)
        if self.slow:
            drift = values.mean(-1) @ self.slow_basis  # (B, C, 2 slow)
            spectrum = torch.cat([spectrum, _power(drift, self.slow)], -1)
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
        marks = 2 if self.modality.may_miss else 1
        macs = self.n_patches * self.modality.n_channels * marks * self.basis.numel()
        macs += self.n_patches * self.project.weight.numel()
        macs += self.modality.n_channels * self.slow_basis.numel()
        macs += self.summarise.weight.numel() if self.summarise is not None else 0
        return Step(
            self.name,
            "embed",
            (f"window.{self.modality.name}",),
            f"tokens.{self.modality.name}",
            needs=(self.modality.name,),
            tokens=self.n_tokens,
            macs_fixed=macs,
            params_fixed=sum(p.numel() for p in self.parameters()),
        )


def _power(waves: Tensor, n: int) -> Tensor:
    """Cosine and sine parts -> power per frequency, `(..., 2 n)` -> `(..., n)`."""
    cosine, sine = waves[..., :n], waves[..., n:]
    return cosine * cosine + sine * sine


def _log(power: Tensor) -> Tensor:
    """Power on a scale of about -1..2, like the other features."""
    return 0.3 * torch.log(power + POWER_FLOOR) + 1.0


def _averages(length: int) -> NDArray[np.float64]:
    """Means over equal stretches of a patch, at most `MAX_BINS` of them, `(length, bins)`."""
    bins = min(length, MAX_BINS)
    return np.repeat(np.eye(bins), length // bins, axis=0) * (bins / length)


def _fourier(length: int) -> NDArray[np.float64]:
    """Windowed cosines and sines of up to `MAX_BINS` frequencies, closer where slow, `(length, 2 n)`."""
    top = length // 2
    bins = np.arange(1, top + 1)
    if top > MAX_BINS:
        bins = np.unique(np.round(np.geomspace(1, top, MAX_BINS)).astype(int))
    angle = 2 * np.pi * np.outer(np.arange(length), bins) / length
    window = np.hanning(length + 2)[1:-1, None]
    window = window / np.sqrt((window**2).sum())
    return np.concatenate([np.cos(angle) * window, np.sin(angle) * window], 1)
