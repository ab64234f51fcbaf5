from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from sentryfuse.data.metrics import (
    accuracy,
    auroc,
    average_precision,
    expected_calibration_error,
    label_scores,
    macro_f1,
    negative_log_likelihood,
    number_scores,
    scores,
)
from sentryfuse.errors import ConfigError
from sentryfuse.target import Target


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 6))
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(seed, n, k):
    rng = np.random.default_rng(seed)
    y, predicted = rng.integers(0, k, n), rng.integers(0, k, n)
    assert accuracy(y, predicted) == pytest.approx(oracle.accuracy_score(y, predicted))
    expected = oracle.f1_score(y, predicted, average="macro")
    assert macro_f1(y, predicted, k) == pytest.approx(expected)


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 12))
def test_auroc_is_that_of_scikit_learn_also_with_ties(seed, n, levels):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.r_[0, 1, rng.integers(0, 2, n - 2)])
    score = rng.integers(0, levels, n) / levels
    assert auroc(y, score) == pytest.approx(oracle.roc_auc_score(y, score))


def test_auroc_of_one_class_is_unknown():
    assert auroc([1, 1, 1], [0.1, 0.2, 0.3]) is None
    assert auroc([0, 0], [0.1, 0.2]) is None


def test_classes_nobody_named_do_not_count():
    assert macro_f1([0, 0], [0, 0], 5) == 1
    assert macro_f1([0, 1], [0, 2], 5) == pytest.approx(1 / 3)


def test_two_classes_have_an_auroc_and_three_do_not():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 50)
    p = rng.random(50)
    two = scores(y, np.stack([1 - p, p], axis=1))
    assert two["auroc"] == pytest.approx(oracle.roc_auc_score(y, p))
    assert two["accuracy"] == pytest.approx(((p > 0.5) == y).mean())
    three = scores(y, rng.random((50, 3)))
    assert three["auroc"] is None
    assert set(three) == {"accuracy", "macro_f1", "auroc", "nll", "ece"}


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 6))
def test_the_likelihood_is_that_of_scikit_learn(seed, n, k):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, k, n), rng.dirichlet(np.ones(k), n)
    expected = oracle.log_loss(y, p, labels=np.arange(k))
    assert negative_log_likelihood(p, y) == pytest.approx(expected, rel=1e-4)


def test_a_certain_mistake_is_bad_but_not_infinitely():
    assert negative_log_likelihood([[1.0, 0.0]], [1]) == pytest.approx(15.94, abs=0.01)
    assert negative_log_likelihood([[1.0, 0.0]], [0]) == 0


def test_calibration_is_the_gap_between_sure_and_right():
    sure = np.array([[0.9, 0.1]] * 10)
    assert expected_calibration_error(sure, [0] * 9 + [1]) == pytest.approx(0)
    assert expected_calibration_error(sure, [0] * 5 + [1] * 5) == pytest.approx(0.4)
    assert expected_calibration_error([[1.0, 0.0], [0.0, 1.0]], [0, 1]) == 0
    assert expected_calibration_error([[1.0, 0.0], [1.0, 0.0]], [1, 1]) == 1
    both = [[0.9, 0.1], [0.6, 0.4]]  # too sure in one bin, not sure enough in the other; in one they cancel
    assert expected_calibration_error(both, [1, 0], bins=10) == pytest.approx((0.9 + 0.4) / 2)
    assert expected_calibration_error(both, [1, 0], bins=1) == pytest.approx(abs(1.5 - 1) / 2)


def test_answers_drawn_from_the_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 20_000)
    y = (p.cumsum(1) < rng.random((len(p), 1))).sum(1)
    assert expected_calibration_error(p, y) < 0.02
    assert expected_calibration_error(p**3 / (p**3).sum(1, keepdims=True), y) > 0.1


@pytest.mark.parametrize("score", [negative_log_likelihood, expected_calibration_error])
def test_probabilities_that_do_not_fit_are_refused(score):
    with pytest.raises(ConfigError, match="windows, classes"):
        score([0.5], [0])
    with pytest.raises(ConfigError, match="NaN"):
        score([[np.nan, 1.0]], [0])
    with pytest.raises(ConfigError, match="do not belong together"):
        score([[0.5, 0.5]], [0, 1])
    with pytest.raises(ConfigError, match="class numbers"):
        score([[0.5, 0.5]], [2])
    with pytest.raises(ConfigError, match="class numbers"):
        score([[0.5, 0.5]], [0.5])
    with pytest.raises(ConfigError, match="no window"):
        score(np.zeros((0, 2)), [])


def test_calibration_needs_a_bin():
    with pytest.raises(ConfigError, match="at least 1"):
        expected_calibration_error([[0.5, 0.5]], [0], bins=0)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ConfigError, match="do not belong together"):
        accuracy([0, 1], [0])
    with pytest.raises(ConfigError, match="no window"):
        accuracy([], [])
    with pytest.raises(ConfigError, match="class numbers"):
        macro_f1([0, 1], [0, 2], 2)
    with pytest.raises(ConfigError, match="class numbers"):
        macro_f1([0, 1], [0.2, 0.7], 2)
    with pytest.raises(ConfigError, match="classes 0 and 1"):
        auroc([0, 2], [0.1, 0.2])
    with pytest.raises(ConfigError, match="NaN"):
        scores([0], [[np.nan, 1.0]])
    with pytest.raises(ConfigError, match="windows, classes"):
        scores([0], [0.5])


def test_average_precision_is_that_of_scikit_learn():
    found = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(20):
        y, score = rng.integers(0, 2, 40), rng.integers(0, 8, 40) / 8
        y[0] = 1
        assert average_precision(y, score) == pytest.approx(found.average_precision_score(y, score))
    assert average_precision(np.zeros(3), np.ones(3)) is None


def test_scores_of_numbers_are_those_of_scikit_learn():
    found = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 2))
    answers = y + 0.3 * rng.normal(size=y.shape)
    own = scores(y, answers, Target("regression"))
    assert own["r2"] == pytest.approx(found.r2_score(y, answers))
    assert own["mae"] == pytest.approx(found.mean_absolute_error(y, answers))
    assert own["accuracy"] is None
    assert number_scores(np.ones((3, 1)), np.ones((3, 1)))["r2"] is None


def test_scores_of_labels():
    y = np.array([[1, 0], [0, 0], [1, 0]])
    p = np.array([[0.9, 0.1], [0.2, 0.1], [0.4, 0.1]])
    found = label_scores(y, p)
    assert found["accuracy"] == pytest.approx(5 / 6)
    assert found["map"] == 1.0  # of the label that occurs
    assert found["macro_f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("of", [number_scores, label_scores])
def test_numbers_that_do_not_fit_are_refused(of):
    with pytest.raises(ConfigError, match="do not belong together"):
        of(np.zeros((3, 1)), np.zeros((2, 1)))
