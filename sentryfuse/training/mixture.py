"""A readout beside a trained transformer, and how much each counts: by people that neither has seen."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sentryfuse.data import Windows
from sentryfuse.data.scoring import BATCH, prepared
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.readout import Fit, Mixture, fit_readout, fit_weights
from sentryfuse.readout.recording import features_of

MOST_WINDOWS = 1500  # of the validation people that weights are fitted to
SETS_OF_A_SIZE = 4
Doubles = NDArray[np.float64]
ReadoutKind = Literal["auto", "population", "person", "none"]


def fit_mixture(
    model: SentryModel,
    windows: Windows,
    *,
    normalise: Literal["auto", "population", "person"],
    balance: bool = False,
    seed: int = 0,
) -> tuple[Mixture, dict[str, Any]]:
    """Fit a readout to a recording and weigh it against a model that was trained on it.

    The readout learns from the people of training and validation, its choices are made by folds of them; the
    weights come from validation people, whom the transformer has not seen and the folds have left out.

    Args:
        model: trained on the recording; not changed.
        windows: the recording.
        normalise: what features are standardised by: "population", "person", or "auto", what folds choose.
        balance: the model was trained with every class counting alike, and the readout shall, too.
        seed: of folds and trees.

    Returns:
        The readout and the weights of both by number of sensors present; and what validation people say, of
        whom none of the answers has seen: accuracy [0..1] of "readout", "transformer" and "both" with all
        sensors, and the number of "people". Empty without validation people.

    Raises:
        DataError: no window to learn from.
    """
    with threadpool_limits(1):  # small matrices: several threads mostly wait for each other
        seen = np.flatnonzero((windows.split < 2) & windows.present.any(1))
        fit = fit_readout(
            features_of(windows, seen),
            windows.y[seen],
            windows.subject[seen],
            windows.classes,
            present=windows.present[seen],
            normalise=normalise,
            balance=balance,
            seed=seed,
        )
        judged = np.flatnonzero(windows.split[seen] == 1)
        if len(judged) > MOST_WINDOWS:
            judged = np.sort(np.random.default_rng(seed).choice(judged, MOST_WINDOWS, replace=False))
        if balance:
            judged = _evenly(judged, windows.y[seen[judged]], seed)
        n_people = len(np.unique(windows.subject[seen[judged]]))
        answers = _answers(model, windows, seen, judged, fit)
        mixture = Mixture(fit.readout, fit_weights(answers, len(windows.names), n_people))
    return mixture, _judged(mixture, answers, n_people)


def _evenly(judged: NDArray[np.intp], y: NDArray[np.integer[Any]], seed: int) -> NDArray[np.intp]:
    """As many windows of each class as the most frequent one has, rare ones several times."""
    rng = np.random.default_rng(seed)
    most = np.bincount(y).max(initial=0)
    return np.concatenate(
        [judged, *(rng.choice(judged[y == k], most - (y == k).sum()) for k in np.unique(y))]
    ).astype(np.intp)


def _answers(
    model: SentryModel, windows: Windows, seen: NDArray[np.intp], judged: NDArray[np.intp], fit: Fit
) -> dict[int, tuple[Doubles, Doubles, NDArray[np.int64]]]:
    """Log probabilities of readout and transformer for people new to both, by number of sensors present."""
    names, rng = windows.names, np.random.default_rng(0)
    ready = prepared(windows, normalise=model.config.normalise, floor=model.config.subject_floor)
    found: dict[int, tuple[Doubles, Doubles, NDArray[np.int64]]] = {}
    for size in range(len(names), 0, -1):
        sets = list(combinations(range(len(names)), size))
        if len(sets) > SETS_OF_A_SIZE:
            sets = [sets[i] for i in rng.choice(len(sets), SETS_OF_A_SIZE, replace=False)]
        parts = []
        for chosen in sets:
            rows = judged[windows.present[seen[judged]][:, chosen].all(1)]
            if not len(rows):
                continue
            present = tuple(names[m] for m in chosen)
            own = fit.out_of_person(present)[rows]
            parts.append((own, _logarithms(model, ready, seen[rows], present), windows.y[seen[rows]]))
        if parts:
            readout, transformer, y = (np.concatenate(column) for column in zip(*parts, strict=True))
            found[size] = readout, transformer, y.astype(np.int64)
    return found


def _judged(
    mixture: Mixture, answers: Mapping[int, tuple[Doubles, Doubles, NDArray[np.int64]]], n_people: int
) -> dict[str, Any]:
    """Accuracy of each alone and of both, with as many sensors as there are."""
    if not answers:
        return {}
    n_present = max(answers)
    readout, transformer, y = answers[n_present]
    both = mixture.answer(readout, np.exp(transformer), n_present)

    def right(scores: NDArray[Any]) -> float:
        return round(float((scores.argmax(1) == y).mean()), 4)

    return {
        "readout": right(readout),
        "transformer": right(transformer),
        "both": right(both),
        "people": n_people,
    }


@torch.no_grad()
def _logarithms(
    model: SentryModel, windows: Windows, indices: NDArray[np.intp], present: tuple[str, ...]
) -> Doubles:
    """Log probabilities of the whole transformer, `(n, K)`."""
    was_training = model.training
    model.eval()
    made = []
    for start in range(0, len(indices), BATCH):
        batch = windows.batch(indices[start : start + BATCH], present)
        inputs = {name: torch.from_numpy(x).to(model.device) for name, x in batch.items()}
        made.append(model(inputs, present).double().log_softmax(1).cpu().numpy())
    model.train(was_training)
    return np.maximum(np.concatenate(made), np.log(1e-9))
