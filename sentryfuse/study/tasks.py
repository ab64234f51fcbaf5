"""One job in the process it is sent to: train a model, or score a method on one; needs torch.

A process keeps the recordings it has opened and the model it scored last, since jobs of one training come
one after another.
"""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentryfuse.data import Windows
from sentryfuse.data.scoring import prepared
from sentryfuse.errors import CheckpointError, SentryFuseError
from sentryfuse.files import read_json
from sentryfuse.machine import machine
from sentryfuse.model.pretrained import SentryModel, from_pretrained
from sentryfuse.study.cells import Sample, make_sample, score
from sentryfuse.study.design import ELASTIC
from sentryfuse.study.jobs import Evaluation, Training, digest, open_recording
from sentryfuse.study.lines import Place
from sentryfuse.study.methods import Pruner, Subject
from sentryfuse.training import TrainSettings
from sentryfuse.training.distributed import ProcessGroup
from sentryfuse.training.folder import METRICS, Recipe, train_into

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Task:
    """A job and where its files are.

    Attributes:
        job: what to do.
        places: lines of an evaluation that are wanted; empty for a training.
        file: of the recording; `None` = embedded.
        data: folder of the recordings.
        runs: folder of the trained models.
    """

    job: Training | Evaluation
    places: tuple[Place, ...]
    file: str | None
    data: Path | None
    runs: Path

    @property
    def training(self) -> Training:
        """The model that is trained or scored."""
        return self.job.training if isinstance(self.job, Evaluation) else self.job

    @property
    def line_keys(self) -> list[str]:
        """Of the lines that are wanted."""
        return [self.job.line_key(p) for p in self.places] if isinstance(self.job, Evaluation) else []

    @property
    def kind(self) -> str:
        """`training` or `evaluation`."""
        return "evaluation" if isinstance(self.job, Evaluation) else "training"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a task.

    Attributes:
        facts: where and how long, for the list of times; of a training also whether its folder was found
            finished, of an evaluation times of single decisions.
        lines: result lines.
        answers: arrays behind the lines.
        error: one sentence if it failed.
        trace: traceback of an error that is not the user's.
    """

    facts: Mapping[str, Any]
    lines: tuple[Mapping[str, Any], ...] = ()
    answers: Mapping[str, NDArray[Any]] | None = None
    error: str | None = None
    trace: str | None = None


def run_task(task: Task) -> Outcome:
    """Run a task on one thread; an error is part of the outcome."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    try:
        outcome = _evaluate(task, task.job) if isinstance(task.job, Evaluation) else _train(task, task.job)
    except SentryFuseError as error:
        return Outcome({}, error=" ".join(str(error).split()))
    except Exception as error:
        sentence = f"{type(error).__name__}: {error}".split("\n")[0]
        return Outcome({}, error=sentence, trace=traceback.format_exc())
    facts = {
        "kind": task.kind,
        "name": task.job.name,
        "backbone": task.training.backbone,
        "dataset": task.training.dataset,
        "seconds": round(time.perf_counter() - started, 3),
        "machine": machine()["machine"],
    }
    return Outcome({**facts, **outcome.facts}, outcome.lines, outcome.answers)


def _train(task: Task, job: Training) -> Outcome:
    windows = _recording(task.data, task.file, job.dataset, job.fold)
    recipe = Recipe(
        settings=TrainSettings(
            seed=job.seed, elastic=ELASTIC[job.training], epochs=job.epochs, readout="none"
        ),
        backbone=job.backbone,
        preset=job.preset,
        attention=job.attention,
        normalise=job.normalise,
        fold=job.fold,
    )
    folder = task.runs / job.name
    found = (folder / METRICS).is_file()
    if found:
        check_same(folder, recipe.make_model(windows), recipe.settings)
        metrics = read_json(folder / METRICS)
    else:
        metrics = train_into(folder, windows, recipe, group=ProcessGroup(torch.device("cpu")))
    return Outcome(
        {
            "key": job.key,
            "found": found,
            "model": _file_digest(folder / WEIGHTS),
            "epochs": len(metrics["history"]),
            "train_seconds": round(metrics["seconds"]["train"], 3),
        }
    )


def check_same(folder: Path, model: SentryModel, settings: TrainSettings) -> None:
    """Refuse a finished folder of another training than the one that is wanted.

    Args:
        folder: of `sentryfuse train`.
        model: fresh, as it would be trained.
        settings: how it would be trained.

    Raises:
        CheckpointError: something differs; it is named.
        InputError: a file cannot be read.
    """
    wanted = json.loads(json.dumps(model.config.to_json()))
    config, metrics = read_json(folder / "config.json"), read_json(folder / METRICS)
    own = ("about", "subject_floor", "subject_prior")  # what training adds
    pairs = {key: (config.get(key), wanted[key]) for key in wanted if key not in own}
    for key in ("dataset", "seed", "elastic", "fold"):
        pairs[key] = (config["about"].get(key), wanted["about"].get(key))
    asked = json.loads(json.dumps(asdict(settings)))
    given = metrics["settings"]
    partly = any(m.may_miss and m.length > 1 for m in model.config.modalities)
    for key in asked:
        # a setting the folder does not name is younger; the only one that is not neutral hides values
        if key in given or (key == "hide" and partly):
            pairs[key] = (given.get(key), asked[key])
    for key, (there, here) in pairs.items():
        if there != here:
            raise CheckpointError(
                f"{folder} holds another training than the study wants, {key} is {_short(there)} and not "
                f"{_short(here)}; move it away or name another folder with --runs"
            )


def _evaluate(task: Task, job: Evaluation) -> Outcome:
    training = job.training
    rates = tuple(dict.fromkeys(place.missing_rate for place in job.places))
    where = (task.data, task.file, task.runs / training.name)
    subject, sample = _ready(training, where, rates, job.windows, job.calibration_windows)
    scored = score(Pruner(subject, job.method), job, sample, task.places)
    model = _file_digest(where[2] / WEIGHTS)
    facts: dict[str, Any] = {
        "key": digest(sorted(scored.answers)),
        "training": training.training,
        "method": job.method_name,
        "lines": len(scored.lines),
        "model": model,
    }
    if scored.decision_ms:
        middle, high = np.percentile(scored.decision_ms, (50, 95))
        facts["decision_ms"] = {
            "p50": round(float(middle), 4),
            "p95": round(float(high), 4),
            "n": len(scored.decision_ms),
        }
    arrays: dict[str, NDArray[Any]] = {**scored.answers, "windows": scored.indices, "y": scored.y}
    return Outcome(facts, tuple({**line, "model": model} for line in scored.lines), arrays)


@lru_cache(maxsize=4)
def _recording(data: Path | None, file: str | None, name: str, part: str | None) -> Windows:
    return open_recording(data, file, name, part)


@lru_cache(maxsize=1)
def _ready(
    training: Training,
    where: tuple[Path | None, str | None, Path],
    rates: tuple[float, ...],
    n: int,
    n_calibration: int,
) -> tuple[Subject, Sample]:
    """A model, what its methods may know, and what is scored."""
    data, file, folder = where
    model = from_pretrained(folder)
    windows = _recording(data, file, training.dataset, training.fold)
    windows = prepared(windows, model.config)
    sample = make_sample(windows, n, missing_rates=rates, seed=training.seed)
    return Subject(model, windows, n_calibration, seed=training.seed), sample


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:20]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
