"""The pieces of a readout, each with what it stores and how it answers.

Notation: N windows · F features · E encoded numbers · D columns · K classes · M sensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentryfuse.readout.discriminant import Doubles, Moments, as_scores
from sentryfuse.readout.encode import Encoding, Scale
from sentryfuse.readout.joint import Joint
from sentryfuse.readout.trees import Floats, Trees

Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class View:
    """One encoding of all sensors and, where it is small enough, one discriminant over them.

    Attributes:
        encodings: of each sensor.
        joint: over all sensors; `None` where no head uses it.
    """

    encodings: Mapping[str, Encoding]
    joint: Joint | None


@dataclass(frozen=True, eq=False)
class Expert:
    """Linear discriminant or regression on one sensor.

    Attributes:
        view: index of the encoding it reads.
        weights: `(E, K)`.
        bias: `(K,)`; -1e9 for a class never seen.
    """

    view: int
    weights: Floats
    bias: Floats

    def scores(self, encoded: Floats, *, numbers: bool = False) -> Doubles:
        """`(N, E)` -> centred log probabilities `(N, K)`, even priors; or numbers."""
        return as_scores(encoded @ self.weights + self.bias, numbers=numbers)


@dataclass(frozen=True, eq=False)
class Stack:
    """Discriminant over the scores of the experts of the sensors present.

    Attributes:
        moments: of the scores, `K` columns for each expert, experts sensor by sensor.
        owner: sensor of each column, `(D,)`.
        shrink: 0..1.
    """

    moments: Moments
    owner: Ints
    shrink: float

    def solve(self, chosen: Ints) -> tuple[Doubles, Doubles, Ints]:
        """Weights over the columns of some sensors, bias, and which columns those are."""
        at = np.flatnonzero(np.isin(self.owner, chosen))
        weights, bias = self.moments.part(at).solve(self.shrink, np.zeros(len(self.moments.count)))
        return weights, bias, at


@dataclass(frozen=True, eq=False)
class Parts:
    """All that answers, before the answers are multiplied.

    Attributes:
        scales: of each sensor.
        views: encodings.
        experts: discriminant of each sensor.
        trees: for some sets of sensors, in the order of the sensors.
        boosted: trees for some sets of sensors; none where they do not pay.
        stack: over the scores of the experts.
    """

    scales: Mapping[str, Scale]
    views: tuple[View, ...]
    experts: Mapping[str, Expert]
    trees: Mapping[tuple[str, ...], Trees]
    boosted: Mapping[tuple[str, ...], Trees]
    stack: Stack
