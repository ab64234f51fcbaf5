"""Answers of every head for training people who were left out, and the weights they call for.

Notation: N windows · K classes · M sensors · H heads · D scores of all experts side by side.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from sentryfuse.readout.candidates import Candidate, Task, sums_by_fold, total_of
from sentryfuse.readout.discriminant import Doubles, as_scores
from sentryfuse.readout.parts import Ints, Parts
from sentryfuse.readout.pool import fit_pool, sample_of
from sentryfuse.readout.readout import head_names
from sentryfuse.readout.trees import Floats

_SETS_OF_A_SIZE = 8
_WINDOWS_OF_A_SIZE = 6000  # of all those sets together, to fit weights by


class TreeScores(NamedTuple):
    """What trees answer for people who were left out, by set of sensors, `(N, K)` each.

    Attributes:
        grown: of the extremely randomised ones.
        boosted: of the boosted ones.
    """

    grown: Mapping[tuple[str, ...], Doubles]
    boosted: Mapping[tuple[str, ...], Doubles]


def best_view(candidates: Sequence[Candidate], sensor: str) -> tuple[int, Doubles]:
    """Encoding of least loss for one sensor, and its scores."""
    losses = [c.linear[sensor].loss if sensor in c.linear else np.inf for c in candidates]
    at = int(np.argmin(losses))
    return at, candidates[at].linear[sensor].scores


def fit_pools(
    task: Task,
    candidates: tuple[Candidate, ...],
    parts: Parts,
    trees: TreeScores,
    scores: Floats,
    prior: Doubles,
    without: Doubles | None = None,
    sizes: Collection[int] | None = None,
) -> Doubles:
    """Weights of the heads by number of sensors present, `(M, H)`.

    `without` holds those of the same heads but the boosted one, which new ones are drawn to; else those of
    a number of sensors are drawn to those of one more. `sizes` are the numbers asked for, `None` all of them.
    """
    n_sensors = len(task.sensors)
    names = head_names(parts)
    rng = np.random.default_rng(0)
    result = np.zeros((n_sensors, len(names)))
    towards = np.full(len(names), 1 / (len(names) - 1))
    towards[-1] = 1.0
    for size in range(n_sensors, 0, -1):
        if sizes is not None and size not in sizes:
            continue
        sets = list(combinations(range(n_sensors), size))
        if len(sets) > _SETS_OF_A_SIZE:
            sets = [sets[i] for i in rng.choice(len(sets), _SETS_OF_A_SIZE, replace=False)]
        some = sample_of(len(task.y), _WINDOWS_OF_A_SIZE // len(sets))
        heads = np.concatenate(
            [
                heads_out_of_person(
                    task, candidates, parts, trees, scores, prior, np.array(s, dtype=np.intp)
                )[some]
                for s in sets
            ]
        )
        if without is not None:
            towards = np.insert(without[size - 1], -1, 0.0)
        result[size - 1] = fit_pool(heads, np.concatenate([task.y[some]] * len(sets)), towards=towards)
        towards = result[size - 1]
    return result


def heads_out_of_person(
    task: Task,
    candidates: Sequence[Candidate],
    parts: Parts,
    trees: TreeScores,
    scores: Floats,
    prior: Doubles,
    chosen: Ints,
) -> Doubles:
    """Out-of-person scores of every head for some sensors, `(N, H, K)`, as `heads_from` orders them."""
    n, k = len(task.y), task.n_classes
    found = [c.joint_scores(task, chosen) for c in candidates if c.joint is not None]
    names = tuple(task.sensors[m] for m in chosen)
    found.append(
        as_scores(np.sum([best_view(candidates, s)[1] for s in names], axis=0), numbers=task.numbers)
    )
    at = np.flatnonzero(np.isin(parts.stack.owner, chosen))
    part = scores[:, at]
    sums = sums_by_fold(task, part, np.ones(n, dtype=bool))
    total = total_of(sums)
    stacked = np.zeros((n, k))
    for f, own in enumerate(sums):
        moments = (total - own).moments() if task.n_folds > 1 else total.moments()
        weights, bias = moments.solve(parts.stack.shrink, np.zeros(k))
        here = task.fold == f
        stacked[here] = as_scores(part[here] @ weights + bias, numbers=task.numbers)
    found.append(stacked)
    if parts.trees:
        found.append(as_scores(np.sum([trees.grown[(s,)] for s in names], axis=0), numbers=task.numbers))
        both = trees.grown.get(names) if len(names) > 1 else None
        found.append(np.zeros((n, k)) if both is None else both)
    if parts.boosted:
        boosted = trees.boosted.get(names)
        found.append(np.zeros((n, k)) if boosted is None else boosted)
    found.append(np.broadcast_to(prior - prior.mean(), (n, k)))
    return np.stack(found, axis=1)
