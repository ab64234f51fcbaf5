"""Every number of the tables, as one dictionary that JSON can hold.

Scores and gains are in points (0..100) here; `None` where there is no number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sentryfuse.study.report.answers import Answers
from sentryfuse.study.report.bootstrap import Difference, Interval, intervals
from sentryfuse.study.report.cells import NO_LINE, Bools, Floats, Grid, make_grid, mean_over_replicates
from sentryfuse.study.report.comparison import (
    OURS,
    OWN_TRAINING,
    REGIONS,
    Gains,
    compare,
    comparisons,
    is_baseline,
    lines_of_best,
    variants,
    won_tied_lost,
)
from sentryfuse.study.report.lines import Study

SCHEMA = 1
NO_LOSS_RATIOS = (0.6, 0.8)
N_LOSSES = 12
METHOD_PARTS = {"scorer": None, "sensors": "aware", "allocation": "global", "repair": "none"}
Row = dict[str, Any]


def summarize_study(study: Study, *, ours: str | None = None, seed: int = 0) -> Row:
    """Compare, and count everything the tables show.

    Args:
        study: what was read.
        ours: our method on the training `gate`; by default `gate/aware`.
        seed: of the bootstrap.

    Returns:
        `study` (what was run), `comparisons`, `no_loss`, `ablation` and `systems`; the same lines
        give the same numbers.

    Raises:
        ConfigError: our method was not run, or lines contradict each other.
        InputError: answers are damaged or belong to other lines.
    """
    grid = make_grid(study.lines, study.design)
    asked: list[tuple[Row, str, Difference]] = []
    made = [
        _comparison(grid, compare(grid, item, protocol), asked)
        for item in comparisons(grid, ours)
        for protocol in grid.protocols
    ]
    main = grid.find(OWN_TRAINING, ours or OURS)
    no_loss = [] if main is None else list(_no_loss(grid, main, asked))
    ablation = [] if main is None else list(_ablation(grid, main, asked))
    answers = Answers(grid, study.answers) if study.answers else None
    found = intervals(grid, [item for _, _, item in asked], answers, seed=seed)
    for (row, key, _), interval in zip(asked, found, strict=True):
        row[key] = _interval(interval)
    return {
        "schema": SCHEMA,
        "study": _about(grid, study, ours or OURS),
        "comparisons": made,
        "no_loss": no_loss,
        "ablation": ablation,
        "systems": list(_systems(grid)),
    }


def _about(grid: Grid, study: Study, ours: str) -> Row:
    """What was run."""
    windows: dict[str, list[int]] = {}
    for line in study.lines:
        if line.n_windows is not None and line.n_windows not in windows.setdefault(line.dataset, []):
            windows[line.dataset].append(line.n_windows)
    n_trained = len({(ln.backbone, ln.dataset, ln.seed, ln.fold, ln.training) for ln in study.lines})
    return {
        "ours": ours,
        "n_lines": len(study.lines),
        "n_repeated": study.n_repeated,
        "n_torn": study.n_torn,
        "n_trainings": n_trained,
        "n_systems": len(grid.systems),
        "not_run": _not_run(grid, study.design),
        "n_cells": grid.n_cells,
        "backbones": list(grid.backbones),
        "datasets": [
            {
                "name": name,
                "score": grid.metrics[name],
                "replicates": [[r.seed, r.fold] for r in grid.replicates[name]],
                "replicates_wanted": grid.n_wanted[name],
                "n_windows": sorted(windows.get(name, [])),
            }
            for name in grid.datasets
        ],
        "ratios": list(grid.ratios),
        "missing_rates": list(grid.missing_rates),
        "protocols": list(grid.protocols),
        "trainings": list(grid.trainings),
        "design": study.design,
    }


def _not_run(grid: Grid, design: Row) -> list[str]:
    """Methods of the design that have no line on a training they are meant for."""
    run = {(s.training, s.scorer, s.sensors, s.allocation, s.repair) for s in grid.systems}
    lacking = []
    for method in design.get("methods", []):
        parts = [method.get(part, usual) for part, usual in METHOD_PARTS.items()]
        for training in method.get("trainings") or design.get("trainings", []):
            if (training, *parts) not in run:
                lacking.append(f"{'/'.join(map(str, parts))} on {training}")
    return lacking


def _comparison(grid: Grid, gains: Gains, asked: list[tuple[Row, str, Difference]]) -> Row:
    """One comparison under one protocol; intervals are asked for, and come later."""
    item, plane = gains.comparison, grid.protocols.index(gains.protocol)
    there = ~np.isnan(gains.over_best)
    ours_at, best_at = grid.at[item.ours, plane], lines_of_best(grid, gains)
    single_at = grid.at[gains.single, plane]
    regions = []
    for region in REGIONS:
        cells = np.broadcast_to(region.cells(grid), there.shape)
        row = {"cells": region.name, **_gain_row(gains, cells)}
        asked.append((row, "over_best_interval", Difference(ours_at, best_at, cells)))
        asked.append((row, "over_single_interval", Difference(ours_at, single_at, cells)))
        regions.append(row)
    return {
        "name": item.name,
        "title": item.title,
        "protocol": gains.protocol,
        "ours": grid.systems[item.ours].label,
        "n_baselines": len(item.baselines),
        "baselines": [grid.systems[n].label for n in item.baselines],
        "best_single": grid.systems[gains.single].label,
        "n_cells": grid.n_cells,
        "n_present": int(there.sum()),
        "n_whole": int((gains.whole & there).sum()),
        "regions": regions,
        "groups": _groups(grid, gains),
        "losses": _losses(grid, gains),
        "gains": _cells_of(grid, gains),
    }


def _gain_row(gains: Gains, cells: Bools) -> Row:
    """Means over some cells."""
    best, single = cells & ~np.isnan(gains.over_best), cells & ~np.isnan(gains.over_single)
    won, tied, lost = won_tied_lost(gains.over_best[cells])
    return {
        "n_cells": int(best.sum()),
        "ours": _points(gains.ours[best]),
        "best": _points(gains.best_score[best]),
        "over_best": _points(gains.over_best[best]),
        "over_best_relative": _relative(gains.over_best[best], gains.best_score[best]),
        "single": _points(gains.single_score[single]),
        "over_single": _points(gains.over_single[single]),
        "over_single_relative": _relative(gains.over_single[single], gains.single_score[single]),
        "won": won,
        "tied": tied,
        "lost": lost,
    }


def _groups(grid: Grid, gains: Gains) -> list[Row]:
    """The same per data set, per backbone and for each pair, in all regions."""
    rows = []
    picks: list[tuple[int | None, int | None]] = [(None, d) for d in range(len(grid.datasets))]
    picks += [(b, None) for b in range(len(grid.backbones))]
    picks += [(b, d) for d in range(len(grid.datasets)) for b in range(len(grid.backbones))]
    for backbone, dataset in picks:
        chosen = np.zeros(gains.ours.shape, dtype=bool)
        chosen[slice(None) if backbone is None else backbone, slice(None) if dataset is None else dataset] = (
            True
        )
        for region in REGIONS:
            rows.append(
                {
                    "dataset": None if dataset is None else grid.datasets[dataset],
                    "backbone": None if backbone is None else grid.backbones[backbone],
                    "cells": region.name,
                    **_gain_row(gains, chosen & region.cells(grid)),
                }
            )
    return rows


def _losses(grid: Grid, gains: Gains) -> list[Row]:
    """The cells we lose by most, at most a dozen; ties are no loss."""
    rows = [row for row in _cells_of(grid, gains) if won_tied_lost(np.array([row["gain"] / 100]))[2]]
    return sorted(rows, key=lambda row: row["gain"])[:N_LOSSES]


def _cells_of(grid: Grid, gains: Gains) -> list[Row]:
    """Every cell that has a gain."""
    rows = []
    for cell in np.argwhere(~np.isnan(gains.over_best)):
        b, d, r, m = cell.tolist()
        at = (b, d, r, m)
        rows.append(
            {
                "backbone": grid.backbones[b],
                "dataset": grid.datasets[d],
                "ratio": grid.ratios[r],
                "missing_rate": grid.missing_rates[m],
                "ours": 100 * float(gains.ours[at]),
                "best": 100 * float(gains.best_score[at]),
                "baseline": grid.systems[gains.best[at]].label,
                "gain": 100 * float(gains.over_best[at]),
                "whole": bool(gains.whole[at]),
            }
        )
    return rows


def _no_loss(grid: Grid, ours: int, asked: list[tuple[Row, str, Difference]]) -> Iterator[Row]:
    """Ours at high ratios against the same model unpruned with the same sensors."""
    dense_at = grid.dense_at[grid.trainings.index(grid.systems[ours].training)]
    for plane, protocol in enumerate(grid.protocols):
        ours_at = grid.at[ours, plane]
        against = np.broadcast_to(dense_at[:, :, None], ours_at.shape)
        change = mean_over_replicates(grid.scores(ours_at) - grid.scores(against))
        pruned = mean_over_replicates(grid.scores(ours_at))
        dense = mean_over_replicates(np.where(ours_at == NO_LINE, np.nan, grid.scores(against)))
        for ratio in (r for r in NO_LOSS_RATIOS if r in grid.ratios):
            for rate in (None, *grid.missing_rates):
                cells = np.zeros(change.shape, dtype=bool)
                rates = slice(None) if rate is None else grid.missing_rates.index(rate)
                cells[:, :, grid.ratios.index(ratio), rates] = True
                cells &= ~np.isnan(change)
                row: Row = {
                    "protocol": protocol,
                    "ratio": ratio,
                    "missing_rate": rate,
                    "n_cells": int(cells.sum()),
                    "dense": _points(dense[cells]),
                    "ours": _points(pruned[cells]),
                    "change": _points(change[cells]),
                }
                asked.append((row, "change_interval", Difference(ours_at, against, cells)))
                yield row


def _ablation(grid: Grid, ours: int, asked: list[tuple[Row, str, Difference]]) -> Iterator[Row]:
    """Ours against systems that differ from it in one part."""
    me = grid.systems[ours]
    for plane, protocol in enumerate(grid.protocols):
        ours_at = grid.at[ours, plane]
        for part, number in variants(grid, ours):
            other_at = grid.at[number, plane]
            gain = mean_over_replicates(grid.scores(ours_at) - grid.scores(other_at))
            level = mean_over_replicates(np.where(ours_at == NO_LINE, np.nan, grid.scores(other_at)))
            there = ~np.isnan(gain)
            if not there.any():
                continue
            row: Row = {
                "protocol": protocol,
                "part": part,
                "ours": getattr(me, part),
                "other": getattr(grid.systems[number], part),
                "system": grid.systems[number].label,
                "n_cells": int(there.sum()),
                "score": _points(level[there]),
                "gains": {},
            }
            for region in REGIONS:
                cells = there & region.cells(grid)
                found: Row = {"gain": _points(gain[cells])}
                asked.append((found, "interval", Difference(ours_at, other_at, cells)))
                row["gains"][region.name] = found
            yield row


def _systems(grid: Grid) -> Iterator[Row]:
    """The mean score of every system, the best first."""
    for plane, protocol in enumerate(grid.protocols):
        rows: list[Row] = []
        for number, system in enumerate(grid.systems):
            scores = mean_over_replicates(grid.scores(grid.at[number, plane]))
            there = ~np.isnan(scores)
            if not there.any():
                continue
            means = {
                region.name: _points(scores[there & np.broadcast_to(region.cells(grid), there.shape)])
                for region in REGIONS
            }
            row: Row = {
                "protocol": protocol,
                "training": system.training,
                "method": system.method,
                "baseline": is_baseline(system),
                "n_cells": int(there.sum()),
                "scores": means,
            }
            rows.append(row)
        yield from sorted(rows, key=lambda row: (-row["n_cells"], -row["scores"][REGIONS[0].name]))


def _points(values: Floats) -> float | None:
    """Mean in points."""
    return 100 * float(values.mean()) if len(values) else None


def _relative(gains: Floats, levels: Floats) -> float | None:
    """Mean gain as a share of the mean level [%]."""
    return 100 * float(gains.mean() / levels.mean()) if len(gains) and levels.mean() > 0 else None


def _interval(found: Interval | None) -> Row | None:
    if found is None:
        return None
    return {"low": 100 * found.low, "high": 100 * found.high, "over": found.over}
