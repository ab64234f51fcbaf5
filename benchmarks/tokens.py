"""Are fewer tokens worth more than fewer heads and channels? Merged patches beside pruning, at equal time.

    python benchmarks/tokens.py FILE ... --runs FOLDER        about five minutes a training on one core

Patch tokens that lie side by side are averaged by two or by four before the first layer; elastic steps draw
how many, as they draw a ratio, and the full network teaches. The control is the ordinary training, pruned by
heads and channels alone. A second one has all tokens and weighs the window's own in the head's mean as if the
others were merged, which costs nothing. Times are of graphs with as many tokens and the same heads and
channels on onnxruntime, one thread, batch 1, in turns; a row whose "ms" is taken out is timed anew.
Kept if, somewhere within 1.5 points of the control's best, it is half a point better at equal time or 1.3
times as fast at equal accuracy, in mean over the runs.
Appends to docs/results/tokens.json.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from people import Names, Results, Row, Run, answers, as_it_is, options, plainly, sets_of
from torch import Tensor, nn
from torch.nn import functional as F

from sentryfuse import Budget, create_model, export_bundle, load_bundle
from sentryfuse.data import Windows
from sentryfuse.engine.session import Session
from sentryfuse.graph.patch_sizes import PatchSizes
from sentryfuse.model import Selection
from sentryfuse.model.call import Call
from sentryfuse.model.config import ModelConfig
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.model.tokens import PatchTokens
from sentryfuse.planning.layout import Layout
from sentryfuse.planning.plan import plan_layout
from sentryfuse.pruning.scorers import GateScorer
from sentryfuse.readout.recording import OnRecording
from sentryfuse.types import Plan, check_present

MERGED = (1, 2, 4)
RATIOS = (0.0, 0.6, 0.8, 0.9, 0.95, 0.98)
ROUNDS, QUICK = 60, 10  # turns; the percentile of their times, since other work may run beside them


class MergedTokens(PatchTokens):
    """Patch tokens averaged by so many; the window's own token stays."""

    merged = 1

    def forward(self, x: Tensor, *, at: Call) -> Tensor:
        """As every embedding."""
        y = super().forward(x, at=at)
        n = self.sizes.n_patches
        if self.merged == 1 or n == 1:
            return y
        few = F.avg_pool1d(y[:, :n].transpose(1, 2), self.merged, ceil_mode=True).transpose(1, 2)
        return torch.cat([few, y[:, n:]], 1)


class MergedModel(SentryModel):
    """A model that can merge tokens, and draws how many on elastic steps.

    Attributes:
        merged: tokens averaged into one where it answers.
        weight: of a window's own token in the head's mean; that of a patch token is 1.
    """

    def __init__(self, config: ModelConfig, *, seed: int) -> None:
        super().__init__(config)
        self.merged, self.weight, self.rng = 1, 1, np.random.default_rng(seed)
        for path, module in list(self.backbone.named_modules()):
            if isinstance(module, PatchTokens):
                made = MergedTokens(module.name, module.modality, module.d_model, tokens=module.sizes.tokens)
                parent, _, name = path.rpartition(".")
                setattr(self.backbone.get_submodule(parent), name, made)

    def forward(
        self,
        windows: Mapping[str, Tensor],
        present: Iterable[str] | None = None,
        *,
        select: Selection | None = None,
    ) -> Tensor:
        """As every model; with all tokens while the full network learns."""
        merged = self.merged
        if self.training:
            merged = int(self.rng.choice(MERGED)) if select is not None and select.kept else 1
        patches = {}
        for module in self.modules():
            if isinstance(module, MergedTokens):
                module.merged = merged
                patches[module.modality.name] = module.sizes.n_patches
        if self.weight == 1:
            logits: Tensor = super().forward(windows, present, select=select)
            return logits
        names = check_present(present, self.names)
        weights = torch.cat([torch.tensor([1.0] * patches[n] + [self.weight]) for n in names])

        def weigh(module: nn.Module, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            mean = (weights[:, None] * values[0]).sum(1, keepdim=True) / weights.sum()
            return (mean, *values[1:])

        hook = self.backbone.get_submodule("head").register_forward_pre_hook(weigh)
        logits = super().forward(windows, names, select=select)
        hook.remove()
        return logits


def merging(model: SentryModel, *, seed: int) -> SentryModel:
    """The same model, able to merge tokens."""
    with torch.random.fork_rng():
        made = MergedModel(model.config, seed=seed)
    made.load_tensors(model.tensors())
    return made


def merged_layout(layout: Layout, merged: int) -> Layout:
    """The layout with fewer tokens; their projection is linear, so that they are merged before it."""
    steps = []
    for step in layout.steps:
        if step.op == "patch" and step.tokens > 1:
            n = step.tokens - 1
            left = math.ceil(n / merged)
            modality = next(m for m in layout.modalities if m.name == step.needs[0])
            sizes = PatchSizes(modality, int(step.options["tokens"]))
            saved = (n - left) * layout.d_model * sizes.per_patch
            step = replace(step, tokens=left + 1, macs_fixed=step.macs_fixed - saved)
        steps.append(step)
    return replace(layout, steps=tuple(steps))


def plans(model: SentryModel, windows: Windows, merged: int, ratio: float) -> dict[Names, Plan]:
    """A plan for every set of sensors."""
    layout, scorer = merged_layout(model.layout, merged), GateScorer(model)
    return {
        present: plan_layout(
            layout, scorer.importance(present), present=present, budget=Budget(ratio=ratio), scorer="gate"
        )
        for present in sets_of(windows)
    }


def judge(run: Run, model: SentryModel) -> list[Row]:
    """Accuracy [%] and work of every number of tokens and ratio, all sensors and each one missing."""
    windows, indices = run.windows, run.judged
    beside = OnRecording(run.mixture(model), windows, indices)
    y, made = windows.y[indices], []
    for merged in MERGED if isinstance(model, MergedModel) else (1,):
        for ratio in RATIOS:
            found = plans(model, windows, merged, ratio)
            right: dict[str, list[float]] = {"alone": [], "with readout": []}
            for present, plan in found.items():
                if isinstance(model, MergedModel):
                    model.merged = merged
                own = answers(model, windows, indices, present, plan)
                for key, p in zip(right, (own, beside(indices, present, own)), strict=True):
                    right[key].append(100 * float((p.argmax(1) == y).mean()))
            row: Row = {"merged": merged, "ratio": ratio, "macs": found[windows.names].cost.macs}
            for key, scores in right.items():
                row[key] = [scores[0], float(np.mean(scores[1:]))]
            made.append(row)
    return made


def readout_alone(run: Run, model: SentryModel) -> Row:
    """What answers where no layer is left."""
    beside = OnRecording(run.mixture(model), run.windows, run.judged)
    y = run.windows.y[run.judged]
    right = [
        100 * float((beside(run.judged, present, None).argmax(1) == y).mean())
        for present in sets_of(run.windows)
    ]
    return {"merged": 0, "ratio": 1.0, "with readout": [right[0], float(np.mean(right[1:]))]}


def weighed(run: Run, model: MergedModel) -> list[Row]:
    """With all tokens, the window's own as heavy in the head as if they were merged by four."""
    windows, indices, made = run.windows, run.judged, []
    model.merged, model.weight = 1, MERGED[-1]
    for ratio in RATIOS:
        right = [
            100 * float((answers(model, windows, indices, *each).argmax(1) == windows.y[indices]).mean())
            for each in plans(model, windows, 1, ratio).items()
        ]
        made.append({"merged": 0, "ratio": ratio, "alone": [right[0], float(np.mean(right[1:]))]})
    model.weight = 1
    return made


def measure(run: Run, models: Mapping[str, SentryModel], rows: list[Row]) -> None:
    """Put the time of one window beside every row [ms]: all sensors, mean over each one missing."""
    windows = run.windows
    sessions: dict[tuple[int, Names], Session] = {}
    with tempfile.TemporaryDirectory() as folder:
        bundles = {}
        for merged in MERGED:
            torch.manual_seed(0)
            made = create_model(
                "maestro",
                modalities=windows.modalities,
                classes=windows.classes,
                options={"tokens": 16 // merged},
            )
            export_bundle(made, Path(folder) / f"{merged}.bundle")
            bundles[merged] = load_bundle(Path(folder) / f"{merged}.bundle")
        for i, row in enumerate(rows):
            bundle = bundles[row["merged"]]
            for present, plan in plans(models[row["way"]], windows, row["merged"], row["ratio"]).items():
                dense = bundle.plan(present, Budget(ratio=0.0))
                sessions[i, present] = Session(bundle, replace(dense, kept=plan.kept), batch=1)
    batch = windows.batch(windows.indices("train")[:1])
    times: dict[tuple[int, Names], list[float]] = {key: [] for key in sessions}
    for turn in range(ROUNDS + 10):
        for key, session in sessions.items():
            inputs = {name: batch[name] for name in key[1]}
            began = time.perf_counter()
            session.run(inputs)
            if turn >= 10:
                times[key].append(1e3 * (time.perf_counter() - began))
    for i, row in enumerate(rows):
        took = [float(np.percentile(times[i, present], QUICK)) for present in sets_of(windows)]
        row["ms"] = [round(took[0], 4), round(float(np.mean(took[1:])), 4)]


def main() -> None:
    """Train, judge and time what is not there yet."""
    asked = options(__doc__, "tokens.json")
    about = {"merged": MERGED, "rounds": ROUNDS, "percentile": QUICK, "threads": 1, "batch": 1}
    results = Results(asked.out, about)
    for path in asked.data:
        for number in asked.run or (0, 1):
            run = Run(path, number, asked.runs, asked.epochs)
            ways = {"plain": as_it_is, "merged": partial(merging, seed=number)}
            models = {way: run.model(way, build, plainly) for way, build in ways.items()}
            for way, model in models.items():
                if not results.has(**run.key, way=way):
                    results.add(judge(run, model), **run.key, way=way)
            if not results.has(**run.key, way="readout"):
                results.add([readout_alone(run, models["plain"])], **run.key, way="readout")
            if not results.has(**run.key, way="weighed"):
                own = models["merged"]
                assert isinstance(own, MergedModel)
                results.add(weighed(run, own), **run.key, way="weighed")
            mine = [row for row in results.like(**run.key) if row["merged"]]
            if any("ms" not in row for row in mine):
                measure(run, models, mine)
                results.save()


if __name__ == "__main__":
    main()
