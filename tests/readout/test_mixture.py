"""The readout and the transformer as one answer; running moments of a person."""

from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.errors import DataError
from sentryfuse.readout import Mixture, Person, fit_readout, fit_weights
from sentryfuse.readout.mixture import USUAL

pytestmark = pytest.mark.device

RNG = np.random.default_rng(0)
Y = np.arange(120) % 3


def answers(truth: float) -> np.ndarray:
    """Log probabilities that know the class more or less well."""
    log = truth * np.eye(3)[Y] + RNG.normal(0, 1, (120, 3))
    return log - np.log(np.exp(log).sum(1, keepdims=True))


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    x = {n: (RNG.normal(0, 1, (120, 4)) + Y[:, None]).astype(np.float32) for n in ("a", "b")}
    fit = fit_readout(x, Y, np.arange(120) // 20, ("p", "q", "r"), trees=False)
    return Mixture(fit.readout, np.array([[1.0, 0.5], [0.5, 1.0]]))


def test_whoever_knows_more_counts_more():
    knows, guesses = answers(4.0), answers(0.0)
    for first, second, better in ((knows, guesses, 0), (guesses, knows, 1)):
        weights = fit_weights({2: (first, second, Y), 1: (first, second, Y)}, 2, 100)
        assert weights.shape == (2, 2)
        assert (weights >= 0).all()
        assert (weights[:, better] > 2 * weights[:, 1 - better]).all()


def test_one_person_does_not_overrule_what_is_usual():
    knows, guesses = answers(4.0), answers(0.0)
    few, many = (fit_weights({1: (knows, guesses, Y)}, 1, n)[0] for n in (1, 100))
    assert abs(few[1] - USUAL[1]) < abs(many[1] - USUAL[1])


def test_without_anything_to_go_by_the_usual_weights_hold():
    np.testing.assert_array_equal(fit_weights({}, 3, 0), np.tile(USUAL, (3, 1)))


def test_the_answer_is_a_product_of_powers(mixture):
    readout, other = answers(1.0), np.exp(answers(1.0))
    got = mixture.answer(readout, other, 2)
    want = np.exp(0.5 * readout) * other
    np.testing.assert_allclose(got, want / want.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(mixture.answer(readout, None, 2), np.exp(readout), rtol=1e-6)


def test_a_certain_but_wrong_transformer_leaves_an_answer(mixture):
    sure = np.eye(3, dtype=np.float32)[Y]
    assert np.isfinite(mixture.answer(answers(1.0), sure, 1)).all()


def test_it_survives_its_tensors(mixture):
    again = Mixture.from_tensors(mixture.settings(), mixture.tensors())
    x = {n: RNG.normal(0, 1, (5, 4)).astype(np.float32) for n in ("a", "b")}
    for present in (("a", "b"), ("b",)):
        np.testing.assert_allclose(
            again.readout.log_probabilities(x, present),
            mixture.readout.log_probabilities(x, present),
            atol=1e-4,
        )
    np.testing.assert_allclose(again.weights, mixture.weights)


@pytest.mark.parametrize("wrong", [None, np.ones((2, 3)), -np.ones((2, 2))])
def test_weights_that_are_none_are_refused(mixture, wrong):
    tensors = mixture.tensors()
    del tensors["weights"]
    if wrong is not None:
        tensors["weights"] = wrong.astype(np.float32)
    with pytest.raises(DataError, match="weights beside the transformer"):
        Mixture.from_tensors(mixture.settings(), tensors)


def test_moments_of_a_person_add_up_window_by_window():
    x = RNG.normal(1e3, 2, (50, 3)).astype(np.float32)
    x[RNG.random(x.shape) < 0.2] = np.nan
    x[:, 2] = np.nan
    running = Person.of(x[:1])
    for row in x[1:]:
        running = running.joined(Person.of(row[None]))
    whole = Person.of(x)
    np.testing.assert_allclose(running.count, whole.count)
    np.testing.assert_allclose(running.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(running.variance, whole.variance, rtol=1e-3)
