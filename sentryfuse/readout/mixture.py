"""The readout and the transformer as one answer: their probabilities multiplied under weights.

Numbers, and probabilities of labels that do not exclude each other, are added under weights.

The weights belong to numbers of sensors present and are fitted on people whom neither of the two has seen, so
that the one that knows more carries the answer; `p ~ readout^a * transformer^b`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.errors import DataError
from sentryfuse.readout.discriminant import Doubles, log_softmax
from sentryfuse.readout.pool import fit_pool
from sentryfuse.readout.readout import Readout

USUAL = (0.75, 0.35)  # weights without anything to fit them to
USUAL_OF_NUMBERS = (0.65, 0.35)
PULL_OF_NUMBERS = 0.01  # their squared errors differ by hundredths
PULL = 1.0  # of two people towards the weights of the next larger number of sensors; of many as much less
LEAST = 1e-9  # probability whose logarithm is taken
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Mixture:
    """A readout, and how much it and the transformer count.

    Attributes:
        readout: fitted on training people.
        weights: of readout and transformer by number of sensors present, `(M, 2)`; row 0 is for one.
    """

    readout: Readout
    weights: Doubles

    def answer(self, log_readout: ArrayLike, probabilities: ArrayLike | None, n_present: int) -> Floats:
        """Multiply the two, or add them.

        Args:
            log_readout: log probabilities of the readout, `(B, K)`; numbers or labels standardised.
            probabilities: or numbers of the transformer, `(B, K)`; `None` where no layer of it runs.
            n_present: sensors that are on.

        Returns:
            Probabilities or numbers, `(B, K)`.
        """
        log, target = np.asarray(log_readout, np.float64), self.readout.target
        if not target.of_classes:
            if probabilities is None:
                return target.back(log)
            own, other = self.weights[n_present - 1]
            return target.back(own * log + other * target.standardised(probabilities))
        if probabilities is None:
            return np.exp(log).astype(np.float32)
        own, other = self.weights[n_present - 1]
        other_log = np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST))
        return np.exp(log_softmax(own * log + other * other_log)).astype(np.float32)

    def tensors(self) -> dict[str, Floats]:
        """All arrays under stable names, float32."""
        return {**self.readout.tensors(), "weights": self.weights.astype(np.float32)}

    def settings(self) -> dict[str, Any]:
        """What the arrays do not say, ready for `json.dumps`."""
        return self.readout.settings()

    @classmethod
    def from_tensors(cls, settings: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Mixture:
        """Rebuild from `settings` and `tensors`.

        Raises:
            DataError: an array that is missing or has another shape.
        """
        rest = {name: value for name, value in tensors.items() if name != "weights"}
        readout = Readout.from_tensors(settings, rest)
        weights = tensors.get("weights")
        if weights is None or weights.shape != (len(readout.sensors), 2) or not (weights >= 0).all():
            raise DataError("the readout lacks its weights beside the transformer; export it again")
        return cls(readout, weights.astype(np.float64))


def fit_weights(
    answers: Mapping[int, tuple[Doubles, Doubles, NDArray[Any]]],
    n_sensors: int,
    n_people: int,
    *,
    numbers: bool = False,
) -> Doubles:
    """Weights of readout and transformer by number of sensors present, `(M, 2)`.

    Args:
        answers: number of sensors present -> log probabilities of the readout `(N, K)`, of the transformer
            `(N, K)`, both for people it has not seen, and the classes `(N,)`; or all of them standardised
            numbers `(N, K)`.
        n_sensors: `M`.
        n_people: whom the answers are for. One person, however many windows, says nothing of how people
            differ: the usual weights hold until several agree.
        numbers: whether the answers are numbers.

    Source:
        Logarithmic opinion pool, weights of least log loss, drawn towards those for one sensor more; our
        choice.
    """
    weights = np.tile(np.array(USUAL_OF_NUMBERS if numbers else USUAL), (n_sensors, 1))
    towards, pull = weights[0], PULL_OF_NUMBERS if numbers else PULL
    for n in range(n_sensors, 0, -1):
        if n in answers and n_people > 1:
            readout, transformer, y = answers[n]
            heads = np.stack([readout, transformer], axis=1)
            towards = fit_pool(heads, y, towards=towards, strength=pull / (n_people - 1))
        weights[n - 1] = towards
    return weights
