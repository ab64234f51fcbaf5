"""Memory that changes while a stream runs: found within a pass, put right, and no window lost for it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.reliability.fault_stage import Scripted
from benchmarks.reliability.flips import OfProcess, address_of, flip
from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.engine import Session
from sentryfuse.errors import ConfigError
from sentryfuse.runtime import Result, Runtime, Status
from sentryfuse.runtime.scrub import Scrub
from sentryfuse.types import Budget
from tests.rewritten import GOLDEN_BUNDLE, favour, with_readout
from tests.runtime.test_runtime import BUNDLE, healthy, without

pytestmark = pytest.mark.device

SCRUB_S = 0.03
LONG_S = 8000.0  # of streams that are played as far as a test needs
EXPONENT = 30
STREAMS = healthy(LONG_S)


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "model.bundle"
    path.write_bytes(GOLDEN_BUNDLE.read_bytes())
    return path


def played(path: Path, streams=STREAMS, **options) -> Runtime:
    given = {"scrub_s": SCRUB_S, "deadline_ms": 10_000, **options}
    return Runtime(load_bundle(path), source(streams), **given)


def source(streams) -> Scripted:
    return Scripted([packet for packets in streams.values() for packet in packets], LONG_S, 0.5)


def on(runtime: Runtime, enough: Callable[[], bool]) -> list[Result]:
    """Play until something has come, and two windows more."""
    results: list[Result] = []
    until = time.monotonic() + 60
    while not enough():
        assert time.monotonic() < until, runtime.events.counts
        results += runtime.step()
        time.sleep(0.001)
    n = len(results) + 2
    while len(results) < n:
        results += runtime.step()
    return results


def told(runtime: Runtime, kind: str, n: int = 1) -> Callable[[], bool]:
    return lambda: runtime.events.counts[kind] >= n


def latest(runtime: Runtime, kind: str) -> dict[str, Any]:
    return [event for event in runtime.events.latest if event["kind"] == kind][-1]


def check_as_loaded(seen, bundle: Bundle) -> None:
    """Every answer is, to the last bit, that of the bundle as it is in its file."""
    alone: dict[tuple[str, ...], Session] = {}
    for window, result in seen:
        if result.status in (Status.OK, Status.DEGRADED):
            plan = bundle.plan(window.present, Budget(ratio=0.0))
            if window.present not in alone:
                alone[window.present] = Session(bundle, plan, batch=1, apart=("age",))
            answer = alone[window.present].run(window.values)[0]
            np.testing.assert_array_equal(result.probabilities, answer)
    assert [window.window_id for window, _ in seen] == list(range(len(seen)))


def test_nothing_is_told_of_memory_that_nobody_touches(path, seen):
    with played(path) as runtime:
        results = on(runtime, lambda: runtime.scrub.passes >= 40)
        memory = runtime.counters()["memory"]
    assert {r.status for r in results} == {Status.OK}
    assert not {"memory_fault", "memory_renewed"} & runtime.events.counts.keys()
    assert memory["passes"] >= 40
    assert memory["asked"] >= 20
    assert memory["faults"] == {"bundle": 0, "engine": 0}
    check_as_loaded(seen, BUNDLE)


@pytest.mark.parametrize(
    "name", ["weights.head.classify.bias", "weights.embed.acc.normalise.mean", "gate.units.weight"]
)
def test_a_bundle_that_has_changed_is_read_again_and_answers_as_a_fresh_one(path, seen, name):
    with played(path) as runtime:
        on(runtime, lambda: runtime.scrub.passes >= 2)
        before = runtime.bundle
        flip(address_of(before.tensors[name]), EXPONENT)
        on(runtime, told(runtime, "memory_renewed"))
        assert runtime.bundle is not before
        fault = latest(runtime, "memory_fault")
        assert (fault["part"], fault["what"]) == ("bundle", name)
        assert 0 <= fault["since_s"] < 5
        passes = runtime.scrub.passes
        on(runtime, lambda: runtime.scrub.passes >= passes + 3)
    assert runtime.counters()["memory"]["faults"] == {"bundle": 1, "engine": 0}
    # values are held to the same mean, so that a sensor may be lost meanwhile: by a sub-network never built
    may_lose = {Status.STALE} if "normalise" in name else set()
    assert {r.status for _, r in seen} <= {Status.OK, Status.DEGRADED, *may_lose}
    assert {r.bundle for _, r in seen} == {BUNDLE.digest[:12]}
    assert runtime.events.counts["bundle"] == 0
    check_as_loaded(seen, BUNDLE)


def test_a_readout_that_has_changed_is_read_again(tmp_path, seen):
    path = with_readout(tmp_path / "readout.bundle")
    with played(path) as runtime:
        on(runtime, lambda: runtime.scrub.passes >= 2)
        assert runtime.bundle.mixture is not None
        weights = runtime.bundle.mixture.weights
        flip(address_of(weights) + weights.nbytes - 16, 54)  # of the set that is present
        begun = len(seen)
        on(runtime, told(runtime, "memory_renewed"))
        assert runtime.scrub.faults["bundle"] + runtime.scrub.faults["engine"] >= 1
        found = next(i for i, (_, r) in enumerate(seen[begun:]) if r.status is not Status.OK) + begun
        on(runtime, lambda: runtime.scrub.passes >= 3)
    del seen[begun:found]  # until it was noticed
    fresh = load_bundle(path)
    for window, result in seen:
        if result.status is Status.OK:
            alone = Session(fresh, fresh.plan(window.present), batch=1, apart=("age",))
            np.testing.assert_array_equal(result.probabilities, alone.run(window.values)[0])


def test_what_was_gathered_of_the_person_stays_when_the_bundle_is_read_again(tmp_path, seen):
    path = with_readout(tmp_path / "person.bundle", normalise="person")
    with played(path) as runtime:
        on(runtime, lambda: runtime.scrub.passes >= 2)
        begun = len(seen)
        flip(address_of(runtime.bundle.tensors["readout.scale.acc.mean"]), EXPONENT)
        on(runtime, told(runtime, "memory_renewed"))
        renewed = len(seen)
        on(runtime, lambda: len(seen) > renewed + 10)
    with played(path, scrub_s=0.0) as twin:
        right = on(twin, lambda: len(seen) > 2 * renewed + 30)
    for _, result in (*seen[:begun], *seen[renewed : renewed + 10]):
        np.testing.assert_array_equal(result.probabilities, right[result.window_id].probabilities)


@pytest.mark.slow  # looks through all of this process, and may turn a bit that is somebody else's
@pytest.mark.skipif(sys.platform != "linux", reason="looks through /proc")
def test_a_sub_network_that_has_changed_in_the_engine_is_built_anew(path, seen):
    favour(path, 0.123)  # a weight that nobody else holds
    with played(path) as runtime:
        on(runtime, lambda: runtime.scrub.asked >= 2)
        session, bundle = runtime.serving.current, runtime.bundle
        bias = bundle.weights["head.classify.bias"]
        gc.collect()
        memory, held = OfProcess(), bias.tobytes()
        for address in {*memory.find(held)} - {address_of(bias)}:
            memory.flip(address, EXPONENT, of=held)
        begun = len(seen)
        on(runtime, told(runtime, "memory_renewed"))
        fault = latest(runtime, "memory_fault")
        assert (fault["part"], fault["what"]) == ("engine", "transformer")
        assert fault["plan_id"] == session.plan.plan_id
        assert runtime.serving.current is not session
        assert runtime.bundle is bundle
        noticed, asked = len(seen), runtime.scrub.asked
        on(runtime, lambda: runtime.scrub.asked >= asked + 3)
    assert runtime.scrub.faults["engine"] == 1
    assert {r.status for _, r in seen} == {Status.OK}
    assert [window.window_id for window, _ in seen] == list(range(len(seen)))
    alone = Session(bundle, bundle.plan(), batch=1, apart=("age",))
    for window, result in seen[:begun] + seen[noticed:]:
        np.testing.assert_array_equal(result.probabilities, alone.run(window.values)[0])


def test_a_file_that_is_gone_is_one_refusal_and_what_is_sound_goes_on(path, seen):
    streams = {**STREAMS, "temp": without(STREAMS["temp"], 300, 400)}
    with played(path, streams) as runtime:
        on(runtime, lambda: runtime.scrub.passes >= 2)
        content = path.read_bytes()
        path.unlink()
        flip(address_of(runtime.bundle.tensors["weights.head.classify.bias"]), EXPONENT)
        begun = len(seen)
        on(runtime, told(runtime, "bundle_refused"))
        refused = latest(runtime, "bundle_refused")
        assert "head.classify.bias has changed in memory, and" in refused["reason"]
        assert "does not exist" in refused["reason"]
        on(runtime, lambda: seen[-1][0].end_s > 340)  # temp is gone, and nothing can be built without it
        assert runtime.events.counts["bundle_refused"] == 1
        lost = [r for w, r in seen if 316 < w.end_s < 340]
        assert {r.status for r in lost} == {Status.FAULT}
        assert all("has changed in memory" in r.reason for r in lost)
        with_all = [r for w, r in seen[begun:] if len(w.present) == 3]
        assert {r.status for r in with_all} <= {Status.OK, Status.DEGRADED}
        assert any("the sub-network was built before that" in r.reason for r in with_all)
        path.write_bytes(content)
        on(runtime, told(runtime, "memory_renewed"))
        last = on(runtime, lambda: seen[-1][0].end_s > 440)
    assert last[-1].status is Status.OK
    check_as_loaded(seen, BUNDLE)


def test_a_file_that_holds_another_bundle_does_not_take_over(path, seen):
    with played(path) as runtime:
        on(runtime, lambda: runtime.scrub.passes >= 1)
        favour(path, 0.5)
        flip(address_of(runtime.bundle.tensors["weights.head.classify.bias"]), EXPONENT)
        on(runtime, told(runtime, "bundle_refused"))
        assert "holds another bundle now" in latest(runtime, "bundle_refused")["reason"]
        offer = runtime.swap(load_bundle(path))  # which is asked for, and takes over as ever
        on(runtime, lambda: offer.wait(0))
        last = on(runtime, told(runtime, "memory_renewed"))
    assert last[-1].bundle == load_bundle(path).digest[:12]
    assert last[-1].status is Status.OK
    assert [window.window_id for window, _ in seen] == list(range(len(seen)))


def test_under_a_key_the_file_must_be_signed_when_it_is_read_again(path, tmp_path):
    pytest.importorskip("cryptography", reason="signing is an extra; pip install 'sentryfuse[sign]'")
    from sentryfuse.bundle.signature import read_signer, signature_of, write_keys

    _, public, _ = write_keys(tmp_path / "site")
    signer = read_signer(tmp_path / "site.pem")
    signer.write(path, signer.line(path.read_bytes()))
    with Runtime(load_bundle(path, public), source(STREAMS), scrub_s=SCRUB_S) as runtime:
        signature_of(path).rename(tmp_path / "kept.sig")
        flip(address_of(runtime.bundle.tensors["weights.head.classify.bias"]), EXPONENT)
        on(runtime, told(runtime, "bundle_refused"))
        assert "is not signed" in latest(runtime, "bundle_refused")["reason"]
        (tmp_path / "kept.sig").rename(signature_of(path))
        on(runtime, told(runtime, "memory_renewed"))
        assert runtime.bundle.signed_by == signer.key_id


def test_a_sub_network_built_of_changed_weights_does_not_answer_once_they_are_found(path, seen):
    """It says today what it said when it was built, so only the times tell."""
    streams = {**STREAMS, "temp": without(STREAMS["temp"], 200)}
    with played(path, streams, scrub_s=1e6) as runtime:
        on(runtime, lambda: len(seen) > 40)
        held = runtime.serving.held
        flip(address_of(runtime.bundle.tensors["weights.head.classify.bias"]), EXPONENT)
        right_s = time.monotonic()
        on(runtime, lambda: len(seen[-1][0].present) == 2)
        path.rename(path.with_suffix(".away"))
        held.condemn(right_s, "weights.head.classify.bias has changed in memory")
        held.lost = "it is gone"
        results = on(runtime, lambda: seen[-1][0].end_s > 300)
    assert {r.status for r in results[1:]} == {Status.FAULT}


def test_nothing_is_looked_at_when_nobody_asks_for_it(path):
    with played(path, scrub_s=0.0) as runtime:
        flip(address_of(runtime.bundle.tensors["weights.head.classify.bias"]), EXPONENT)
        on(runtime, lambda: runtime.scrub.age_s == 0.0)
        assert runtime.serving.held.memory is None
        assert runtime.serving.current._said is None
    assert runtime.counters()["memory"] == {
        "scrub_s": 0.0,
        "passes": 0,
        "asked": 0,
        "faults": {"bundle": 0, "engine": 0},
    }


@pytest.mark.parametrize("scrub_s", [-1.0, float("nan"), float("inf")])
def test_a_time_that_means_nothing_is_refused(path, scrub_s):
    with pytest.raises(ConfigError, match="scrub_s must be 0 or a positive number of seconds"):
        played(path, scrub_s=scrub_s)


def test_while_windows_wait_or_the_next_one_is_near_it_does_nothing_for_the_length_of_a_pass(path):
    with played(path) as runtime:
        at_s = [time.monotonic()]
        serving, names = runtime.serving, runtime.bundle.names
        scrub = Scrub(serving, runtime.events, every_s=60.0, clock=lambda: at_s[0])
        memory = serving.held.memory
        assert memory is not None
        for _ in range(59):
            at_s[0] += 1
            scrub.rest(names, waits=True, left_s=np.inf)
        assert memory.done == 0
        for _ in range(10):
            at_s[0] += 1
            scrub.rest(names, waits=True, left_s=0.0)
        assert memory.passes == 1

        scrub = Scrub(serving, runtime.events, every_s=60.0)
        session = serving.current
        for age_s, left, asked in ((59, 9, 0), (61, 1, 0), (61, 3, 1), (119, 1, 1), (121, 0, 2)):
            session.right_s, scrub._look_s = time.monotonic() - age_s, 0.0
            scrub.rest(names, waits=False, left_s=left * session.probe_s)
            assert scrub.asked == asked
