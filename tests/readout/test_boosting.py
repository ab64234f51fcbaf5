from __future__ import annotations

import warnings

import numpy as np
import pytest

from sentryfuse.errors import DataError
from sentryfuse.readout import Readout, fit_readout
from sentryfuse.readout.boosting import boost, boosted_sets, from_boosting

ensemble = pytest.importorskip("sklearn.ensemble")


def made(k: int, n: int = 400):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    return x, ((x[:, 0] > 0) ^ (x[:, 1] > 0.3)).astype(int) + (k > 2) * (x[:, 2] > 0.5)


@pytest.mark.parametrize("k", [2, 3])
def test_leaves_add_up_to_the_logits_of_scikit_learn(k):
    x, y = made(k)
    model = ensemble.HistGradientBoostingClassifier(max_iter=12, max_leaf_nodes=8).fit(x[:, [4, 0, 1, 2]], y)
    trees = from_boosting(model, k, np.array([4, 0, 1, 2]))
    fresh = np.random.default_rng(1).normal(size=(300, 6)).astype(np.float32)
    want = model.decision_function(fresh[:, [4, 0, 1, 2]])
    want = np.stack([np.zeros(300), want], axis=1) if k == 2 else want
    np.testing.assert_allclose(trees.logits(fresh), want, atol=1e-4)


def test_classes_that_were_not_seen_are_left_behind():
    x, y = made(3)
    trees = boost(x, np.where(y == 1, 3, y), 5, rounds=12, seed=0)
    assert set(trees.logits(x).argmax(axis=1)) <= {0, 2, 3}


def features_of_an_exclusive_or(n: int = 600):
    """Two sensors whose signs decide together, one that says nothing."""
    rng = np.random.default_rng(3)
    x = {s: rng.normal(size=(n, 8)).astype(np.float32) for s in ("a", "b", "c")}
    y = ((x["a"][:, 0] > 0) ^ (x["b"][:, 0] > 0)).astype(int)
    return x, np.where(rng.random(n) < 0.05, 1 - y, y), np.arange(n) // 50


@pytest.fixture(scope="module")
def fit():
    x, y, subject = features_of_an_exclusive_or()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return fit_readout(x, y, subject, ("no", "yes"), trees=True)


def test_boosting_is_kept_where_folds_gain_and_is_stored(fit):
    x, _, _ = features_of_an_exclusive_or()
    assert set(fit.readout.parts.boosted) == set(boosted_sets(("a", "b", "c")))
    assert fit.readout.heads[-2:] == ("boosted", "prior")
    again = Readout.from_tensors(fit.readout.settings(), fit.readout.tensors())
    for present in (["a"], ["a", "b"], ["a", "b", "c"]):
        np.testing.assert_allclose(
            again.log_probabilities(x, present), fit.readout.log_probabilities(x, present), atol=1e-3
        )


def test_boosting_is_left_out_where_a_line_tells_the_classes():
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    x = {s: (rng.normal(size=(300, 8)) + 0.7 * y[:, None]).astype(np.float32) for s in ("a", "b")}
    assert not fit_readout(x, y, np.arange(300) // 30, ("no", "yes")).readout.parts.boosted


@pytest.mark.parametrize(("kind", "leaf"), [("boosted", 1e30), ("trees", -0.5), ("trees", 1e30)])
def test_leaves_that_could_answer_without_end_are_refused(fit, kind, leaf):
    readout = fit.readout
    tensors = readout.tensors()
    value = tensors[f"{kind}.1.value"].copy()
    value[3, 1] = leaf
    with pytest.raises(DataError, match="export the readout again"):
        Readout.from_tensors(readout.settings(), {**tensors, f"{kind}.1.value": value})
