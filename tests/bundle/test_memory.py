"""A bundle's memory: one bit that turns is found within a pass, and nothing is found where none has."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reliability.flips import address_of, flip
from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.bundle.memory import EACH, SLICE, BundleMemory
from sentryfuse.errors import BundleError
from tests.rewritten import favour, with_readout
from tests.tiny import GOLDEN

pytestmark = pytest.mark.device

FILES = [GOLDEN / "tiny-v3.bundle", GOLDEN / "encoder-v3.bundle"]
BUNDLES = [load_bundle(path) for path in FILES]


def passed(memory: BundleMemory) -> list[str]:
    """What one pass finds, from wherever it is."""
    found, until = set(), memory.done + memory.size
    while memory.done < until:
        change = memory.step()
        if change:
            found.add(change.name)
    return sorted(found)


@pytest.mark.parametrize("bundle", BUNDLES, ids=[path.name for path in FILES])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_bit_of_any_tensor_that_turns_is_found_within_one_pass_by_its_name(bundle: Bundle, data):
    name = data.draw(st.sampled_from(sorted(bundle.tensors)))
    tensor = bundle.tensors[name]
    bit = data.draw(st.integers(0, 8 * tensor.nbytes - 1))
    memory = BundleMemory(bundle)
    for _ in range(data.draw(st.integers(0, 5))):
        assert memory.step() is None
    flip(address_of(tensor), bit)
    try:
        assert passed(memory) == [name]
    finally:
        flip(address_of(tensor), bit)
    assert passed(memory) == []


@pytest.mark.parametrize("bundle", BUNDLES, ids=[path.name for path in FILES])
def test_a_bundle_that_nobody_touches_is_right_in_every_pass(bundle):
    memory = BundleMemory(bundle)
    while memory.passes < 300:
        assert memory.step() is None


def test_a_step_is_as_long_as_a_slice_and_goes_on_where_the_last_one_ended():
    memory, before = BundleMemory(BUNDLES[0]), 0
    while not memory.passes:
        memory.step()
        assert 0 < memory.done - before <= SLICE + 2 * EACH
        before = memory.done
    assert memory.done == memory.size


def test_the_file_is_the_reference_not_what_was_in_memory_when_looking_began():
    bundle = load_bundle(FILES[0])
    flip(address_of(bundle.tensors["gate.code.bias"]), 7)
    assert passed(BundleMemory(bundle)) == ["gate.code.bias"]


def test_everything_a_bundle_is_made_of_is_looked_at_once(tmp_path):
    bundle = load_bundle(with_readout(tmp_path / "readout.bundle"))
    memory = BundleMemory(bundle)
    assert bundle.mixture is not None
    held = sum(len(held.body) for held in memory._held)
    assert held > sum(tensor.nbytes for tensor in bundle.tensors.values())  # and what is held in doubles
    inside = bundle.mixture.readout.parts.stack.moments.within
    assert passed(memory) == []
    flip(address_of(inside), 61)
    assert passed(memory) == ["loaded.mixture.readout.parts.stack.moments.within"]
    flip(address_of(inside), 61)
    flip(address_of(bundle.mixture.weights), 3)
    assert passed(memory) == ["loaded.mixture.weights"]
    flip(address_of(bundle.mixture.weights), 3)


def test_how_long_ago_it_was_right_is_told_from_when_the_look_at_it_began():
    now_s = 0.0
    bundle = load_bundle(FILES[0])
    memory = BundleMemory(bundle, clock=lambda: now_s)
    now_s = 5.0
    while not memory.passes:
        memory.step()
    assert memory.right_s == 5.0
    flip(address_of(bundle.tensors["gate.code.bias"]), 0)
    now_s = 9.0
    changes = [change for _ in range(20) if (change := memory.step())]
    assert changes[0] == ("gate.code.bias", 5.0)


def test_a_bundle_is_read_again_from_its_file_and_only_the_same_one(tmp_path, monkeypatch):
    path = tmp_path / "model.bundle"
    path.write_bytes(FILES[0].read_bytes())
    monkeypatch.chdir(tmp_path)
    bundle = load_bundle("model.bundle")
    monkeypatch.chdir("/")
    flip(address_of(bundle.tensors["gate.code.bias"]), 7)
    fresh = bundle.read_again()
    assert fresh.digest == bundle.digest
    assert passed(BundleMemory(fresh)) == []
    assert pickle.loads(pickle.dumps(bundle)).read_again().digest == bundle.digest
    favour(path, 0.5)
    with pytest.raises(BundleError, match="holds another bundle now"):
        bundle.read_again()
    path.unlink()
    with pytest.raises(BundleError, match="does not exist"):
        bundle.read_again()


def test_weights_and_gate_are_the_tensors_of_the_file_and_no_copies():
    for bundle in BUNDLES:
        for name, weights in bundle.weights.items():
            assert weights is bundle.tensors[f"weights.{name}"]
        assert {len(memory._held) for memory in [BundleMemory(bundle)]} == {len(bundle.tensors)}
        assert all(np.isfinite(tensor).all() for tensor in bundle.tensors.values())
