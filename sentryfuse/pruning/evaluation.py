"""A trained model and a recording -> scores, one row per combination of sensors, ratio and scorer."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentryfuse.data import Windows
from sentryfuse.data.matching import matched
from sentryfuse.data.scoring import Answer, Way, prepared, score_all
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.pruning.calibration import Calibrator
from sentryfuse.pruning.cut import selection
from sentryfuse.pruning.scorers import make_plan, make_scorer
from sentryfuse.readout.recording import on_recording
from sentryfuse.types import Budget, Plan


def torch_answer(model: SentryModel) -> Answer:
    """Probabilities or numbers by torch, on the model's device; weights are sliced by the plan on the fly."""

    @torch.no_grad()
    def answer(batch: Mapping[str, NDArray[np.float32]], plan: Plan) -> NDArray[np.float32]:
        inputs = {name: torch.from_numpy(x).to(model.device) for name, x in batch.items()}
        logits = model(inputs, plan.present, select=selection(plan, model.device))
        return model.answers(logits)

    return answer


def placed(model: SentryModel, device: torch.device) -> SentryModel:
    """The model on a device: itself, or a copy."""
    return model if model.device == device else copy.deepcopy(model).to(device)


def evaluate(
    model: SentryModel,
    windows: Windows,
    *,
    split: str = "test",
    present: Sequence[Sequence[str] | None] = (None,),
    missing_rates: Sequence[float | None] = (None,),
    ratios: Sequence[float] = (0.0,),
    protocol: str = "present",
    scorers: Sequence[str] = ("gate",),
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> list[dict[str, Any]]:
    """Score a model for every combination of sensors, missing rate, ratio and scorer.

    Args:
        model: a trained or pruned model.
        windows: the recording.
        split: which part; choices belong on "validation", "test" is for reporting.
        present: sets of sensor names that are on; `None` means all.
        missing_rates: share of those sensors missing in every window (fixed masks); `None` means none.
        ratios: share of the prunable MACs to remove.
        protocol: what the ratio refers to, "present" or "full".
        scorers: names of `list_scorers`.
        seed: of the masks.
        device: runs the windows. Units are always ranked on the CPU, so that the plans are the same.

    Returns:
        One dictionary per combination, as in `sentryfuse evaluate --json`.

    Raises:
        ConfigError: unknown names, or a recording that does not belong to the model.
        DataError: the recording has no labels.
        BudgetError: a ratio outside 0..1.
    """
    windows = matched(model.layout.modalities, model.config.classes, windows, target=model.config.target)
    windows = prepared(windows, model.config)
    answering = placed(model.eval(), torch.device(device))
    model = placed(model, torch.device("cpu"))
    calibrator = Calibrator(model, windows)  # one pass serves all that need it
    rankers = [make_scorer(name, calibrator) for name in scorers]
    ways = []
    for ratio in ratios:
        budget = Budget(ratio=ratio, protocol=protocol)
        for ranker in rankers:
            planner = partial(make_plan, model, budget=budget, scorer=ranker)
            ways.append(Way(budget, ranker.name, planner))
    return score_all(
        windows,
        split=split,
        present=present,
        missing_rates=missing_rates,
        ways=ways,
        answer=torch_answer(answering),
        seed=seed,
        beside=on_recording(model.mixture, windows, windows.indices(split)),
    )
