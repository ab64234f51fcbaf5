"""Probabilities of a fitted readout set right: classes that count alike, labels calibrated."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sentryfuse.readout.fit import Fit

SETS = 9  # of sensors, that probabilities of labels are fitted on


def balanced(fit: Fit) -> Fit:
    """Divide by the prior: the last head says it, so its weight in the pool falls by one.

    Source:
        Logit adjustment (Menon et al. 2021, arXiv 2007.07314).
    """
    pool = fit.readout.pool.copy()
    pool[:, -1] -= 1
    return replace(fit, readout=replace(fit.readout, pool=pool))


def calibrated(fit: Fit, labels: NDArray[Any]) -> Fit:
    """Probabilities of labels by people left out, with all sensors and with each one missing."""
    names = fit.task.sensors
    sets = [names, *(tuple(n for n in names if n != out) for out in names if len(names) > 1)][:SETS]
    answers = np.concatenate([fit.out_of_person(present) for present in sets])
    target = fit.readout.target.calibrated(answers, np.concatenate([labels] * len(sets)))
    return replace(fit, readout=replace(fit.readout, target=target))
