"""Which systems are compared, and the gain in every cell.

Notation as in `cells`; scores and gains are shares, 0.01 is one point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sentryfuse.errors import ConfigError
from sentryfuse.study.report.cells import (
    NO_LINE,
    Bools,
    Floats,
    Grid,
    Ints,
    System,
    mean_over_replicates,
)

OURS = "gate/aware"
OWN_SCORER = "gate"
OWN_TRAINING = "gate"
PLAIN = "plain"
TRAININGS = ("plain", "gate", "static", "taylor")
TIE = 0.005
# Upper references, which no device could use: they are shown, but are no bar.
REFERENCES = {"oracle", "finetuned", "tuned"}


class Region(NamedTuple):
    """Some of the cells, named by their lowest ratio and missing rate."""

    name: str
    least_ratio: float
    least_rate: float

    def cells(self, grid: Grid) -> Bools:
        """Which cells belong to it, `(R, M)`."""
        ratios = np.array(grid.ratios) >= self.least_ratio - 1e-9
        rates = np.array(grid.missing_rates) >= self.least_rate - 1e-9
        return ratios[:, None] & rates[None, :]


REGIONS = (
    Region("all cells", 0.0, 0.0),
    Region("r >= 0.4", 0.4, 0.0),
    Region("r >= 0.6 and missing >= 0.4", 0.6, 0.4),
    Region("missing >= 0.4", 0.0, 0.4),
)


@dataclass(frozen=True)
class Comparison:
    """One system of ours and the baselines it must beat, as numbers into `Grid.systems`."""

    name: str
    title: str
    ours: int
    baselines: tuple[int, ...]


@dataclass(frozen=True)
class Gains:
    """One comparison under one protocol; every array `(B, D, R, M)`, NaN or -1 where nothing is.

    Attributes:
        ours: our score, mean over replicates.
        best: number of the system that is the best baseline of the cell.
        over_best: gain over it, mean over the replicates both have.
        best_score: its score over the same replicates.
        single: number of the best single baseline, the same in all cells.
        over_single: gain over it.
        single_score: its score.
        whole: cells in which we and every baseline have all replicates.
    """

    comparison: Comparison
    protocol: str
    ours: Floats
    best: Ints
    over_best: Floats
    best_score: Floats
    single: int
    over_single: Floats
    single_score: Floats
    whole: Bools


def comparisons(grid: Grid, ours: str | None = None) -> tuple[Comparison, ...]:
    """The comparisons the lines allow.

    `headline`: our method on its own training against every baseline on the plain training, as a
    paper has it; `headline-blind`: against those baselines that do not know which sensors are
    missing; `headline-no-ridge`: without the closed-form affine repair, which is part of our toolbox and
    of CORP; `A`: the same plain checkpoint, only the scorer differs; `B`: against every baseline on
    every training. A baseline is a method whose scorer is not the gate.

    Args:
        grid: where the lines stand.
        ours: our method; by default `gate/aware`.

    Returns:
        Those that have at least one baseline.

    Raises:
        ConfigError: our method was not run.
    """
    method = ours or OURS
    main = grid.find(OWN_TRAINING, method)
    plain = grid.find(PLAIN, method)
    if main is None and plain is None:
        there = sorted({s.method for s in grid.systems if s.training == OWN_TRAINING})
        raise ConfigError(
            f"method {method!r} on training {OWN_TRAINING!r} has no lines; there is "
            f"{', '.join(there) or 'nothing'} on it; choose another or run the study further"
        )

    def baselines(among: Callable[[System], bool]) -> tuple[int, ...]:
        return tuple(
            n for n, s in enumerate(grid.systems) if n not in (main, plain) and is_baseline(s) and among(s)
        )

    made = []
    if main is not None:
        title = f"Headline: {method}, elastic training, against baselines on their plain checkpoint"
        made += [
            Comparison("headline", title, main, baselines(lambda s: s.training == PLAIN)),
            Comparison(
                "headline-blind",
                f"{title}, sensor-blind ones only",
                main,
                baselines(lambda s: s.training == PLAIN and s.sensors == "blind"),
            ),
            Comparison(
                "headline-no-ridge",
                f"{title}, without the affine repair",
                main,
                baselines(lambda s: s.training == PLAIN and s.repair != "ridge"),
            ),
        ]
    if plain is not None:
        alike = grid.systems[plain]
        made.append(
            Comparison(
                "A",
                f"Table A: {method} on the plain checkpoint, only the scorer differs",
                plain,
                baselines(lambda s: differences(s, alike) == ["scorer"]),
            )
        )
    if main is not None:
        title = "Table B: full systems, every baseline on every training"
        made.append(Comparison("B", title, main, baselines(lambda _: True)))
    return tuple(item for item in made if item.baselines)


def is_baseline(system: System) -> bool:
    """Whether a system counts as a baseline: not ranked by the gate, and no upper reference."""
    words = set(system.scorer.split("-"))
    return system.training in TRAININGS and OWN_SCORER not in words and not words & REFERENCES


def differences(one: System, other: System) -> list[str]:
    """Names of the parts in which two systems differ, the readable name left aside."""
    parts = ("training", "scorer", "sensors", "allocation", "repair")
    return [part for part in parts if getattr(one, part) != getattr(other, part)]


def compare(grid: Grid, comparison: Comparison, protocol: str) -> Gains:
    """The gain in every cell over the best baseline of the cell and over the best single one.

    Cells are means over replicates; a gain is the mean of the differences within the replicates that
    both sides have. The best single baseline has the highest mean over our cells among the baselines
    that have the most of them.

    Args:
        grid: where the lines stand.
        comparison: the systems compared.
        protocol: what the ratio refers to.

    Returns:
        The gains.
    """
    plane = grid.protocols.index(protocol)
    ours = grid.scores(grid.at[comparison.ours, plane])
    theirs = grid.scores(grid.at[list(comparison.baselines), plane])
    gains = mean_over_replicates(ours - theirs)
    levels = mean_over_replicates(np.where(np.isnan(ours), np.nan, theirs))
    there = ~np.isnan(gains)
    some = there.any(axis=0)
    first = np.where(there, gains, np.inf).argmin(axis=0)
    covered = there.sum(axis=(1, 2, 3, 4))
    means = np.where(there, gains, 0).sum(axis=(1, 2, 3, 4)) / np.maximum(covered, 1)
    single = int(np.where(covered == covered.max(), means, np.inf).argmin())
    wanted = np.array([grid.n_wanted[name] for name in grid.datasets])[None, :, None, None]
    enough = (~np.isnan(ours)).sum(axis=-1) == wanted
    enough &= ((~np.isnan(theirs)).sum(axis=-1) == wanted).all(axis=0)
    return Gains(
        comparison,
        protocol,
        ours=mean_over_replicates(ours),
        best=np.where(some, np.array(comparison.baselines)[first], NO_LINE),
        over_best=_picked(gains, first),
        best_score=_picked(levels, first),
        single=comparison.baselines[single],
        over_single=gains[single],
        single_score=levels[single],
        whole=enough,
    )


def won_tied_lost(gains: Floats) -> tuple[int, int, int]:
    """Cells above, within and below half a point; cells without a gain count nowhere."""
    found = gains[~np.isnan(gains)]
    # a gain of exactly 0.5 points is a tie, however its digits fall in binary
    won, lost = int((found > TIE + 1e-12).sum()), int((found < -TIE - 1e-12).sum())
    return won, len(found) - won - lost, lost


def lines_of_best(grid: Grid, gains: Gains) -> Ints:
    """Line numbers of the best baseline of each cell, `(B, D, R, M, K)`."""
    plane = grid.protocols.index(gains.protocol)
    of_all = grid.at[:, plane]
    picked = np.take_along_axis(of_all, gains.best[None, ..., None], axis=0)[0]
    return np.where(gains.best[..., None] == NO_LINE, NO_LINE, picked)


def variants(grid: Grid, ours: int) -> Sequence[tuple[str, int]]:
    """Systems that differ from ours in one part, as (part, number), in order of the parts."""
    me = grid.systems[ours]
    found = [(differences(s, me), n) for n, s in enumerate(grid.systems)]
    order = ("repair", "sensors", "allocation", "scorer", "training")
    single = [(parts[0], n) for parts, n in found if len(parts) == 1]
    return sorted(single, key=lambda item: order.index(item[0]))


def _picked(values: Floats, first: Ints) -> Floats:
    return np.asarray(np.take_along_axis(values, first[None], axis=0)[0], dtype=np.float64)
