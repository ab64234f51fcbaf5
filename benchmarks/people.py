"""Trainings judged by training people, for tests of ideas that may be dropped.

The recording's own test people are never looked at. Of its training people every third, from the number of
the run on, is judged; the others train; its validation people choose the epoch and weigh the readout. The
number of the run is also the seed: two runs differ in both, a treatment and its control in neither.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from sentryfuse import Budget, TrainSettings, create_model, load_windows, train
from sentryfuse.data import Windows
from sentryfuse.data.splits import fold
from sentryfuse.files import read_json, write_json
from sentryfuse.machine import machine
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.pruning.evaluation import torch_answer
from sentryfuse.pruning.scorers import make_plan
from sentryfuse.readout import Mixture, fit_readout, fit_weights
from sentryfuse.readout.recording import OnRecording, features_of
from sentryfuse.types import Plan

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
THIRDS, BATCH = 3, 256
JUDGED = 2  # every so manyth window of the judged people is answered
Row = dict[str, Any]
Train = Callable[[SentryModel, Windows, TrainSettings], Any]
Names = tuple[str, ...]


def recording(path: Path, run: int) -> Windows:
    """The windows of a run: 0 train, 1 validation, 2 judged; test people are gone."""
    windows = load_windows(path)
    own = fold(windows.subject, 0, 5) if windows.name == "wesad_wrist" else windows.split
    training = np.unique(windows.subject[own == 0])
    judged = np.isin(windows.subject, training[run % THIRDS :: THIRDS])
    return subset(replace(windows, split=np.where(judged, 2, own).astype(np.int8)), own < 2)


def subset(windows: Windows, rows: NDArray[np.bool_]) -> Windows:
    """Some of the windows, copied."""
    return replace(
        windows,
        raw={name: values[rows] for name, values in windows.raw.items()},
        y=windows.y[rows],
        subject=windows.subject[rows],
        split=windows.split[rows],
        present=windows.present[rows],
    )


def sets_of(windows: Windows) -> list[Names]:
    """All sensors, and each one missing."""
    names = windows.names
    return [names, *(tuple(n for n in names if n != out) for out in names)]


@dataclass
class Run:
    """One run of one recording, with what its trainings share.

    Attributes:
        path: of the recording.
        number: of the run; its seed.
        folder: where trained weights are kept.
        epochs: of every training; `None` = as usual.
    """

    path: Path
    number: int
    folder: Path
    epochs: int | None = None
    windows: Windows = field(init=False)

    def __post_init__(self) -> None:
        """Load the windows."""
        self.windows = recording(self.path, self.number)
        self._fit: Any = None

    @property
    def judged(self) -> NDArray[np.intp]:
        """The windows that are answered, every second one of the judged people: neighbours are alike."""
        return self.windows.indices("test")[::JUDGED]

    @property
    def key(self) -> dict[str, Any]:
        """What names this run in result rows."""
        return {"recording": self.windows.name, "run": self.number, "epochs": self.epochs}

    def model(self, way: str, build: Callable[[SentryModel], SentryModel], fit: Train) -> SentryModel:
        """A trained model, from the folder if it is there.

        Args:
            way: names the training.
            build: makes it of a new ordinary model, drawing nothing from torch's random numbers.
            fit: trains it.
        """
        windows, seed = self.windows, self.number
        torch.manual_seed(seed)
        made = build(create_model("maestro", modalities=windows.modalities, classes=windows.classes))
        file = self.folder / f"{windows.name}-{seed}-{way}.safetensors"
        if file.is_file():
            made.load_tensors(load_file(file))
            return made.eval()
        began = time.process_time()
        fit(made, windows, TrainSettings(seed=seed, readout="none", epochs=self.epochs))
        self.folder.mkdir(parents=True, exist_ok=True)
        save_file(made.tensors(), file)
        print(f"{file.stem}: {time.process_time() - began:.0f} s of CPU", flush=True)
        return made.eval()

    def mixture(self, model: SentryModel) -> Mixture:
        """The run's readout, weighed beside this model by validation people."""
        windows = self.windows
        seen = np.flatnonzero(windows.split < 2)
        if self._fit is None:
            self._fit = fit_readout(
                features_of(windows, seen),
                windows.y[seen],
                windows.subject[seen],
                windows.classes,
                present=windows.present[seen],
                seed=self.number,
            )
        chosen = np.flatnonzero(windows.split[seen] == 1)
        found: dict[int, list[Any]] = {}
        for present in sets_of(windows):
            log = np.log(np.maximum(answers(model, windows, seen[chosen], present, None), 1e-9))
            part = (self._fit.out_of_person(present)[chosen], log.astype(np.float64), windows.y[seen[chosen]])
            found.setdefault(len(present), []).append(part)
        joined = {n: tuple(np.concatenate(c) for c in zip(*parts, strict=True)) for n, parts in found.items()}
        people = len(np.unique(windows.subject[seen[chosen]]))
        return Mixture(self._fit.readout, fit_weights(joined, len(windows.names), people))  # type: ignore[arg-type]


def answers(
    model: SentryModel, windows: Windows, indices: NDArray[np.intp], present: Names, plan: Plan | None
) -> NDArray[np.float32]:
    """Probabilities of the transformer, `(n, K)`; without a plan of all of it."""
    plan = plan or make_plan(model, present)
    answer = torch_answer(model)
    parts = [
        answer(windows.batch(indices[at : at + BATCH], present), plan) for at in range(0, len(indices), BATCH)
    ]
    return np.concatenate(parts)


def judge(run: Run, model: SentryModel, ratios: Sequence[float]) -> list[Row]:
    """Accuracy on judged people [%]: all sensors, and the mean over each one missing."""
    windows, indices = run.windows, run.judged
    beside = OnRecording(run.mixture(model), windows, indices)
    y, rows = windows.y[indices], []
    for ratio in ratios:
        right: dict[str, list[float]] = {"alone": [], "with readout": []}
        for present in sets_of(windows):
            plan = make_plan(model, present, Budget(ratio=ratio))
            own = answers(model, windows, indices, present, plan)
            both = beside(indices, present, own)
            for key, p in zip(right, (own, both), strict=True):
                right[key].append(100 * float((p.argmax(1) == y).mean()))
        rows += [
            {"ratio": ratio, "answer": key, "all": found[0], "one missing": float(np.mean(found[1:]))}
            for key, found in right.items()
        ]
    return rows


def plainly(model: SentryModel, windows: Windows, settings: TrainSettings) -> None:
    """The ordinary training."""
    train(model, windows, settings=settings)


def as_it_is(model: SentryModel) -> SentryModel:
    """An ordinary model."""
    return model


class Results:
    """A result file that grows part by part; what is there is not done again.

    Args:
        path: of the file.
        about: what holds for all of it.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.made = read_json(path) if path.is_file() else {"about": {}, "rows": []}
        self.made["about"] = {**about, **machine()}

    def has(self, **key: Any) -> bool:
        """Whether there is a row like this."""
        return bool(self.like(**key))

    def like(self, **key: Any) -> list[Row]:
        """The rows like this, to be changed in place."""
        return [row for row in self.made["rows"] if all(row.get(k) == v for k, v in key.items())]

    def add(self, rows: Sequence[Row], **key: Any) -> None:
        """Add rows and write the file."""
        self.made["rows"] += [{**key, **{k: _short(v) for k, v in row.items()}} for row in rows]
        self.save()
        for row in rows:
            print(json.dumps({**key, **row}), flush=True)

    def save(self) -> None:
        """Write the file."""
        write_json(self.path, self.made)


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


def options(about: str, out: str) -> argparse.Namespace:
    """What every such script is told."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="recordings")
    parser.add_argument("--runs", type=Path, required=True, help="where trained weights are kept")
    parser.add_argument("--run", type=int, action="append", help="numbers of the runs; 0 and 1 if not given")
    parser.add_argument("--epochs", type=int, help="of every training; as usual if not given")
    parser.add_argument("--out", type=Path, default=RESULTS / out)
    torch.set_num_threads(1)
    return parser.parse_args()
