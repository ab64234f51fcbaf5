"""Another break-even changes plans, counts and graphs together, and the answer only where cores differ."""

from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.measure.break_even import break_even, longest
from tests.tiny import GOLDEN, tiny_batch

pytestmark = pytest.mark.device

BUNDLE = load_bundle(GOLDEN / "tiny-v3.bundle")
LENGTH = longest(BUNDLE, BUNDLE.names)


class Slow(OnnxRuntime):
    """An engine on which one core takes long: sparse graphs scatter, dense ones do not."""

    def __init__(self, core: str) -> None:
        self.core = core

    def build(self, model, **options):
        answer = super().build(model, **options)
        sparse = b"ScatterElements" in model
        if sparse != (self.core == "sparse"):
            return answer

        def late(feed):
            end = np.random.default_rng(0).standard_normal((400, 400))
            return answer(feed) + 0 * float((end @ end).sum())

        return late


def test_the_core_follows_the_break_even_in_plans_and_graphs():
    sparse, dense = BUNDLE.with_break_even(LENGTH), BUNDLE.with_break_even(LENGTH + 1)
    assert BUNDLE.with_break_even(None) is BUNDLE.with_break_even(6) is BUNDLE
    assert sparse.plan().cost.macs != dense.plan().cost.macs
    answers = [Session(b, b.plan(), batch=1).run(tiny_batch(1)) for b in (sparse, dense)]
    assert np.abs(answers[0] - answers[1]).max() > 1e-7


@pytest.mark.parametrize(("slow", "found"), [("dense", "some length"), ("sparse", "none")])
def test_it_is_where_the_faster_core_changes(slow, found):
    start = break_even(BUNDLE, [tiny_batch(1)], threads=1, engine=Slow(slow))
    assert start == (LENGTH + 1 if found == "none" else start)
    assert (start is not None and start <= LENGTH) == (found == "some length")
