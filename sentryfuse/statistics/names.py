"""Which features a sensor has, and in which order: the one table that names and numbers agree on.

Notation: T steps · C channels · F features.

Order: statistic by statistic, the channels of one statistic side by side, correlations last.
"""

from __future__ import annotations

from sentryfuse.statistics.spectrum import band_plan
from sentryfuse.types import Modality

MANY_CHANNELS = 12  # above it a sensor gets fewer statistics and only neighbouring correlations
SHORTEST_SPECTRUM = 16  # [steps]; below it a spectrum says nothing the other statistics do not
SHORTEST_PARTIAL = 64  # [steps]; the same where values may be missing; also for correlations

# "-m" means: minus the window's mean, so that an offset does not drown what is small beside it.
BASIC = (
    "mean",
    "log_std",
    "std",
    "min-m",
    "q25-m",
    "q50-m",
    "q75-m",
    "max-m",
    "abs_diff",
    "std_diff",
    "slope",
    "first-m",
    "last-m",
    "tail-m",
)
ABSOLUTE = ("min", "max", "last")
OBSERVED = ("median", "first", "share", "age")  # only where single values may be missing


def n_bands(modality: Modality) -> int:
    """Number of log band energies of each channel."""
    if modality.length < (SHORTEST_PARTIAL if modality.may_miss else SHORTEST_SPECTRUM):
        return 0
    return len(band_plan(modality.length, few=modality.n_channels > MANY_CHANNELS).edges)


def statistics_of(modality: Modality) -> tuple[str, ...]:
    """Names of the statistics of each channel, in order."""
    if modality.length == 1:
        return ("value", "share") if modality.may_miss else ("value",)
    names: tuple[str, ...] = BASIC
    if modality.n_channels <= MANY_CHANNELS:
        names += ABSOLUTE
    if modality.may_miss:
        names += OBSERVED
    bands = n_bands(modality)
    if bands:
        names += (*(f"band{i}" for i in range(bands)), "centroid")
    return names


def pairs_of(modality: Modality) -> tuple[tuple[int, int], ...]:
    """Pairs of channels whose correlation is a feature: all, or neighbours where there are many."""
    c = modality.n_channels
    if modality.length < (SHORTEST_PARTIAL if modality.may_miss else 3):
        return ()
    if c > MANY_CHANNELS:
        return tuple((i, i + 1) for i in range(c - 1))
    return tuple((i, j) for i in range(c) for j in range(i + 1, c))


def feature_names(modality: Modality) -> tuple[str, ...]:
    """Names of the features of one sensor.

    Args:
        modality: the sensor.

    Returns:
        `(F,)`, unique, in the order of the columns of `features`.
    """
    single = [f"{channel}.{name}" for name in statistics_of(modality) for channel in modality.channels]
    channels = modality.channels
    return (*single, *(f"{channels[i]}*{channels[j]}.corr" for i, j in pairs_of(modality)))
