from __future__ import annotations

import sys

import numpy as np
import pytest

from sentryfuse.errors import ConfigError
from sentryfuse.rivals.features import Table
from sentryfuse.rivals.models import (
    BOOSTING,
    EXTRA_TREES,
    FOREST,
    LDA,
    LOGISTIC,
    RIVALS,
    SENSOR_SUM,
    Single,
    Workshop,
    need_scikit_learn,
)
from tests.tiny import CLASSES, NAMES, tiny_windows

discriminant = pytest.importorskip("sklearn.discriminant_analysis")

pytestmark = pytest.mark.device

WINDOWS = tiny_windows(180)
TRAIN, TEST = WINDOWS.indices("train"), WINDOWS.indices("test")


def workshop(y=None, indices=TRAIN):
    table = Table.of_recording(WINDOWS, indices)
    return Workshop(table, WINDOWS.y[indices] if y is None else y, len(CLASSES), seed=0, threads=1)


@pytest.fixture(scope="module")
def shop():
    return workshop()


@pytest.fixture(scope="module")
def test_table():
    return Table.of_recording(WINDOWS, TEST)


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("names", [NAMES, ("acc", "temp"), ("temp",)])
def test_every_rival_learns_and_answers_for_any_sensors(shop, test_table, rival, names):
    fitted = shop.fit(rival, names)
    p = fitted.probabilities(test_table)
    assert p.shape == (len(TEST), len(CLASSES))
    assert p.sum(1) == pytest.approx(1)
    if names != ("temp",):
        assert (p.argmax(1) == WINDOWS.y[TEST]).mean() > 0.8
    assert fitted.n_bytes > 0


def test_a_single_rival_is_scikit_learn_on_standardised_features(shop, test_table):
    fitted = shop.fit(LDA, ["age"])
    train = Table.of_recording(WINDOWS, TRAIN).columns["age"]
    mean, spread = train.mean(0), train.std(0)
    by_hand = discriminant.LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    by_hand.fit((train - mean) / spread, WINDOWS.y[TRAIN])
    want = by_hand.predict_proba((test_table.columns["age"] - mean) / spread)
    assert fitted.probabilities(test_table) == pytest.approx(want, abs=0.02)  # ours resists outliers


def test_a_sensor_that_is_left_out_is_never_read(shop, test_table):
    broken = dict(test_table.columns)
    del broken["acc"]
    fitted = shop.fit(FOREST, ["temp", "age"])
    assert np.array_equal(
        fitted.probabilities(Table(broken, test_table.present)), fitted.probabilities(test_table)
    )


def test_the_sum_adds_log_posteriors_of_the_sensors_that_a_window_has(shop, test_table):
    got = shop.fit(SENSOR_SUM, NAMES).probabilities(test_table)
    want = np.ones_like(got)
    for name in NAMES:
        one = shop.fit(LDA, [name]).probabilities(test_table)
        want *= np.where(test_table.present[name][:, None], one, 1)
    assert not test_table.present["temp"].all()
    assert got == pytest.approx(want / want.sum(1, keepdims=True), abs=1e-6)


def test_one_expert_per_sensor_serves_every_set(shop):
    both, one = shop.fit(SENSOR_SUM, NAMES), shop.fit(SENSOR_SUM, ["acc"])
    assert both.experts["acc"] is one.experts["acc"]
    assert both.n_bytes == sum(expert.n_bytes for expert in both.experts.values())


def test_sizes_are_those_of_the_arrays_that_answer(shop):
    n = Table.of_recording(WINDOWS, TRAIN[:1]).columns["acc"].shape[1]
    scale = 2 * 4 * n
    for rival in (LDA, LOGISTIC):
        fitted = shop.fit(rival, ["acc"])
        assert isinstance(fitted, Single)
        model = fitted.model
        assert fitted.n_bytes == scale + model.coef_.nbytes + model.intercept_.nbytes
    forest = shop.fit(EXTRA_TREES, ["acc"])
    nodes = sum(tree.tree_.node_count for tree in forest.model.estimators_)
    assert forest.n_bytes == pytest.approx(scale + nodes * (64 + 8 * len(CLASSES)), rel=0.2)
    boosted = shop.fit(BOOSTING, ["acc"])
    nodes = sum(len(tree.nodes) for turn in boosted.model._predictors for tree in turn)
    assert boosted.n_bytes > scale + 40 * nodes


def test_a_class_that_training_never_saw_gets_nothing(test_table):
    known = TRAIN[WINDOWS.y[TRAIN] != 1]
    shop = workshop(indices=known)
    for rival in (LDA, LOGISTIC, BOOSTING):
        p = shop.fit(rival, NAMES).probabilities(test_table)
        assert (p[:, 1] == 0).all()
        assert p.sum(1) == pytest.approx(1)
    assert shop.fit(SENSOR_SUM, NAMES).probabilities(test_table)[:, 1].max() < 1e-6


def test_training_windows_of_one_class_are_refused():
    with pytest.raises(ConfigError, match="all of one class"):
        workshop(np.zeros(len(TRAIN), int))


def test_values_that_are_not_numbers_of_use_do_no_harm(shop, test_table):
    wild = {name: np.array(x) for name, x in test_table.columns.items()}
    for x in wild.values():
        x[0], x[1] = 3e38, np.nan
    for rival in RIVALS:
        assert np.isfinite(shop.fit(rival, NAMES).probabilities(Table(wild, test_table.present))).all()


def test_a_missing_scikit_learn_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match=r"scikit-learn.*pip install 'sentryfuse\[compare\]'"):
        need_scikit_learn()


@pytest.mark.parametrize("rival", RIVALS)
def test_what_is_unknown_is_no_obstacle_and_to_some_a_hint(rival):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    x = rng.normal(size=(300, 3)).astype(np.float32)
    x[:, 0] = np.where(y == 1, np.nan, x[:, 0])  # the answer
    x[:, 1] = np.nan  # never measured
    table = Table({"a": x}, {"a": np.ones(300, dtype=bool)})
    p = Workshop(table, y, 2, seed=0, threads=1).fit(rival, ["a"]).probabilities(table)
    assert np.isfinite(p).all()
    if rival in (FOREST, BOOSTING):
        assert (p.argmax(1) == y).all()
