"""A readout beside a trained transformer, and how much each counts: by people that neither has seen."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sentryfuse.data import Windows, by_subject, subject_floor, subject_prior
from sentryfuse.data.metrics import scores
from sentryfuse.data.scoring import BATCH, prepared
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.readout import Fit, Mixture, fit_readout, fit_weights
from sentryfuse.readout.folds import are_known
from sentryfuse.readout.recording import features_of
from sentryfuse.training.settings import TrainSettings

MOST_WINDOWS = 1500  # of the validation people that weights are fitted to
SETS_OF_A_SIZE = 4
Doubles = NDArray[np.float64]
Judged = dict[int, tuple[Doubles, Doubles, NDArray[Any]]]  # as `fit_weights` takes them
ReadoutKind = Literal["auto", "population", "person", "none"]


def fit_beside(windows: Windows, settings: TrainSettings, *, by_person: bool) -> Fit:
    """Fit a readout to the people of training and validation; its choices are made by folds of them.

    Args:
        windows: the recording, not standardised.
        settings: of the training; `readout` says what features are standardised by.
        by_person: the transformer may get windows standardised by person, so that the readout may, too.

    Raises:
        DataError: no window to learn from.
    """
    kind = settings.readout
    seen, own = _seen(windows), None
    known = kind == "person" or (kind == "auto" and are_known(windows.subject[seen]))
    if by_person and known:
        train = windows.indices("train")
        standardised = by_subject(windows, subject_floor(windows, train), subject_prior(windows, train))
        own = features_of(standardised, seen, own_signals=True)
    with threadpool_limits(1):  # small matrices: several threads mostly wait for each other
        return fit_readout(
            features_of(windows, seen),
            windows.y[seen],
            windows.subject[seen],
            windows.classes,
            own=own,
            present=windows.present[seen],
            target=windows.target.fitted(windows.y[windows.indices("train")]),
            normalise=cast(Any, "auto" if kind == "none" else kind),
            balance=settings.balance,
            seed=settings.seed,
        )


def _seen(windows: Windows) -> NDArray[np.intp]:
    """Windows a readout learns from."""
    return np.flatnonzero((windows.split < 2) & windows.present.any(1))


def fit_mixture(
    model: SentryModel, windows: Windows, fit: Fit, *, balance: bool = False, seed: int = 0
) -> tuple[Mixture, dict[str, Any]]:
    """Weigh a readout of a recording against a model that was trained on it.

    The weights come from validation people, whom the transformer has not seen and the folds have left out.

    Args:
        model: trained on the recording; not changed.
        windows: the recording.
        fit: of `fit_beside` on the same recording.
        balance: the model was trained with every class counting alike, and the readout, too.
        seed: of the windows that are looked at.

    Returns:
        The readout and the weights of both by number of sensors present; and what validation people say, of
        whom none of the answers has seen: the "measure" (accuracy, r2 or map) of "readout", "transformer" and
        "both" with all sensors, at most 1, and the number of "people". Empty without validation people.
    """
    with threadpool_limits(1):
        seen = _seen(windows)
        judged = np.flatnonzero(windows.split[seen] == 1)
        if len(judged) > MOST_WINDOWS:
            judged = np.sort(np.random.default_rng(seed).choice(judged, MOST_WINDOWS, replace=False))
        if balance:
            judged = _evenly(judged, windows.y[seen[judged]], seed)
        n_people = len(np.unique(windows.subject[seen[judged]]))
        answers = _answers(model, windows, seen, judged, fit)
        numbers = not model.config.target.of_classes
        weights = fit_weights(answers, len(windows.names), n_people, numbers=numbers)
        mixture = Mixture(fit.readout, weights)
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
) -> Judged:
    """Log probabilities of readout and transformer for people new to both, by number of sensors present.

    Numbers and labels are standardised, with the true ones beside them.
    """
    target = model.config.target
    y = windows.y if target.of_classes else target.standardised(windows.y)
    names, rng = windows.names, np.random.default_rng(0)
    ready = prepared(windows, model.config)
    found: Judged = {}
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
            parts.append((own, _logarithms(model, ready, seen[rows], present), y[seen[rows]]))
        if parts:
            readout, transformer, truth = (np.concatenate(column) for column in zip(*parts, strict=True))
            found[size] = readout, transformer, truth
    return found


def _judged(mixture: Mixture, answers: Judged, n_people: int) -> dict[str, Any]:
    """Score of each alone and of both, with as many sensors as there are."""
    if not answers:
        return {}
    n_present = max(answers)
    readout, transformer, y = answers[n_present]
    target = mixture.readout.target
    if target.of_classes:
        truth, alone, other = y, np.exp(readout), np.exp(transformer)
    else:
        truth, alone, other = target.back(y), target.back(readout), target.back(transformer)
    measure = {"regression": "r2", "multilabel": "map"}.get(target.task, "accuracy")

    def score(answered: NDArray[Any]) -> float | None:
        found = scores(truth, answered, target)[measure]
        return None if found is None else round(found, 4)

    judged = {
        "readout": score(alone),
        "transformer": score(other),
        "both": score(mixture.answer(readout, other, n_present)),
    }
    if None in judged.values():
        return {}
    return {"measure": measure, **judged, "people": n_people}


@torch.no_grad()
def _logarithms(
    model: SentryModel, windows: Windows, indices: NDArray[np.intp], present: tuple[str, ...]
) -> Doubles:
    """Log probabilities of the whole transformer, or standardised numbers, `(n, K)`."""
    was_training = model.training
    model.eval()
    made = []
    for start in range(0, len(indices), BATCH):
        batch = windows.batch(indices[start : start + BATCH], present)
        inputs = {name: torch.from_numpy(x).to(model.device) for name, x in batch.items()}
        made.append(model(inputs, present))
    model.train(was_training)
    outputs, target = torch.cat(made), model.config.target
    if not target.of_classes:
        return target.standardised(model.answers(outputs))
    return np.maximum(outputs.double().log_softmax(1).cpu().numpy(), np.log(1e-9))
