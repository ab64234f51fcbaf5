"""Patch tokens of one sensor; the same computation as `sentryfuse.model.tokens`, and the sizes of both.

Notation: B windows · T steps · C channels · N patches · P samples of a patch · F frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.graph.kinds import Misfit, Site, emits
from sentryfuse.graph.writer import LAST, Graph, Tokens
from sentryfuse.types import Modality

CLIP = 10.0  # training standard deviations; a broken sensor must not blow up the rest
MAX_BINS = 16  # longest patches are averaged down to this many values, and frequencies, per channel
MAX_PATCH = 1 << 16  # samples; the basis of a patch has as many rows
LOG_SCALE, LOG_SHIFT = 0.3, 1.0  # bring logarithms of powers to about -1..2, like the other features
POWER_FLOOR = 1e-3  # keeps the logarithm of a silent frequency finite [training deviations squared]
Array = NDArray[np.float32]
Order = Callable[[Sequence[Array]], tuple[list[Array], list[Array]]]


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
    def per_patch(self) -> int:
        """Numbers that describe a patch, all channels."""
        of_channel: int = 2 * self.bins if self.modality.may_miss else self.bins + self.frequencies
        return of_channel * self.modality.n_channels

    @property
    def summary(self) -> int:
        """Numbers that describe the window, all channels."""
        of_channel: int = 8 if self.modality.may_miss else 4 + self.frequencies + self.slow
        return of_channel * self.modality.n_channels

    def macs(self, d_model: int) -> int:
        """Multiply-accumulates of one window [MAC], as the graph executes them."""
        channels, n = self.modality.n_channels, self.n_patches
        macs = n * channels * (1 + self.modality.may_miss) * self.basis.size + n * d_model * self.per_patch
        if self.modality.length > 1:
            macs += channels * self.slow_basis.size + d_model * self.summary
        return macs + self.padding_macs(d_model)

    def padding_macs(self, d_model: int) -> int:
        """Those among them that multiply by zeros and ones: sums and slices that are quicker as products."""
        pairs = int(self.basis.shape[1]) * self.frequencies + d_model * 2 * self.frequencies
        return self.modality.n_channels * (self.n_patches * pairs + 2 * self.slow**2)


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


def alike(site: Site) -> Hashable:
    """Sensors whose windows are cut alike are described together."""
    m = _modality(site)
    return m.length, m.n_channels, m.may_miss, site.step.options.get("tokens"), site.step.tokens


def together(graph: Graph, sites: Sequence[Site], reads: Sequence[Sequence[Any]]) -> Sequence[Tokens]:
    """Describe patches and windows of sensors that are cut alike, one after another in every value.

    Args:
        graph: to write into.
        sites: of the sensors, more than one only where the number of windows is known.
        reads: name of the windows of each, `(B, T, C)`.

    Returns:
        Tokens of each, `(B, N + 1, D)`.
    """
    d, n, batch = sites[0].d_model, len(sites), sites[0].batch or 1
    m = _modality(sites[0])
    sizes = PatchSizes(m, sites[0].size("tokens", MAX_PATCH))
    if sizes.n_tokens != sites[0].step.tokens or sizes.patch > MAX_PATCH:
        name, tokens = sites[0].step.name, sites[0].step.tokens
        raise Misfit(f"has a step {name} of {tokens} tokens that makes {sizes.n_tokens}")

    def each(values: Iterable[NDArray[Any]]) -> str:
        """A constant of every sensor's windows, `(n * B, ...)`; one sensor's holds for all of its windows."""
        held = np.stack([*values])
        return graph.hold(held if n == 1 else np.repeat(held, batch, 0))

    def product(x: str, rows: int, weights: Sequence[Array]) -> str:
        """`(n * B, rows, ...)` times a matrix of each sensor, `(D, numbers)` -> `(n * B, rows, D)`."""
        size = weights[0].shape[1]
        if n == 1:
            y = graph.op("Gemm", graph.reshape(x, -1, size), graph.hold(weights[0]), transB=1)
        else:
            matrices = graph.hold(np.stack([weight.T for weight in weights]))
            y = graph.op("MatMul", graph.reshape(x, n, batch * rows, size), matrices)
        return graph.reshape(y, -1, rows, d)

    for site in sites:
        site.multiplies(fixed=sizes.macs(d))
    mean = [site.measured("normalise.mean", m.n_channels)[:, None] for site in sites]
    std = [site.measured("normalise.std", m.n_channels)[:, None] for site in sites]
    if not min(value.min() for value in std) > 0:
        raise Misfit(f"holds deviations that are not positive in {sites[0].step.name}.normalise.std")
    x = reads[0][0] if n == 1 else graph.op("Concat", *(read[0] for read in reads), axis=0)
    x = _channels_first(graph, x, m, m.length)
    z = graph.op("Mul", graph.op("Sub", x, each(mean)), each(1 / value for value in std))
    z = graph.op("Clip", z, graph.hold(-CLIP), graph.hold(CLIP))
    observed = ""
    if m.may_miss:
        gone = graph.op("IsNaN", x)
        z = graph.op("Where", gone, graph.hold(0.0), z)
        observed = graph.op("Cast", graph.op("Not", gone), to=1)

    described = _patches(graph, sizes, graph.op("Concat", z, observed, axis=1) if observed else z)
    values, power = described, ""
    weights = [site.weight("project.weight", d, sizes.per_patch) for site in sites]
    fixed = [site.weight("project.bias", d)[None] for site in sites]
    if sizes.frequencies:
        power = _power(graph, described, sizes.bins, sizes.frequencies)
        described = graph.op("Concat", described, _log(graph, power), axis=3)
        weights, shifts = _of_logarithms(weights, m.n_channels, sizes)
        fixed = [bias + shift for bias, shift in zip(fixed, shifts, strict=True)]
    y = product(_patches_first(graph, described, m, sizes.n_patches), sizes.n_patches, weights)
    position = [site.weight("position", sizes.n_tokens, d) for site in sites]
    if m.length > 1:
        stats, order = (
            _partial(graph, z, observed, m.length) if observed else _whole(graph, sizes, z, values, power)
        )
        own = [site.weight("summarise.weight", d, sizes.summary) for site in sites]
        own_bias = [site.weight("summarise.bias", d)[None] for site in sites]
        own, shifts = order(own)
        y = graph.op("Concat", y, product(stats, 1, own), axis=1)
        fixed = [
            np.concatenate([np.repeat(bias, sizes.n_patches, 0), last + shift])
            for bias, last, shift in zip(fixed, own_bias, shifts, strict=True)
        ]
    y = graph.op("Add", y, each(a + b for a, b in zip(position, fixed, strict=True)))
    if n == 1:
        return [Tokens(sizes.n_tokens, full=y)]
    rows = batch * sizes.n_tokens
    return [Tokens(sizes.n_tokens, flat=name) for name in graph.split(graph.reshape(y, -1, d), 0, [rows] * n)]


@emits("patch", together=together, alike=alike)
def patch(graph: Graph, site: Site, x: str) -> Tokens:
    """Describe the patches and the window of one sensor."""
    return together(graph, [site], [[x]])[0]


def _modality(site: Site) -> Modality:
    if site.modality is None:
        raise Misfit(f"has a step {site.step.name} ({site.step.op}) that reads no window")
    return site.modality


def _channels_first(graph: Graph, x: str, m: Modality, rows: int) -> str:
    """`(B, rows, C)` -> `(B, C, rows)`: the engine is quick along a last axis that is long."""
    return graph.turn(x, 0, 2, 1) if m.n_channels > 1 else graph.reshape(x, -1, 1, rows)


def _patches_first(graph: Graph, described: str, m: Modality, n_patches: int) -> str:
    """`(B, C, N, numbers)` -> `(B, N, C, numbers)`, or as it is where those lie alike."""
    channels = m.n_channels * (1 + m.may_miss)
    return graph.turn(described, 0, 2, 1, 3) if channels > 1 and n_patches > 1 else described


def _patches(graph: Graph, sizes: PatchSizes, z: str) -> str:
    """`(B, C, T)` -> what each patch is described by, `(B, C, N, bins + 2 F)`."""
    if sizes.patch * sizes.n_patches != sizes.modality.length:
        z = graph.op("Gather", z, graph.hold(sizes.fill, np.int64), axis=2)
    channels = sizes.modality.n_channels * (1 + sizes.modality.may_miss)
    return graph.op(
        "MatMul", graph.reshape(z, -1, channels, sizes.n_patches, sizes.patch), graph.hold(sizes.basis)
    )


def _pairs(before: int, n: int) -> Array:
    """Adds up cosine and sine of each of `n` frequencies, `(before + 2 n, n)`."""
    return np.concatenate([np.zeros((before, n)), np.eye(n), np.eye(n)]).astype(np.float32)


def _power(graph: Graph, described: str, bins: int, n: int) -> str:
    """Power of each frequency of each patch, `(B, N, C, F)`."""
    return graph.op("MatMul", graph.op("Mul", described, described), graph.hold(_pairs(bins, n)))


def _log(graph: Graph, power: str) -> str:
    """Logarithm of a power; `LOG_SCALE` of it and `LOG_SHIFT` more are in the weights that follow."""
    return graph.op("Log", graph.op("Add", power, graph.hold(POWER_FLOOR)))


def _of_logarithms(
    weights: Sequence[Array], channels: int, sizes: PatchSizes
) -> tuple[list[Array], list[Array]]:
    """Weights of a patch as it is described here: waves, which count nothing, stand before their powers."""
    waves = np.zeros((len(weights[0]), channels, 2 * sizes.frequencies), np.float32)
    made, shifts = [], []
    for weight in weights:
        of_channel = weight.reshape(len(weight), channels, -1)
        values, logarithms = of_channel[..., : sizes.bins], of_channel[..., sizes.bins :]
        shifts.append(LOG_SHIFT * logarithms.sum((1, 2))[None])
        joint = np.concatenate([values, waves, LOG_SCALE * logarithms], 2)
        made.append(joint.reshape(len(weight), -1))
    return made, shifts


def _whole(graph: Graph, sizes: PatchSizes, z: str, values: str, power: str) -> tuple[str, Order]:
    """Statistics of windows without gaps, `(B, numbers)`, and how the weights of the summary fit them."""
    channels, frequencies, slow = sizes.modality.n_channels, sizes.frequencies, sizes.slow
    last = graph.op("Flatten", graph.cut(z, 2, -1, LAST), axis=1)
    stats = [*(graph.reduce(kind, z, 2) for kind in ("Mean", "Max", "Min")), last]
    if frequencies:
        powers = graph.reduce("Mean", power, 2)  # (B, C, F)
        if slow:
            means = graph.reduce("Mean", graph.cut(values, 3, 0, sizes.bins), 3)  # (B, C, N)
            waves = graph.op("MatMul", means, graph.hold(sizes.slow_basis))
            powers = graph.op("Concat", powers, _power(graph, waves, 0, slow), axis=2)
        stats.append(graph.op("Flatten", _log(graph, powers), axis=1))

    def order(weights: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        made, shifts = [], []
        for weight in weights:
            values, logarithms = weight[:, : 4 * channels], weight[:, 4 * channels :]
            made.append(np.concatenate([values, LOG_SCALE * logarithms], 1))
            shifts.append(LOG_SHIFT * logarithms.sum(1)[None])
        return made, shifts

    return graph.op("Concat", *stats, axis=1), order


def _partial(graph: Graph, z: str, observed: str, length: int) -> tuple[str, Order]:
    """Statistics over what was measured, `(B, 8 C)`; the weights of the summary fit them as they are."""
    count = graph.reduce("Sum", observed, 2)
    some = graph.op("Max", count, graph.hold(1.0))
    seen = graph.op("Cast", graph.op("Greater", count, graph.hold(0.0)), to=1)
    mean = graph.op("Div", graph.reduce("Sum", z, 2), some)
    hidden = graph.op("Mul", graph.op("Sub", graph.hold(1.0), observed), graph.hold(2 * CLIP))
    top = graph.op("Mul", graph.reduce("Max", graph.op("Sub", z, hidden), 2), seen)
    bottom = graph.op("Mul", graph.reduce("Min", graph.op("Add", z, hidden), 2), seen)
    clock = graph.op("Mul", observed, graph.hold(np.arange(1, length + 1)))
    newest = graph.reduce("Max", clock, 2, keep=1)
    there = graph.op("Cast", graph.op("Equal", clock, newest), to=1)
    last = graph.op("Mul", graph.reduce("Sum", graph.op("Mul", z, there), 2), seen)
    gap = graph.op("Mul", graph.op("Sub", z, graph.op("Unsqueeze", mean, graph.ints(2))), observed)
    spread = graph.op("Sqrt", graph.op("Div", graph.reduce("Sum", graph.op("Mul", gap, gap), 2), some))
    shares = [
        graph.op("Div", value, graph.hold(float(length)))
        for value in (count, graph.op("Squeeze", newest, graph.ints(2)))
    ]

    def order(weights: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        return [*weights], [np.zeros((1, len(weights[0])), np.float32)] * len(weights)

    return graph.op("Concat", mean, top, bottom, last, spread, *shares, seen, axis=1), order
