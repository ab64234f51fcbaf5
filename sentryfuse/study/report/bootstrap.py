"""95 % intervals of mean differences, by resampling what could have come out otherwise.

Where the answers of all lines are there, windows are resampled, the same ones for both sides, and
replicates; otherwise replicates and cells. A baseline that was chosen stays chosen.

Notation as in `cells`; X strata, one per backbone and data set; C cells of a stratum; N windows; n draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import InputError
from sentryfuse.study.report.answers import Answers
from sentryfuse.study.report.cells import NO_LINE, Bools, Floats, Grid, Ints, mean_over_replicates

DRAWS = 2000
LEVEL = 0.95
WINDOWS, CELLS, SEEDS = "windows", "cells", "seeds and "


@dataclass(frozen=True)
class Difference:
    """The mean over cells of one side less another.

    Attributes:
        ours: line numbers, `(B, D, R, M, K)`, -1 where nothing is.
        theirs: line numbers of the other side, the same shape.
        cells: which cells count, `(B, D, R, M)`.
    """

    ours: Ints
    theirs: Ints
    cells: Bools


class Interval(NamedTuple):
    """Where the mean lies in 95 % of the draws.

    Attributes:
        low: 2.5 % quantile, a share.
        high: 97.5 % quantile, a share.
        over: what was resampled.
    """

    low: float
    high: float
    over: str


def intervals(
    grid: Grid,
    differences: Sequence[Difference],
    answers: Answers | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Interval | None]:
    """A percentile interval for each difference.

    Replicates are resampled within each backbone and data set, the same ones for all its cells, which
    share their trainings. A window of a recording counts as often in everything that was scored on it;
    how often is drawn from a Poisson distribution, and windows of one training then sum to one.

    Args:
        grid: where the lines stand.
        differences: what is asked; each stands for itself.
        answers: answers behind the lines, where they were kept.
        draws: how often to resample.
        seed: of the draws; the same seed gives the same intervals.

    Returns:
        One each, `None` where no cell has both sides.

    Raises:
        InputError: answers are damaged or belong to other lines.
    """
    rng = np.random.default_rng(seed)
    # with one training of each kind there is nothing to learn about seeds
    seeds = SEEDS if any(len(found) > 1 for found in grid.replicates.values()) else ""
    counts = _replicate_counts(grid, draws, rng)
    cases = [_Case(grid, item) for item in differences]
    found: list[Interval | None] = [None] * len(cases)
    covered = []
    for number, case in enumerate(cases):
        if not case.n_cells:
            continue
        if answers is not None and case.is_covered(grid, answers):
            covered.append(number)
        else:
            drawn = case.draw_cells(counts, np.random.default_rng(seed + 1))
            found[number] = _interval(drawn, seeds + CELLS)
    if answers is not None and covered:
        of_windows = _draw_windows(grid, [cases[n] for n in covered], answers, counts, rng)
        for number, drawn in zip(covered, of_windows, strict=True):
            found[number] = _interval(drawn, seeds + WINDOWS)
    return found


def _interval(drawn: Floats, over: str) -> Interval:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), over)


def _replicate_counts(grid: Grid, draws: int, rng: np.random.Generator) -> Floats:
    """How much each replicate counts in each draw, `(n, X, K)`, summing to 1 over K."""
    n_replicates = grid.at.shape[-1]
    counts = np.zeros((draws, len(grid.backbones), len(grid.datasets), n_replicates))
    for number, name in enumerate(grid.datasets):
        k = len(grid.replicates.get(name, ()))
        if k:
            drawn = rng.multinomial(k, [1 / k] * k, size=(draws, len(grid.backbones)))
            counts[:, :, number, :k] = drawn / k
    return counts.reshape(draws, -1, n_replicates)


class _Case:
    """One difference, its cells in strata."""

    def __init__(self, grid: Grid, item: Difference) -> None:
        n_strata = len(grid.backbones) * len(grid.datasets)
        n_replicates = item.ours.shape[-1]
        both = (item.ours != NO_LINE) & (item.theirs != NO_LINE) & item.cells[..., None]
        shape = (n_strata, -1, n_replicates)
        self.ours = np.where(both, item.ours, NO_LINE).reshape(shape)  # (X, C, K)
        self.theirs = np.where(both, item.theirs, NO_LINE).reshape(shape)
        self.there = both.reshape(shape)
        self.used = self.there.any(axis=-1)  # (X, C)
        self.n_cells = int(self.used.sum())
        gains = grid.scores(self.ours) - grid.scores(self.theirs)
        mean = mean_over_replicates(gains)[..., None]
        # a replicate that is missing counts as the mean of the others: the mean stays what it is
        self.gains = np.where(np.isnan(gains), mean, gains)

    def is_covered(self, grid: Grid, answers: Answers) -> bool:
        """Whether every line of every replicate is there, with its answers."""
        n_of_dataset = [len(grid.replicates.get(name, ())) for name in grid.datasets]
        wanted = np.tile(n_of_dataset, len(grid.backbones))[:, None]
        if not (self.there.sum(axis=-1) == wanted)[self.used].all():
            return False
        return all(int(n) in answers for n in np.unique([self.ours[self.there], self.theirs[self.there]]))

    def draw_cells(self, counts: Floats, rng: np.random.Generator) -> Floats:
        """Means over resampled replicates and cells, `(n,)`."""
        strata, cells = np.nonzero(self.used)
        gains = self.gains[strata, cells]  # (cells, K)
        drawn = np.einsum("nck,ck->nc", counts[:, strata], gains, optimize=True)
        picked = rng.integers(0, len(gains), size=drawn.shape)
        return np.asarray(np.take_along_axis(drawn, picked, axis=1).mean(axis=1), dtype=np.float64)


def _draw_windows(
    grid: Grid, cases: Sequence[_Case], answers: Answers, counts: Floats, rng: np.random.Generator
) -> Floats:
    """Means over resampled replicates and windows, `(cases, n)`."""
    draws, n_strata, n_replicates = counts.shape
    total = np.zeros((len(cases), draws))
    counted: dict[str, NDArray[np.float32]] = {}
    for stratum in range(n_strata):
        dataset = grid.datasets[stratum % len(grid.datasets)]
        for replicate in range(n_replicates):
            coefficients = _coefficients(cases, stratum, replicate)
            if not coefficients:
                continue
            numbers = sorted({number for row in coefficients.values() for number in row})
            read = answers.read(numbers)
            windows = read[numbers[0]].windows
            if any(not np.array_equal(other.windows, windows) for other in read.values()):
                raise InputError(
                    f"answers of one training on {dataset} are of different windows; delete the answers or "
                    "run the study again"
                )
            column = {number: position for position, number in enumerate(numbers)}
            share = np.zeros((len(cases), len(numbers)), dtype=np.float32)
            for case, row in coefficients.items():
                for number, value in row.items():
                    share[case, column[number]] = value
            values = np.stack([read[number].values for number in numbers]).astype(np.float32)
            times = counted.get(dataset, np.empty((draws, 0), dtype=np.float32))
            if (lacking := int(windows.max()) + 1 - times.shape[1]) > 0:
                more = rng.poisson(1.0, size=(draws, lacking)).astype(np.float32)
                counted[dataset] = times = np.hstack([times, more])
            weights = times[:, windows]
            weights[weights.sum(axis=1) == 0] = 1  # nothing was drawn of very few windows: all of them then
            weights /= weights.sum(axis=1, keepdims=True)
            drawn = (share @ values) @ weights.T  # (cases, n)
            total += drawn * counts[:, stratum, replicate]
    return total


def _coefficients(cases: Sequence[_Case], stratum: int, replicate: int) -> dict[int, dict[int, float]]:
    """Case -> line number -> how much it counts in the mean over cells of one training."""
    found: dict[int, dict[int, float]] = {}
    for number, case in enumerate(cases):
        used = case.there[stratum, :, replicate]
        row: dict[int, float] = {}
        for lines, sign in ((case.ours, 1.0), (case.theirs, -1.0)):
            for line in lines[stratum, used, replicate].tolist():
                row[line] = row.get(line, 0.0) + sign / case.n_cells
        if row:
            found[number] = row
    return found
