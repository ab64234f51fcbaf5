"""How much better blocks could share a budget: a search, beside the planner.

    python benchmarks/allocation.py RUN --data FILE           a quarter of an hour on one core

The order of units inside every block is the gate's. How many stay in each block is searched from the
planner's answer on: one block grows, others shrink until the budget holds, the change that brings the answers
nearest to those of the full network (Kullback-Leibler divergence on training windows) is taken, until none
does. Once for each set of sensors (all, each one missing) and once for all sets together. If the first is
hardly better than the second, how much a block gets need not depend on the sensors; if both are hardly better
than the planner, nothing is lost by its rule. Scored on validation windows, the transformer alone. Appends to
docs/results/allocation.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentryfuse import Budget, from_pretrained, load_windows
from sentryfuse.data.scoring import prepared
from sentryfuse.files import read_json, write_json
from sentryfuse.machine import machine
from sentryfuse.model import Selection
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.cost import count
from sentryfuse.planning.plan import plan_layout
from sentryfuse.pruning.scorers import GateScorer

ROOT = Path(__file__).resolve().parent.parent
WINDOWS, ROUNDS, TRIED = 128, 25, 6
STEP = {"heads": 2, "ffn": 32}  # units a block gains or loses in a round
Widths = Mapping[str, int]


@dataclass
class Search:
    """Widths of the blocks of one model, judged on some training windows."""

    model: SentryModel
    windows: Any
    ratio: float
    order: dict[tuple[str, ...], dict[str, NDArray[np.intp]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Draw the windows and answer them with the full network."""
        rng = np.random.default_rng(0)
        whole = np.flatnonzero((self.windows.split == 0) & self.windows.present.all(1))
        batch = self.windows.batch(rng.choice(whole, min(WINDOWS, len(whole)), replace=False))
        self.inputs = {name: torch.from_numpy(x) for name, x in batch.items()}
        names = self.windows.names
        self.sets = [names, *(tuple(n for n in names if n != out) for out in names)]
        scorer, layout = GateScorer(self.model), self.model.layout
        self.planned, self.full, self.allowed = {}, {}, {}
        for present in self.sets:
            importance = scorer.importance(present)
            self.order[present] = {n: np.argsort(-v, kind="stable") for n, v in importance.items()}
            made = plan_layout(
                layout, importance, present=present, budget=Budget(ratio=self.ratio), scorer="gate"
            )
            self.planned[present] = {name: len(kept) for name, kept in made.kept.items()}
            self.full[present] = self.answers(present, None, self.inputs)
            self.allowed[present] = (1 - self.ratio) * count(layout, present).prunable_macs

    def kept(self, present: tuple[str, ...], widths: Widths) -> dict[str, tuple[int, ...]]:
        """The best units of every block that runs with these sensors."""
        live = [block.name for step in self.model.layout.route(present) for block in step.blocks]
        return {n: tuple(np.sort(self.order[present][n][: widths[n]]).tolist()) for n in live}

    @torch.no_grad()
    def answers(
        self, present: tuple[str, ...], widths: Widths | None, inputs: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Log probabilities, `(B, K)`."""
        kept = {} if widths is None else self.kept(present, widths)
        units = {n: torch.tensor(few, dtype=torch.long) for n, few in kept.items()}
        logits = self.model({n: inputs[n] for n in present}, present, select=Selection(kept=units))
        log: torch.Tensor = logits.log_softmax(1)
        return log

    def distance(self, sets: Sequence[tuple[str, ...]], widths: Widths) -> float:
        """Mean divergence from the full network over the sets."""
        found = []
        for present in sets:
            wanted = self.full[present]
            found.append(
                float((wanted.exp() * (wanted - self.answers(present, widths, self.inputs))).sum(1).mean())
            )
        return float(np.mean(found))

    def fits(self, present: tuple[str, ...], widths: Widths) -> bool:
        """Whether the budget holds."""
        cost = count(self.model.layout, present, kept=self.kept(present, widths))
        return cost.prunable_macs <= self.allowed[present]

    def improve(self, sets: Sequence[tuple[str, ...]], widths: Widths) -> dict[str, int]:
        """Exchange units between blocks until no exchange helps; the budget holds for the first set."""
        widths, best = dict(widths), self.distance(sets, widths)
        blocks = self.model.layout.blocks
        for _ in range(ROUNDS):
            less, more = [], []
            for name, width in widths.items():
                step = STEP[blocks[name].kind]
                if width > 0:
                    smaller = {**widths, name: max(0, width - step)}
                    less.append((self.distance(sets, smaller), name))
                if width < blocks[name].units:
                    larger = {**widths, name: min(blocks[name].units, width + step)}
                    more.append((self.distance(sets, larger), name))
            less.sort()
            more.sort()
            found = None
            for _, gains in more[:TRIED]:
                trial = {**widths, gains: min(blocks[gains].units, widths[gains] + STEP[blocks[gains].kind])}
                for _, loses in less:
                    if self.fits(sets[0], trial):
                        break
                    if loses != gains:
                        trial[loses] = max(0, trial[loses] - STEP[blocks[loses].kind])
                if self.fits(sets[0], trial):
                    now = self.distance(sets, trial)
                    if now < best - 1e-4:
                        best, found = now, trial
            if found is None:
                break
            widths = found
        return widths

    def score(self, widths: Mapping[tuple[str, ...], Widths]) -> dict[str, float]:
        """Divergence, and accuracy on validation windows [%], mean over the sets."""
        right, indices = [], self.windows.indices("validation")
        for present in self.sets:
            inputs = {n: torch.from_numpy(x) for n, x in self.windows.batch(indices, present).items()}
            guess = self.answers(present, widths[present], inputs).argmax(1).numpy()
            right.append((guess == self.windows.y[indices]).mean())
        distance = np.mean([self.distance([present], widths[present]) for present in self.sets])
        return {"divergence": float(distance), "accuracy": 100 * float(np.mean(right))}


def main() -> None:
    """Search at every ratio and add to the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ratio", type=float, action="append")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "allocation.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = from_pretrained(options.run).with_mixture(None).eval()
    config = model.config
    windows = prepared(load_windows(options.data), config)
    for ratio in options.ratio or [0.9, 0.95]:
        search = Search(model, windows, ratio)
        whole = search.sets[0]
        together = search.improve(search.sets, search.planned[whole])
        apart = {present: search.improve([present], search.planned[present]) for present in search.sets}
        row = {
            "dataset": windows.name,
            "backbone": config.backbone,
            "ratio": ratio,
            "planner": search.score(search.planned),
            "one for all sets": search.score(dict.fromkeys(search.sets, together)),
            "one for each set": search.score(apart),
            **machine(),
        }
        rows = read_json(options.out) if options.out.is_file() else []
        write_json(options.out, [*rows, row])
        print({key: row[key] for key in ("ratio", "planner", "one for all sets", "one for each set")})


if __name__ == "__main__":
    main()
