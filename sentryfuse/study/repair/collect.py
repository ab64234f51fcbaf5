"""Training windows through a model -> moments of what enters every last product; needs torch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentryfuse.data import Windows, batches
from sentryfuse.data.presence import Curriculum
from sentryfuse.errors import ConfigError
from sentryfuse.model import Selection
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.layout import Block
from sentryfuse.study.repair.moments import (
    ColumnMoments,
    ConditionalMoments,
    Moments,
    group_columns,
    prototype_sets,
)
from sentryfuse.types import check_present

BATCH = 128


def collect_moments(
    model: SentryModel,
    windows: Windows,
    *,
    present: Iterable[str] | None = None,
    n_windows: int = 1024,
    seed: int = 0,
) -> Moments:
    """Moments of what enters the last product of every block, on training windows; labels are not read.

    Args:
        model: the model that will be pruned, whole.
        windows: the recording, prepared as the model wants it.
        present: names of the sensors that are on; `None` means all; "mixture": drawn for every window as
            training draws them at its end. Sensors that are absent by nature stay absent.
        n_windows: most windows to run, drawn from those of training.
        seed: of the draws.

    Returns:
        The moments; blocks that never ran have weight 0.

    Raises:
        ConfigError: unknown sensor names, no window asked for, or none that has these sensors.
    """
    if n_windows < 1:
        raise ConfigError(f"moments of {n_windows} windows are nothing; use 1 or more")
    rng = np.random.default_rng(seed)
    pool = windows.indices("train")
    if present != "mixture":  # windows that have none of the sensors would only be lost from the draw
        asked = [name in check_present(present, windows.names) for name in windows.names]
        pool = pool[(windows.present[pool] & asked).any(1)]
    pool = rng.choice(pool, min(n_windows, len(pool)), replace=False)
    mask = _mask(windows.names, present, len(pool), rng)
    running = {name: _RunningMoments(block) for name, block in model.layout.blocks.items()}

    def watch(name: str, rows: Tensor, worth: Tensor | None) -> None:
        running[name].add(rows, worth)

    model.eval()
    count = 0
    with torch.no_grad():
        for on, chosen in batches(windows, pool, batch_size=BATCH, present=mask):
            batch = {name: torch.from_numpy(x) for name, x in windows.batch(chosen, on).items()}
            model(batch, on, select=Selection(watch=watch))
            count += len(chosen)
    if not count:
        raise ConfigError(f"no training window of {windows.name} has any of these sensors; name others")
    return Moments({name: each.per_window(count) for name, each in running.items()})


def collect_conditional(
    model: SentryModel, windows: Windows, *, n_windows: int = 1024, seed: int = 0
) -> ConditionalMoments:
    """Moments for any set of sensors: those of all sensors, of all but one and of each alone, collected.

    Args:
        model: the model that will be pruned, whole.
        windows: the recording, prepared as the model wants it.
        n_windows: most windows to run for each of these sets.
        seed: of the draws.
    """
    return ConditionalMoments(
        model.names,
        {
            on: collect_moments(model, windows, present=on, n_windows=n_windows, seed=seed)
            for on in prototype_sets(model.names)
        },
    )


def _mask(
    names: tuple[str, ...], present: Iterable[str] | None, n: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Sensors that may be on, a row per window, `(n, M)`."""
    if present == "mixture":
        curriculum = Curriculum()
        drawn = [curriculum.draw(names, curriculum.max_rate, rng) for _ in range(n)]
    else:
        drawn = [check_present(present, names)] * n
    return np.array([[name in on for name in names] for on in drawn])


class _RunningMoments:
    """Running moments of one block: each batch is centred on its own mean, then merged.

    Source:
        Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
        variances", 1979.
    """

    def __init__(self, block: Block) -> None:
        self.columns = [torch.from_numpy(columns) for columns in group_columns(block)]
        self.parts = [ColumnMoments.unknown(len(columns)) for columns in self.columns]

    def add(self, rows: Tensor, worth: Tensor | None) -> None:
        """Take in rows `(n, columns)` and what each expert is worth for them, `(n, E)`."""
        if worth is None:
            self._merge(0, rows, torch.ones(len(rows)))
            return
        for expert, (columns, own) in enumerate(zip(self.columns, worth.T, strict=True)):
            asked = own.nonzero().squeeze(1)
            if len(asked):
                self._merge(expert, rows[asked][:, columns], own[asked])

    def _merge(self, at: int, rows: Tensor, worth: Tensor) -> None:
        """Add rows `(n, C)`, each scaled by its worth `(n,)` before it counts."""
        rows, worth = rows.double(), worth.double().unsqueeze(1)
        weight = float(worth.square().sum())
        mean = (worth.square() * rows).sum(0) / weight
        centred = (rows - mean) * worth
        scatter = (centred.T @ centred).numpy()
        old = self.parts[at]
        total = old.weight + weight
        off = mean.numpy() - old.mean
        self.parts[at] = ColumnMoments(
            total,
            old.mean + off * (weight / total),
            old.covariance + scatter + np.outer(off, off) * (old.weight * weight / total),  # still a sum
        )

    def per_window(self, count: int) -> tuple[ColumnMoments, ...]:
        """What was running, sums divided by their weight and weights by the number of windows."""
        return tuple(
            ColumnMoments(part.weight / count, part.mean, part.covariance / max(part.weight, 1e-300))
            for part in self.parts
        )
