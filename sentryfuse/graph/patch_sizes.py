"""How a window is cut into patches and what describes them: the sizes of both, in torch and on the device.

Notation: T steps · C channels · N patches · P samples of a patch · F frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sentryfuse.types import Modality

MAX_BINS = 16  # longest patches are averaged down to this many values, and frequencies, per channel
Array = NDArray[np.float32]


@dataclass(frozen=True)
class PatchSizes:
    """How a window is cut into patches, and what each is described by.

    Attributes:
        modality: the stream.
        tokens: patches aimed at.
    """

    modality: Modality
    tokens: int

    @cached_property
    def patch(self) -> int:
        """Samples of a patch, `P`."""
        patch = math.ceil(self.modality.length / self.tokens)
        return math.ceil(patch / MAX_BINS) * MAX_BINS if patch > MAX_BINS else patch

    @cached_property
    def n_patches(self) -> int:
        """Patches, `N`; the last is filled up with the last sample."""
        return math.ceil(self.modality.length / self.patch)

    @property
    def n_tokens(self) -> int:
        """Tokens: one per patch, and one for the whole window of more than one step."""
        return self.n_patches + (0 if self.modality.length == 1 else 1)

    @property
    def fill(self) -> NDArray[np.int64]:
        """Which sample is where, `(N * P,)`."""
        return np.minimum(np.arange(self.patch * self.n_patches), self.modality.length - 1)

    @property
    def bins(self) -> int:
        """Averages of a patch."""
        return min(self.patch, MAX_BINS)

    @cached_property
    def frequencies(self) -> int:
        """Frequencies of a patch, `F`."""
        return (int(self.basis.shape[1]) - self.bins) // 2

    @cached_property
    def slow(self) -> int:
        """Frequencies of what changes from patch to patch: too slow for a spectrum of one patch."""
        return int(self.slow_basis.shape[1]) // 2

    @cached_property
    def basis(self) -> Array:
        """Averages, then windowed cosines and sines, `(P, bins + 2 F)`."""
        waves = (
            _fourier(self.patch)
            if self.patch >= 8 and not self.modality.may_miss
            else np.empty((self.patch, 0))
        )
        return np.concatenate([_averages(self.patch), waves], 1).astype(np.float32)

    @cached_property
    def slow_basis(self) -> Array:
        """Cosines and sines over the patches, `(N, 2 slow)`."""
        spectra = self.basis.shape[1] > self.bins and self.n_patches >= 8
        return (_fourier(self.n_patches) if spectra else np.empty((1, 0))).astype(np.float32)

    @property
    def ramp(self) -> Array:
        """Weights of the samples in the slope over a window, `(T,)`."""
        ramp = np.linspace(-1, 1, self.modality.length)
        weights: Array = (ramp / (ramp**2).sum()).astype(np.float32)
        return weights

    @property
    def last_and_slope(self) -> Array:
        """Weights of the samples in the last value and in the slope, `(T, 2)`."""
        last = np.zeros(self.modality.length, np.float32)
        last[-1] = 1
        return np.stack([last, self.ramp], 1)

    @property
    def per_patch(self) -> int:
        """Numbers that describe a patch, all channels."""
        if self.modality.length == 1:
            return self.modality.n_channels * (1 + self.modality.may_miss)
        of_channel: int = (3 if self.modality.may_miss else 2) * self.bins + self.frequencies
        return of_channel * self.modality.n_channels

    @property
    def summary(self) -> int:
        """Numbers that describe the window, all channels."""
        of_channel: int = 9 if self.modality.may_miss else 7 + self.frequencies + self.slow
        return of_channel * self.modality.n_channels

    def macs(self, d_model: int) -> int:
        """Multiply-accumulates of one window [MAC], as the graph executes them."""
        channels, n = self.modality.n_channels, self.n_patches
        macs = n * d_model * self.per_patch
        if self.modality.length > 1:
            macs += n * channels * (1 + self.modality.may_miss) * int(self.basis.size)
            macs += channels * int(self.slow_basis.size) + d_model * self.summary
        return macs + self.padding_macs

    @property
    def padding_macs(self) -> int:
        """Those among them that multiply by zeros and ones: sums and slices that are quicker as products."""
        pairs = int(self.basis.shape[1]) * self.frequencies
        sums = 0 if self.modality.may_miss or self.modality.length == 1 else 2 * self.modality.length
        return self.modality.n_channels * (self.n_patches * pairs + 2 * self.slow**2 + sums)


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
