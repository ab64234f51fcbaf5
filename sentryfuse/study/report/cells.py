"""Lines in order: an array with the number of the line of every system and cell.

Notation: S systems, P protocols, B backbones, D data sets, R ratios, M missing rates, K replicates (a
seed with its fold of people; the trainings a cell is averaged over).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.study.design import DENSE
from sentryfuse.study.lines import Line

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]
PROTOCOLS = ("present", "full")
NO_LINE = -1


class System(NamedTuple):
    """A training and a method: what is compared.

    Attributes:
        training: how the checkpoint was trained.
        method: readable name of what made it smaller.
        scorer: what ranks the units.
        sensors: `aware` of the sensors that are there, or `blind`.
        allocation: `global` or `uniform`.
        repair: of the sliced weights.
    """

    training: str
    method: str
    scorer: str
    sensors: str
    allocation: str
    repair: str

    @property
    def label(self) -> str:
        """Method and training in few words."""
        return f"{self.method} on {self.training}"


class Replicate(NamedTuple):
    """One training of several that a cell is averaged over."""

    seed: int
    fold: int | str | None


@dataclass(frozen=True)
class Grid:
    """Every line at its place.

    Attributes:
        at: line numbers, `(S, P, B, D, R, M, K)`, -1 where nothing was run.
        dense_at: line numbers of the unpruned models, `(T, B, D, M, K)`, T trainings.
        line_scores: score of every line, 0..1, `(lines,)`.
        metrics: data set -> `accuracy` or `auroc`.
        replicates: data set -> its replicates, at most K.
        n_wanted: data set -> how many replicates a whole cell has.
    """

    lines: tuple[Line, ...]
    systems: tuple[System, ...]
    trainings: tuple[str, ...]
    protocols: tuple[str, ...]
    backbones: tuple[str, ...]
    datasets: tuple[str, ...]
    ratios: tuple[float, ...]
    missing_rates: tuple[float, ...]
    replicates: dict[str, tuple[Replicate, ...]]
    n_wanted: dict[str, int]
    metrics: dict[str, str]
    line_scores: Floats
    at: Ints
    dense_at: Ints

    @property
    def n_cells(self) -> int:
        """How many cells the study has."""
        return len(self.backbones) * len(self.datasets) * len(self.ratios) * len(self.missing_rates)

    def scores(self, at: Ints) -> Floats:
        """Scores of line numbers, NaN where there is no line; same shape."""
        return np.where(at == NO_LINE, np.nan, self.line_scores[at])

    def find(self, training: str, method: str) -> int | None:
        """Number of a system, `None` where it was not run."""
        for number, system in enumerate(self.systems):
            if (system.training, system.method) == (training, method):
                return number
        return None


def make_grid(lines: Sequence[Line], design: dict[str, Any] | None = None) -> Grid:
    """Put lines in order.

    A blind plan is the same under both protocols, and so is every plan where no sensor is missing, so
    such a line stands under both.

    Args:
        lines: every evaluation once.
        design: what was to be run, where known: `backbones`, `datasets` (name -> its `turns`, one per
            replicate), `ratios` and `missing_rates`, all optional.

    Returns:
        The grid; data sets with two classes are scored by AUROC, others by accuracy.

    Raises:
        ConfigError: no pruned line, a method that means two things, or a line without AUROC in a data
            set that has it elsewhere.
    """
    design = design or {}
    systems = _systems(lines)
    if not systems:
        raise ConfigError("there is no line with a ratio above 0; run the study further")
    pruned = [line for line in lines if not line.is_dense]
    backbones = _axis(design.get("backbones"), (line.backbone for line in lines))
    planned = design.get("datasets", {})
    datasets = _axis(list(planned), (line.dataset for line in lines))
    ratios = tuple(r for r in _axis(design.get("ratios"), (line.ratio for line in pruned)) if r > 0)
    rates = _axis(design.get("missing_rates"), (line.missing_rate for line in lines))
    trainings = _axis(None, (line.training for line in lines))
    protocols = tuple(p for p in PROTOCOLS if any(line.protocol == p for line in pruned)) or PROTOCOLS[:1]
    replicates = {
        name: tuple(sorted({Replicate(ln.seed, ln.fold) for ln in lines if ln.dataset == name}, key=str))
        for name in datasets
    }
    n_replicates = max(map(len, replicates.values()))
    n_wanted = {
        name: max(len(planned[name].get("turns", ())) if planned else n_replicates, len(found))
        for name, found in replicates.items()
    }

    number_of = [
        {value: number for number, value in enumerate(values)}
        for values in (systems, protocols, backbones, datasets, ratios, rates, trainings)
    ]
    of_system, of_protocol, of_backbone, of_dataset, of_ratio, of_rate, of_training = number_of
    of_replicate = {
        name: {value: number for number, value in enumerate(found)} for name, found in replicates.items()
    }
    sizes = [len(values) for values in (systems, protocols, backbones, datasets, ratios, rates)]
    at = np.full((*sizes, n_replicates), NO_LINE, dtype=np.intp)
    dense_at = np.full(
        (len(trainings), len(backbones), len(datasets), len(rates), n_replicates), NO_LINE, dtype=np.intp
    )
    for number, line in enumerate(lines):
        where = (of_backbone[line.backbone], of_dataset[line.dataset])
        rate = of_rate[line.missing_rate]
        replicate = of_replicate[line.dataset][Replicate(line.seed, line.fold)]
        if line.is_dense:
            dense_at[(of_training[line.training], *where, rate, replicate)] = number
            continue
        system = of_system[_system(line)]
        cell = (*where, of_ratio[line.ratio], rate, replicate)
        same = line.protocol is None or line.sensors == "blind" or line.missing_rate == 0
        for protocol, plane in of_protocol.items():
            if line.protocol == protocol or (same and at[(system, plane, *cell)] == NO_LINE):
                at[(system, plane, *cell)] = number
    metrics = {name: _metric(name, [ln for ln in lines if ln.dataset == name]) for name in datasets}
    line_scores = np.array([getattr(line, metrics[line.dataset]) for line in lines], dtype=np.float64)
    return Grid(
        tuple(lines), systems, trainings, protocols, backbones, datasets, ratios, rates, replicates,
        n_wanted, metrics, line_scores, at, dense_at,
    )  # fmt: skip


def mean_over_replicates(values: Floats) -> Floats:
    """Mean over the last axis of what is there; NaN where nothing is."""
    there = ~np.isnan(values)
    n = there.sum(axis=-1)
    total = np.where(there, values, 0.0).sum(axis=-1)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _axis(planned: Any, found: Iterable[Any]) -> tuple[Any, ...]:
    """The design's values in its order, otherwise those found, numbers ascending."""
    values = list(dict.fromkeys(found))
    if planned and set(values) - {0.0} <= set(planned):
        return tuple(planned)
    return tuple(sorted(values) if all(isinstance(v, float | int) for v in values) else values)


def _system(line: Line) -> System:
    return System(
        line.training, line.method, line.scorer or "", line.sensors or "", line.allocation or "",
        line.repair or "none",
    )  # fmt: skip


def _systems(lines: Sequence[Line]) -> tuple[System, ...]:
    """Every system once; a readable name must not stand for two methods."""
    found: dict[tuple[str, str], System] = {}
    for line in lines:
        if line.is_dense:
            continue
        if line.method == DENSE:
            raise ConfigError(f"line {line.key!r} is called {DENSE} at ratio {line.ratio:g}; mend its name")
        system = _system(line)
        before = found.setdefault((line.training, line.method), system)
        if before != system:
            raise ConfigError(
                f"method {line.method!r} means both {'/'.join(before[2:])} and {'/'.join(system[2:])}; "
                "give every method its own name"
            )
    return tuple(found.values())


def _metric(dataset: str, lines: Sequence[Line]) -> str:
    without = [line for line in lines if line.auroc is None]
    if len(without) == len(lines):
        return "accuracy"
    if without:
        raise ConfigError(f"line {without[0].key!r} has no auroc, others of {dataset} have; score them alike")
    return "auroc"
