"""A model made smaller by a method -> its probabilities and scores in every cell; needs torch.

Windows that have the same sensors on are answered together, whatever the missing rate they come from, and
equal sub-networks answer once, whatever the ratio protocol they come from.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentryfuse.data import Windows, group_by_presence
from sentryfuse.data.metrics import scores
from sentryfuse.model import Selection
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.study.jobs import Evaluation
from sentryfuse.study.lines import Line, Place
from sentryfuse.study.masks import draw_windows, exact_masks
from sentryfuse.study.methods import Pruner
from sentryfuse.types import Plan

BATCH = 256

Rows = tuple[NDArray[np.intp], NDArray[np.intp]]


@dataclass(frozen=True, eq=False)
class Group:
    """Windows that share one set of sensors, at any missing rate.

    Attributes:
        present: the sensors.
        inputs: their windows, modality -> `(p, T, C)`.
        rows: missing rate -> rows of the sample, and where they are among the `p`.
    """

    present: tuple[str, ...]
    inputs: Mapping[str, Tensor]
    rows: Mapping[float, Rows]


@dataclass(frozen=True, eq=False)
class Sample:
    """What is scored in every cell of one training.

    Attributes:
        indices: windows of the recording, `(n,)`.
        y: their classes, `(n,)`.
        groups: the same windows by the sensors that are on, for all missing rates.
        whole: present sensors -> answers of the whole model, `(p, K)`, filled as they are asked for; where
            the protocol "full" takes nothing away, they serve every method.
    """

    indices: NDArray[np.intp]
    y: NDArray[np.int64]
    groups: tuple[Group, ...]
    whole: dict[tuple[str, ...], NDArray[np.float16]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Scored:
    """What one evaluation gives.

    Attributes:
        lines: one per cell.
        answers: key of a line -> probabilities `(n, K)`, float16.
        indices: windows of the recording, `(n,)`.
        y: their classes, `(n,)`.
        decision_ms: times of single decisions, from present sensors to plan [ms]; empty for ratio 0.
    """

    lines: list[dict[str, Any]]
    answers: dict[str, NDArray[np.float16]]
    indices: NDArray[np.intp]
    y: NDArray[np.int64]
    decision_ms: list[float]


def make_sample(windows: Windows, n: int, *, missing_rates: Sequence[float], seed: int) -> Sample:
    """Draw the windows and the sensors that miss, and make the windows ready once.

    Args:
        windows: the recording, prepared for the model.
        n: most test windows.
        missing_rates: rates of the cells.
        seed: of both draws.
    """
    indices = draw_windows(windows, "test", n, seed=seed)
    there = windows.present[indices]
    masks = np.concatenate([exact_masks(there, rate=rate, seed=seed) for rate in missing_rates])
    batch = windows.batch(indices)
    groups = []
    for on, members in group_by_presence(masks, np.arange(len(masks))).groups:
        rate, row = np.divmod(members, len(indices))
        rows, at = np.unique(row, return_inverse=True)
        names = tuple(windows.names[m] for m in on)
        inputs = {name: torch.from_numpy(batch[name][rows]) for name in names}
        of_rate = {p: (row[rate == i], at[rate == i]) for i, p in enumerate(missing_rates)}
        groups.append(Group(names, inputs, of_rate))
    return Sample(indices, windows.y[indices], tuple(groups))


def score(pruner: Pruner, evaluation: Evaluation, sample: Sample, places: Sequence[Place]) -> Scored:
    """Answer and score one method in some of its cells.

    Scores are those of the answers as they are kept, rounded to float16. The whole model's answers are looked
    up in the sample, so a sample serves one model.

    Args:
        pruner: the method on its model.
        evaluation: what the lines are of.
        sample: the windows.
        places: which cells.
    """
    ways = list(dict.fromkeys((place.protocol, place.ratio) for place in places))
    planners = {(protocol, ratio): pruner.planner(ratio, protocol) for protocol, ratio in ways}
    classes = len(pruner.model.config.classes)
    tables = {place: np.zeros((len(sample.y), classes), np.float16) for place in places}
    cost = {place: np.zeros(2) for place in places}
    decision_ms = []
    for group in sample.groups:
        answered: dict[str, NDArray[np.float16]] = {}
        for way, plan_for in planners.items():
            own = [place for place in places if place[:2] == way and len(group.rows[place.missing_rate][0])]
            if not own:
                continue
            started = time.perf_counter()
            plan = plan_for(group.present)
            decision_ms.append(1000 * (time.perf_counter() - started))
            if plan.plan_id not in answered:
                answered[plan.plan_id] = _answer(pruner, plan, group, sample)
            for place in own:
                rows, at = group.rows[place.missing_rate]
                tables[place][rows] = answered[plan.plan_id][at]
                cost[place] += len(rows) * np.array([plan.cost.macs, plan.cost.params])
    lines = []
    for place in places:
        macs, params = (cost[place] / len(sample.y)).round().astype(int).tolist()
        found = scores(sample.y, tables[place])
        sizes = {"macs": macs, "params": params, "n_windows": len(sample.y)}
        lines.append(
            Line.model_validate(evaluation.line(place) | found | sizes).model_dump(exclude={"model"})
        )
    return Scored(
        lines=lines,
        answers={evaluation.line_key(place): table for place, table in tables.items()},
        indices=sample.indices,
        y=sample.y,
        decision_ms=decision_ms if evaluation.method else [],
    )


def _answer(pruner: Pruner, plan: Plan, group: Group, sample: Sample) -> NDArray[np.float16]:
    """Probabilities of all windows of a group, `(p, K)`."""
    if plan.cost != plan.dense:
        return answer(*pruner.small(plan), group)
    if group.present not in sample.whole:
        sample.whole[group.present] = answer(pruner.model, None, group)
    return sample.whole[group.present]


@torch.inference_mode()
def answer(model: SentryModel, select: Selection | None, group: Group) -> NDArray[np.float16]:
    """Probabilities of all windows of a group by a model, or by some of its units, `(p, K)`."""
    n = len(next(iter(group.inputs.values())))
    parts = []
    for start in range(0, n, BATCH):
        batch = {name: x[start : start + BATCH] for name, x in group.inputs.items()}
        parts.append(model(batch, group.present, select=select).softmax(1))
    found: NDArray[np.float16] = torch.cat(parts).numpy().astype(np.float16)
    return found
