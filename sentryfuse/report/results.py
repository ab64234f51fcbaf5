"""The schema of results files, and reading one with one clear sentence on bad input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sentryfuse.errors import InputError
from sentryfuse.planning.layout import Layout
from sentryfuse.types import Plan

Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Sensors = Annotated[list[str], Field(min_length=1)]


class Section(BaseModel):
    """Base of every part: types are checked, unknown keys are left alone."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Made(Section):
    """How the results were made; `seconds` per stage [s]."""

    command: str | None = None
    date: str | None = None
    machine: str | None = None
    versions: dict[str, str] = {}
    seconds: dict[str, float] = {}
    sentryfuse: str | None = None


class ModalityInfo(Section):
    """One sensor stream of the data; `channels` as names or as their number."""

    name: str
    length: int | None = None
    channels: int | list[str] | None = None
    rate_hz: float | None = None


class SplitInfo(Section):
    """One split of the data."""

    n_windows: Count
    n_subjects: Count | None = None


class DataInfo(Section):
    """What `data.describe` tells; `classes` as names, as name -> windows, or as their number."""

    name: str | None = None
    n_windows: Count | None = None
    modalities: list[ModalityInfo] = []
    classes: list[str] | dict[str, int] | int | None = None
    n_subjects: Count | None = None
    splits: dict[str, SplitInfo] | None = None
    licence: str | None = None


class Epoch(Section):
    """One epoch of training."""

    epoch: int
    loss: float | None = None
    accuracy: float | None = None
    validation: float | None = None
    missing_rate: float | None = None


class EvaluationRow(Section):
    """One combination of sensors, ratio and scorer, as `sentryfuse evaluate` writes it."""

    present: Sensors
    ratio: Ratio
    accuracy: Share | None
    missing_rate: Share | None = None
    protocol: str = "present"
    scorer: str = "gate"
    macro_f1: Share | None = None
    auroc: Share | None = None
    r2: Annotated[float, Field(le=1)] | None = None
    map: Share | None = None
    macs: Count | None = None
    params: Count | None = None
    n_windows: Count | None = None
    seed: int | None = None


class Evaluation(Section):
    """The rows of one dataset and backbone; `seed` is a list when runs were merged."""

    rows: Annotated[list[EvaluationRow], Field(min_length=1)]
    dataset: str | None = None
    backbone: str | None = None
    split: str | None = None
    seed: int | list[int] | None = None


class Quantiles(Section):
    """Times of one measurement [ms]."""

    p50: Positive | None = None
    p95: Positive | None = None
    p99: Positive | None = None


class SwitchTimes(Section):
    """Time to change to this sub-network [ms]."""

    cold: Quantiles | None = None
    warm: Quantiles | None = None


class BenchRow(Section):
    """One measured sub-network, as `sentryfuse bench` writes it."""

    present: Sensors
    ratio: Ratio
    latency_ms: Quantiles
    name: str | None = None
    engine: str = "onnxruntime"
    threads: int | None = None
    weights_mb: float | None = None
    peak_rss_mb: float | None = None
    macs: Count | None = None
    switch_ms: SwitchTimes | float | None = None


class ReplayRow(Section):
    """One window of the stream; `correct` and `latency_ms` are null where nothing was answered."""

    t_s: float
    present: list[str]
    status: Literal["OK", "DEGRADED", "REFUSED"]
    ratio: Ratio | None = None
    correct: bool | None = None
    latency_ms: float | None = None
    switched: bool = False
    plan_id: str | None = None


class Results(Section):
    """Everything a report can show; only `evaluation` must be there. `verdict` is of `sentryfuse compare`."""

    evaluation: Evaluation
    title: str | None = None
    verdict: str | None = None
    made: Made | None = None
    data: DataInfo | None = None
    model: dict[str, Any] | None = None
    training: list[Epoch] = []
    plans: list[Plan] = []
    layout: Layout | None = None
    bench: list[BenchRow] = []
    replay: list[ReplayRow] = []

    @property
    def names(self) -> tuple[str, ...]:
        """Every sensor of the model, in order."""
        if self.layout is not None and self.layout.modalities:
            return self.layout.names
        if self.data is not None and self.data.modalities:
            return tuple(m.name for m in self.data.modalities)
        return sensor_names(self.evaluation.rows)


def sensor_names(rows: list[EvaluationRow]) -> tuple[str, ...]:
    """Every sensor that occurs, those of the longest set first, in its order."""
    ordered = sorted(rows, key=lambda row: -len(row.present))
    return tuple(dict.fromkeys(name for row in ordered for name in row.present))


def parse_results(results: Mapping[str, Any]) -> Results:
    """Check a results dictionary and give it types.

    Args:
        results: what `results.json` holds; numpy scalars are accepted for numbers.

    Returns:
        The checked results.

    Raises:
        InputError: a key is missing or has a wrong type; the message names it.
    """
    return _parse(Results, results)


def parse_evaluation(evaluation: Mapping[str, Any]) -> Evaluation:
    """Check the section `evaluation` alone.

    Args:
        evaluation: what `sentryfuse evaluate --json` writes.

    Returns:
        The checked section.

    Raises:
        InputError: a key is missing or has a wrong type; the message names it.
    """
    return _parse(Evaluation, evaluation)


SectionT = TypeVar("SectionT", bound=Section)


def _parse(kind: type[SectionT], data: Mapping[str, Any]) -> SectionT:
    """Validate, and turn the first complaint into one sentence."""
    if not isinstance(data, Mapping):
        raise InputError(f"results must be a dictionary, got {type(data).__name__}; give results.json")
    try:
        return kind.model_validate_json(json.dumps(dict(data), default=_as_json))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            said = "is missing"
        else:
            got = repr(first["input"])
            said = f"has a wrong value, {got if len(got) <= 40 else got[:37] + '...'}"
        rule = first["msg"][0].lower() + first["msg"][1:]
        raise InputError(
            f"results cannot be used: key {key!r} {said} ({rule}); write it as `sentryfuse demo` does"
        ) from error


def _as_json(value: object) -> object:
    """JSON values of mappings, paths and numpy scalars."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        return item()
    raise InputError(
        f"results hold a {type(value).__name__}, which JSON cannot; give numbers, texts and lists"
    )
