"""Answers to many windows: one row a window, under the same names in files and in streams.

| column | meaning |
| --- | --- |
| `time_s` or `window` | where the window ends on the file's own clock [s], or its row in the recording |
| `subject` | whom it is of, where that is known |
| `answer` | name of the class, number, or labels joined by +; empty where no sensor is there |
| `p_<class>` | probability of each class or label |
| `y_<name>` | each number of a regression of several |
| `sensors` | those that the answer is made of |
| `plan` | digest of the sub-network |
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.errors import ConfigError
from sentryfuse.files import write_atomically
from sentryfuse.target import CLASSES, Target
from sentryfuse.types import Plan

SUFFIXES = (".csv", ".jsonl", ".parquet")
PARQUET = ("polars", "pyarrow")  # either writes it


@dataclass(frozen=True, eq=False)
class Answers:
    """What a bundle says of windows, in their order.

    Attributes:
        classes: names of the K classes, numbers or labels.
        window: row of each window in its recording, `(n,)`.
        probabilities: or numbers, `(n, K)`; NaN where no sensor is there.
        plans: the sub-networks that answered.
        plan: which of them answered each window, `(n,)`; -1 where none did.
        subject: whom each window is of; `None` where nobody says.
        time_s: where each window ends on the recording's clock, `(n,)` [s]; `None` for windows without times.
        target: what they are.
    """

    classes: tuple[str, ...]
    window: NDArray[np.intp]
    probabilities: NDArray[np.float32]
    plans: tuple[Plan, ...]
    plan: NDArray[np.intp]
    subject: Sequence[str | int] | None = None
    time_s: NDArray[np.float64] | None = None
    target: Target = CLASSES

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.window)

    @property
    def answer(self) -> list[str | float | None]:
        """Class, number or labels of each window; `None` where no sensor is there."""
        found = zip(self.probabilities, self.plan, strict=True)
        return [self.target.said(row, self.classes) if p >= 0 else None for row, p in found]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return (
            "window" if self.time_s is None else "time_s",
            *(() if self.subject is None else ("subject",)),
            *answer_columns(self.classes, self.target),
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dictionary per window, by `columns`; numbers as Python's own, sensors as a list."""
        ids = [plan.plan_id for plan in self.plans]
        for i, answer in enumerate(self.answer):
            at = int(self.plan[i])
            probabilities = None if at < 0 else self.probabilities[i]
            when: dict[str, Any] = {"window": int(self.window[i])}
            if self.time_s is not None:
                when = {"time_s": round(float(self.time_s[i]), 6)}
            if self.subject is not None:
                when["subject"] = self.subject[i]
            yield when | answer_row(
                self.classes,
                self.target,
                answer=answer,
                probabilities=probabilities,
                sensors=() if at < 0 else self.plans[at].present,
                plan_id=None if at < 0 else ids[at],
            )


def answer_columns(classes: Sequence[str], target: Target) -> tuple[str, ...]:
    """Names of the columns of an answer, without those that say of which window it is."""
    return ("answer", *output_columns(classes, target), "sensors", "plan")


def output_columns(classes: Sequence[str], target: Target) -> tuple[str, ...]:
    """Names of the columns of probabilities or numbers; none of a single number, which is the answer."""
    if target.task != "regression":
        return tuple(f"p_{name}" for name in classes)
    return tuple(f"y_{name}" for name in classes) if len(classes) > 1 else ()


def answer_row(
    classes: Sequence[str],
    target: Target,
    *,
    answer: str | float | None,
    probabilities: NDArray[np.float32] | None,
    sensors: Sequence[str],
    plan_id: str | None,
) -> dict[str, Any]:
    """One answer by `answer_columns`; `None` where there is none.

    Args:
        classes: names of the K classes, numbers or labels.
        target: what is asked for.
        answer: as `Target.said`.
        probabilities: or numbers, `(K,)`.
        sensors: what the answer is made of.
        plan_id: of the sub-network.
    """
    columns = output_columns(classes, target)
    known: Sequence[float | None] = [None] * len(classes) if probabilities is None else short(probabilities)
    return {
        "answer": answer,
        **dict(zip(columns, known, strict=False)),
        "sensors": list(sensors),
        "plan": plan_id,
    }


def short(probabilities: NDArray[np.float32]) -> list[float]:
    """The shortest numbers that are the same in float32."""
    return [float(str(p)) for p in probabilities]


def check_file(path: Path) -> None:
    """Refuse a file that answers could not be written to.

    Raises:
        ConfigError: another suffix, or Parquet where nothing here writes it.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"answers cannot be written to {path.name}; let it end in {', '.join(SUFFIXES)}")
    if path.suffix.lower() == ".parquet" and not any(map(_is_here, PARQUET)):
        raise ConfigError(
            f"{path.name} needs {' or '.join(PARQUET)}, and neither is here; pip install 'sentryfuse[data]', "
            "or let it end in .csv or .jsonl"
        )


def save_answers(path: str | Path, answers: Answers) -> None:
    """Write answers as CSV, JSON lines or Parquet, by the file's suffix.

    Args:
        path: ends in `.csv`, `.jsonl` or `.parquet`; replaced if it exists. In CSV and Parquet the names in
            `sensors` are joined by commas.
        answers: what to write.

    Raises:
        ConfigError: another suffix, or Parquet where nothing here writes it.
        InputError: the system refuses to write.
    """
    path = Path(path)
    check_file(path)
    kind = path.suffix.lower()
    with write_atomically(path) as draft:
        if kind == ".parquet":
            _save_parquet(draft, answers)
            return
        with draft.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            if kind == ".jsonl":
                for row in answers.rows():
                    stream.write(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n")
                return
            table = csv.DictWriter(stream, answers.columns, lineterminator="\n")
            table.writeheader()
            table.writerows(map(_flat, answers.rows()))


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose cells are single values."""
    return {**row, "sensors": ",".join(row["sensors"])}


def _save_parquet(path: Path, answers: Answers) -> None:
    """One column each, with the type of its values."""
    rows = [*map(_flat, answers.rows())]
    columns = {name: [row[name] for row in rows] for name in answers.columns}
    if _is_here("polars"):
        polars: Any = import_module("polars")
        polars.DataFrame(columns, schema_overrides=_types(answers, polars)).write_parquet(path)
        return
    arrow: Any = import_module("pyarrow")
    schema = arrow.schema([(name, _arrow_type(arrow, name, answers)) for name in answers.columns])
    import_module("pyarrow.parquet").write_table(arrow.table(columns, schema=schema), path)


def _types(answers: Answers, polars: Any) -> dict[str, Any]:
    """Types of columns that may be empty."""
    numbers = dict.fromkeys(output_columns(answers.classes, answers.target), polars.Float64)
    number = answers.target.task == "regression" and len(answers.classes) == 1
    return {**numbers, "answer": polars.Float64 if number else polars.String, "plan": polars.String}


def _arrow_type(arrow: Any, name: str, answers: Answers) -> Any:
    """Type of a column, also of one that is empty."""
    if name == "window" or (name == "subject" and answers.subject and isinstance(answers.subject[0], int)):
        return arrow.int64()
    return arrow.string() if name in ("subject", "answer", "sensors", "plan") else arrow.float64()


def _is_here(package: str) -> bool:
    """Whether a package can be imported."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # kept out by a finder, or switched off
        return False
