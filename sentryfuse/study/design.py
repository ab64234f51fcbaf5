"""What a study compares, frozen in one JSON file before anything runs. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sentryfuse.errors import ConfigError
from sentryfuse.files import read_json

DENSE = "dense"  # the method of ratio 0
PRESETS = Path(__file__).parent / "presets"
ELASTIC = {"plain": "none", "gate": "gate", "static": "static", "taylor": "taylor"}  # training -> `--elastic`

TrainingName = Literal["plain", "gate", "static", "taylor"]
Ratio = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Frozen(BaseModel):
    """Base of every part of a design: frozen, no conversion of types, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Turn(Frozen):
    """One repetition: a seed, and the fold of people where there is one.

    Attributes:
        seed: of training, of the windows scored and of the sensors that miss in them.
        fold: `I/K` as in `sentryfuse train`; `None` = the recording's own split.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    fold: Annotated[str, Field(pattern=r"^\d+/[1-9]\d*$")] | None = None


class Dataset(Frozen):
    """One recording of a study.

    Attributes:
        file: name of the npz file in the data folder; `None` = the embedded recording of this name.
        normalise: "train" or "subject", as in `sentryfuse train`.
        turns: its repetitions.
    """

    file: str | None = None
    normalise: Literal["train", "subject"] = "train"
    turns: Annotated[tuple[Turn, ...], Field(min_length=1)]


class Method(Frozen):
    """One way of making a trained model smaller.

    Attributes:
        scorer: name of a registered scorer.
        sensors: "aware", planned for the sensors that are present; "blind", one plan made for all
            sensors, of which runs what the present ones need.
        allocation: "global", by our planner; "uniform", the same share of units in every block.
        repair: closed-form correction of the sliced weights: "none", "bias", "scale" or "ridge".
        trainings: the trainings it is tried on; empty = all of the study.
    """

    scorer: str
    sensors: Literal["aware", "blind"] = "aware"
    allocation: Literal["global", "uniform"] = "global"
    repair: Literal["none", "bias", "scale", "ridge"] = "none"
    trainings: tuple[TrainingName, ...] = ()

    @property
    def name(self) -> str:
        """For people, such as `magnitude-uniform+bias/blind`."""
        uniform = "-uniform" if self.allocation == "uniform" else ""
        repair = f"+{self.repair}" if self.repair != "none" else ""
        return f"{self.scorer}{uniform}{repair}/{self.sensors}"


class Cell(NamedTuple):
    """One place of the comparison, where every method has a score."""

    backbone: str
    dataset: str
    ratio: float
    missing_rate: float


class StudyDesign(Frozen):
    """Everything that decides the results of a study.

    Attributes:
        format: of this file.
        backbones: names of `sentryfuse.list_models()`.
        datasets: name -> recording.
        trainings: how the models are trained: "plain", or elastic with sub-networks chosen by the
            "gate", by magnitude ("static") or by "taylor".
        ratios: shares of the prunable MACs to remove.
        missing_rates: shares of the sensors that miss.
        protocols: what a ratio refers to, "present" or "full".
        methods: what is compared.
        windows: most test windows scored in a cell, drawn once per seed without replacement.
        preset: sizes of the models.
        attention: "sentry" or "dense".
        epochs: of every training; `None` = as many as `sentryfuse train` takes by itself.
        calibration_windows: training windows that methods may look at, drawn once per seed.
    """

    format: Literal[1] = 1
    backbones: Annotated[tuple[str, ...], Field(min_length=1)]
    datasets: Annotated[dict[str, Dataset], Field(min_length=1)]
    trainings: Annotated[tuple[TrainingName, ...], Field(min_length=1)]
    ratios: Annotated[tuple[Ratio, ...], Field(min_length=1)]
    missing_rates: Annotated[tuple[Rate, ...], Field(min_length=1)]
    protocols: Annotated[tuple[Literal["present", "full"], ...], Field(min_length=1)]
    methods: Annotated[tuple[Method, ...], Field(min_length=1)]
    windows: Count = 1000
    preset: str = "small"
    attention: Literal["sentry", "dense"] = "sentry"
    epochs: Count | None = None
    calibration_windows: Count = 1024

    @model_validator(mode="after")
    def _differ(self) -> StudyDesign:
        lists: dict[str, Sequence[Any]] = {
            name: getattr(self, name)
            for name in ("backbones", "trainings", "ratios", "missing_rates", "protocols")
        }
        lists["methods"] = [method.name for method in self.methods]
        for name, dataset in self.datasets.items():
            lists[f"turns of {name}"] = dataset.turns
        for name, values in lists.items():
            if len(set(values)) != len(values):
                raise ValueError(f"{name} name something twice")
        for method in self.methods:
            if not set(method.trainings) <= set(self.trainings):
                raise ValueError(f"{method.name} names a training that the study has not")
        return self

    def cells(self) -> list[Cell]:
        """Every cell, in a fixed order; each is scored once per turn of its recording."""
        return [
            Cell(*place) for place in product(self.backbones, self.datasets, self.ratios, self.missing_rates)
        ]

    def methods_of(self, training: str) -> list[Method]:
        """The methods tried on a training, in the order of the design."""
        return [m for m in self.methods if not m.trainings or training in m.trainings]

    def to_json(self) -> dict[str, Any]:
        """What the file holds, defaults written out."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Any, *, said: str = "the design") -> StudyDesign:
        """Rebuild from `to_json`.

        Args:
            data: what a JSON file says.
            said: how to name it in an error.

        Raises:
            ConfigError: a missing, unknown or wrong entry; the first one is named.
        """
        try:
            return cls.model_validate(_tuples(data))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            at = f"key {key!r}: " if key else ""
            rule = first["msg"].removeprefix("Value error, ")
            raise ConfigError(
                f"{said} cannot be used: {at}{rule[0].lower() + rule[1:]}; docs/study.md says what it holds"
            ) from None


def load_design(name_or_file: str | Path) -> StudyDesign:
    """A design that ships with the package, by name, or one from a JSON file.

    Args:
        name_or_file: a name of `preset_names`, or a file.

    Raises:
        ConfigError: neither, or a file that is not a design.
        InputError: a file that is not JSON.
    """
    path = Path(name_or_file)
    if str(name_or_file) in preset_names():
        path = PRESETS / f"{name_or_file}.json"
    elif not path.is_file():
        raise ConfigError(
            f"there is no study {str(name_or_file)!r}; known by name: {', '.join(preset_names())}; "
            "give one of those or a JSON file"
        )
    return StudyDesign.from_json(read_json(path), said=str(path))


def preset_names() -> list[str]:
    """Names of the designs that ship with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.json"))


def _tuples(data: Any) -> Any:
    """JSON lists as tuples, which is what frozen parts hold."""
    if isinstance(data, dict):
        return {key: _tuples(value) for key, value in data.items()}
    return tuple(_tuples(value) for value in data) if isinstance(data, list) else data
