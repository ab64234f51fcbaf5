"""Another bundle while the stream runs: each window by exactly one, and back again if the new one fails."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.engine import Session
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.errors import BundleError, ConfigError
from sentryfuse.runtime import Events, Result, Runtime, Status
from sentryfuse.runtime.offers import Outcome
from sentryfuse.runtime.probation import MOST_LATE, WINDOWS, Probation
from sentryfuse.types import Budget
from tests.rewritten import favour, overflowing
from tests.runtime.test_runtime import BUNDLE, healthy, source, without
from tests.stream.feeding import changed

pytestmark = pytest.mark.device

OURS = BUNDLE.digest[:12]


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> list[Bundle]:
    """Bundles whose answers differ from one to the next."""
    folder = tmp_path_factory.mktemp("others")
    return [load_bundle(favour(folder / f"{k}.bundle", 0.3 * (k + 1))) for k in range(6)]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Bundle:
    return load_bundle(overflowing(tmp_path_factory.mktemp("faulty") / "f.bundle"))


def wild(seconds: float, since_s: float, until_s: float = np.inf):
    """Good sensors, and `acc` moves five times as much for a while."""
    streams = healthy(seconds)
    mean = BUNDLE.weights["embed.acc.normalise.mean"]
    streams["acc"] = [
        changed(p, values=(mean + 5 * (p.values - mean)).astype(np.float32))
        if since_s <= p.received_s < until_s
        else p
        for p in streams["acc"]
    ]
    return streams


def check_each_by_one(seen, bundles: list[Bundle]) -> None:
    """Every answer is, to the last bit, that of the bundle its line names."""
    by_digest = {bundle.digest[:12]: bundle for bundle in bundles}
    for window, result in seen:
        if result.probabilities is None:
            continue
        bundle = by_digest[result.bundle]
        alone = Session(bundle, bundle.plan(window.present, Budget(ratio=0.0)), batch=1, apart=("age",))
        np.testing.assert_array_equal(result.probabilities, alone.run(window.values)[0])
    assert [window.window_id for window, _ in seen] == list(range(len(seen)))


def answer_offers(runtime: Runtime, clients: list[threading.Thread]) -> list[Result]:
    """Take windows while someone waits for one: however slow clients are, the stream does not end before."""
    results: list[Result] = []
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients) and not runtime.source.ended:
        if any(not offer.wait(0) for offer in runtime.serving.offers.latest.copy()):
            results += runtime.step()
        time.sleep(0.002)
    for client in clients:
        client.join()
    return results


def test_who_waits_for_each_offer_gets_a_takeover_for_each(others, seen):
    with Runtime(BUNDLE, source(healthy(200), 201)) as runtime:
        offers = []

        def offer():
            for k in range(12):
                made = runtime.swap(others[k % 6])
                assert made.wait(20)
                offers.append(made)

        results = answer_offers(runtime, [threading.Thread(target=offer)])
        rest = list(runtime)
    assert [made.outcome for made in offers] == [Outcome.TOOK_OVER] * 12
    first = [made.window_id for made in offers if made.window_id is not None]
    assert first == sorted(set(first))
    by_id = {r.window_id: r for r in results + rest}
    assert [by_id[window_id].bundle for window_id in first] == [made.digest for made in offers]
    assert {r.status for r in by_id.values()} == {Status.OK}
    assert runtime.serving.offers.counts[Outcome.TOOK_OVER] == 12
    check_each_by_one(seen, [BUNDLE, *others])


def test_an_offer_before_the_next_window_replaces_the_one_before_and_says_so(others):
    with Runtime(BUNDLE, source(healthy())) as runtime:
        next(iter(runtime))
        first, second = runtime.swap(others[0]), runtime.swap(others[1])
        assert first.wait(0)
        assert not second.wait(0)
        assert (first.outcome, second.outcome) == (Outcome.REPLACED, Outcome.WAITING)
        assert first.reason == f"replaced by a later offer, {second.digest}, before a window came"
        assert next(iter(runtime)).bundle == second.digest
        assert second.wait(0)
        assert (second.outcome, second.window_id) == (Outcome.TOOK_OVER, 1)
        third = runtime.swap(others[2])
    assert third.wait(0)
    assert (third.outcome, third.reason) == (Outcome.REFUSED, "the run ended before a window came")
    with pytest.raises(ConfigError, match="the run has ended"):
        runtime.swap(others[3])


def test_of_many_who_offer_at_once_each_hears_one_outcome_and_windows_stay_whole(others, seen):
    with Runtime(BUNDLE, source(healthy(400), 401)) as runtime:
        heard: list[Outcome] = []

        def offer(k: int) -> None:
            for i in range(4):
                made = runtime.swap(others[(k + i) % 6])
                assert made.wait(60)
                heard.append(made.outcome)

        answer_offers(runtime, [threading.Thread(target=offer, args=(k,)) for k in range(4)])
        list(runtime)
    counts = runtime.serving.offers.counts
    assert len(heard) == 16
    assert set(heard) <= {Outcome.TOOK_OVER, Outcome.REPLACED}
    assert counts[Outcome.TOOK_OVER] + counts[Outcome.REPLACED] == 16
    assert counts[Outcome.TOOK_OVER] == runtime.events.counts["bundle"] >= 1
    assert [window.window_id for window, _ in seen] == list(range(len(seen)))
    assert {result.status for _, result in seen} == {Status.OK}


def test_a_bundle_that_fails_on_probation_goes_and_the_window_is_the_old_ones(faulty, seen, tmp_path):
    with Events(tmp_path / "events.jsonl") as events:
        with Runtime(BUNDLE, source(wild(60, 20), 61), events=events) as runtime:
            first = [next(iter(runtime)) for _ in range(2)]
            offer = runtime.swap(faulty)
            results = first + list(runtime)
        told = list(events.latest)
    assert len(results) == 15
    assert {r.status for r in results} == {Status.OK}
    new = [r.window_id for r in results if r.bundle == faulty.digest[:12]]
    assert new == [2, 3, 4]
    assert {r.bundle for r in results if r.window_id not in new} == {OURS}
    assert (offer.outcome, offer.window_id, offer.proven) == (Outcome.ROLLED_BACK, 5, False)
    assert "not finite" in offer.reason
    back = [event for event in told if event["kind"] == "roll_back"]
    assert [(e["digest"], e["before"], e["window_id"]) for e in back] == [(OURS, faulty.digest[:12], 5)]
    assert back[0]["bundle"] == OURS
    assert "not finite" in back[0]["reason"]
    assert events.counts["fault"] == 0
    assert runtime.bundle is BUNDLE
    assert (runtime.serving.before, runtime.serving.probation.left) == ("", 0)
    check_each_by_one(seen, [BUNDLE, faulty])


def test_a_bundle_that_has_proven_itself_stays_and_the_old_one_is_let_go(faulty):
    fails_s = 4.0 * (WINDOWS + 4)
    with Runtime(BUNDLE, source(wild(fails_s + 8, fails_s), fails_s + 9)) as runtime:
        next(iter(runtime))
        offer = runtime.swap(faulty)
        assert next(iter(runtime)).status is Status.OK
        assert (runtime.serving.before, runtime.serving.probation.left) == (OURS, WINDOWS - 1)
        results = list(runtime)
        counted = runtime.counters()["events"]
    assert offer.proven
    assert offer.outcome is Outcome.TOOK_OVER
    assert {r.bundle for r in results} == {faulty.digest[:12]}
    assert results[-1].status is Status.FAULT
    assert (counted["bundle_proven"], counted.get("roll_back", 0)) == (1, 0)
    assert runtime.serving.before == ""


def test_who_fails_after_a_quick_row_of_swaps_goes_back_to_the_one_that_is_proven(others, faulty):
    with Runtime(BUNDLE, source(wild(40, 20), 41)) as runtime:
        stream, bundles = iter(runtime), []
        for bundle in (others[0], others[1], faulty):
            bundles.append(next(stream).bundle)
            runtime.swap(bundle)
        bundles += [r.bundle for r in stream]
    assert bundles == [OURS, *(b.digest[:12] for b in others[:2]), *[faulty.digest[:12]] * 2, *[OURS] * 5]


def test_sensors_that_change_between_offer_and_takeover_cost_no_window(others, seen):
    streams = healthy(80)
    streams["temp"] = without(streams["temp"], 18, 40)
    with Runtime(BUNDLE, source(streams, 81)) as runtime:
        while not seen or seen[-1][1].window_id < 3:
            runtime.step()
        offer = runtime.swap(others[0])  # made ready for all three
        results = list(runtime)
    assert offer.outcome is Outcome.TOOK_OVER
    assert "temp" not in results[0].present
    assert {r.status for r in results} <= {Status.OK, Status.DEGRADED}
    check_each_by_one(seen, [BUNDLE, *others])


class Slow(OnnxRuntime):
    """An engine that needs long for one more model than there were when it was told to."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False

    def build(self, model, **options):
        answer, slow = super().build(model, **options), self.slow

        def later(feed):
            time.sleep(0.03 if slow else 0.0)
            return answer(feed)

        return later


def test_a_bundle_that_misses_the_deadline_again_and_again_goes(others):
    engine = Slow()
    with Runtime(BUNDLE, source(healthy()), engine=engine, deadline_ms=25) as runtime:
        next(iter(runtime))
        engine.slow = True
        offer = runtime.swap(others[0])
        engine.slow = False
        results = list(runtime)
    named = [r.bundle for r in results]
    assert named == [offer.digest] * MOST_LATE + [OURS] * (9 - MOST_LATE)
    assert {r.status for r in results} == {Status.OK}
    assert offer.outcome is Outcome.ROLLED_BACK
    assert offer.reason == f"{MOST_LATE} of its first {MOST_LATE} windows missed the deadline of 25 ms"


@pytest.mark.parametrize("late_before", [0, 1, MOST_LATE, WINDOWS])
def test_a_bundle_is_allowed_as_many_late_windows_as_the_one_before_and_one_more(late_before):
    probation = Probation()
    for k in range(WINDOWS):
        assert not probation.see(late=k < late_before)
    probation.begin()
    allowed = max(MOST_LATE, late_before + 1)
    verdicts = [probation.see(late=True) for _ in range(min(allowed, WINDOWS))]
    assert verdicts == [k + 1 == allowed for k in range(len(verdicts))]
    probation.end()
    assert not any(probation.see(late=True) for _ in range(3 * WINDOWS))


def test_a_bundle_that_is_refused_is_one_event_and_counted(tmp_path):
    broken = load_bundle(overflowing(tmp_path / "f.bundle", by=1e20))
    with Runtime(BUNDLE, source(healthy())) as runtime:
        next(iter(runtime))
        with pytest.raises(BundleError, match="self-check"):
            runtime.swap(broken)
        assert {r.bundle for r in runtime} == {OURS}
        assert runtime.counters()["events"]["bundle_refused"] == 1
    assert runtime.serving.offers.counts[Outcome.REFUSED] == 1
    refused = runtime.serving.offers.latest[-1]
    assert (refused.digest, refused.outcome) == (broken.digest[:12], Outcome.REFUSED)
    assert refused.to_json()["reason"].startswith("the new bundle fails its self-check")
