"""Readouts of numbers and of several labels at once."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.errors import DataError
from sentryfuse.graph.readout import write_readout
from sentryfuse.readout import Readout, fit_readout
from sentryfuse.readout.discriminant import Sums
from sentryfuse.readout.mixture import Mixture, fit_weights
from sentryfuse.statistics import features
from sentryfuse.target import Target
from sentryfuse.types import Modality

pytestmark = pytest.mark.device

SENSORS = (
    Modality("acc", 25.0, 16, ("x", "y")),
    Modality("temp", 1.0, 10, ("skin",), may_miss=True),
    Modality("ecg", 100.0, 20, ("v",)),
)
NAMES = tuple(m.name for m in SENSORS)
SETS = [s for n in range(1, 4) for s in combinations(NAMES, n)]
REGRESSION, LABELS = Target("regression", "bpm"), Target("multilabel")


def recording(n: int = 240, seed: int = 0):
    """Windows in which the level of each sensor tells a part of a number."""
    rng = np.random.default_rng(seed)
    level = rng.normal(size=(n, 3))
    x = {}
    for i, m in enumerate(SENSORS):
        noise = rng.normal(size=(n, m.length, m.n_channels))
        x[m.name] = (5 * i + level[:, i, None, None] + 0.4 * noise).astype(np.float32)
        if m.may_miss:
            x[m.name][rng.random(x[m.name].shape) < 0.2] = np.nan
    return x, level, np.arange(n) % 8


def fit(target: Target, *, names=NAMES, trees: bool = False) -> tuple[Readout, np.ndarray]:
    x, level, subject = recording()
    table = {m.name: features(m, x[m.name]) for m in SENSORS if m.name in names}
    y = truth(level, target)
    outputs = tuple(f"out{k}" for k in range(y.shape[1]))
    return fit_readout(table, y, subject, outputs, target=target, trees=trees).readout, y


def truth(level: np.ndarray, target: Target) -> np.ndarray:
    if target.task == "regression":
        return 60 + 10 * level @ np.array([[1.0], [0.5], [0.3]])
    return np.stack([level[:, 0] > 0.5, level[:, 1] + level[:, 2] > 0], 1).astype(float)


@pytest.fixture(scope="module", params=[REGRESSION, LABELS], ids=["numbers", "labels"])
def readout(request) -> Readout:
    return fit(request.param)[0]


def test_a_number_is_found_for_new_windows():
    readout, _ = fit(REGRESSION)
    x, level, _ = recording(seed=1)
    table = {m.name: features(m, x[m.name]) for m in SENSORS}
    answered = readout.target.back(readout.log_probabilities(table, NAMES))
    error = answered - truth(level, REGRESSION)
    assert 1 - error.var() / truth(level, REGRESSION).var() > 0.95


def test_labels_are_told_one_by_one():
    readout, _ = fit(LABELS)
    x, level, _ = recording(seed=1)
    table = {m.name: features(m, x[m.name]) for m in SENSORS}
    p = readout.target.back(readout.log_probabilities(table, NAMES))
    assert ((p > 0.5) == (truth(level, LABELS) > 0.5)).mean() > 0.88


@pytest.mark.parametrize("present", SETS)
@pytest.mark.parametrize("batch", [None, 5])
def test_the_graph_answers_as_numpy_does(readout, present, batch):
    x, _, _ = recording(n=5, seed=2)
    table = {m.name: features(m, x[m.name]) for m in SENSORS}
    want = readout.log_probabilities(table, present)
    model = write_readout(readout, readout.solve(present), SENSORS, batch=batch, fused=True)
    feed = {f"window.{s}": x[s] for s in present}
    if readout.person_weight is not None:
        scales = [readout.parts.scales[s] for s in present]
        feed |= {key: np.concatenate([getattr(s, key) for s in scales]) for key in ("mean", "inverse")}
    assert OnnxRuntime().build(model, threads=1, batch=batch)(feed) == pytest.approx(want, abs=2e-4)


@pytest.mark.parametrize("left", SETS)
def test_the_joint_regression_of_a_set_is_the_one_fitted_on_those_sensors_alone(left):
    """Ridge over the plain features of a set, solved from scratch, against what stored moments give."""
    readout, y = fit(REGRESSION)
    if len(left) not in (1, len(NAMES), len(NAMES) - 1):
        return
    x, _, _ = recording()
    view = readout.parts.views[0]
    assert view.joint is not None
    z = {m.name: readout.parts.scales[m.name].apply(features(m, x[m.name])) for m in SENSORS}
    a = np.concatenate([view.encodings[s].apply(z[s]) for s in left], axis=1).astype(np.float64)
    t = readout.target.standardised(y)
    a0, t0 = a - a.mean(axis=0), t - t.mean(axis=0)
    widths = [view.encodings[s].width() for s in left]
    within = a0.T @ a0 / len(a)
    levels = [
        np.trace(within[b : b + w, b : b + w]) / w
        for b, w in zip(np.cumsum([0, *widths[:-1]]), widths, strict=True)
    ]
    shrink = view.joint.shrink
    ridge = (1 - shrink) * within + np.diag((shrink + 1e-9) * np.repeat(levels, widths))
    want = a0 @ np.linalg.solve(ridge, a0.T @ t0 / len(a))
    chosen = np.array([NAMES.index(s) for s in left])
    weights, bias = view.joint.solve(chosen)
    columns = np.concatenate(
        [view.encodings[s].apply(z[s]) @ view.joint.projections[NAMES.index(s)] for s in left], axis=1
    )
    assert columns @ weights + bias == pytest.approx(want, abs=2e-3)


def test_sums_of_parts_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    a, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    both = (Sums.of(a[:20], y[:20], 2) + Sums.of(a[20:], y[20:], 2)).moments()
    whole = Sums.of(a, y, 2).moments()
    assert both.offset == pytest.approx(whole.offset)
    assert whole.offset == pytest.approx(np.cov(y.T, a.T, bias=True)[:2, 2:])
    assert whole.within == pytest.approx(np.cov(a.T, bias=True))


def test_storing_changes_nothing(readout):
    again = Readout.from_tensors(readout.settings(), readout.tensors())
    x, _, _ = recording(seed=3)
    table = {m.name: features(m, x[m.name]) for m in SENSORS}
    assert again.target == readout.target
    assert again.log_probabilities(table, NAMES) == pytest.approx(
        readout.log_probabilities(table, NAMES), abs=1e-3
    )


@pytest.mark.parametrize("wrong", [{"mean": []}, {"std": [0.0]}, {"task": "ranking"}])
def test_a_damaged_target_is_refused(wrong):
    readout, _ = fit(REGRESSION)
    settings = readout.settings()
    with pytest.raises(DataError, match="export it again"):
        Readout.from_tensors({**settings, "target": {**settings["target"], **wrong}}, readout.tensors())


@pytest.mark.parametrize("target", [REGRESSION, LABELS])
def test_trees_join_and_are_stored(target):
    pytest.importorskip("sklearn")
    readout, _ = fit(target, trees=True)
    again = Readout.from_tensors(readout.settings(), readout.tensors())
    x, _, _ = recording(n=40, seed=4)
    table = {m.name: features(m, x[m.name]) for m in SENSORS}
    want = readout.log_probabilities(table, NAMES)
    assert again.log_probabilities(table, NAMES) == pytest.approx(want, abs=1e-3)
    heavy = np.maximum(readout.pool, 0.3)
    all_heads = Readout(**{**vars(readout), "pool": heavy})
    model = write_readout(all_heads, all_heads.solve(NAMES), SENSORS, batch=40, fused=True)
    if readout.person_weight is None:
        got = OnnxRuntime().build(model, threads=1, batch=40)({f"window.{s}": x[s] for s in NAMES})
        assert got == pytest.approx(all_heads.log_probabilities(table, NAMES), abs=1e-3)


def test_numbers_that_are_not_finite_are_refused():
    x, level, subject = recording()
    table = {m.name: features(m, x[m.name]) for m in SENSORS}
    y = truth(level, REGRESSION)
    y[3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        fit_readout(table, y, subject, ("rate",), target=REGRESSION, trees=False)


def test_readout_and_transformer_are_added_under_weights():
    readout, y = fit(REGRESSION)
    mixture = Mixture(readout, np.tile([0.75, 0.25], (3, 1)))
    z = readout.target.standardised(y)
    assert mixture.answer(z, y, 3) == pytest.approx(y, rel=1e-4)
    assert mixture.answer(z, None, 3) == pytest.approx(y, rel=1e-4)
    assert mixture.answer(0 * z, y, 3) == pytest.approx(readout.target.back(0.25 * z), rel=1e-4)


def test_whoever_knows_more_of_a_number_counts_more():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(300, 1))
    good, bad = y + 0.1 * rng.normal(size=y.shape), y + rng.normal(size=y.shape)
    weights = fit_weights({2: (good, bad, y)}, 2, 6, numbers=True)
    assert weights[1, 0] > 0.9
    assert weights[1, 1] < 0.1
