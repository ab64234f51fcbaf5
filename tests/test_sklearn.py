"""The estimator does what scikit-learn expects of one, and what windows need beside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import sentryfuse as sf
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.sklearn import SentryClassifier
from tests.few_trees import few_trees

SMALL: dict[str, Any] = {
    "options": {
        "d_model": 16, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_ff": 16,
        "encoder_layers": 1, "fusion_layers": 1, "tokens": 2,
    },
    "epochs": 2,
    "random_state": 0,
    "settings": sf.TrainSettings(readout="none"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def recording(n=90, *, seed=0):
    """Three classes that shift two sensors of four channels in all; 24 steps; six people."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.normal(0, 1, (n, 24, 4)).astype(np.float32) + y[:, None, None]
    return x, np.array(["rest", "walk", "run"])[y], np.arange(n) % 6


X, Y, PERSON = recording()
SENSORS = {"acc": [0, 1, 2], "temp": [3]}


@pytest.mark.slow
@parametrize_with_checks([SentryClassifier(**{**SMALL, "settings": None})])
def test_it_is_an_estimator_of_scikit_learn(estimator, check):
    check(estimator)


def test_it_learns_and_answers_with_labels_and_probabilities():
    both = {**SMALL, "settings": None}
    with few_trees():
        model = SentryClassifier(**both, axes="ntc", sensors=SENSORS).fit(X, Y, groups=PERSON)
    assert model.model_.mixture is not None
    new, labels, _ = recording(seed=1)
    assert model.score(new, labels) > 0.8
    assert list(model.classes_) == ["rest", "run", "walk"]
    p = model.predict_proba(new)
    assert p.shape == (len(new), 3)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    assert model.model_.names == ("acc", "temp")
    assert len(model.history_) == 2


def test_every_form_of_the_same_windows_gives_the_same_answers():
    flat = X.reshape(len(X), -1)
    by_name = {name: X[:, :, channels] for name, channels in SENSORS.items()}
    answers = [
        SentryClassifier(**SMALL, **form).fit(x, Y).predict_proba(x)
        for x, form in (
            (X, {"axes": "ntc", "sensors": SENSORS}),
            (X.transpose(0, 2, 1), {"axes": "nct", "sensors": SENSORS}),
            (flat, {"axes": "ntc", "sensors": SENSORS, "shape": (24, 4)}),
            (by_name, {}),
        )
    ]
    for other in answers[1:]:
        np.testing.assert_array_equal(answers[0], other)


def test_it_works_in_a_pipeline_and_is_scored_by_groups():
    flat = X.reshape(len(X), -1)
    steps = make_pipeline(StandardScaler(), SentryClassifier(**SMALL, axes="ntc", shape=(24, 4)))
    scores = cross_val_score(steps, flat, Y, groups=PERSON, cv=GroupKFold(2))
    assert scores.shape == (2,)
    assert scores.min() > 0.5


def test_absent_sensors_are_left_out_window_by_window():
    model = SentryClassifier(**SMALL, axes="ntc", sensors=SENSORS).fit(X, Y)
    holes = X.copy()
    holes[::2, :, 3] = np.nan
    p = model.predict_proba(holes)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p[1::2], model.predict_proba(X[1::2]), atol=1e-6)
    holes[5] = np.nan
    with pytest.raises(ConfigError, match="window 5 of X has no value of any sensor"):
        model.predict(holes)
    holes = X.copy()
    holes[3, 2, 0] = np.nan
    with pytest.raises(DataError, match="acc"):
        model.predict(holes)


def test_a_ratio_prunes_what_answers_and_the_model_is_exported(tmp_path):
    model = SentryClassifier(**SMALL, axes="ntc", sensors=SENSORS).fit(X, Y)
    small = clone(model).set_params(ratio=0.6).fit(X, Y)
    assert np.abs(model.predict_proba(X) - small.predict_proba(X)).max() > 0
    checked = sf.export_bundle(small.model_, tmp_path / "mine.bundle")
    assert checked["max_difference"] < 1e-4


def test_training_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(7)
    want = torch.rand(3)
    torch.manual_seed(7)
    SentryClassifier(**SMALL, axes="ntc").fit(X, Y)
    assert torch.equal(torch.rand(3), want)


def test_it_is_silent_unless_asked(capsys):
    SentryClassifier(**SMALL, axes="ntc").fit(X, Y)
    assert capsys.readouterr().err == ""
    SentryClassifier(**SMALL, axes="ntc", verbose=True).fit(X, Y)
    assert "train 2/2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("x", "y", "groups", "options", "said"),
    [
        (X, Y, None, {}, "24 x 4 numbers, and nothing says which are steps"),
        (X, Y, None, {"axes": "tnc"}, "axes 'tnc' is unknown"),
        (X, np.zeros(len(X)), None, {"axes": "ntc"}, "y holds one class, 0.0; two classes"),
        (X[:1], Y[:1], None, {"axes": "ntc"}, "1 sample"),
        (X[:3], np.arange(3), None, {"axes": "ntc"}, "every class has 1 sample only"),
        (X, Y, np.zeros(len(X)), {"axes": "ntc"}, "groups holds one group"),
        (X, Y, np.unique(Y, return_inverse=True)[1], {"axes": "ntc"}, "known from so few groups"),
        (X, Y, None, {"axes": "ntc", "validation": 1.0}, "validation is a share"),
        (X, Y, None, {"axes": "ntc", "sensors": {"acc": [0, 4]}}, "sensor acc has channels"),
        (X, Y, None, {"axes": "ntc", "rate_hz": {"y": 1.0}}, "rate_hz names no rate of x; it names y"),
        (X[:, 0], Y, None, {"axes": "ntc", "shape": (2, 3)}, r"4 columns, which are no windows of \(2, 3\)"),
        ({"acc": X[:, 0]}, Y, None, {}, "that of acc has 2 axes"),
        ({}, Y, None, {}, "this one is empty"),
        (X[None], Y[:1], None, {"axes": "ntc"}, "X has 4 axes"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(x, y, groups, options, said):
    with pytest.raises(ValueError, match=said):
        SentryClassifier(**SMALL, **options).fit(x, y, groups=groups)


def test_other_windows_than_it_was_fitted_on_are_refused():
    model = SentryClassifier(**SMALL, axes="ntc", sensors=SENSORS).fit(X, Y)
    with pytest.raises(ValueError, match=r"fit saw|features"):
        model.predict(X[:, :12])
    by_name = SentryClassifier(**SMALL).fit({"a": X[:, :, :2]}, Y)
    with pytest.raises(ConfigError, match=r"fit saw .*'a'"):
        by_name.predict({"b": X[:, :, :2]})
