from __future__ import annotations

import warnings

import numpy as np
import pytest

from sentryfuse.readout import fit_readout, person_moments
from sentryfuse.statistics import features
from tests.awkward import AWKWARD

ensemble = pytest.importorskip("sklearn.ensemble")


@pytest.mark.slow
@pytest.mark.parametrize("name", AWKWARD)
def test_ours_is_at_least_a_random_forest_minus_a_point(name):
    w = AWKWARD[name](0)
    x = {m.name: features(m, w.batch(w.indices("all"), [m.name])[m.name]) for m in w.modalities}
    train, test = w.split == 0, w.split == 2
    readout = fit_readout(
        {s: f[train] for s, f in x.items()}, w.y[train], w.subject[train], w.classes
    ).readout
    right = np.zeros((2, 2))  # ours and the forest, all sensors and one missing
    sets = [w.names, *(tuple(s for s in w.names if s != out) for out in w.names)]
    for i, present in enumerate(sets):
        share = 1 if i == 0 else 1 / len(w.names)
        solved = readout.solve(present)
        answer = np.zeros(len(w), dtype=int)
        for who in np.unique(w.subject[test]):
            mine = w.subject == who
            part = {s: f[mine] for s, f in x.items()}
            answer[mine] = readout.log_probabilities(part, solved, person_moments(part)).argmax(axis=1)
        both = np.nan_to_num(np.concatenate([x[s] for s in present], axis=1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            forest = ensemble.RandomForestClassifier(200, random_state=0).fit(both[train], w.y[train])
        right[0, min(i, 1)] += share * (answer[test] == w.y[test]).mean()
        right[1, min(i, 1)] += share * (forest.predict(both[test]) == w.y[test]).mean()
    assert (right[0] >= right[1] - 0.01).all(), right
