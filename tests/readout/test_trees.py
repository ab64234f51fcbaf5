from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.readout import Readout, fit_readout
from sentryfuse.readout.grow import from_forest, grow

ensemble = pytest.importorskip("sklearn.ensemble")


def made(n: int = 400, width: int = 6, k: int = 3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, width)).astype(np.float32)
    y = ((x[:, 0] * x[:, 1] > 0) + 1 * (x[:, 2] > 0.5)) % k
    return x, y


@pytest.mark.parametrize("kind", ["ExtraTreesClassifier", "RandomForestClassifier"])
def test_arrays_give_the_probabilities_of_scikit_learn(kind):
    x, y = made()
    model = getattr(ensemble, kind)(20, max_leaf_nodes=40, random_state=0).fit(x, y)
    fresh = np.random.default_rng(1).normal(size=(500, 6)).astype(np.float32)
    found = from_forest(model, 3).means(fresh)
    np.testing.assert_allclose(found, model.predict_proba(fresh), atol=1e-6)


def test_a_value_on_the_threshold_goes_where_scikit_learn_sends_it():
    x, y = made()
    x = np.round(x, 1)
    model = ensemble.RandomForestClassifier(10, random_state=0).fit(x, y)
    np.testing.assert_allclose(from_forest(model, 3).means(x), model.predict_proba(x), atol=1e-6)


def test_classes_that_were_not_seen_get_no_probability():
    x, y = made()
    trees = grow(x, np.where(y == 1, 3, y), 5, trees=5, leaves=8)
    assert (trees.means(x)[:, [1, 4]] == 0).all()
    assert np.isfinite(trees.logits(x)).all()


def test_one_class_and_few_windows_are_survived():
    x, _ = made()
    trees = grow(x[:2], np.array([1, 1]), 3, trees=3, leaves=8)
    np.testing.assert_allclose(trees.means(x[:3]), [[0, 1, 0]] * 3)


def test_trees_join_the_readout_and_are_stored():
    x, y = made()
    features = {"a": x[:, :2], "b": x[:, 2:4], "c": x[:, 4:]}
    fit = fit_readout(features, y, np.arange(400) // 50, ("p", "q", "r"), trees=True)
    assert ("a", "b", "c") in fit.readout.parts.trees
    assert ("b", "c") in fit.readout.parts.trees
    again = Readout.from_tensors(fit.readout.settings(), fit.readout.tensors())
    for present in (["a"], ["a", "b"], ["a", "b", "c"]):
        np.testing.assert_allclose(
            again.log_probabilities(features, present),
            fit.readout.log_probabilities(features, present),
            atol=1e-3,
        )
    assert sum(t.n_bytes for t in fit.readout.parts.trees.values()) < 260_000
