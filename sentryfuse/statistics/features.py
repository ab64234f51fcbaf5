"""Features of raw windows, for sensors measured throughout, in part, or once.

Notation: N windows · T steps · C channels · F features.

Everything is done on the window minus its first measured value, so that a small signal on a large offset
keeps its digits in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.statistics.names import MANY_CHANNELS, OBSERVED, feature_names, n_bands, pairs_of
from sentryfuse.statistics.observed import LEAST, ROUNDING, observed
from sentryfuse.statistics.spectrum import log_bands
from sentryfuse.types import Modality

Floats = NDArray[np.float32]

_CHUNK = 1_500_000  # values in work at once
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


def features(modality: Modality, x: NDArray[Any]) -> Floats:
    """Statistics of windows of one sensor.

    Args:
        modality: the sensor; `may_miss` says that NaN means "not measured".
        x: `(N, T, C)`, physical units.

    Returns:
        `(N, F)`, named by `feature_names`; NaN where a feature cannot be told.

    Raises:
        ConfigError: windows of another shape.
    """
    expected = (modality.length, modality.n_channels)
    if x.ndim != 3 or x.shape[1:] != expected:
        raise ConfigError(
            f"{modality.name} got windows of shape {x.shape}; it has (windows, {expected[0]} steps, "
            f"{expected[1]} channels); give those"
        )
    out = np.empty((len(x), len(feature_names(modality))), dtype=np.float32)
    step = max(1, _CHUNK // (expected[0] * expected[1]))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for start in range(0, len(x), step):
            part = np.asarray(x[start : start + step], dtype=np.float32)
            out[start : start + step] = _of_chunk(modality, np.ascontiguousarray(part.transpose(0, 2, 1)))
    out[~np.isfinite(out)] = np.nan
    return out


def _of_chunk(modality: Modality, x: Floats) -> Floats:
    """`(N, C, T)` -> `(N, F)`."""
    if modality.length == 1:
        value = x[:, :, 0]
        return np.concatenate([value, np.isfinite(value)], axis=1) if modality.may_miss else value
    if modality.may_miss:
        columns, centred, spread, share = observed(x)
    else:
        columns, centred, spread = _complete(x)
        share = None
    if modality.n_channels > MANY_CHANNELS:
        columns = {k: v for k, v in columns.items() if k not in ("min", "max", "last")}
    order = [v for k, v in columns.items() if k not in OBSERVED] + [
        columns[k] for k in OBSERVED if k in columns
    ]
    unit = centred / spread[:, :, None]
    parts = order
    if n_bands(modality):
        bands, centroid = log_bands(unit, few=modality.n_channels > MANY_CHANNELS)
        bands = bands + 2 * np.log(spread)[:, :, None]
        if share is not None:  # a spectrum of mostly filled-in values is not one
            bands = np.where(share[:, :, None] > 0.5, bands, np.nan)
            centroid = np.where(share > 0.5, centroid, np.nan)
        parts = [*parts, *np.moveaxis(bands, -1, 0), centroid]
    pairs = pairs_of(modality)
    if pairs:
        first, second = np.array(pairs).T
        if modality.n_channels > MANY_CHANNELS:
            product = (unit[:, first] * unit[:, second]).mean(axis=-1)
        else:
            product = ((unit @ unit.transpose(0, 2, 1)) / modality.length)[:, first, second]
        if share is not None:
            product = np.where(np.minimum(share[:, first], share[:, second]) > 0.5, product, np.nan)
        parts = [*parts, product]
    return np.concatenate(parts, axis=1)


def _complete(x: Floats) -> tuple[dict[str, Floats], Floats, Floats]:
    """Statistics of windows without a gap, by name; the windows minus their mean; their spread, floored."""
    t = x.shape[-1]
    anchor = x[:, :, :1]
    z = x - anchor
    middle = z.mean(axis=-1, keepdims=True)
    mean = (anchor + middle)[:, :, 0]
    z -= middle
    deviation = np.sqrt((z * z).mean(axis=-1))
    spread = np.maximum(deviation, ROUNDING * np.abs(x).max(axis=-1) + LEAST)
    ordered = np.sort(z, axis=-1)
    quarter = []
    for share in _QUARTERS:
        place = share * (t - 1)
        low = int(place)
        rest = np.float32(place - low)
        quarter.append(ordered[:, :, low] * (1 - rest) + ordered[:, :, min(low + 1, t - 1)] * rest)
    step = np.diff(z, axis=-1)
    size = np.abs(step)
    ramp = np.linspace(-1, 1, t, dtype=np.float32)
    tail = max(1, round(t / 10))
    columns = {
        "mean": mean,
        "log_std": np.log(spread),
        "std": deviation,
        "min-m": quarter[0],
        "q25-m": quarter[1],
        "q50-m": quarter[2],
        "q75-m": quarter[3],
        "max-m": quarter[4],
        "abs_diff": size.mean(axis=-1),
        "std_diff": step.std(axis=-1),
        "slope": z @ (ramp / (ramp * ramp).sum()),
        "first-m": z[:, :, 0],
        "last-m": z[:, :, -1],
        "tail-m": z[:, :, -tail:].mean(axis=-1),
        "min": mean + quarter[0],
        "max": mean + quarter[4],
        "last": x[:, :, -1],
    }
    return columns, z, spread
