"""A sub-network asked about its window again: the same bits as long as its memory is the same."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reliability.flips import OfProcess, address_of, flip
from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.engine import Session, Sessions
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.engine.selfcheck import differing, probe_of
from sentryfuse.errors import BundleError
from sentryfuse.types import Budget
from tests.rewritten import GOLDEN_BUNDLE, with_readout

pytestmark = pytest.mark.device

EXPONENT = 30  # of a float32: the number becomes huge, or next to nothing
REPEATS = 3000


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return with_readout(tmp_path_factory.mktemp("selfcheck") / "readout.bundle")


@pytest.fixture
def bundle(path: Path) -> Bundle:
    return load_bundle(path)


def probed(bundle: Bundle, ratio: float = 0.0, **options) -> Session:
    plan = bundle.plan(None, Budget(ratio=ratio))
    return Session(bundle, plan, **{"batch": 1, "probe": probe_of(bundle), **options})


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_one_thread_says_the_same_bits_however_often_it_is_asked(bundle, ratio):
    session = probed(bundle, ratio, apart=("age",))
    rng, other = np.random.default_rng(0), []
    for i in range(REPEATS):
        assert session.differs() == ""
        if i % 100 == 0:  # other windows between them, and memory that lies elsewhere
            x = {m.name: rng.normal(size=(1, m.length, m.n_channels)) for m in bundle.layout.modalities}
            session.run({name: values.astype(np.float32) for name, values in x.items()})
            other.append(np.empty(int(rng.integers(1, 1 << 20)), np.uint8))


def test_sub_networks_built_of_the_same_weights_say_the_same(bundle):
    session, twin = probed(bundle), probed(bundle)
    assert session._said is not None
    assert twin._said is not None
    assert differing(session._said, twin._said, exactly=True) == ""


@pytest.mark.parametrize("options", [{"threads": 2}, {"batch": None}, {"batch": 3}])
def test_several_threads_and_other_batches_are_asked_as_well(bundle, options):
    session = probed(bundle, **options)
    assert {session.differs() for _ in range(200)} == {""}


def test_rounding_passes_where_the_order_of_additions_may_change_and_more_does_not():
    before = {"transformer": np.array([[1.0, -2.0, 0.0]], np.float32)}
    rounded = {"transformer": before["transformer"] * np.float32(1 + 1e-6)}
    other = {"transformer": before["transformer"] + np.float32(1e-2)}
    assert differing(before, rounded, exactly=False) == ""
    assert differing(before, rounded, exactly=True) == "transformer"
    assert differing(before, other, exactly=False) == "transformer"
    nothing = {"transformer": np.full((1, 3), np.nan, np.float32)}
    assert differing(nothing, nothing, exactly=False) == ""


@pytest.mark.slow  # looks through all of this process, and may turn a bit that is somebody else's
@pytest.mark.skipif(sys.platform != "linux", reason="looks through /proc")
def test_a_weight_that_turns_in_the_engine_is_found_and_named(bundle):
    session = probed(bundle)
    assert bundle.mixture is not None
    wanted = (bundle.weights["head.classify.bias"], bundle.mixture.readout.parts.scales["acc"].mean)
    own = {address_of(tensor) for tensor in bundle.tensors.values()}
    gc.collect()
    found, memory = set(), OfProcess()
    for values in wanted:
        held = values.tobytes()
        for address in {*memory.find(held)} - own:
            for i in range(values.size):
                if memory.flip(address, 32 * i + EXPONENT, of=held):
                    found.add(session.differs())
                    memory.flip(address, 32 * i + EXPONENT)
                    assert session.differs() == ""
    assert {"transformer", "readout"} <= found


def test_what_answers_outside_of_the_engine_is_asked_as_well(bundle):
    session = probed(bundle)
    weights = bundle.mixture.weights
    flip(address_of(weights) + weights.nbytes - 16, 62)
    assert session.differs() == "answer"


def test_an_engine_that_fails_differs_and_one_that_always_did_has_nothing_to_differ_from(bundle):
    class Failing(OnnxRuntime):
        broken = False

        def build(self, model, **options):
            answer = super().build(model, **options)

            def asked(feed):
                if Failing.broken:
                    raise RuntimeError("broken")
                return answer(feed)

            return asked

    session = probed(bundle, engine=Failing())
    Failing.broken = True
    assert session.differs() == "answer"
    assert probed(bundle, engine=Failing()).differs() == ""


def test_all_are_let_go_with_their_readouts_and_built_anew(bundle):
    plans = [bundle.plan(None, Budget(ratio=ratio)) for ratio in (0.0, 0.5)]
    with Sessions(bundle, probed=True) as sessions:
        before = [sessions.get(plan) for plan in plans]
        assert sessions.warm() == before
        assert before[0]._readout is before[1]._readout
        sessions.renew()
        assert sessions.warm() == []
        after = [sessions.get(plan) for plan in plans]
        assert not {*before} & {*after}
        assert after[0]._readout is not before[0]._readout
        sessions.damaged = "a weight has changed"
        with pytest.raises(BundleError, match="a weight has changed"):
            sessions.get(bundle.plan(("acc",)))
        assert sessions.get(plans[0]) is after[0]


def test_without_a_probe_nothing_is_remembered(bundle):
    with Sessions(bundle) as sessions:
        session = sessions.get(bundle.plan())
    assert session._said is None
    assert session.differs() == ""


def test_the_window_is_like_those_of_training_and_always_the_same(bundle):
    one, other = probe_of(bundle), probe_of(load_bundle(GOLDEN_BUNDLE))
    for name, x in one.windows.items():
        np.testing.assert_array_equal(x, other.windows[name])
    mean, std = (bundle.weights[f"embed.acc.normalise.{leaf}"] for leaf in ("mean", "std"))
    assert np.abs((one.windows["acc"] - mean) / std).max() < 6
