"""Raw windows -> tokens: normalise, mark what was not measured, describe each patch.

Notation: B batch · T time steps · C channels · N patches · P samples per patch · D d_model.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from sentryfuse.layout import Step
from sentryfuse.types import Modality

CLIP = 10.0  # training standard deviations; a broken sensor must not blow up the rest
MAX_BINS = 16  # longest patches are averaged down to this many values per channel


class Normalise(nn.Module):
    """Subtract the training mean, divide by the training deviation, clip; `(B, T, C)` -> same.

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
        z = ((x - self.mean) / self.std).clamp(-CLIP, CLIP)
        if not self.may_miss:
            return z, None
        observed = ~torch.isnan(x)
        return torch.where(observed, z, 0.0), observed.to(z.dtype)


class PatchTokens(nn.Module):
    """One token per patch and one for the whole window; `(B, T, C)` -> `(B, N + 1, D)`.

    A patch is described by its (averaged) values and its log power spectrum, the window by its mean,
    range, last value and the two spectra that patches cannot see. A static modality is one token.

    Args:
        name: prefix of the weights.
        modality: the stream.
        d_model: token width `D`.
        tokens: patches aimed at.

    Source:
        Our choice: people differ in phase and offset, spectra do not, and small models find them late.
    """

    def __init__(self, name: str, modality: Modality, d_model: int, *, tokens: int) -> None:
        super().__init__()
        self.name, self.modality = name, modality
        length, channels = modality.length, modality.n_channels
        patch = math.ceil(length / tokens)
        if patch > MAX_BINS:
            patch = math.ceil(patch / MAX_BINS) * MAX_BINS
        self.patch, self.n_patches = patch, math.ceil(length / patch)
        self.bins = min(patch, MAX_BINS)
        self.spectrum = patch >= 8 and not modality.may_miss
        self.is_static = length == 1
        self.normalise = Normalise(modality)
        marks = 2 if modality.may_miss else 1
        # the last sample is repeated to fill the last patch
        steps = np.minimum(np.arange(self.patch * self.n_patches), length - 1)
        self.fill: Tensor
        self.register_buffer("fill", torch.from_numpy(steps), persistent=False)
        width = self.bins * marks
        summary = 4 * marks
        if self.spectrum:
            basis = _fourier(patch, n=16)
            self.register_buffer("basis", basis, persistent=False)
            width += basis.shape[1] // 2
            summary += basis.shape[1] // 2
        self.slow = self.n_patches >= 8 and not modality.may_miss
        if self.slow:
            slow = _fourier(self.n_patches, n=self.n_patches // 2)
            self.register_buffer("slow_basis", slow, persistent=False)
            summary += slow.shape[1] // 2
        self.project = nn.Linear(width * channels, d_model)
        self.summarise = None if self.is_static else nn.Linear(summary * channels, d_model)
        self.position = nn.Parameter(0.02 * torch.randn(self.n_tokens, d_model))

    @property
    def n_tokens(self) -> int:
        """Tokens this modality contributes."""
        return self.n_patches + (0 if self.is_static else 1)

    @property
    def signature(self) -> str:
        """Equal for embeddings that share one exported graph."""
        m, d_model = self.modality, self.project.out_features
        gaps = " gaps" if m.may_miss else ""
        return f"patch T{m.length} C{m.n_channels} P{self.patch} N{self.n_patches} D{d_model}{gaps}"

    def forward(self, x: Tensor) -> Tensor:
        """Describe the window; NaN only where the modality may miss values."""
        z, observed = self.normalise(x)
        if self.patch * self.n_patches != self.modality.length:
            z = z.index_select(1, self.fill)
            observed = None if observed is None else observed.index_select(1, self.fill)
        if observed is None:
            tokens, summary = self._describe(z)
        else:
            tokens, summary = self._describe_partial(z, observed)
        y = self.project(tokens.flatten(2))
        if self.summarise is not None:
            y = torch.cat([y, self.summarise(summary.flatten(1)).unsqueeze(1)], 1)
        return y + self.position

    def _patches(self, z: Tensor) -> Tensor:
        return z.unflatten(1, (self.n_patches, self.patch)).transpose(2, 3)  # (B, N, C, P)

    def _average(self, patches: Tensor) -> Tensor:
        if self.patch == self.bins:
            return patches
        return patches.unflatten(3, (self.bins, self.patch // self.bins)).mean(-1)

    def _describe(self, z: Tensor) -> tuple[Tensor, Tensor]:
        patches = self._patches(z)
        values = self._average(patches)
        parts = [values]
        summary = [torch.stack([z.mean(1), z.amax(1), z.amin(1), z[:, -1]], -1)]  # (B, C, 4)
        if self.spectrum:
            power = _power(patches, self.basis)  # type: ignore[arg-type]
            parts.append(_log(power))
            summary.append(_log(power.mean(1)))
        if self.slow:
            means = patches.mean(-1).transpose(1, 2)  # (B, C, N)
            summary.append(_log(_power(means, self.slow_basis)))  # type: ignore[arg-type]
        return torch.cat(parts, -1), torch.cat(summary, -1)

    def _describe_partial(self, z: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        values = torch.cat([self._average(self._patches(a)) for a in (z, observed)], -1)
        count = observed.sum(1)  # (B, C)
        seen = count > 0
        mean = z.sum(1) / count.clamp(min=1)
        top = torch.where(seen, (z - 2 * CLIP * (1 - observed)).amax(1), 0.0)
        bottom = torch.where(seen, (z + 2 * CLIP * (1 - observed)).amin(1), 0.0)
        clock = torch.arange(1, z.shape[1] + 1, dtype=z.dtype)[:, None] * observed  # (B, T, C)
        newest = clock.amax(1, keepdim=True)
        last = (z * ((clock == newest) & (observed > 0))).sum(1)
        spread = (((z - mean.unsqueeze(1)) * observed) ** 2).sum(1) / count.clamp(min=1)
        share = count / z.shape[1]
        stats = [mean, top, bottom, last, spread.sqrt(), share, newest[:, 0] / z.shape[1]]
        stats.append(seen.to(z.dtype))
        return values, torch.stack(stats, -1)

    def step(self) -> Step:
        """This embedding as a step of a layout."""
        channels = self.modality.n_channels
        macs = self.n_patches * self.project.in_features * self.project.out_features
        if self.summarise is not None:
            macs += self.summarise.in_features * self.summarise.out_features
        if self.spectrum:
            macs += self.n_patches * channels * self.basis.numel()  # type: ignore[operator, union-attr]
        if self.slow:
            macs += channels * self.slow_basis.numel()  # type: ignore[operator, union-attr]
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


def _fourier(length: int, *, n: int) -> Tensor:
    """Cosines and sines of up to `n` frequencies, close together where slow, `(length, 2 * n)`."""
    top = length // 2
    bins = np.unique(np.round(np.geomspace(1, top, n)).astype(int)) if n < top else np.arange(1, top + 1)
    angle = 2 * np.pi * np.outer(np.arange(length), bins) / length
    window = np.hanning(length + 2)[1:-1, None]
    both = np.concatenate([np.cos(angle), np.sin(angle)], 1) * window / np.sqrt((window**2).sum())
    return torch.from_numpy(both.astype(np.float32))


def _power(x: Tensor, basis: Tensor) -> Tensor:
    """Power at every frequency of the basis, `(..., P)` -> `(..., n)`."""
    waves = (x @ basis) ** 2
    return waves.unflatten(-1, (2, -1)).sum(-2)


def _log(power: Tensor) -> Tensor:
    """Compress power to about -2..2."""
    return torch.log(power + 1e-3) * 0.3 + 1.0
