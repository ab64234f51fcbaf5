"""Patch tokens of one sensor; the same computation as `sentryfuse.model.tokens`.

Notation: B windows · T steps · C channels · N patches · P samples of a patch · F frequencies.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.graph.kinds import Misfit, Site, emits
from sentryfuse.graph.patch_sizes import PatchSizes
from sentryfuse.graph.writer import LAST, Graph, Tokens
from sentryfuse.types import Modality

CLIP = 10.0  # training standard deviations; a broken sensor must not blow up the rest
MAX_PATCH = 1 << 16  # samples; the basis of a patch has as many rows
LOG_SCALE, LOG_SHIFT = 0.3, 1.0  # bring logarithms of powers to about -1..2, like the other features
POWER_FLOOR = 1e-3  # keeps the logarithm of a silent frequency finite [deviations inside windows, squared]
SIZE_FLOOR = 0.02  # the same for a deviation [deviations inside training windows]
LEAST_SPREAD = 0.05  # what a window is divided by at least [deviations inside training windows]
SUMMARY_CLIP = 6.0  # standardised statistics; a wild one must not blow up the rest
Array = NDArray[np.float32]


class Units(NamedTuple):
    """Names of constants of what varies inside training windows [training deviations].

    Attributes:
        within: one over it, `(C, 1)`; of windows without gaps over the root of the length, too.
        back: itself, `(C, 1, 1)`.
    """

    within: str
    back: str


class Scale(NamedTuple):
    """What statistics are standardised by, `(numbers,)` each.

    Attributes:
        mean: subtracted.
        std: divided by.
    """

    mean: Array
    std: Array


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

    stats = ""
    if m.length == 1:
        described = graph.op("Concat", z, observed, axis=1) if observed else z
    else:
        within = [site.measured("within", m.n_channels)[:, None] for site in sites]
        if not min(value.min() for value in within) > 0:
            raise Misfit(f"holds sizes that are not positive in {sites[0].step.name}.within")
        root = 1.0 if observed else np.float32(np.sqrt(m.length))  # as `_whole` has it
        units = Units(
            each(1 / (value * root) for value in within), each(value[..., None] for value in within)
        )
        described, stats = (
            _partial(graph, sizes, z, observed, units) if observed else _whole(graph, sizes, z, units)
        )
    weights = [site.weight("project.weight", d, sizes.per_patch) for site in sites]
    fixed = [site.weight("project.bias", d)[None] for site in sites]
    if sizes.frequencies:
        weights, shifts = _of_logarithms(weights, m.n_channels, sizes)
        fixed = [bias + shift for bias, shift in zip(fixed, shifts, strict=True)]
    y = product(_patches_first(graph, described, sizes), sizes.n_patches, weights)
    position = [site.weight("position", sizes.n_tokens, d) for site in sites]
    if stats:
        scales, orders = zip(*(_of_statistics(site, sizes) for site in sites), strict=True)
        stats = graph.op(
            "Mul", graph.op("Sub", stats, each(s.mean for s in scales)), each(1 / s.std for s in scales)
        )
        stats = graph.op("Clip", stats, graph.hold(-SUMMARY_CLIP), graph.hold(SUMMARY_CLIP))
        own = [
            site.weight("summarise.weight", d, sizes.summary)[:, order]
            for site, order in zip(sites, orders, strict=True)
        ]
        own_bias = [site.weight("summarise.bias", d)[None] for site in sites]
        y = graph.op("Concat", y, product(stats, 1, own), axis=1)
        fixed = [
            np.concatenate([np.repeat(bias, sizes.n_patches, 0), last])
            for bias, last in zip(fixed, own_bias, strict=True)
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


def _patches_first(graph: Graph, described: str, sizes: PatchSizes) -> str:
    """`(B, C, N, numbers)` -> `(B, N, C, numbers)`, or as it is where those lie alike."""
    m = sizes.modality
    turns = m.length > 1 and sizes.n_patches > 1 and m.n_channels * (1 + m.may_miss) > 1
    return graph.turn(described, 0, 2, 1, 3) if turns else described


def _patches(graph: Graph, sizes: PatchSizes, z: str, basis: Array) -> str:
    """`(B, C, T)` -> what each patch is described by, `(B, C, N, bins + 2 F)`."""
    if sizes.patch * sizes.n_patches != sizes.modality.length:
        last = graph.cut(z, 2, -1, LAST)
        z = graph.op("Concat", z, *[last] * (sizes.patch * sizes.n_patches - sizes.modality.length), axis=2)
    channels = sizes.modality.n_channels * (1 + sizes.modality.may_miss)
    return graph.op("MatMul", graph.reshape(z, -1, channels, sizes.n_patches, sizes.patch), graph.hold(basis))


def _pairs(before: int, n: int) -> Array:
    """Adds up cosine and sine of each of `n` frequencies, `(before + 2 n, n)`."""
    return np.concatenate([np.zeros((before, n)), np.eye(n), np.eye(n)]).astype(np.float32)


def _power(graph: Graph, described: str, bins: int, n: int) -> str:
    """Power of each frequency of each patch, `(B, C, N, F)`."""
    return graph.op("MatMul", graph.op("Mul", described, described), graph.hold(_pairs(bins, n)))


def _log(graph: Graph, power: str, floor: float = POWER_FLOOR) -> str:
    """Logarithm; `LOG_SCALE` of that of a power and `LOG_SHIFT` more are in the weights that follow."""
    return graph.op("Log", graph.op("Add", power, graph.hold(floor)))


def _of_logarithms(
    weights: Sequence[Array], channels: int, sizes: PatchSizes
) -> tuple[list[Array], list[Array]]:
    """Weights and biases of a patch whose logarithms of power are written as they are."""
    made, shifts = [], []
    for weight in weights:
        of_channel = weight.reshape(len(weight), channels, -1).copy()
        logarithms = of_channel[..., 2 * sizes.bins :]
        shifts.append(LOG_SHIFT * logarithms.sum((1, 2))[None])
        logarithms *= LOG_SCALE
        made.append(of_channel.reshape(len(weight), -1))
    return made, shifts


def _of_statistics(site: Site, sizes: PatchSizes) -> tuple[Scale, NDArray[np.intp]]:
    """What the statistics are standardised by as they are written, and which number is where.

    A channel's statistics are written side by side; some in another unit, of which the scale takes account:
    logarithms of powers as they are and, of whole windows, all but the mean and deviation in
    `1 / sqrt(T)` of what varies inside training windows (`_whole`).
    """
    m, length = _modality(site), sizes.modality.length
    mean, std = (site.measured(f"summary_{kind}", sizes.summary).copy() for kind in ("mean", "std"))
    if not std.min() > 0:
        raise Misfit(f"holds deviations that are not positive in {site.step.name}.summary_std")
    channels, spectra = m.n_channels, sizes.frequencies + sizes.slow
    single = sizes.summary // channels - spectra  # statistics of one number per channel
    if spectra:
        first = single * channels
        mean[first:] = (mean[first:] - LOG_SHIFT) / LOG_SCALE
        std[first:] /= LOG_SCALE
    if not m.may_miss:
        inside = slice(channels, 5 * channels)  # largest, smallest, last, slope
        mean[inside] /= np.sqrt(length)
        std[inside] /= np.sqrt(length)
        mean[6 * channels : 7 * channels] += np.log((length - 1) / np.sqrt(length))
    places = np.arange(channels)[:, None]
    order = np.concatenate(
        [
            np.arange(single) * channels + places,
            single * channels + places * spectra + np.arange(spectra),
        ],
        1,
    ).ravel()
    return Scale(mean[order], std[order]), order


def _values(graph: Graph, inner: str, mean: str, spread: str, units: Units, shares: str = "") -> list[str]:
    """Values of patches in training units and standardised by the window, `(B, C, N, bins)` each."""
    middle = graph.op("Unsqueeze", mean, graph.ints(3))
    if shares:
        middle = graph.op("Mul", middle, shares)
    spread = graph.op("Unsqueeze", graph.op("Max", spread, graph.hold(LEAST_SPREAD)), graph.ints(3))
    own = graph.op("Clip", graph.op("Div", inner, spread), graph.hold(-CLIP), graph.hold(CLIP))
    return [graph.op("Add", graph.op("Mul", inner, units.back), middle), own]


def _flat(graph: Graph, sizes: PatchSizes, *values: str) -> str:
    """Statistics `(B, C, numbers)` side by side, `(B, all numbers)`, those of a channel together."""
    return graph.reshape(graph.op("Concat", *values, axis=2), -1, sizes.summary)


def _whole(graph: Graph, sizes: PatchSizes, z: str, units: Units) -> tuple[str, str]:
    """Patches `(B, C, N, numbers)` and statistics `(B, numbers)` of windows without gaps.

    Inside, values are divided by the root of the length, so that the deviation is the root of a sum of
    squares; the basis, and the scale of the statistics, take it back.
    """
    bins, frequencies, slow, length = sizes.bins, sizes.frequencies, sizes.slow, sizes.modality.length
    mean = graph.reduce("Mean", z, 2, keep=1)
    v = graph.op("Mul", graph.op("Sub", z, mean), units.within)
    spread = graph.reduce("L2", v, 2, keep=1)
    described = _patches(graph, sizes, v, sizes.basis * np.float32(np.sqrt(length)))
    inner = graph.cut(described, 3, 0, bins) if frequencies else described
    parts = _values(graph, inner, mean, spread, units)
    steps = graph.op("Sub", graph.cut(v, 2, 1, LAST), graph.cut(v, 2, 0, length - 1))
    sums = graph.op("MatMul", v, graph.hold(sizes.last_and_slope))
    logarithms = [spread, graph.reduce("L1", steps, 2, keep=1)]
    floors = [SIZE_FLOOR, SIZE_FLOOR * (length - 1) / np.sqrt(length)]
    if frequencies:
        power = _power(graph, described, bins, frequencies)
        parts.append(_log(graph, power))
        logarithms.append(graph.reduce("Mean", power, 2))  # (B, C, F)
        if slow:
            waves = graph.op("MatMul", graph.reduce("Mean", inner, 3), graph.hold(sizes.slow_basis))
            logarithms.append(_power(graph, waves, 0, slow))
        floors += [POWER_FLOOR] * (frequencies + slow)
    logs = graph.op("Add", graph.op("Concat", *logarithms, axis=2), graph.hold(floors))
    extremes = [graph.reduce(kind, v, 2, keep=1) for kind in ("Max", "Min")]
    stats = _flat(graph, sizes, mean, *extremes, sums, graph.op("Log", logs))
    return graph.op("Concat", *parts, axis=3), stats


def _partial(graph: Graph, sizes: PatchSizes, z: str, observed: str, units: Units) -> tuple[str, str]:
    """Patches `(B, 3 C, N, bins)` and statistics `(B, numbers)` over what was measured."""
    length, channels = sizes.modality.length, sizes.modality.n_channels
    count = graph.reduce("Sum", observed, 2, keep=1)
    some = graph.op("Max", count, graph.hold(1.0))
    seen = graph.op("Cast", graph.op("Greater", count, graph.hold(0.0)), to=1)
    mean = graph.op("Div", graph.reduce("Sum", z, 2, keep=1), some)
    v = graph.op("Mul", graph.op("Mul", graph.op("Sub", z, mean), units.within), observed)
    squares = graph.reduce("Sum", graph.op("Mul", v, v), 2, keep=1)
    spread = graph.op("Sqrt", graph.op("Div", squares, some))
    both = _patches(graph, sizes, graph.op("Concat", v, observed, axis=1), sizes.basis)
    inner, shares = graph.split(both, 1, [channels, channels])
    parts = [*_values(graph, inner, mean, spread, units, shares), shares]
    clock = graph.op("Mul", observed, graph.hold(np.arange(1, length + 1)))
    newest = graph.reduce("Max", clock, 2, keep=1)
    there = graph.op("Cast", graph.op("Equal", clock, newest), to=1)
    last = graph.op("Mul", graph.reduce("Sum", graph.op("Mul", v, there), 2, keep=1), seen)
    shared = [graph.op("Div", value, graph.hold(float(length))) for value in (count, newest)]
    extremes = [graph.reduce(kind, v, 2, keep=1) for kind in ("Max", "Min")]
    slope = graph.reduce("Sum", graph.op("Mul", v, graph.hold(sizes.ramp)), 2, keep=1)
    stats = [mean, *extremes, last, slope, _log(graph, spread, SIZE_FLOOR), *shared, seen]
    return graph.op("Concat", *parts, axis=1), _flat(graph, sizes, *stats)
