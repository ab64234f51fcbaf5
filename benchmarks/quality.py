"""Should the gate know how good a sensor is rather than that it is there? Bad sensors, four ways to answer.

    python benchmarks/quality.py FILE ... --runs FOLDER        about five minutes a training on one core

A sensor's quality is 1 where it is as in training and 0 where it is absent: noise, share of equal steps and
share of values at the window's limits, each against training windows, and the share measured. Sensors of half
of the training batches are spoilt: noisy, stuck for a part of the window, or clipped. "quality": the gate
gets the quality, "shared": and blocks of a bad sensor count as much less when the budget is shared. Controls
are the gate of today in the same training, and in the ordinary one; each also with the bad sensor treated
as absent, the runtime's rule. On judged people one sensor at a time is spoilt in all windows and its mean
quality is known, which is kinder to the idea than a device could be.
Kept if it is half a point better than every control in mean over the runs and beyond their spread.
Appends to docs/results/quality.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from people import Names, Results, Row, Run, answers, as_it_is, options, plainly
from torch import Tensor

from sentryfuse import Budget, TrainSettings, train
from sentryfuse.data import Windows, training_statistics
from sentryfuse.gate.gate import SentryGate
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.planning.importance import Importance
from sentryfuse.pruning.scorers import GateScorer, make_plan
from sentryfuse.readout.recording import OnRecording
from sentryfuse.training import augment, steps

RATIOS = (0.8, 0.95)
SPOILT_BATCHES, SPOILT_SENSORS = 0.5, 1 / 3
RANGES = {"noisy": (0.5, 3.0), "stuck": (0.2, 0.9), "clipped": (0.2, 1.0)}  # in training
TESTED = {"noisy": 2.0, "stuck": 0.5, "clipped": 0.5}
USUAL, MEASURED = 0.99, 512  # quantile of training windows that is still fine; how many are looked at
ANSWERED = 500  # windows for every sensor that is spoilt, and up to twice as many
Batch = Mapping[str, Tensor]


def spoil(x: Tensor, within: Tensor, kind: str, size: float, random: torch.Generator) -> Tensor:
    """Windows of one sensor as a bad one would give them.

    Args:
        x: `(B, T, C)`.
        within: deviation inside training windows, `(C,)`.
        kind: "noisy", "stuck" or "clipped".
        size: of the noise [deviations inside training windows]; the share of the window that is stuck; where
            it is clipped [deviations of the window from its mean].
        random: draws noise and where it is stuck.
    """
    if kind == "noisy":
        return x + size * within * torch.randn(x.shape, generator=random)
    if kind == "clipped":
        mean, reach = x.mean(1, keepdim=True), size * x.std(1, keepdim=True)
        return torch.minimum(torch.maximum(x, mean - reach), mean + reach)
    length = x.shape[1]
    first = (torch.rand(len(x), 1, generator=random) * (1 - size) * length).long()
    step = torch.arange(length)
    held = (step >= first) & (step < first + round(size * length))
    at = torch.where(held, first, step)  # (B, T)
    return x.gather(1, at.unsqueeze(2).expand_as(x))


def signs(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Noise `(B, C)`, then shares of equal steps and of values at the limits `(B, 2)`, side by side."""
    seconds = np.abs(np.diff(x, 2, axis=1))
    equal = (np.diff(x, axis=1) == 0).all(2).mean(1)
    limits = ((x == x.max(1, keepdims=True)) | (x == x.min(1, keepdims=True))).mean((1, 2))
    return np.concatenate([seconds.mean(1), equal[:, None], limits[:, None]], 1).astype(np.float64)


class Quality:
    """How good a sensor's windows are, against training windows.

    Args:
        windows: the recording.
    """

    def __init__(self, windows: Windows) -> None:
        train = windows.indices("train")
        batch = windows.batch(train[:: max(1, len(train) // MEASURED)])
        self.usual = {name: np.quantile(signs(x), USUAL, axis=0) for name, x in batch.items()}

    def of(self, name: str, x: NDArray[np.float32]) -> float:
        """Mean over windows `(B, T, C)`, 0..1."""
        measured = 1 - float(np.isnan(x).mean())
        found, usual = signs(np.nan_to_num(x)), self.usual[name]
        fine = usual[:-2] + 1e-12
        noise = (fine / np.maximum(found[:, :-2], fine)).min(1)
        shares = 1 - np.maximum(found[:, -2:] - usual[-2:], 0) / np.maximum(1 - usual[-2:], 1e-12)
        return measured * float((noise * shares.prod(1)).mean())


class QualityGate(SentryGate):
    """A gate that gets qualities; where none are set a sensor that is present is fine.

    Args:
        gate: takes its place.
        model: whose gate it is.
    """

    def __init__(self, gate: SentryGate, model: SentryModel) -> None:
        super().__init__(model.layout)
        self.load_state_dict(gate.state_dict())
        self.quality: dict[str, float] = {}

    def mask_of(self, present: Iterable[str]) -> Tensor:
        """The input for a set of sensors, `(M,)`."""
        on = set(present)
        return torch.tensor([self.quality.get(name, 1.0) if name in on else 0.0 for name in self.names])


class SharingScorer(GateScorer):
    """A gate whose blocks of a bad sensor count as much less, between blocks as well."""

    def importance(self, present: Names) -> Importance:
        """Levelled, then weighed."""
        found = dict(super().importance(present))
        gate = self.model.gate
        assert isinstance(gate, QualityGate)
        for sensor, quality in gate.quality.items():
            for name in found:
                if name.startswith(f"encoder.{sensor}."):
                    found[name] = found[name] * np.float32(quality)
        return found


def with_quality(model: SentryModel) -> SentryModel:
    """The same model with a gate that gets qualities."""
    with torch.random.fork_rng():
        model.gate = QualityGate(model.gate, model)
    return model


@dataclass
class Spoiling:
    """The training's variation of windows, and then some of them spoilt; tells the gate how good they are."""

    model: SentryModel
    quality: Quality
    seed: int
    random: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        """Draw apart from the training's own random numbers."""
        self.random, self.other = (torch.Generator().manual_seed(self.seed + i) for i in (0, 1000))
        self.rng = np.random.default_rng(self.seed)

    def __call__(self, batch: Batch, within: Batch, size: float) -> dict[str, Tensor]:
        """As `vary`; qualities are those without the ordinary variation, which no device sees."""
        made, seen = augment.vary(batch, within, size), dict(batch)
        spoils = self.rng.random() < SPOILT_BATCHES
        for name in made:
            if spoils and self.rng.random() < SPOILT_SENSORS:
                kind = list(RANGES)[self.rng.integers(len(RANGES))]
                much = self.rng.uniform(*RANGES[kind])
                made[name] = spoil(made[name], within[name], kind, much, self.random)
                seen[name] = spoil(seen[name], within[name], kind, much, self.other)
        if isinstance(self.model.gate, QualityGate):
            self.model.gate.quality = {name: self.quality.of(name, x.numpy()) for name, x in seen.items()}
        return made


def spoilt(model: SentryModel, windows: Windows, settings: TrainSettings) -> None:
    """The ordinary training with some windows spoilt."""
    with patch.object(steps, "vary", Spoiling(model, Quality(windows), settings.seed)):
        train(model, windows, settings=settings)
    if isinstance(model.gate, QualityGate):
        model.gate.quality = {}


WAYS: dict[str, tuple[Callable[[SentryModel], SentryModel], Any]] = {
    "quality": (with_quality, spoilt),
    "spoilt": (as_it_is, spoilt),
    "plain": (as_it_is, plainly),
}


def with_sensor(windows: Windows, name: str, rows: NDArray[np.intp], x: NDArray[np.float32]) -> Windows:
    """The recording with other values of a sensor in some windows, in physical units."""
    raw = windows.raw[name].astype(np.float32) * windows.scale[name]
    raw[rows] = x
    scale = {**windows.scale, name: np.ones_like(windows.scale[name])}
    return replace(windows, raw={**windows.raw, name: raw}, scale=scale)


class Judge:
    """Answers of one run's models for spoilt sensors.

    Args:
        run: with its windows.
        models: way -> trained model.
    """

    def __init__(self, run: Run, models: Mapping[str, SentryModel]) -> None:
        self.run, self.models, self.quality = run, models, Quality(run.windows)
        self.mixtures = {way: run.mixture(model) for way, model in models.items()}
        self.judged = run.judged[:: max(1, len(run.judged) // ANSWERED)]
        clean = run.windows.batch(self.judged)
        self.fine = {name: self.quality.of(name, x) for name, x in clean.items()}
        self.within = training_statistics(run.windows, run.windows.indices("train")).within

    def rows(self, sensor: str | None, kind: str) -> list[Row]:
        """Every way, ratio and answer for one spoilt sensor, or for none."""
        windows, rows, measured = self.run.windows, self.judged, dict(self.fine)
        names = windows.names
        if sensor is not None:
            x = torch.from_numpy(windows.batch(rows, (sensor,))[sensor])
            random = torch.Generator().manual_seed(self.run.number)
            bad = spoil(x, torch.from_numpy(self.within[sensor]), kind, TESTED[kind], random).numpy()
            measured[sensor] = self.quality.of(sensor, bad)
            windows = with_sensor(windows, sensor, rows, bad)
        beside = OnRecording(self.mixtures["plain"], windows, rows)
        left = tuple(name for name in names if name != sensor)
        made: list[Row] = []
        for way, model in self.models.items():
            beside.mixture = self.mixtures[way]
            if isinstance(model.gate, QualityGate):
                model.gate.quality = measured
                ways = {"quality": (names, GateScorer(model)), "shared": (names, SharingScorer(model))}
            else:
                ways = {way: (names, GateScorer(model)), f"{way}, absent": (left, GateScorer(model))}
            for label, (present, scorer) in ways.items():
                for ratio in RATIOS:
                    plan = make_plan(model, present, Budget(ratio=ratio), scorer=scorer)
                    own = answers(model, windows, rows, present, plan)
                    for answer, p in (("alone", own), ("with readout", beside(rows, present, own))):
                        right = 100 * float((p.argmax(1) == windows.y[rows]).mean())
                        made.append({"way": label, "ratio": ratio, "answer": answer, "accuracy": right})
        quality = float(np.mean(list(measured.values()))) if sensor is None else measured[sensor]
        return [{"quality": quality, **row} for row in made]


def mean_of(rows: Sequence[Row]) -> Row:
    """Rows of the same way, ratio and answer, for each sensor that is bad -> one."""
    means = {key: float(np.mean([row[key] for row in rows])) for key in ("quality", "accuracy")}
    return {**rows[0], **means}


def main() -> None:
    """Train and judge what is not there yet."""
    asked = options(__doc__, "quality.json")
    about = {"trained with": RANGES, "judged with": TESTED, "share of batches": SPOILT_BATCHES}
    results = Results(asked.out, about)
    for path in asked.data:
        for number in asked.run or (0, 1):
            run = Run(path, number, asked.runs, asked.epochs)
            judge: Judge | None = None
            for kind in ("none", *TESTED):
                if results.has(**run.key, kind=kind):
                    continue
                judge = judge or Judge(run, {w: run.model(w, *parts) for w, parts in WAYS.items()})
                sensors = [None] if kind == "none" else run.windows.names
                rows = [judge.rows(sensor, kind) for sensor in sensors]
                results.add([mean_of(same) for same in zip(*rows, strict=True)], **run.key, kind=kind)


if __name__ == "__main__":
    main()
