"""What a model is asked for: one class of several, a number, or several labels at once. numpy only.

Notation: B windows · K outputs (classes, numbers or labels).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Interval, Len, Predicate
from numpy.typing import ArrayLike, NDArray

from sentryfuse.errors import ConfigError

TaskName = Literal["classification", "regression", "multilabel"]
TASKS: tuple[TaskName, ...] = ("classification", "regression", "multilabel")
THRESHOLD = 0.5  # probability from which a label is part of the answer
Finite = Annotated[float, Interval(ge=-3e38, le=3e38)]
Positive = Annotated[float, Interval(gt=0, le=3e38)]


@dataclass(frozen=True, slots=True)
class Target:
    """The kind of answer, and what training windows are standardised by where it is made of numbers.

    Attributes:
        task: "classification" (one of `K` classes), "regression" (`K` numbers) or "multilabel" (any of `K`
            labels).
        unit: of the numbers of a regression; "" where nobody said.
        mean: of each output in training, `(K,)`; empty for classes, and before training.
        std: deviation of each output in training, `(K,)`, positive; empty as `mean`.
    """

    task: TaskName = "classification"
    unit: Annotated[str, Len(0, 100), Predicate(str.isprintable)] = ""
    mean: Annotated[tuple[Finite, ...], Len(0, 10_000)] = ()
    std: Annotated[tuple[Positive, ...], Len(0, 10_000)] = ()

    def __post_init__(self) -> None:
        """Refuse an unknown task."""
        if self.task not in TASKS:
            raise ConfigError(f"task {self.task!r} is unknown; choose one of {', '.join(TASKS)}")

    @property
    def of_classes(self) -> bool:
        """Whether one of several classes is the answer."""
        return self.task == "classification"

    @property
    def least_outputs(self) -> int:
        """How many outputs there must be."""
        return 2 if self.of_classes else 1

    def fitted(self, y: ArrayLike) -> Target:
        """The same with mean and deviation of training windows, `(N, K)`; classes need none."""
        if self.of_classes:
            return self
        values = np.asarray(y, np.float64).reshape(len(np.asarray(y)), -1)
        std = values.std(axis=0)
        std = np.where(std > 1e-6 * np.maximum(np.abs(values).max(axis=0, initial=0), 1e-6), std, 1.0)
        return replace(self, mean=tuple(values.mean(axis=0).tolist()), std=tuple(std.tolist()))

    def standardised(self, values: ArrayLike) -> NDArray[np.float64]:
        """Numbers or probabilities of labels `(B, K)` in units of training windows."""
        table = np.asarray(values, np.float64)
        return np.asarray((table.reshape(len(table), -1) - self.mean) / self.std)

    def back(self, standardised: ArrayLike) -> NDArray[np.float32]:
        """The inverse of `standardised`; probabilities of labels are kept within 0..1."""
        values = np.asarray(standardised, np.float64) * self.std + self.mean
        if self.task == "multilabel":
            values = np.clip(values, 0.0, 1.0)
        return values.astype(np.float32)

    def answers(self, outputs: NDArray[Any]) -> NDArray[np.float32]:
        """What a network's outputs say, `(B, K)` -> probabilities, or numbers in their unit."""
        if self.of_classes:
            shifted: NDArray[np.float32] = outputs - outputs.max(1, keepdims=True)
            np.exp(shifted, shifted)
            shifted /= shifted.sum(1, keepdims=True)
            return shifted
        if self.task == "multilabel":
            return np.asarray(1 / (1 + np.exp(-np.clip(outputs, -30, 30))), np.float32)
        return self.back(outputs)

    def said(self, answer: NDArray[Any], names: Sequence[str]) -> str | float:
        """One window's answers `(K,)` as a person reads it: a class, labels joined by +, or the number."""
        if self.of_classes:
            return names[int(answer.argmax())]
        if self.task == "multilabel":
            return "+".join(name for name, p in zip(names, answer, strict=True) if p >= THRESHOLD)
        return float(answer[0]) if len(answer) == 1 else " ".join(f"{value:.6g}" for value in answer)


CLASSES = Target()
