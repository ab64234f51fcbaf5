from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sentryfuse.errors import ConfigError
from sentryfuse.target import Target

pytestmark = pytest.mark.device

NUMBERS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 20), st.integers(1, 3)),
    elements=st.floats(-1e4, 1e4, allow_nan=False),
)


@given(NUMBERS)
def test_numbers_come_back_from_training_units(y):
    target = Target("regression").fitted(y)
    assert np.allclose(target.back(target.standardised(y)), y, rtol=1e-5, atol=1e-2)


@given(NUMBERS)
def test_probabilities_of_labels_stay_within_0_and_1(y):
    target = Target("multilabel").fitted((y > 0).astype(float))
    answers = target.answers(y.astype(np.float32))
    assert (answers >= 0).all()
    assert (answers <= 1).all()
    back = target.back(y)
    assert (back >= 0).all()
    assert (back <= 1).all()


def test_probabilities_of_labels_are_fitted_to_how_often_they_hold():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 2)) * [1.0, 3.0] + [0.5, -1.0]
    y = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    target = Target("multilabel").fitted(y)
    z = 0.2 * logits + 0.7  # any line
    found = target.calibrated(z, y).back(z)
    assert np.abs(found - 1 / (1 + np.exp(-logits))).mean() < 0.02
    sure = target.calibrated(np.where(y, 1.0, -1.0), y)
    assert np.isfinite(sure.gain).all()


def test_a_number_that_never_changes_has_a_deviation():
    target = Target("regression").fitted(np.full((5, 1), 3.0))
    assert target.std == (1.0,)
    assert target.back([[0.0]])[0, 0] == 3


def test_answers_are_said_as_people_read_them():
    names = ("sit", "walk")
    assert Target().said(np.array([0.2, 0.8]), names) == "walk"
    assert Target("multilabel").said(np.array([0.6, 0.8]), names) == "sit+walk"
    assert Target("multilabel").said(np.array([0.1, 0.2]), names) == ""
    assert Target("regression").said(np.array([2.5]), ("bpm",)) == 2.5
    assert Target("regression").said(np.array([2.5, 1.0]), names) == "2.5 1"


def test_another_task_is_refused():
    with pytest.raises(ConfigError, match="task 'ranking' is unknown; choose one of classification"):
        Target("ranking")  # type: ignore[arg-type]
