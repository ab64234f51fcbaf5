"""Features -> numbers a linear model can use: standardised one by one, by the population or by the person.

Notation: N windows · F features · E encoded numbers · Q knots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Kind = Literal["plain", "ranks", "ramps"]

KINDS: tuple[Kind, ...] = ("plain", "ranks", "ramps")
CLIP = 6.0  # [deviations]
_TAILS = 0.005  # share at each end pulled in before mean and deviation are taken
_CONSTANT = 1e-6  # of the largest value: below it a spread is rounding
_RANK_KNOTS = 17
_RAMPS = 5


@dataclass(frozen=True, eq=False)
class Scale:
    """What the training windows of one sensor look like, feature by feature.

    Attributes:
        mean: `(F,)`.
        inverse: one over the deviation, `(F,)`; 0 for a feature that never changes or is never known.
    """

    mean: Floats
    inverse: Floats

    def apply(self, x: Floats, person: Person | None = None, weight: float = 0.0) -> Floats:
        """Standardised features, `(N, F)`, clipped at 6 deviations, 0 where unknown.

        Args:
            x: `(N, F)`, NaN where unknown.
            person: what is known of the person; `None` standardises by the population.
            weight: windows that the population counts for.
        """
        mean, inverse = self.mean, self.inverse
        if person is not None:
            mean, inverse = self.of_person(person, weight)
        z = (x - mean) * inverse
        return np.clip(np.where(np.isnan(z), np.float32(0), z), -CLIP, CLIP)

    def of_person(self, person: Person, weight: float) -> tuple[Floats, Floats]:
        """Mean and one over the deviation, those of a person shrunk to the population, `(F,)` each."""
        own = (person.count, person.mean, person.variance)
        return shrunk_scale(self.mean, self.inverse, *own, weight)


def shrunk_scale(
    population: Floats, inverse: Floats, count: Doubles, mean: Doubles, variance: Doubles, weight: float
) -> tuple[Floats, Floats]:
    """Mean and one over the deviation of a person's features, drawn to the population's, `(F,)` each.

    Args:
        population: its mean, `(F,)`.
        inverse: one over its deviation, 0 where nothing varies, `(F,)`.
        count: windows of the person in which each feature was known, `(F,)`.
        mean: of those windows, `(F,)`.
        variance: of those windows, `(F,)`.
        weight: windows that the population counts as.
    """
    varies = inverse > 0
    total = np.maximum(count + weight, 1e-9)
    usual = np.where(varies, 1.0 / np.maximum(inverse, 1e-30).astype(np.float64) ** 2, 0)
    own = (count * mean + weight * population) / total
    spread = (count * variance + weight * usual) / total
    found = np.where(varies, 1 / np.sqrt(np.maximum(spread, 1e-4 * usual) + 1e-300), 0)
    return own.astype(np.float32), found.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Person:
    """Moments of one person's features of one sensor.

    Attributes:
        count: windows in which each feature was known, `(F,)`.
        mean: `(F,)`, 0 where never known.
        variance: `(F,)`.
    """

    count: Doubles
    mean: Doubles
    variance: Doubles

    @classmethod
    def of(cls, x: Floats) -> Person:
        """Moments of `(N, F)` features of one person, NaN left out."""
        known = ~np.isnan(x)
        count = known.sum(axis=0).astype(np.float64)
        mean = np.where(known, x, 0).astype(np.float64).sum(axis=0) / np.maximum(count, 1)
        off = np.where(known, x - mean, 0)
        return cls(count, mean, (off**2).sum(axis=0) / np.maximum(count, 1))

    def joined(self, other: Person) -> Person:
        """Moments of the windows of both."""
        count = self.count + other.count
        safe = np.maximum(count, 1)
        mean = (self.count * self.mean + other.count * other.mean) / safe
        own, new = (
            p.count * (p.variance + np.where(p.count > 0, p.mean - mean, 0) ** 2) for p in (self, other)
        )
        return Person(count, mean, (own + new) / safe)


def fit_scale(x: Floats) -> Scale:
    """Mean and deviation of each feature, robust to a few wild values.

    Args:
        x: training features, `(N, F)`, NaN where unknown.

    Returns:
        Finite numbers whatever is given.
    """
    n_features = x.shape[1]
    mean = np.zeros(n_features)
    inverse = np.zeros(n_features)
    ordered, count = _sorted(x)
    low = _quantile(ordered, count, _TAILS)
    high = _quantile(ordered, count, 1 - _TAILS)
    known = ~np.isnan(x)
    safe = np.maximum(count, 1)
    for wide in (
        False,
        True,
    ):  # what changes in less than half a percent of windows has no spread inside the tails
        inside = np.where(known, x if wide else np.clip(x, low, high), 0).astype(np.float64)
        centre = inside.sum(axis=0) / safe
        spread = np.sqrt((np.where(known, inside - centre, 0) ** 2).sum(axis=0) / safe)
        largest = np.abs(np.where(known, x, 0)).max(axis=0, initial=0)
        changes = spread > _CONSTANT * np.maximum(largest, 1e-30)
        fresh = inverse == 0
        mean = np.where(fresh, centre, mean)
        inverse = np.where(fresh & changes, 1 / np.where(changes, spread, 1), inverse)
    return Scale(mean.astype(np.float32), inverse.astype(np.float32))


def _sorted(x: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Values in order, NaN last, and how many are known."""
    return np.sort(x, axis=0), (~np.isnan(x)).sum(axis=0)


def _quantile(ordered: Floats, count: NDArray[np.intp], share: float) -> Doubles:
    place = share * np.maximum(count - 1, 0)
    low = place.astype(np.intp)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    columns = np.arange(ordered.shape[1])
    if len(ordered) == 0:
        return np.zeros(ordered.shape[1])
    a = ordered[low, columns].astype(np.float64)
    b = ordered[high, columns].astype(np.float64)
    return np.nan_to_num(a + (place - low) * (b - a))


@dataclass(frozen=True, eq=False)
class Encoding:
    """Piecewise-linear functions of the standardised features; `plain` leaves them.

    Attributes:
        kind: "plain", "ranks" (each feature to the normal distribution of the training windows) or
            "ramps" (one number for each fifth of the training windows, 0..1).
        knots: training quantiles, `(Q, F)`; `(0, F)` for "plain".
    """

    kind: Kind
    knots: Floats

    def width(self) -> int:
        """Number of encoded numbers, `E`."""
        n = int(self.knots.shape[1])
        return n * (self.knots.shape[0] - 1) if self.kind == "ramps" else n

    def apply(self, z: Floats) -> Floats:
        """`(N, F)` -> `(N, E)`."""
        if self.kind == "plain":
            return z
        low, high = self.knots[:-1], self.knots[1:]
        gain = np.where(high > low, 1 / np.where(high > low, high - low, 1), 0).astype(np.float32)
        if self.kind == "ramps":
            ramps = np.clip((z[:, None, :] - low) * gain, 0, 1) - np.float32(0.5)
            step = (z[:, None, :] > low) & (high <= low)
            return np.where(high > low, ramps, step).reshape(len(z), -1).astype(np.float32)
        value = normal_scores(len(self.knots))
        rise = np.diff(value)[:, None]
        result = np.full(z.shape, value[0], dtype=np.float32)
        for i in range(len(low)):  # one ramp after the other, over the knots
            result += rise[i] * np.where(gain[i] > 0, np.clip((z - low[i]) * gain[i], 0, 1), z > low[i])
        return result


def normal_scores(knots: int) -> Floats:
    """Normal deviates of equally spaced shares, `(Q,)`, the ends pulled in to 2.2."""
    share = np.linspace(0, 1, knots)
    share = np.clip(share, 0.0139, 0.9861)
    # Winitzki's approximation of the inverse error function, good to 1 %
    u = 2 * share - 1
    log = np.log1p(-(u**2))
    inner = 2 / (np.pi * 0.147) + log / 2
    size = np.sqrt(np.sqrt(inner**2 - log / 0.147) - inner) * np.sqrt(2)
    return np.asarray(np.sign(u) * size, dtype=np.float32)


def fit_encoding(kind: Kind, z: Floats) -> Encoding:
    """Knots at equally spaced training quantiles.

    Args:
        kind: one of `KINDS`.
        z: standardised training features, `(N, F)`.
    """
    if kind == "plain":
        return Encoding(kind, np.zeros((0, z.shape[1]), dtype=np.float32))
    count = _RANK_KNOTS if kind == "ranks" else _RAMPS + 1
    ordered, known = _sorted(z)
    knots = np.stack([_quantile(ordered, known, s) for s in np.linspace(0, 1, count)])
    return Encoding(kind, knots.astype(np.float32))


def person_moments(features: Mapping[str, Floats]) -> dict[str, Person]:
    """Moments of one person's features, sensor by sensor.

    Args:
        features: sensor -> `(N, F)`, the person's windows so far.
    """
    return {name: Person.of(x) for name, x in features.items()}


def standardise_people(scale: Scale, x: Floats, subject: NDArray[np.integer[Any]], weight: float) -> Floats:
    """Each window standardised by its own person shrunk to the population, `(N, F)`."""
    z = np.empty_like(x)
    for who in np.unique(subject):
        mine = subject == who
        z[mine] = scale.apply(x[mine], Person.of(x[mine]), weight)
    return z
