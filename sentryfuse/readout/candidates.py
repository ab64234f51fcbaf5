"""Answers for people not seen, under each encoding: what choices are made from.

Notation: N windows · E encoded numbers · K classes · M sensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.readout.discriminant import Doubles, Moments, Sums, as_scores
from sentryfuse.readout.encode import Encoding, Kind, fit_encoding
from sentryfuse.readout.joint import Joint, fit_joint, weights_of_all
from sentryfuse.readout.parts import Ints
from sentryfuse.readout.pool import badness, choose
from sentryfuse.readout.trees import Floats

SHRINKS = (0.003, 0.03, 0.1, 0.3, 0.6)
MOST_ENCODED = 1600  # encoded numbers of all sensors above which there is no joint discriminant
MOST_RAMPS = 1000  # encoded numbers of one sensor above which it is not written as ramps


@dataclass(frozen=True, eq=False)
class Task:
    """Training windows as every candidate sees them.

    Attributes:
        y: class of each window, `(N,)`, or standardised numbers, `(N, K)`.
        n_classes: `K`.
        fold: of each window, `(N,)`.
        present: `(N, M)`.
        sensors: names.
    """

    y: NDArray[Any]
    n_classes: int
    fold: Ints
    present: NDArray[np.bool_]
    sensors: tuple[str, ...]

    @property
    def numbers(self) -> bool:
        """Whether numbers are asked for in place of classes."""
        return self.y.ndim == 2

    @property
    def n_folds(self) -> int:
        """Folds."""
        return int(self.fold.max()) + 1


@dataclass(frozen=True, eq=False)
class Linear:
    """One sensor's discriminant under one encoding.

    Attributes:
        shrink: chosen.
        scores: out of person, `(N, K)`; 0 where the sensor is absent.
        loss: mean `badness` of those scores.
        moments: of all training windows that have the sensor.
    """

    shrink: float
    scores: Doubles
    loss: float
    moments: Moments


@dataclass(frozen=True, eq=False)
class Candidate:
    """One encoding of all sensors.

    Attributes:
        kind: of encoding.
        encodings: of each sensor; a sensor too wide for it is left out.
        linear: discriminant of each sensor in `encodings`.
        joint: over all sensors, fitted on all windows; `None` where too wide.
        joint_folds: the same fitted without each fold.
        columns: projected columns of the held-out windows of each fold.
    """

    kind: Kind
    encodings: Mapping[str, Encoding]
    linear: Mapping[str, Linear]
    joint: Joint | None
    joint_folds: Sequence[Joint]
    columns: Sequence[Floats]

    def joint_scores(self, task: Task, chosen: Ints) -> Doubles:
        """Out-of-person scores of the joint head for some sensors, `(N, K)`."""
        result = np.zeros((len(task.y), task.n_classes))
        for f, (joint, columns) in enumerate(zip(self.joint_folds, self.columns, strict=True)):
            weights, bias = joint.solve(chosen)
            result[task.fold == f] = as_scores(
                columns[:, joint.columns(chosen)] @ weights + bias, numbers=task.numbers
            )
        return result


def make_candidate(task: Task, kind: Kind, z: Mapping[str, Floats]) -> Candidate:
    """Encode, fit and answer out of person.

    Args:
        task: the training windows.
        kind: of encoding.
        z: sensor -> standardised features `(N, F)`.
    """
    encodings, codes, linear = {}, {}, {}
    for name in task.sensors:
        if kind == "ramps" and 5 * z[name].shape[1] > MOST_RAMPS:
            continue
        encodings[name] = fit_encoding(kind, z[name])
        codes[name] = encodings[name].apply(z[name])
    widths = [c.shape[1] for c in codes.values()]
    joint: Joint | None = None
    folds: list[Joint] = []
    columns: list[Floats] = []
    together = len(codes) == len(task.sensors) > 1 and sum(widths) <= MOST_ENCODED
    if together:
        whole = np.concatenate(list(codes.values()), axis=1)
        sums = sums_by_fold(task, whole, np.ones(len(task.y), dtype=bool))
        joint, folds, columns = _joint(task, whole, sums, widths)
    for m, name in enumerate(task.sensors):
        if name in codes:
            linear[name] = _linear(task, codes[name], task.present[:, m])
    return Candidate(kind, encodings, linear, joint, folds, columns)


def sums_by_fold(task: Task, a: Floats, rows: NDArray[np.bool_]) -> list[Sums]:
    """Sums over the windows of each fold that are in `rows`."""
    return [
        Sums.of(a[rows & (task.fold == f)], task.y[rows & (task.fold == f)], task.n_classes)
        for f in range(task.n_folds)
    ]


def total_of(sums: Sequence[Sums]) -> Sums:
    """All folds together."""
    total = sums[0]
    for part in sums[1:]:
        total = total + part
    return total


def _linear(task: Task, a: Floats, rows: NDArray[np.bool_]) -> Linear:
    sums = sums_by_fold(task, a, rows)
    total = total_of(sums)
    shrink, scores, loss = choose_shrink(task, a, rows, sums)
    return Linear(shrink, scores, loss, total.moments())


def choose_shrink(
    task: Task, a: Floats, rows: NDArray[np.bool_], sums: Sequence[Sums], shrinks: Sequence[float] = SHRINKS
) -> tuple[float, Doubles, float]:
    """Shrinkage that is least bad out of person, its scores `(N, K)` and how bad they are."""
    total = total_of(sums)
    flat = np.zeros(task.n_classes)
    moments = [(total - s).moments() if task.n_folds > 1 else total.moments() for s in sums]
    found = []
    for shrink in shrinks:
        scores = np.zeros((len(task.y), task.n_classes))
        for f, m in enumerate(moments):
            weights, bias = m.solve(shrink, flat)
            here = rows & (task.fold == f)
            scores[here] = as_scores(a[here] @ weights.astype(np.float32) + bias, numbers=task.numbers)
        found.append(scores)
    bad = [badness(s[rows], task.y[rows]) for s in found]
    at = choose(bad, task.fold[rows], [liking(s) for s in shrinks])
    return shrinks[at], found[at], float(bad[at].mean()) if len(bad[at]) else np.inf


def liking(shrink: float) -> float:
    """How much a shrinkage is preferred among equals: the nearer to a tenth."""
    return -abs(float(np.log(shrink / 0.1)))


def _joint(
    task: Task, whole: Floats, sums: Sequence[Sums], widths: list[int]
) -> tuple[Joint, list[Joint], list[Floats]]:
    total = total_of(sums)
    moments = [(total - s).moments() if task.n_folds > 1 else total.moments() for s in sums]
    starts = np.cumsum([0, *widths]).astype(np.intp)
    bad = []
    for shrink in SHRINKS:
        scores = np.zeros((len(task.y), task.n_classes))
        for f, m in enumerate(moments):
            here = task.fold == f
            weights = weights_of_all(m, starts, shrink)
            logits = whole[here] @ weights.astype(np.float32) + m.bias(weights)
            scores[here] = as_scores(logits, numbers=task.numbers)
        bad.append(badness(scores, task.y))
    best = SHRINKS[choose(bad, task.fold, [liking(s) for s in SHRINKS])]
    folds = [fit_joint(m, widths, best) for m in moments]
    ends = np.cumsum([0, *widths])
    columns = []
    for f, joint in enumerate(folds):
        here = whole[task.fold == f]
        parts = [
            here[:, ends[i] : ends[i + 1]] @ p.astype(np.float32) for i, p in enumerate(joint.projections)
        ]
        columns.append(np.concatenate(parts, axis=1))
    return fit_joint(total.moments(), widths, best), folds, columns
