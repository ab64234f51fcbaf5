"""Fit a readout: every choice by folds of training people.

Notation: N windows · F features · K classes · M sensors · H heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import DataError
from sentryfuse.readout.boosting import boosted_sets, boosted_trees
from sentryfuse.readout.calibration import balanced, calibrated
from sentryfuse.readout.candidates import (
    Candidate,
    Task,
    choose_shrink,
    make_candidate,
    sums_by_fold,
    total_of,
)
from sentryfuse.readout.discriminant import Doubles, as_scores, pooled
from sentryfuse.readout.encode import KINDS, Scale, fit_scale, standardise_people
from sentryfuse.readout.folds import are_known, folds_of
from sentryfuse.readout.out_of_person import TreeScores, best_view, fit_pools, heads_out_of_person
from sentryfuse.readout.parts import Expert, Parts, Stack, View
from sentryfuse.readout.pool import fit_pool
from sentryfuse.readout.readout import Readout
from sentryfuse.readout.threads import side_by_side
from sentryfuse.readout.tree_experts import Grown, tree_experts
from sentryfuse.readout.trees import Floats
from sentryfuse.target import CLASSES, Target

PERSON_WEIGHT = 50.0  # windows that the population counts for in a person's own mean and deviation
SURE = 2.5  # standard errors over folds that boosting must gain: with less it did harm as often as good
_IDLE = 0.03  # weight below which a head is not worth its bytes
Normalise = Literal["auto", "population", "person"]


@dataclass(frozen=True, eq=False)
class Fit:
    """A readout and what it answers for training people who were left out.

    Attributes:
        readout: fitted on all training windows.
        task: the training windows and their folds.
        candidates: the encodings used, in the order of the readout's views.
        tree_scores: out-of-person scores of the trees.
        stack_scores: scores of all experts side by side, out of person, `(N, D)`.
        chosen: what the folds chose, for a report.
    """

    readout: Readout
    task: Task
    candidates: tuple[Candidate, ...]
    tree_scores: TreeScores
    stack_scores: Floats
    chosen: Mapping[str, Any]

    @property
    def scales(self) -> Mapping[str, Scale]:
        """Mean and deviation of every feature in training."""
        return self.readout.parts.scales

    def heads_out_of_person(self, present: Iterable[str]) -> Doubles:
        """Scores of each head for the training windows, `(N, H, K)`, each made without their person."""
        names = set(present)
        chosen = np.array([i for i, s in enumerate(self.task.sensors) if s in names], dtype=np.intp)
        return heads_out_of_person(
            self.task,
            self.candidates,
            self.readout.parts,
            self.tree_scores,
            self.stack_scores,
            self.readout.log_prior,
            chosen,
        )

    def out_of_person(self, present: Iterable[str] | None = None) -> Doubles:
        """Log probabilities or standardised numbers of the training windows, each made without its person.

        Args:
            present: the sensors that are on; `None` means all.

        Returns:
            `(N, K)`, in the order of the windows given to the fit.
        """
        names = tuple(self.task.sensors if present is None else present)
        heads = self.heads_out_of_person(names)
        pool = self.readout.pool[len(set(names)) - 1]
        return pooled(heads, pool, numbers=self.task.numbers)


def fit_readout(
    features: Mapping[str, NDArray[Any]],
    y: NDArray[Any],
    subject: NDArray[Any],
    classes: Sequence[str],
    *,
    own: Mapping[str, NDArray[Any]] | None = None,
    present: NDArray[np.bool_] | None = None,
    target: Target = CLASSES,
    normalise: Normalise = "auto",
    trees: bool | None = None,
    balance: bool = False,
    seed: int = 0,
) -> Fit:
    """Fit a readout to the statistics of training windows; quicker where scikit-learn is installed.

    Args:
        features: sensor -> `(N, F)` of `sentryfuse.statistics.features`, in the order of the sensors.
        y: class of each window, `(N,)`, 0..K-1; or numbers or labels, `(N, K)`, finite.
        subject: person or experiment of each window, `(N,)`.
        classes: names of the `K` classes, numbers or labels.
        own: the same of windows that are standardised by person; the folds may choose them where they may
            choose the person. `None` = there are none.
        target: what `y` is; its mean and deviation are taken from here where they are known.
        present: `(N, M)`; False where a window lacks a sensor; `None` means all there.
        normalise: standardise features by "population" or by "person"; "auto" lets folds of training people
            choose.
        trees: whether small trees may answer too; `None` lets the folds choose; needs scikit-learn.
        balance: every class counts alike: the probabilities are divided by how frequent classes were.
        seed: of folds and trees.

    Returns:
        The readout and its out-of-person answers.

    Raises:
        DataError: no window, no sensor, or arrays that do not fit each other.
    """
    x, task, target = _checked(features, y, subject, classes, present, target, seed)
    people = np.asarray(subject)
    options: list[_Option] = []
    if normalise in ("auto", "population"):
        options.append(_Option(x, None))
    if normalise == "person" or (normalise == "auto" and are_known(people)):
        options.append(_Option(x, PERSON_WEIGHT))
        if own is not None:
            x_own, _, _ = _checked(own, y, subject, classes, present, target, seed)
            options.append(_Option(x_own, None, own_signals=True))

    def standardised_by(option: _Option) -> tuple[Doubles, _Option, _Standardised, Candidate]:
        found = option.x
        scales = {name: fit_scale(found[name][task.present[:, m]]) for m, name in enumerate(task.sensors)}
        z = standardised(scales, found, people, option.weight)
        plain = make_candidate(task, KINDS[0], z)
        return _quality(task, (plain,)), option, (scales, z), plain

    tried = side_by_side(standardised_by, options)
    best = tried[0]
    for other in tried[1:]:
        if _is_better(other[0], best[0], task):
            best = other
    _, option, (scales, z), plain = best
    candidates = (plain, *side_by_side(lambda kind: make_candidate(task, kind, z), KINDS[1:]))
    prior = np.zeros(task.n_classes)
    if not task.numbers:
        prior = np.log((np.bincount(task.y, minlength=task.n_classes) + 1) / (len(task.y) + task.n_classes))
    fit = _assemble(task, classes, target, scales, z, candidates, option.weight, prior, trees, seed)
    if option.own_signals:
        fit = replace(fit, readout=replace(fit.readout, own_signals=True))
    if target.task == "multilabel":
        return calibrated(fit, np.asarray(y).reshape(len(task.y), -1))
    return balanced(fit) if balance and not task.numbers else fit


@dataclass(frozen=True)
class _Option:
    """Features, and how they may be standardised."""

    x: dict[str, Floats]
    weight: float | None
    own_signals: bool = False


_Standardised = tuple[dict[str, Scale], dict[str, Floats]]  # sensor -> by what, and features


def _checked(
    features: Mapping[str, NDArray[Any]],
    y: NDArray[Any],
    subject: NDArray[Any],
    classes: Sequence[str],
    present: NDArray[np.bool_] | None,
    target: Target,
    seed: int,
) -> tuple[dict[str, Floats], Task, Target]:
    labels = np.asarray(y).astype(np.int64 if target.of_classes else np.float64)
    n = len(labels)
    if n == 0 or not features:
        raise DataError(
            f"a readout was asked for from {n} windows of {len(features)} sensors; give at least one of each"
        )
    there = np.ones((n, len(features)), dtype=bool) if present is None else np.asarray(present, dtype=bool)
    sizes = {name: np.shape(f)[0] for name, f in features.items()}
    sizes |= {"subject": len(subject), "present": len(there)}
    for name, size in sizes.items():
        if size != n:
            raise DataError(f"{name} has {size} rows but y has {n}; make them equal")
    if not target.of_classes:
        labels = labels.reshape(n, -1)
        if labels.shape[1] != len(classes) or not np.isfinite(labels).all():
            raise DataError(
                f"y has shape {labels.shape} or is not finite, and {len(classes)} outputs are named; "
                "give one finite number for each"
            )
        target = target if target.mean else target.fitted(labels)
        labels = target.standardised(labels)
    elif labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(
            f"y holds the classes {labels.min()}..{labels.max()} but {len(classes)} are named; "
            "name all of them"
        )
    x = {}
    for m, (name, f) in enumerate(features.items()):
        x[name] = np.where(there[:, m, None], np.asarray(f, dtype=np.float32), np.float32(np.nan))
    alike = labels.astype(np.int64) if target.of_classes else np.zeros(n, np.int64)
    fold = folds_of(alike, np.asarray(subject), len(classes), seed)
    return x, Task(labels, len(classes), fold, there, tuple(features)), target


def standardised(
    scales: Mapping[str, Scale], x: Mapping[str, Floats], people: NDArray[Any], weight: float | None
) -> dict[str, Floats]:
    """Features of all sensors standardised by population (`weight` None) or person."""
    if weight is None:
        return {s: scales[s].apply(x[s]) for s in x}
    return {s: standardise_people(scales[s], x[s], people, weight) for s in x}


def _quality(task: Task, candidates: Sequence[Candidate]) -> Doubles:
    """Loss of each window under the heads of all candidates pooled, all sensors, `(N,)`."""
    everything = np.arange(len(task.sensors), dtype=np.intp)
    heads = [c.joint_scores(task, everything) for c in candidates if c.joint is not None]
    heads.append(
        as_scores(np.sum([best_view(candidates, s)[1] for s in task.sensors], axis=0), numbers=task.numbers)
    )
    stacked = np.stack(heads, axis=1)
    pool = fit_pool(stacked, task.y, towards=np.full(stacked.shape[1], 1 / stacked.shape[1]))
    return _losses(task, stacked, pool)


def _losses(task: Task, heads: Doubles, pool: Doubles) -> Doubles:
    """Loss of each window, `(N,)`: minus the log of its class's probability, or squared error."""
    answer = pooled(heads, pool, numbers=task.numbers)
    if task.numbers:
        return np.asarray(((answer - task.y) ** 2).mean(axis=1))
    return np.asarray(-answer[np.arange(len(task.y)), task.y])


def _pooled_losses(
    task: Task,
    candidates: tuple[Candidate, ...],
    parts: Parts,
    trees: TreeScores,
    scores: Floats,
    prior: Doubles,
    pools: Sequence[Doubles],
    sets: Sequence[tuple[str, ...]],
) -> Doubles:
    """Loss of each window under each pool, mean over some sets of sensors, `(pools, N)`."""
    found = np.zeros((len(pools), len(task.y)))
    for names in sets:
        chosen = np.array([task.sensors.index(s) for s in names], dtype=np.intp)
        heads = heads_out_of_person(task, candidates, parts, trees, scores, prior, chosen)
        for i, pool in enumerate(pools):
            found[i] += _losses(task, heads, pool[len(names) - 1]) / len(sets)
    return found


def _is_better(new: Doubles, old: Doubles, task: Task, *, by: float = 1.0) -> bool:
    """Whether a less simple choice pays: by more than so many standard errors over folds."""
    gain = np.array([(old - new)[task.fold == f].mean() for f in range(task.n_folds)])
    error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
    return bool(gain.mean() > by * error)


def _assemble(
    task: Task,
    classes: Sequence[str],
    target: Target,
    scales: Mapping[str, Scale],
    z: Mapping[str, Floats],
    candidates: tuple[Candidate, ...],
    weight: float | None,
    prior: Doubles,
    trees: bool | None,
    seed: int,
) -> Fit:
    grown, of_trees = tree_experts(task, z, trees, seed)
    tree_scores = TreeScores(of_trees, {})
    experts, columns, owner, losses = {}, [], [], {}
    for m, name in enumerate(task.sensors):
        view, own = best_view(candidates, name)
        linear = candidates[view].linear[name]
        weights, bias = linear.moments.solve(linear.shrink, np.zeros(task.n_classes))
        experts[name] = Expert(view, weights.astype(np.float32), bias.astype(np.float32))
        columns.append(own)
        owner += [m] * task.n_classes
        losses[name] = linear.loss
        if (name,) in of_trees:
            columns.append(of_trees[(name,)])
            owner += [m] * task.n_classes
    scores: Floats = np.concatenate(columns, axis=1).astype(np.float32)
    everyone = np.ones(len(task.y), dtype=bool)
    sums = sums_by_fold(task, scores, everyone)
    shrink, _, _ = choose_shrink(task, scores, everyone, sums)
    stack = Stack(total_of(sums).moments(), np.array(owner, dtype=np.intp), shrink)
    views = tuple(View(c.encodings, c.joint) for c in candidates)
    parts = Parts(scales, views, experts, grown, {}, stack)
    pool = fit_pools(task, candidates, parts, tree_scores, scores, prior)
    slim = _without_idle(candidates, parts, pool)
    if slim is not None:
        candidates, parts = slim
        experts = dict(parts.experts)
        pool = fit_pools(task, candidates, parts, tree_scores, scores, prior)
    if trees is not False:
        parts, pool, tree_scores = _with_boosting(
            task, z, candidates, parts, pool, tree_scores, scores, prior, seed
        )
    readout = Readout(task.sensors, tuple(classes), parts, prior, pool, weight, target)
    chosen = {
        "normalise": "population" if weight is None else "person",
        "encoding": {s: candidates[e.view].kind for s, e in experts.items()},
        "shrink": {s: candidates[e.view].linear[s].shrink for s, e in experts.items()},
        "loss": losses,
        "joint_shrink": {c.kind: c.joint.shrink for c in candidates if c.joint is not None},
        "stack_shrink": shrink,
        "boosted": bool(parts.boosted),
        "pool": {
            n + 1: dict(zip(readout.heads, np.round(row, 3).tolist(), strict=True))
            for n, row in enumerate(pool)
        },
    }
    return Fit(readout, task, candidates, tree_scores, scores, chosen)


def _with_boosting(
    task: Task,
    z: Mapping[str, Floats],
    candidates: tuple[Candidate, ...],
    parts: Parts,
    pool: Doubles,
    trees: TreeScores,
    scores: Floats,
    prior: Doubles,
    seed: int,
) -> tuple[Parts, Doubles, TreeScores]:
    """The same with boosted trees where they pay: looked at with all sensors, then with each one missing."""
    without = np.insert(pool, -1, 0.0, axis=1)
    sets = boosted_sets(task.sensors)
    boosted: Grown = {}
    answers: dict[tuple[str, ...], Doubles] = {}
    for looked_at, by in ((sets[:1], 1.0), (sets, SURE)):
        grown, own = boosted_trees(task, z, [s for s in looked_at if s not in boosted], seed)
        boosted, answers = boosted | grown, answers | own
        if not boosted:
            break
        more, more_scores = replace(parts, boosted=boosted), TreeScores(trees.grown, answers)
        sizes = {len(names) for names in looked_at} if looked_at is not sets else None
        new = fit_pools(task, candidates, more, more_scores, scores, prior, without=pool, sizes=sizes)
        losses = _pooled_losses(task, candidates, more, more_scores, scores, prior, (without, new), looked_at)
        if not _is_better(losses[1], losses[0], task, by=by):
            break
    else:
        return more, new, more_scores
    return parts, pool, trees


def _without_idle(
    candidates: tuple[Candidate, ...], parts: Parts, pool: Doubles
) -> tuple[tuple[Candidate, ...], Parts] | None:
    """The same without joint heads of next to no weight and views nobody reads; `None` if there are none."""
    joint = [i for i, c in enumerate(candidates) if c.joint is not None]
    idle = {i for at, i in enumerate(joint) if pool[:, at].max() < _IDLE}
    read = {e.view for e in parts.experts.values()}
    keep = [i for i, c in enumerate(candidates) if i in read or (c.joint is not None and i not in idle)]
    if not idle and len(keep) == len(candidates):
        return None
    left = [
        replace(candidates[i], joint=None, joint_folds=(), columns=()) if i in idle else candidates[i]
        for i in keep
    ]
    used = {i: {s for s, e in parts.experts.items() if e.view == i} for i in keep}
    views = tuple(
        View(
            {s: e for s, e in c.encodings.items() if c.joint is not None or s in used[i]},
            c.joint,
        )
        for i, c in zip(keep, left, strict=True)
    )
    experts = {s: replace(e, view=keep.index(e.view)) for s, e in parts.experts.items()}
    return tuple(left), replace(parts, views=views, experts=experts)
