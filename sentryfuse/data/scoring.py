"""A model or bundle and a recording -> rows of scores, the same for both. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data import Windows, batches, by_subject, fixed_masks
from sentryfuse.data.learnable import check_labelled
from sentryfuse.data.metrics import scores
from sentryfuse.errors import NoSensorsError
from sentryfuse.types import Budget, Plan, check_present

BATCH = 256
Answer = Callable[[Mapping[str, NDArray[np.float32]], Plan], NDArray[np.float32]]
Planner = Callable[[tuple[str, ...]], Plan]
# positions of windows, sensors that are on, the transformer's probabilities or `None` -> probabilities
Beside = Callable[[NDArray[np.intp], Sequence[str], NDArray[np.float32] | None], NDArray[np.float32]]


class Standardised(Protocol):
    """A model's configuration or a bundle: how it wants its windows."""

    @property
    def normalise(self) -> str:
        """Only "subject" has windows standardised before the model sees them."""

    @property
    def subject_floor(self) -> Mapping[str, Any]:
        """Modality -> smallest deviation of a person, `(C,)`."""

    @property
    def subject_prior(self) -> Mapping[str, Any]:
        """Modality -> what is supposed of a person, `(4, C)`."""


def prepared(windows: Windows, model: Standardised) -> Windows:
    """The recording as the model wants it: as it is, or standardised by subject (once)."""
    if model.normalise != "subject" or windows.by_subject is not None:
        return windows
    return by_subject(windows, model.subject_floor, model.subject_prior)


def answer_all(
    windows: Windows,
    indices: NDArray[np.intp],
    *,
    present: NDArray[np.bool_] | None,
    plan_for: Planner,
    answer: Answer,
    beside: Beside | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.float32], dict[str, float], int]:
    """Answer many windows, each group of equal sensors with its own plan.

    Args:
        windows: the recording, prepared.
        indices: which windows, `(n,)`.
        present: sensors that may be on, a row per index, `(n, M)`; `None` means all.
        plan_for: present names -> plan; asked once per set.
        answer: raw windows and a plan -> probabilities `(B, K)`.
        beside: puts what another model says of the same windows beside it; `None` = there is none.

    Returns:
        Windows answered `(a,)`, their probabilities `(a, K)`, mean cost per window ("macs", "params"), and
        how many windows had no sensor at all and were refused.
    """
    plans: dict[tuple[str, ...], Plan] = {}
    order, parts = [], []
    cost = {"macs": 0.0, "params": 0.0}
    for on, chosen in batches(windows, indices, batch_size=BATCH, present=present):
        if on not in plans:
            plans[on] = plan_for(on)
        order.append(chosen)
        plan = plans[on]
        if beside is None:
            parts.append(answer(windows.batch(chosen, on), plan))
        else:
            made = None if plan.readout_alone else answer(windows.batch(chosen, on), plan)
            parts.append(beside(chosen, on, made))
        cost["macs"] += plans[on].cost.macs * len(chosen)
        cost["params"] += plans[on].cost.params * len(chosen)
    if not order:
        raise NoSensorsError(
            f"none of the {len(indices)} windows of {windows.name} has any of the sensors asked for; "
            "ask for other sensors"
        )
    answered = np.concatenate(order)
    cost = {key: value / len(answered) for key, value in cost.items()}
    return answered, np.concatenate(parts), cost, len(indices) - len(answered)


def presence_mask(
    names: Sequence[str], n: int, *, present: Iterable[str] | None, missing_rate: float | None, seed: int
) -> NDArray[np.bool_]:
    """Which sensors are on in each of `n` test windows, `(n, M)`: a named set, thinned by fixed masks."""
    on = check_present(present, names)
    mask = np.tile([name in on for name in names], (n, 1))
    if missing_rate:
        columns = [i for i, name in enumerate(names) if name in on]
        mask[:, columns] &= fixed_masks(n, len(columns), rate=missing_rate, seed=seed)
    return mask


def score_row(
    windows: Windows,
    indices: NDArray[np.intp],
    *,
    mask: NDArray[np.bool_],
    present: tuple[str, ...],
    missing_rate: float | None,
    budget: Budget,
    scorer: str,
    plan_for: Planner,
    answer: Answer,
    beside: Beside | None = None,
) -> dict[str, Any]:
    """One row of `evaluate` and `score`: the combination, its scores and what it cost."""
    answered, probabilities, cost, refused = answer_all(
        windows, indices, present=mask, plan_for=plan_for, answer=answer, beside=beside
    )
    return {
        "present": list(present),
        "missing_rate": missing_rate,
        "ratio": budget.ratio or 0.0,
        "protocol": budget.protocol,
        "scorer": scorer,
        **scores(windows.y[answered], probabilities, windows.target),
        "macs": round(cost["macs"]),
        "params": round(cost["params"]),
        "n_windows": len(answered),
        "n_refused": refused,
    }


@dataclass(frozen=True)
class Way:
    """One way of pruning: a budget, and the planner for it.

    Attributes:
        budget: holds for every window.
        scorer: what ranks the units; written into the rows.
        plan_for: present names -> plan.
    """

    budget: Budget
    scorer: str
    plan_for: Planner


def score_all(
    windows: Windows,
    *,
    split: str,
    present: Sequence[Sequence[str] | None],
    missing_rates: Sequence[float | None],
    ways: Sequence[Way],
    answer: Answer,
    seed: int,
    beside: Beside | None = None,
) -> list[dict[str, Any]]:
    """One row for every combination of sensors, missing rate and way of cutting.

    Args:
        windows: the recording, prepared.
        split: which part of it.
        present: sets of sensor names that are on; `None` means all.
        missing_rates: share of those missing in every window (fixed masks); `None` means none.
        ways: budgets and their planners.
        answer: raw windows and a plan -> probabilities `(B, K)`.
        seed: of the masks.
        beside: as in `answer_all`.

    Returns:
        Rows of `score_row`.

    Raises:
        DataError: the recording has no labels.
    """
    check_labelled(windows, "scores compare answers with them; `predict` answers without")
    indices = windows.indices(split)
    rows = []
    for names in present:
        for rate in missing_rates:
            mask = presence_mask(windows.names, len(indices), present=names, missing_rate=rate, seed=seed)
            rows += [
                score_row(
                    windows,
                    indices,
                    mask=mask,
                    present=check_present(names, windows.names),
                    missing_rate=rate,
                    budget=way.budget,
                    scorer=way.scorer,
                    plan_for=way.plan_for,
                    answer=answer,
                    beside=beside,
                )
                for way in ways
            ]
    return rows
