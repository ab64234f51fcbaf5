"""Looking on while a model is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sentryfuse.model.pretrained import SentryModel


class Callback(Protocol):
    """Called after every epoch: any function of two arguments, to log, to draw, to stop.

    Of several processes only the first calls it. A training that goes on after a kill calls it for the epochs
    that are still to come. What it raises ends the training; what had been trained can be resumed.
    """

    def __call__(self, row: Mapping[str, Any], model: SentryModel, /) -> bool | None:
        """Look at an epoch.

        Args:
            row: of the history: `epoch` (from 1 on), `loss`, `accuracy`, `validation` and the others of
                `train`.
            model: the running mean of the weights, which is what was validated; not to be changed.

        Returns:
            True to make this epoch the last one; the best epoch so far is kept, as ever.
        """


def wants_to_stop(callbacks: Sequence[Callback], row: Mapping[str, Any], model: SentryModel) -> bool:
    """Call all of them, and tell whether one wants to stop."""
    answers = [callback(row, model) for callback in callbacks]
    return any(answer is True for answer in answers)
