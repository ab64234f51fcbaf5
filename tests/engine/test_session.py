from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.engine import Session
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.errors import BundleError, ConfigError
from sentryfuse.target import Target
from sentryfuse.types import Budget
from tests.tiny import CLASSES, GOLDEN, SENSOR_SETS, tiny_batch

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(GOLDEN / "tiny-v3.bundle")


@pytest.mark.parametrize("present", SENSOR_SETS, ids="+".join)
def test_not_one_bit_depends_on_an_absent_sensor(bundle, present):
    batch = tiny_batch()
    for ratio in (0.0, 0.9, 1.0):
        session = Session(bundle, bundle.plan(present, Budget(ratio=ratio)))
        only = session.run({name: batch[name] for name in present})
        for value in (np.nan, np.inf, 1e30):
            filled = {n: x if n in present else np.full_like(x, value) for n, x in batch.items()}
            assert np.array_equal(session.run(filled), only)


@pytest.mark.parametrize("present", SENSOR_SETS, ids="+".join)
def test_answers_are_probabilities(bundle, present):
    answer = Session(bundle, bundle.plan(present)).run(tiny_batch(5))
    assert answer.shape == (5, len(CLASSES))
    assert answer.dtype == np.float32
    assert (answer > 0).all()
    np.testing.assert_allclose(answer.sum(1), 1, atol=1e-6)


def test_a_session_of_any_batch_answers_as_one_of_a_fixed_batch(bundle):
    batch = tiny_batch(4)
    plan = bundle.plan(None, Budget(ratio=0.3))
    free, single = Session(bundle, plan), Session(bundle, plan, batch=1)
    together = free.run(batch)
    for i in range(4):
        window = {name: x[i : i + 1] for name, x in batch.items()}
        np.testing.assert_allclose(single.run(window)[0], together[i], atol=1e-5)
        np.testing.assert_allclose(free.run(window)[0], together[i], atol=1e-5)


def test_the_same_window_always_gets_the_same_answer(bundle):
    plan = bundle.plan()
    session, batch = Session(bundle, plan), tiny_batch()
    assert np.array_equal(session.run(batch), session.run(batch))
    assert np.array_equal(session.run(batch), Session(bundle, plan).run(batch))


def test_windows_of_other_types_are_taken_as_float32(bundle):
    session, batch = Session(bundle, bundle.plan(("acc", "age"))), tiny_batch()
    doubles = {name: x.astype(np.float64) for name, x in batch.items()}
    lists = {name: x.tolist() for name, x in batch.items()}
    turned = {name: np.asfortranarray(x) for name, x in batch.items()}
    others: list[Any] = [doubles, lists, turned]
    for other in others:
        assert np.array_equal(session.run(other), session.run(batch))


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.pop("acc"),
        lambda b: b.update(acc=b["acc"][:, :-1]),
        lambda b: b.update(acc=b["acc"][:, :, :2]),
        lambda b: b.update(acc=b["acc"][0]),
        lambda b: b.update(acc=np.float32(3)),
        lambda b: b.update(acc=b["acc"][:0]),
    ],
    ids=["missing", "too short", "too few channels", "no batch", "a number", "no window"],
)
def test_a_window_that_does_not_fit_is_refused_by_sensor(bundle, change):
    batch = tiny_batch()
    change(batch)
    session = Session(bundle, bundle.plan(("acc", "age")))
    with pytest.raises(ConfigError, match=r"sensor acc .*\(B, 64, 3\).*leave acc out"):
        session.run(batch)


def test_a_fixed_batch_takes_no_other(bundle):
    session = Session(bundle, bundle.plan(("age",)), batch=2)
    assert session.run(tiny_batch(2)).shape == (2, 3)
    with pytest.raises(ConfigError, match=r"\(2, 1, 2\)"):
        session.run(tiny_batch(3))


def test_sensors_must_bring_equally_many_windows(bundle):
    batch = tiny_batch()
    batch["acc"] = batch["acc"][:2]
    with pytest.raises(ConfigError, match="as many windows"):
        Session(bundle, bundle.plan()).run(batch)


def test_a_session_says_how_long_it_took_to_build(bundle):
    session = Session(bundle, bundle.plan(), threads=2)
    assert session.times.slice_ms > 0
    assert session.times.build_ms > 0
    assert session.graph_bytes > session.plan.cost.weights_mb * 1e6


def test_softmax_survives_large_logits():
    given = np.array([[1000.0, 999.0, -1000.0], [0.0, 0.0, 0.0]], np.float32)
    made = Target().answers(given)
    np.testing.assert_allclose(made.sum(1), 1)
    np.testing.assert_allclose(made[0, :2], [1 / (1 + np.exp(-1)), 1 / (1 + np.e)], rtol=1e-5)


def test_what_an_engine_refuses_is_said_in_one_sentence(bundle):
    class Picky(OnnxRuntime):
        def build(self, model, **options):
            return super().build(model[:-20], **options)

    with pytest.raises(BundleError, match="onnxruntime refuses a sub-network of this bundle"):
        Session(bundle, bundle.plan(), batch=1, engine=Picky())
