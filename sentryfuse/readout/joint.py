"""One discriminant over the features of all sensors, kept small by a projection per sensor.

The weights that shrinkage gives for all sensors, for all but one and for each alone span few directions of a
sensor's features. Inside their span the same discriminant is found again exactly for those sets, and nearly
so for the others, from moments of a few hundred columns.

Notation: K classes · M sensors · E encoded numbers of a sensor · D columns of a sensor after projection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sentryfuse.readout.discriminant import Doubles, Moments, solve_shrunk

Ints = NDArray[np.intp]
_LARGE = 400  # columns above which float32 has to do
MOST_COLUMNS = 200  # of all sensors together: moments of 80 kB as float32


@dataclass(frozen=True, eq=False)
class Joint:
    """Projected moments; `solve` gives the discriminant of any set of sensors.

    Attributes:
        projections: `(E, D)` of each sensor, orthonormal columns.
        moments: of the projected columns, sensors side by side.
        level: trace of the covariance of each sensor's encoded numbers, `(M,)`.
        width: encoded numbers of each sensor, `(M,)`.
        shrink: 0..1.
    """

    projections: tuple[Doubles, ...]
    moments: Moments
    level: Doubles
    width: Doubles
    shrink: float

    def columns(self, chosen: Ints) -> Ints:
        """Projected columns of some sensors, ascending."""
        ends = np.cumsum([0] + [p.shape[1] for p in self.projections])
        return np.concatenate([np.arange(ends[m], ends[m + 1]) for m in chosen])

    def solve(self, chosen: Ints) -> tuple[Doubles, Doubles]:
        """Discriminant of some sensors with even priors: `(D, K)` over their columns, `(K,)`."""
        at = self.columns(chosen)
        moments = self.moments.part(at)
        sizes = [self.projections[m].shape[1] for m in chosen]
        target = np.repeat(self.level[chosen] / np.maximum(self.width[chosen], 1), sizes)
        weights = np.asarray(solve_shrunk(moments.within, moments.offset.T, self.shrink, target))
        return weights, moments.bias(weights)


def target_of(moments: Moments, starts: Ints) -> Doubles:
    """What the covariance is shrunk to: for each sensor its own mean variance, `(sum E,)`.

    So the target of a set of sensors does not depend on the sensors that are absent.
    """
    diagonal = np.diag(moments.within)
    return np.concatenate(
        [np.full(b - a, diagonal[a:b].mean() if b > a else 0.0) for a, b in pairwise(starts.tolist())]
    )


def weights_of_all(moments: Moments, starts: Ints, shrink: float) -> Doubles:
    """Shrunk discriminant for all sensors, `(sum E, K)`."""
    target = target_of(moments, starts)
    if len(moments.within) > _LARGE and target.max() > 0:
        weights = _solved_symmetric(_shrunk(moments, target, shrink), moments.offset.T)[1]
        if weights is not None:
            return weights
    return solve_shrunk(moments.within, moments.offset.T, shrink, target)


def weights_of_sets(moments: Moments, starts: Ints, shrink: float) -> list[Doubles]:
    """Shrunk discriminants for all sensors and all but one, `(sum E, K)` each, 0 where absent.

    The second kind follows from one inverse: taking a block out of a matrix changes the inverse of what is
    left by a product of the size of that block.
    """
    total = len(moments.within)
    target = target_of(moments, starts)
    right = moments.offset.T
    if not target.max(initial=0) > 0:
        return [np.zeros_like(right)]
    matrix = _shrunk(moments, target, shrink)
    factor, weights = _solved_symmetric(matrix, right) if total > _LARGE else (None, None)
    if factor is None or weights is None:
        inverse, weights = np.linalg.inv(matrix), solve_shrunk(moments.within, right, shrink, target)
    else:
        inverse = _inverse_symmetric(factor)
    found = [weights]
    if len(starts) < 3:
        return found
    for m in range(len(starts) - 1):
        out = slice(int(starts[m]), int(starts[m + 1]))
        rest = right.copy()
        rest[out] = 0
        partial = inverse @ rest
        weights = partial - inverse[:, out] @ np.linalg.solve(inverse[out, out], partial[out])
        weights[out] = 0
        found.append(weights)
    return found


def _shrunk(moments: Moments, target: Doubles, shrink: float) -> Doubles:
    matrix = (1 - shrink) * moments.within
    matrix.flat[:: len(matrix) + 1] += (shrink + 1e-9) * target + 1e-9 * target.max()
    return matrix


def _solved_symmetric(matrix: Doubles, right: Doubles) -> tuple[NDArray[np.float32] | None, Doubles | None]:
    """Cholesky factor in float32 and the solution; `None` where the matrix is not positive enough for it."""
    try:
        from scipy.linalg import lapack  # comes with scikit-learn
    except ModuleNotFoundError:  # as on a device, where this takes longer by other means
        return None, None
    factor, weights, info = lapack.sposv(matrix.astype(np.float32), right.astype(np.float32), lower=1)
    return (factor, weights.astype(np.float64)) if info == 0 else (None, None)


def _inverse_symmetric(factor: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy.linalg import lapack

    lower = lapack.spotri(factor, lower=1)[0]
    return np.asarray(np.tril(lower) + np.tril(lower, -1).T)


def _basis(directions: Doubles, most: int) -> Doubles:
    """Orthonormal columns that span the strongest of some directions, `(E, D)`."""
    values, turns = np.linalg.eigh(directions.T @ directions)
    keep = values > 1e-10 * max(float(values[-1]), 1e-30)
    strongest = np.flatnonzero(keep)[::-1][:most]
    return np.linalg.qr(directions @ turns[:, strongest])[0] if len(strongest) else directions[:, :0]


def fit_joint(moments: Moments, widths: list[int], shrink: float) -> Joint:
    """Project the moments of all encoded numbers.

    Args:
        moments: of all sensors side by side.
        widths: encoded numbers of each sensor.
        shrink: 0..1.

    Returns:
        The discriminant for any set of sensors.
    """
    starts = np.cumsum([0, *widths]).astype(np.intp)
    sets = weights_of_sets(moments, starts, shrink)
    n_sensors = len(widths)
    most = max(2, MOST_COLUMNS // n_sensors)
    projections = []
    for m in range(n_sensors):
        mine = slice(int(starts[m]), int(starts[m + 1]))
        spans = [w[mine] for i, w in enumerate(sets) if i != m + 1]
        spans.append(solve_shrunk(moments.within[mine, mine], moments.offset[:, mine].T, shrink))
        if not moments.numbers:  # what is common to all classes does not count
            spans = [s - s.mean(axis=1, keepdims=True) for s in spans]
        together = np.concatenate(spans, axis=1)
        projections.append(_basis(together, most))
    turn = np.zeros((int(starts[-1]), sum(p.shape[1] for p in projections)))
    column = 0
    for m, p in enumerate(projections):
        turn[starts[m] : starts[m + 1], column : column + p.shape[1]] = p
        column += p.shape[1]
    small = replace(
        moments, mean=moments.mean @ turn, offset=moments.offset @ turn, within=turn.T @ moments.within @ turn
    )
    diagonal = np.diag(moments.within)
    level = np.array([diagonal[starts[m] : starts[m + 1]].sum() for m in range(n_sensors)])
    return Joint(tuple(projections), small, level, np.array(widths, dtype=np.float64), shrink)
