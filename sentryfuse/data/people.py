"""Each person's own mean and standard deviation, for models that standardise by person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.data.normalise import (
    CONSTANT,
    Floats,
    grouped,
    or_one,
    pooled,
    refuse_empty,
    window_moments,
)
from sentryfuse.data.windows import SubjectStatistics, Windows
from sentryfuse.errors import ConfigError

FLOOR_SHARE = 0.05  # of a typical person's spread: below it a quiet sensor's noise would be blown up
WEIGHTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)  # windows that the population may count as
FIRST = (1, 4, 16, 64)  # windows of a person that the weight is judged by
FEW_PEOPLE = 10.0  # windows, where less than three people cannot tell
ALWAYS = 1e9  # windows: nothing a person shows moves it


def subject_floor(windows: Windows, indices: NDArray[np.integer[Any]]) -> dict[str, NDArray[np.float32]]:
    """Smallest standard deviation that standardising by subject divides by.

    Args:
        windows: the recording, not yet standardised.
        indices: positions of the training windows, `(n,)`.

    Returns:
        Modality -> `(C,)`, physical units: 0.05 times the median over the training subjects of
        their standard deviation; where that is 0 the training standard deviation, where that is 0
        too, 1.

    Raises:
        DataError: no window.

    Source:
        Our choice; it keeps a subject whose sensor hardly moved from becoming pure noise.
    """
    refuse_empty(windows, indices)
    windows = replace(windows, by_subject=None)
    floors = {}
    for name in windows.names:
        _, _, count, std = of_subjects(windows, name, indices)
        floor = np.zeros(std.shape[1])
        for channel in range(std.shape[1]):
            measured = std[count[:, channel] > 0, channel]
            floor[channel] = FLOOR_SHARE * np.median(measured) if len(measured) else 0
        mean, deviation = pooled(*window_moments(windows, name, indices))
        still = floor <= FLOOR_SHARE * CONSTANT * np.abs(mean)
        floors[name] = np.where(still, or_one(deviation, mean), floor).astype(np.float32)
    return floors


def subject_prior(windows: Windows, indices: NDArray[np.integer[Any]]) -> dict[str, NDArray[np.float32]]:
    """What is supposed of a person before anything is known of them, and how firmly.

    Args:
        windows: the recording, not yet standardised, each person's windows in the order of time.
        indices: positions of the training windows, `(n,)`.

    Returns:
        Modality -> `(4, C)`: mean and standard deviation of a typical person in physical units; how many
        windows of a person's own they count as, the number that would have told the means of training people
        best from their first windows; and the deviation over all people. Sensors of one value per window are
        always standardised by training.

    Raises:
        DataError: no window.

    Source:
        Shrinkage to the population, its weight by what it is for; our choice.
    """
    refuse_empty(windows, indices)
    windows = replace(windows, by_subject=None)
    found = {}
    for m in windows.modalities:
        count, mean, m2 = window_moments(windows, m.name, indices)
        subjects, group = np.unique(windows.subject[indices], return_inverse=True)
        total, centre, spread = grouped(group, len(subjects), count, mean, m2)
        there = total > 0
        people = np.maximum(there.sum(0), 1)
        typical = np.where(there, centre, 0).sum(0) / people
        overall, deviation = pooled(count, mean, m2)
        deviation = or_one(deviation, overall)
        if m.length == 1:
            rows = [overall, deviation, np.full(m.n_channels, ALWAYS), deviation]
        else:
            variance = np.where(there, spread / np.maximum(total, 1), 0).sum(0) / people
            weight = np.full(m.n_channels, FEW_PEOPLE)
            if len(subjects) > 2:
                weight = _best_weight(group, len(subjects), count, mean, centre)
            rows = [typical, or_one(np.sqrt(variance), typical), weight, deviation]
        found[m.name] = np.stack(rows).astype(np.float32)
    return found


def _best_weight(group: NDArray[np.intp], n: int, count: Floats, mean: Floats, centre: Floats) -> Floats:
    """Which of `WEIGHTS` tells people's means best from their first windows, `(C,)`."""
    error = np.zeros((len(WEIGHTS), mean.shape[1]))
    for person in range(n):
        own = np.flatnonzero(group == person)
        others = (centre.sum(0) - centre[person]) / (n - 1)
        for first in FIRST:
            part = own[:first]
            known = count[part].sum(0)
            guess = (count[part] * mean[part]).sum(0) / np.maximum(known, 1)
            for i, weight in enumerate(WEIGHTS):
                share = np.where(known > 0, len(part) / (len(part) + weight), 0)
                error[i] += (others + share * (guess - others) - centre[person]) ** 2
    best: Floats = np.array(WEIGHTS)[error.argmin(0)]
    return best


def shrunk(
    prior: ArrayLike | None, count: NDArray[Any], mean: NDArray[Any], std: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """A person's mean and standard deviation drawn to what is supposed of people.

    Args:
        prior: `(4, C)` of `subject_prior`; `None` leaves them as they are.
        count: of the person, how much was measured [windows], `(..., C)`.
        mean: of the person, `(..., C)`.
        std: of the person, `(..., C)`.
    """
    if prior is None:
        return mean, std
    typical, spread, weight, _ = np.asarray(prior, np.float64)
    share = count / (count + weight)
    return typical + share * (mean - typical), np.sqrt(share * std**2 + (1 - share) * spread**2)


def by_subject(
    windows: Windows, floor: Mapping[str, ArrayLike], prior: Mapping[str, ArrayLike] | None = None
) -> Windows:
    """The same windows, each to be standardised by its own subject; nothing is copied.

    Args:
        windows: the recording.
        floor: modality -> `(C,)`, smallest standard deviation to divide by, of `subject_floor`;
            take it from the training recording when another one is standardised.
        prior: modality -> `(4, C)` of `subject_prior`, likewise; without it nothing is supposed of a person.

    Returns:
        Windows whose `batch` gives `(x - mean) / max(std, floor)` with the statistics of all
        windows of the subject in this recording, drawn to the prior.

    Raises:
        ConfigError: a floor is missing, of another length or not positive.
    """
    windows = replace(windows, by_subject=None)
    means = {}
    stds = {}
    everything = np.arange(len(windows))
    for m in windows.modalities:
        lowest = np.asarray(floor.get(m.name, np.nan), dtype=np.float64)
        if lowest.shape != (m.n_channels,) or not (lowest > 0).all():
            raise ConfigError(
                f"{windows.name} needs a positive floor for each of the {m.n_channels} channels "
                f"of {m.name}; take it from subject_floor of the training recording"
            )
        _, mean, count, std = of_subjects(windows, m.name, everything)
        mean, std = shrunk((prior or {}).get(m.name), count / m.length, np.where(count > 0, mean, 0), std)
        means[m.name] = mean.astype(np.float32)
        stds[m.name] = np.maximum(std, lowest).astype(np.float32)
    subjects = np.unique(windows.subject)
    return replace(windows, by_subject=SubjectStatistics(subjects, means, stds))


def of_subjects(
    windows: Windows, name: str, indices: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """Subjects `(S,)`, and mean, count and standard deviation of each, `(S, C)`."""
    subjects, group = np.unique(windows.subject[indices], return_inverse=True)
    count, mean, m2 = window_moments(windows, name, indices)
    total, centre, spread = grouped(group, len(subjects), count, mean, m2)
    return subjects, centre, total, np.sqrt(spread / np.maximum(total, 1))
