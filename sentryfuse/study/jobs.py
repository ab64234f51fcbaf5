"""The jobs of a study: trainings, and evaluations of methods on them, with keys by content. Torch-free.

A key is a hash of everything that decides a result and of nothing else. Equal key, equal result: what has
a line with that key is never computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentryfuse.data import Windows, fold, load_windows, open_data
from sentryfuse.errors import ConfigError
from sentryfuse.study.design import DENSE, Method, StudyDesign
from sentryfuse.study.lines import Place

# Raised when code changes what the same design gives; old lines are then computed again.
STUDY_VERSION = 1


@dataclass(frozen=True)
class Training:
    """One model to train.

    Attributes:
        backbone: its name, as the next seven a part of the design.
        dataset: name of the recording.
        training: "plain", "gate" or "static".
        seed: of everything random.
        fold: `I/K`, or `None`.
        normalise: "train" or "subject".
        preset: sizes.
        attention: "sentry" or "dense".
        epochs: of training; `None` = the default.
        data: digest of the recording.
    """

    backbone: str
    dataset: str
    training: str
    seed: int
    fold: str | None
    normalise: str
    preset: str
    attention: str
    epochs: int | None
    data: str

    @property
    def name(self) -> str:
        """Name of its folder."""
        dense = "-dense" if self.attention == "dense" else ""
        of = f"-fold{self.fold.replace('/', 'of')}" if self.fold else ""
        return f"{self.backbone}{dense}-{self.dataset}-{self.training}-seed{self.seed}{of}"

    @property
    def key(self) -> str:
        """Hash of what decides the model."""
        return digest({"version": STUDY_VERSION, **vars(self)})


@dataclass(frozen=True)
class Evaluation:
    """One method on one training, in all its cells.

    Attributes:
        training: whose model.
        method: how it is made smaller; `None` = not at all, ratio 0.
        places: protocol, ratio and missing rate of every line.
        windows: most windows scored.
        calibration_windows: training windows the method may look at.
    """

    training: Training
    method: Method | None
    places: tuple[Place, ...]
    windows: int
    calibration_windows: int

    @property
    def method_name(self) -> str:
        """Of the lines."""
        return self.method.name if self.method else DENSE

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.training.name} {self.method_name}"

    def line_key(self, place: Place) -> str:
        """Hash of what decides one line."""
        method = self.method.model_dump(mode="json", exclude={"trainings"}) if self.method else None
        return digest(
            {
                "training": self.training.key,
                "method": method,
                "place": place._asdict(),
                "windows": self.windows,
                "calibration_windows": self.calibration_windows if method else None,
            }
        )

    def line(self, place: Place) -> dict[str, Any]:
        """What is known of a line before it is computed."""
        training, method = self.training, self.method
        return {
            "key": self.line_key(place),
            "backbone": training.backbone,
            "dataset": training.dataset,
            "seed": training.seed,
            "fold": training.fold,
            "training": training.training,
            "method": self.method_name,
            "scorer": method.scorer if method else None,
            "sensors": method.sensors if method else None,
            "allocation": method.allocation if method else None,
            "repair": method.repair if method else None,
            **place._asdict(),
        }


def trainings(design: StudyDesign, data: Mapping[str, str], *, only: str = "") -> list[Training]:
    """Every model of a study.

    Turn by turn, so that a study that is stopped early has all backbones and recordings.

    Args:
        design: what is compared.
        data: name of a recording -> its digest, for all that are asked for.
        only: part of the names wanted.

    Raises:
        ConfigError: no training has such a name.
    """
    found = []
    for turn in range(max(len(dataset.turns) for dataset in design.datasets.values())):
        for name, dataset in design.datasets.items():
            if turn >= len(dataset.turns):
                continue
            for backbone in design.backbones:
                for training in design.trainings:
                    found.append(
                        Training(
                            backbone=backbone,
                            dataset=name,
                            training=training,
                            seed=dataset.turns[turn].seed,
                            fold=dataset.turns[turn].fold,
                            normalise=dataset.normalise,
                            preset=design.preset,
                            attention=design.attention,
                            epochs=design.epochs,
                            data=data.get(name, ""),
                        )
                    )
    wanted = [training for training in found if only in training.name]
    if not wanted:
        raise ConfigError(
            f"no training of this study has {only!r} in its name; there is for example {found[0].name}"
        )
    return wanted


def evaluations(design: StudyDesign, training: Training) -> list[Evaluation]:
    """What is computed of one model: ratio 0 first, then every method that is tried on it."""
    dense = tuple(Place(None, 0.0, rate) for rate in design.missing_rates)
    grid = tuple(
        Place(protocol, ratio, rate)
        for protocol in design.protocols
        for ratio in design.ratios
        for rate in design.missing_rates
    )
    return [
        Evaluation(training, method, grid if method else dense, design.windows, design.calibration_windows)
        for method in (None, *design.methods_of(training.training))
    ]


def data_digests(design: StudyDesign, folder: Path | None, names: Iterable[str]) -> dict[str, str]:
    """sha256 of the files of some recordings; of an embedded one, of its arrays.

    Args:
        design: says which file.
        folder: where the files are.
        names: the recordings that are needed.

    Raises:
        ConfigError: no folder was given, or a file is not in it.
    """
    found = {}
    for name in names:
        file = design.datasets[name].file
        if file is None:
            found[name] = _array_digest(open_data(name))
            continue
        path = data_file(folder, file, name)
        with path.open("rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def data_file(folder: Path | None, file: str, name: str) -> Path:
    """Where a recording is.

    Raises:
        ConfigError: no folder was given, or the file is not in it.
    """
    if folder is None:
        raise ConfigError(f"the study needs the recording {name}, {file}; name its folder with --data")
    if not (folder / file).is_file():
        raise ConfigError(f"{folder} has no {file}, which the study needs for {name}; put it there")
    return folder / file


def open_recording(folder: Path | None, file: str | None, name: str, part: str | None) -> Windows:
    """The recording of a training, split by its fold."""
    windows = open_data(name) if file is None else load_windows(data_file(folder, file, name), name=name)
    if part is None:
        return windows
    i, k = (int(number) for number in part.split("/"))
    return windows.with_split(fold(windows.subject, i, k))


def digest(value: Any) -> str:
    """A short hash of JSON data; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _array_digest(windows: Windows) -> str:
    state = hashlib.sha256()
    for name in windows.names:
        state.update(windows.raw[name].tobytes())
    for values in (windows.y, windows.subject, windows.split):
        state.update(values.tobytes())
    return state.hexdigest()
