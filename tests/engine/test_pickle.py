"""Bundles and sessions go to worker processes; what answers there is built there."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session, Sessions
from sentryfuse.types import Budget
from tests.tiny import GOLDEN, NAMES, tiny_batch

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(GOLDEN / "tiny-v3.bundle")


def sent(thing):
    return pickle.loads(pickle.dumps(thing))


def test_a_bundle_plans_alike_in_another_process(bundle):
    _ = bundle.writer, bundle.plan(NAMES)
    other = sent(bundle)
    assert not {"writer", "_priced"} & vars(other).keys()
    assert other.plan(NAMES, Budget(ratio=0.5)).plan_id == bundle.plan(NAMES, Budget(ratio=0.5)).plan_id
    assert other.digest == bundle.digest


@pytest.mark.parametrize("batch", [1, None])
def test_a_session_answers_alike_in_another_process(bundle, batch):
    session = Session(bundle, bundle.plan(["acc", "age"], Budget(ratio=0.3)), batch=batch, apart=("age",))
    other = sent(session)
    windows = tiny_batch(1)
    np.testing.assert_array_equal(other.run(windows), session.run(windows))
    assert (other.batch, other.apart, other.plan) == (session.batch, session.apart, session.plan)


def test_sessions_are_cold_in_another_process(bundle):
    with Sessions(bundle, kept=2) as sessions:
        plan = sessions.plan(None)
        sessions.get(plan)
        with sent(sessions) as other:
            assert other.kept == 2
            assert other.ready(other.plan(None)) is None
            np.testing.assert_array_equal(
                other.get(other.plan(None)).run(tiny_batch(1)), sessions.get(plan).run(tiny_batch(1))
            )


def test_a_bundle_shows_itself_in_one_short_line(bundle):
    shown = repr(bundle)
    assert len(shown) < 500
    assert "\n" not in shown
    for word in ("acc 64 x 3", "walk", bundle.digest[:12]):
        assert word in shown
