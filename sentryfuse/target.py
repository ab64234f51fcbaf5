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
        gain: of each label, `(K,)`: its probability is `sigmoid(gain z + bias)` of what is standardised;
            empty for numbers, and where it was not fitted: then it is `std z + mean`, kept within 0..1.
        bias: `(K,)`; as `gain`.
    """

    task: TaskName = "classification"
    unit: Annotated[str, Len(0, 100), Predicate(str.isprintable)] = ""
    mean: Annotated[tuple[Finite, ...], Len(0, 10_000)] = ()
    std: Annotated[tuple[Positive, ...], Len(0, 10_000)] = ()
    gain: Annotated[tuple[Finite, ...], Len(0, 10_000)] = ()
    bias: Annotated[tuple[Finite, ...], Len(0, 10_000)] = ()

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
        """The inverse of `standardised`, for labels their probabilities."""
        if self.gain:
            return _sigmoid(np.asarray(standardised, np.float64) * self.gain + self.bias)
        values = np.asarray(standardised, np.float64) * self.std + self.mean
        if self.task == "multilabel":
            values = np.clip(values, 0.0, 1.0)
        return values.astype(np.float32)

    def calibrated(self, z: ArrayLike, y: ArrayLike) -> Target:
        """The same with `gain` and `bias` of least log loss; of labels alone.

        Args:
            z: standardised answers for people not seen, `(N, K)`.
            y: their labels, 0 or 1, `(N, K)`.

        Source:
            Platt (1999); his targets short of 0 and 1 keep a label that is always told right finite.
        """
        table, truth = np.asarray(z, np.float64), np.asarray(y, np.float64)
        found = [_platt(table[:, k], truth[:, k]) for k in range(table.shape[1])]
        gain, bias = zip(*found, strict=True)
        return replace(self, gain=gain, bias=bias)

    def fits(self, n_outputs: int) -> bool:
        """Whether there are as many means and deviations as outputs, none for classes."""
        n = 0 if self.of_classes else n_outputs
        calibrated = {len(self.gain), len(self.bias)}
        return {len(self.mean), len(self.std)} == {n} and (
            calibrated == {0} or (calibrated == {n} and self.task == "multilabel")
        )

    def answers(self, outputs: NDArray[Any]) -> NDArray[np.float32]:
        """What a network's outputs say, `(B, K)` -> probabilities, or numbers in their unit."""
        if self.of_classes:
            shifted: NDArray[np.float32] = outputs - outputs.max(1, keepdims=True)
            np.exp(shifted, shifted)
            shifted /= shifted.sum(1, keepdims=True)
            return shifted
        if self.task == "multilabel":
            return _sigmoid(outputs)
        return self.back(outputs)

    def said(self, answer: NDArray[Any], names: Sequence[str]) -> str | float:
        """One window's answers `(K,)` as a person reads it: a class, labels joined by +, or the number."""
        if self.of_classes:
            return names[int(answer.argmax())]
        if self.task == "multilabel":
            return "+".join(name for name, p in zip(names, answer, strict=True) if p >= THRESHOLD)
        return float(answer[0]) if len(answer) == 1 else " ".join(f"{value:.6g}" for value in answer)


def _sigmoid(logits: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), np.float32)


def _platt(z: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Gain and bias of a logistic curve, by Newton's method."""
    n_there = y.sum()
    high, low = (n_there + 1) / (n_there + 2), 1 / (len(y) - n_there + 2)
    wanted = np.where(y > 0, high, low)
    x = np.stack([z, np.ones_like(z)], axis=1)
    w = np.array([1.0, np.log(wanted.mean() / (1 - wanted.mean()))])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        slope = x.T @ (p - wanted) / len(z)
        curve = (x * (p * (1 - p))[:, None]).T @ x / len(z) + 1e-6 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        w = w - step / max(1.0, float(np.abs(step).max()) / 2)  # never far at once
        if np.abs(step).max() < 1e-8:
            break
    return float(w[0]), float(w[1])


CLASSES = Target()
