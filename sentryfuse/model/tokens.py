"""Raw windows -> tokens: normalise, mark what was not measured, describe each patch.

Notation: B batch · T time steps · C channels · N patches · P samples per patch · D d_model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sentryfuse.graph.patch import (
    CLIP,
    LEAST_SPREAD,
    LOG_SCALE,
    LOG_SHIFT,
    POWER_FLOOR,
    SIZE_FLOOR,
    SUMMARY_CLIP,
)
from sentryfuse.graph.patch_sizes import PatchSizes
from sentryfuse.model.call import Call
from sentryfuse.planning.layout import Step
from sentryfuse.types import Modality

LEAST_WITHIN = 1e-4  # training deviations; below it, rounding of float32 would look like a signal
MEASURED_AT_ONCE = 256  # windows


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

    A patch is described by its (averaged) values in training units, the same standardised by the window
    itself, and its log power spectrum; the window by its mean, and by its range, last value, deviation,
    roughness, slope and mean spectrum in units of what varies inside training windows, each standardised by
    its own training median and quartiles. A static modality is one token. Where values may be missing, masks
    and counts take the place of spectra and roughness.

    Args:
        name: prefix of the weights.
        modality: the stream.
        d_model: token width `D`.
        tokens: patches aimed at.

    Source:
        Our choice: people differ in phase and offset, spectra do not, and small models find them late. Where
        a sensor has operating points, what matters is a hundredth of the training deviation.
    """

    fill: Tensor
    basis: Tensor
    slow_basis: Tensor
    ramp: Tensor
    within: Tensor
    summary_mean: Tensor
    summary_std: Tensor

    def __init__(self, name: str, modality: Modality, d_model: int, *, tokens: int) -> None:
        super().__init__()
        self.name, self.modality, self.d_model = name, modality, d_model
        self.sizes = sizes = PatchSizes(modality, tokens)
        self.normalise = Normalise(modality)
        self.register_buffer("fill", torch.from_numpy(sizes.fill), persistent=False)
        self.register_buffer("basis", torch.from_numpy(sizes.basis), persistent=False)
        self.register_buffer("slow_basis", torch.from_numpy(sizes.slow_basis), persistent=False)
        self.project = nn.Linear(sizes.per_patch, d_model)
        self.summarise: nn.Linear | None = None
        if modality.length > 1:
            self.register_buffer("ramp", torch.from_numpy(sizes.ramp), persistent=False)
            self.register_buffer("within", torch.ones(modality.n_channels))
            self.register_buffer("summary_mean", torch.zeros(sizes.summary))
            self.register_buffer("summary_std", torch.ones(sizes.summary))
            self.summarise = nn.Linear(sizes.summary, d_model)
        self.position = nn.Parameter(0.02 * torch.randn(sizes.n_tokens, d_model))

    def forward(self, x: Tensor, *, at: Call) -> Tensor:
        """Describe the windows; NaN only where the modality may miss values."""
        tokens, summary = self.describe(x)
        y = self.project(tokens.flatten(2).flatten(0, 1)).reshape(-1, self.sizes.n_patches, self.d_model)
        if self.summarise is not None:
            summary = ((summary - self.summary_mean) / self.summary_std).clamp(-SUMMARY_CLIP, SUMMARY_CLIP)
            y = torch.cat([y, self.summarise(summary).unsqueeze(1)], 1)
        return y + self.position

    @torch.no_grad()
    def measure(self, within: Tensor, windows: Tensor) -> None:
        """Set what statistics are standardised by; the normalisation is set already.

        Quartiles rather than moments: a few wild windows must not make the others look alike.

        Args:
            within: deviation inside training windows, `(C,)`, physical units; 0 for one that stands still.
            windows: training windows in which the sensor was present, `(n, T, C)`.
        """
        if self.modality.length == 1 or not len(windows):
            return
        share = within / self.normalise.std
        self.within.copy_(torch.where(share > 0, share.clamp(min=LEAST_WITHIN), 1.0))
        parts = [self.describe(x.to(within.device))[1] for x in windows.split(MEASURED_AT_ONCE)]
        found = torch.cat(parts).double()
        low, middle, high = torch.quantile(found, found.new_tensor([0.25, 0.5, 0.75]), dim=0)
        spread, whole = (high - low) / 1.349, found.std(0, correction=0)
        spread = torch.where(spread > 1e-3 * whole, spread, whole)
        self.summary_mean.copy_(middle)
        self.summary_std.copy_(torch.where(spread > 1e-6 * (1 + middle.abs()), spread, 1.0))

    def describe(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, C)` -> numbers of the patches, `(B, N, ...)`, and of the windows, `(B, numbers)`."""
        z, observed = self.normalise(x)
        if self.modality.length == 1:
            both = z if observed is None else torch.cat([z, observed], 1)
            return both.transpose(1, 2), both[:, :, 0]
        return self._whole(z) if observed is None else self._partial(z, observed)

    def _patches(self, z: Tensor) -> Tensor:
        """`(B, C, T)` -> `(B, C, N, P)`."""
        if self.sizes.patch * self.sizes.n_patches != self.modality.length:
            z = z.index_select(2, self.fill)
        return z.unflatten(2, (self.sizes.n_patches, self.sizes.patch))

    def _values(
        self, inner: Tensor, mean: Tensor, spread: Tensor, shares: Tensor | None = None
    ) -> list[Tensor]:
        """Values of patches in training units and standardised by the window, `(B, C, N, bins)` each.

        Args:
            inner: averages of what deviates from the window's mean, in units of what varies inside windows.
            mean: of the window, `(B, C, 1)`.
            spread: deviation of the window, in the same units, `(B, C)`.
            shares: how much of each average was measured.
        """
        middle = mean.unsqueeze(3) if shares is None else mean.unsqueeze(3) * shares
        own = inner / spread.clamp(min=LEAST_SPREAD)[..., None, None]
        return [inner * self.within[:, None, None] + middle, own.clamp(-CLIP, CLIP)]

    def _whole(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean = z.mean(2, keepdim=True)
        v = (z - mean) / self.within[:, None]
        spread = (v * v).mean(2).sqrt()
        described = self._patches(v) @ self.basis  # (B, C, N, bins + 2 frequencies)
        inner = described[..., : self.sizes.bins]
        parts = self._values(inner, mean, spread)
        rough = (v[:, :, 1:] - v[:, :, :-1]).abs().mean(2)
        slope = (v * self.ramp).sum(2)
        stats = [mean[:, :, 0], v.amax(2), v.amin(2), v[:, :, -1], slope, *map(_log_size, (spread, rough))]
        if self.sizes.frequencies:
            power = _power(described[..., self.sizes.bins :], self.sizes.frequencies)
            parts.append(_log(power))
            spectrum = power.mean(2)  # (B, C, frequencies)
            if self.sizes.slow:
                drift = inner.mean(-1) @ self.slow_basis  # (B, C, 2 slow)
                spectrum = torch.cat([spectrum, _power(drift, self.sizes.slow)], -1)
            stats.append(_log(spectrum).flatten(1))
        return torch.cat(parts, -1).transpose(1, 2), torch.cat(stats, 1)

    def _partial(self, z: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        count = observed.sum(2)  # (B, C)
        seen = (count > 0).to(z.dtype)
        some = count.clamp(min=1)
        mean = (z.sum(2) / some).unsqueeze(2)
        v = (z - mean) / self.within[:, None] * observed
        spread = ((v * v).sum(2) / some).sqrt()
        inner, shares = (self._patches(torch.cat([v, observed], 1)) @ self.basis).chunk(2, 1)
        parts = [*self._values(inner, mean, spread, shares), shares]
        length = z.shape[2]
        clock = torch.arange(1, length + 1, dtype=z.dtype, device=z.device) * observed  # (B, C, T)
        newest = clock.amax(2)
        last = (v * (clock == newest.unsqueeze(2))).sum(2) * seen
        slope = (v * self.ramp).sum(2)
        # where nothing was measured v is 0, between the largest and the smallest
        stats = [mean[:, :, 0], v.amax(2), v.amin(2), last, slope, _log_size(spread)]
        stats += [count / length, newest / length, seen]
        return torch.cat(parts, 1).transpose(1, 2), torch.cat(stats, 1)

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


def _log_size(size: Tensor) -> Tensor:
    """Logarithm of a deviation, finite for a window that stands still."""
    return torch.log(size + SIZE_FLOOR)


def _log(power: Tensor) -> Tensor:
    """Power on a scale of about -1..2, like the other features."""
    return LOG_SCALE * torch.log(power + POWER_FLOOR) + LOG_SHIFT
