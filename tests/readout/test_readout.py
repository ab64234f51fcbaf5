from __future__ import annotations

import json

import numpy as np
import pytest

from sentryfuse.errors import ConfigError, DataError, NoSensorsError
from sentryfuse.readout import Readout, fit_readout, person_moments
from sentryfuse.readout.folds import folds_of

pytestmark = pytest.mark.device

CLASSES = ("sit", "walk", "run")


def people(seed: int = 0, *, n: int = 180, persons: int = 6, sensors: int = 3, width: int = 8, k: int = 3):
    """Features of made sensors: sensor -> `(N, F)`, labels and persons."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    subject = np.arange(n) * persons // n
    x = {}
    for s in range(sensors):
        centre = rng.normal(size=(k, width))
        x[f"s{s}"] = (centre[y] + 1.5 * rng.normal(size=(n, width))).astype(np.float32)
    return x, y, subject


def fit(x, y, subject, **more):
    more.setdefault("trees", False)
    return fit_readout(x, y, subject, CLASSES, **more)


def test_answers_are_probabilities_and_mostly_right():
    x, y, subject = people()
    made = fit(x, y, subject)
    log = made.readout.log_probabilities(x, x)
    np.testing.assert_allclose(np.exp(log).sum(axis=1), 1)
    assert (log.argmax(axis=1) == y).mean() > 0.9
    assert (made.out_of_person().argmax(axis=1) == y).mean() > 0.85
    assert made.out_of_person(["s1"]).shape == (len(y), 3)


def test_an_absent_sensor_is_not_looked_at():
    x, y, subject = people()
    readout = fit(x, y, subject).readout
    some = readout.log_probabilities({"s0": x["s0"], "s2": x["s2"]}, ["s2", "s0"])
    broken = {**x, "s1": np.full_like(x["s1"], np.nan)}
    assert (readout.log_probabilities(broken, ["s0", "s2"]) == some).all()


@pytest.mark.parametrize("left", [("s0", "s1", "s2"), ("s0", "s2"), ("s1",)])
def test_the_joint_discriminant_of_a_set_is_the_one_fitted_on_those_sensors_alone(left):
    x, y, subject = people()
    whole = fit(x, y, subject, normalise="population")
    alone = fit({s: x[s] for s in left}, y, subject, normalise="population")
    solved = whole.readout.solve(left)
    for i, view in enumerate(whole.readout.parts.views):
        if view.joint is None:
            continue
        kind = next(iter(view.encodings.values())).kind
        z = {s: whole.readout.parts.scales[s].apply(x[s]) for s in left}
        encoded = np.concatenate([view.encodings[s].apply(z[s]) for s in left], axis=1).astype(np.float64)
        order = list(view.encodings)
        columns = np.concatenate(
            [view.encodings[s].apply(z[s]) @ view.joint.projections[order.index(s)] for s in left], axis=1
        )
        weights, bias = solved.joint[i]
        found = columns @ weights + bias
        expected = by_hand(encoded, y, view.joint.shrink, sensors=len(left))
        np.testing.assert_allclose(found - found.mean(1, keepdims=True), expected, atol=2e-4, err_msg=kind)
    for s in left:  # experts are those of each sensor alone
        np.testing.assert_allclose(
            whole.candidates[0].linear[s].scores, alone.candidates[0].linear[s].scores, atol=1e-6
        )


def by_hand(a, y, shrink, sensors=1):
    """Shrinkage LDA with even priors, written out: centred logits, `(N, K)`."""
    means = np.stack([a[y == k].mean(axis=0) for k in range(3)])
    rest = a - means[y]
    within = rest.T @ rest / len(a)
    d = len(within)
    level = np.repeat(np.diag(within).reshape(sensors, -1).mean(axis=1), d // sensors)
    matrix = (1 - shrink) * within + shrink * np.diag(level)
    off = means - a.mean(axis=0)
    weights = np.linalg.solve(matrix, off.T)
    logits = (a - a.mean(axis=0)) @ weights - 0.5 * (off.T * weights).sum(axis=0)
    return logits - logits.mean(axis=1, keepdims=True)


def test_the_stack_of_a_set_is_the_one_fitted_on_those_scores_alone():
    x, y, subject = people()
    made = fit(x, y, subject)
    stack = made.readout.parts.stack
    weights, bias, at = stack.solve(np.array([0, 2]))
    scores = made.stack_scores[:, at].astype(np.float64)
    found = scores @ weights + bias
    np.testing.assert_allclose(
        found - found.mean(1, keepdims=True), by_hand(scores, y, stack.shrink), atol=1e-4
    )


@pytest.mark.parametrize("normalise", ["population", "person"])
def test_storing_changes_nothing(normalise):
    x, y, subject = people()
    readout = fit(x, y, subject, normalise=normalise).readout
    settings = json.loads(json.dumps(readout.settings()))
    again = Readout.from_tensors(settings, readout.tensors())
    assert all(t.dtype == np.float32 for t in readout.tensors().values())
    person = person_moments({s: f[:30] for s, f in x.items()})
    for present in (["s0"], ["s0", "s1", "s2"]):
        np.testing.assert_allclose(
            again.log_probabilities(x, present, person),
            readout.log_probabilities(x, present, person),
            atol=1e-3,
        )


def test_damaged_arrays_are_refused():
    x, y, subject = people()
    readout = fit(x, y, subject).readout
    for name, array in readout.tensors().items():
        tensors = readout.tensors()
        del tensors[name]
        with pytest.raises(DataError):
            Readout.from_tensors(readout.settings(), tensors)
        tensors[name] = np.concatenate([array, array])[: 2 * len(array) - 1] if array.size else array[None]
        if array.size > 1 and "knots" not in name:
            with pytest.raises(DataError):
                Readout.from_tensors(readout.settings(), tensors)
    with pytest.raises(DataError, match="version"):
        Readout.from_tensors({**readout.settings(), "version": 99}, readout.tensors())


def finite(made, x):
    for s in x:
        log = made.readout.log_probabilities(x, [s])
        assert np.isfinite(log).all()
    log = made.readout.log_probabilities(x, x)
    assert np.isfinite(log).all()
    assert np.isfinite(made.out_of_person()).all()
    return log


def test_a_class_without_training_windows_is_never_the_answer():
    x, y, subject = people()
    keep = y != 2
    log = finite(fit({s: f[keep] for s, f in x.items()}, y[keep], subject[keep]), x)
    assert (log.argmax(axis=1) != 2).all()


def test_a_class_with_one_window_is_survived():
    x, y, subject = people()
    keep = (y != 2) | (np.arange(len(y)) == 2)
    finite(fit({s: f[keep] for s, f in x.items()}, y[keep], subject[keep]), x)


def test_one_class_per_person_is_told_from_runs_in_time():
    x, y, _ = people()
    made = fit(x, y, y)
    assert made.task.n_folds > 1
    assert (finite(made, x).argmax(axis=1) == y).mean() > 0.9


def test_one_person_is_cut_into_runs_in_time():
    x, y, subject = people()
    made = fit(x, y, np.zeros_like(subject))
    assert made.task.n_folds == 5
    finite(made, x)


def test_a_single_window_is_survived():
    x, y, subject = people()
    finite(fit({s: f[:1] for s, f in x.items()}, y[:1], subject[:1]), x)


def test_constant_and_unknown_features_are_survived():
    x, y, subject = people()
    x["s0"][:, 0] = 3.5
    x["s0"][:, 1] = np.nan
    x["s1"][:] = np.nan
    x["s2"][::3, 2] = np.nan
    finite(fit(x, y, subject), x)


def test_more_features_than_windows_are_survived():
    x, y, subject = people(n=30, width=50, persons=5)
    finite(fit(x, y, subject), x)


def test_a_sensor_missing_in_some_training_windows_is_left_out_there():
    x, y, subject = people()
    present = np.ones((len(y), 3), dtype=bool)
    present[::4, 1] = False
    spoiled = {**x, "s1": np.where(present[:, 1:2], x["s1"], 1e6).astype(np.float32)}
    made = fit(spoiled, y, subject, present=present)
    assert (finite(made, x).argmax(axis=1) == y).mean() > 0.9
    assert (made.candidates[0].linear["s1"].scores[::4] == 0).all()


def test_a_person_unknown_is_the_population():
    x, y, subject = people()
    readout = fit(x, y, subject, normalise="person").readout
    nobody = person_moments({s: f[:0] for s, f in x.items()})
    np.testing.assert_allclose(
        readout.log_probabilities(x, x, nobody), readout.log_probabilities(x, x), atol=1e-4
    )


def test_offsets_of_people_are_taken_out_where_folds_say_so():
    x, y, subject = people(n=600, persons=10)
    rng = np.random.default_rng(1)
    x = {s: f + 6 * rng.normal(size=(10, f.shape[1]))[subject].astype(np.float32) for s, f in x.items()}
    assert fit(x, y, subject).chosen["normalise"] == "person"


@pytest.mark.parametrize("given", [["s9"], "s9"])
def test_unknown_sensors_are_refused(given):
    x, y, subject = people()
    with pytest.raises(ConfigError, match="use those names"):
        fit(x, y, subject).readout.solve(given)


def test_no_sensor_and_wrong_features_are_refused():
    x, y, subject = people()
    readout = fit(x, y, subject).readout
    with pytest.raises(NoSensorsError):
        readout.solve([])
    with pytest.raises(ConfigError, match="features"):
        readout.log_probabilities({"s0": x["s0"][:, :3]}, ["s0"])
    with pytest.raises(DataError, match="equal"):
        fit(x, y[:5], subject[:5])
    with pytest.raises(DataError, match="name all"):
        fit(x, y + 1, subject)


def test_folds_keep_people_together():
    _, y, subject = people(n=400, persons=20)
    fold = folds_of(y, subject, 3)
    assert all(len(np.unique(fold[subject == s])) == 1 for s in range(20))
    assert sorted(np.unique(fold)) == [0, 1, 2, 3, 4]
    many = folds_of(np.arange(1000) % 2, np.arange(1000), 2)
    assert np.bincount(many).min() > 150


def test_with_classes_balanced_the_probabilities_are_divided_by_how_frequent_classes_were():
    x, y, subject = people(n=360)
    some = (y == 0) | (np.arange(360) % 12 < 4)  # of the others a third, 120 + 40 + 40
    x, y, subject = {s: f[some] for s, f in x.items()}, y[some], subject[some]
    as_they_are, balanced = fit(x, y, subject), fit(x, y, subject, balance=True)
    prior = np.log((np.bincount(y) + 1) / (len(y) + 3))
    log = as_they_are.readout.log_probabilities(x, x) - prior
    wanted = log - np.log(np.exp(log).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(balanced.readout.log_probabilities(x, x), wanted, atol=1e-9)
    assert (np.exp(wanted).mean(axis=0)[1:] > np.exp(log + prior).mean(axis=0)[1:]).all()
