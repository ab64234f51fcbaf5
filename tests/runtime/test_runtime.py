"""The stream runtime on real packets: what every window is answered with, and that nothing stops it."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Sequence
from typing import Self

import numpy as np
import pytest

from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.errors import BudgetError, BundleError, ConfigError
from sentryfuse.planning.profile import DeviceProfile, features
from sentryfuse.power import CallbackMeter, open_reader, read_policy
from sentryfuse.runtime import Events, Result, Runtime, Status
from sentryfuse.runtime.answering import Answering
from sentryfuse.stream import Packet
from sentryfuse.types import Budget
from tests.stream.feeding import changed, stream
from tests.tiny import GOLDEN

pytestmark = pytest.mark.device

BUNDLE = load_bundle(GOLDEN / "tiny-v3.bundle")
ACC, TEMP, AGE = BUNDLE.layout.modalities
WINDOW_S = 4.0


class Scripted:
    """A source whose packets and clock are given; every read goes on by a tick."""

    def __init__(self, packets: Sequence[Packet], until_s: float, tick_s: float = 0.25) -> None:
        self.start_s: float | None = 0.0
        self._packets = sorted(packets, key=lambda p: p.received_s)
        self._until_s, self._tick_s, self._now_s = until_s, tick_s, 0.0

    @property
    def ended(self) -> bool:
        return self._now_s >= self._until_s

    def now_s(self) -> float:
        return self._now_s

    def read(self, timeout_s: float) -> list[Packet]:
        self._now_s += self._tick_s
        n = sum(p.received_s <= self._now_s for p in self._packets)
        given, self._packets = self._packets[:n], self._packets[n:]
        return given

    def counters(self) -> dict[str, dict[str, int]]:
        return {"acc": {"malformed": 0}}

    def index_at(self, end_s: float) -> int | None:
        return None

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def healthy(seconds: float = 40.0) -> dict[str, list[Packet]]:
    """Values as they were in training, at the times of a good sensor."""
    rng = np.random.default_rng(7)

    def likely(name: str, n: int) -> np.ndarray:
        mean, std = (BUNDLE.weights[f"embed.{name}.normalise.{leaf}"] for leaf in ("mean", "std"))
        return (mean + std * rng.standard_normal((n, len(mean)))).astype(np.float32)

    made = {"acc": stream(ACC, seconds, size=4), "temp": stream(TEMP, seconds)}
    made = {n: [changed(p, values=likely(n, len(p.values))) for p in ps] for n, ps in made.items()}
    return {**made, "age": [Packet("age", likely("age", 1), None, 0.01)]}


def source(streams: dict[str, list[Packet]], until_s: float = 41.0) -> Scripted:
    return Scripted([p for packets in streams.values() for p in packets], until_s)


def without(packets: list[Packet], since: float, until: float = np.inf) -> list[Packet]:
    return [p for p in packets if not since <= p.received_s < until]


def macs_of(result: Result) -> int:
    assert result.cost is not None
    return result.cost.macs


def run(streams: dict[str, list[Packet]], **options):
    with Runtime(BUNDLE, source(streams), **options) as runtime:
        return list(runtime), runtime.counters()


def test_every_answer_is_that_of_the_window_alone_with_the_plan_it_names(monkeypatch):
    streams = healthy()
    streams["temp"] = without(streams["temp"], 10, 22)
    seen, answer = [], Answering.answer

    def seen_answer(self, window, cut):
        seen.append((window, answer(self, window, cut)))
        return seen[-1][1]

    monkeypatch.setattr(Answering, "answer", seen_answer)
    results, _ = run(streams, budget=Budget(ratio=0.5))
    assert [r.window_id for r in results] == list(range(len(results)))
    assert len(results) == len(seen) == 10
    for window, result in seen:
        plan = BUNDLE.plan(window.present, Budget(ratio=0.5))
        assert result.plan is not None
        assert result.plan_id == plan.plan_id == result.plan.plan_id
        alone = Session(BUNDLE, plan, batch=1, apart=("age",)).run(window.values)[0]
        np.testing.assert_array_equal(result.probabilities, alone)
        assert result.answer == BUNDLE.classes[int(alone.argmax())]
        assert result.cost == plan.cost
        assert (result.latency_ms or 0) > 0


def test_tokens_of_a_sensor_without_news_are_kept_and_change_no_bit():
    streams = healthy()
    later = changed(streams["age"][0], received_s=22.0)
    streams["age"] += [later, changed(later, values=later.values + 1, received_s=30.0)]
    results, _ = run(streams)
    assert [r.reused for r in results] == [(), *[("age",)] * 6, (), *[("age",)] * 2]
    fresh, _ = run(streams, hop_s=WINDOW_S)
    for a, b in zip(results, fresh, strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)


def test_a_lost_sensor_makes_the_next_window_degraded_and_cheaper_and_it_comes_back():
    streams = healthy()
    streams["acc"] = without(streams["acc"], 9, 20)
    results, counted = run(streams)
    statuses = [str(r.status) for r in results]
    assert statuses[:2] == ["OK", "OK"]
    lost = [r for r in results if "acc" not in r.present]
    assert lost[0].window_id == 2
    assert all(r.status is Status.DEGRADED and "acc (" in r.reason for r in lost)
    assert all(macs_of(r) < macs_of(results[0]) for r in lost)
    assert statuses[-1] == "OK"
    assert counted["events"]["sensor_lost"] == counted["events"]["sensor_back"] == 1
    assert counted["events"]["switch"] == 2
    assert counted["sensors"]["acc"]["lost"] == 1


def test_without_any_sensor_nothing_is_said_and_the_age_of_the_last_answer_is():
    streams = {name: without(packets, 9) for name, packets in healthy().items()}
    results, _ = run(streams)  # the age is known still, and says nothing about now
    gone = [r for r in results if r.status is Status.REFUSED]
    assert [r.window_id for r in gone] == list(range(2, 10))
    for r in gone:
        assert r.status is Status.REFUSED
        assert r.answer is r.probabilities is r.plan is r.plan_id is None
        assert r.age_s == pytest.approx(r.end_s - results[1].end_s)
    assert "old" in gone[-1].reason
    never, _ = run({"acc": []})
    assert all(r.status is Status.REFUSED and r.age_s is None for r in never)


def test_what_an_absent_sensor_sends_changes_no_bit():
    streams = healthy()
    broken: dict[str, list[Result]] = {}
    rng = np.random.default_rng(0)
    for name, seed in (("nothing", None), ("noise", 1)):
        acc = without(streams["acc"], 9) if seed is None else [
            p if p.received_s < 9 else changed(p, values=np.where(
                rng.random(p.values.shape) < 0.5, np.float32(rng.choice([np.nan, np.inf, 3e38])), p.values
            ).astype(np.float32))
            for p in streams["acc"]
        ]  # fmt: skip
        broken[name] = run({**streams, "acc": acc})[0][3:]
    for a, b in zip(broken["nothing"], broken["noise"], strict=True):
        assert a.present == b.present == ("temp", "age")
        np.testing.assert_array_equal(a.probabilities, b.probabilities)


def test_the_budget_changes_from_the_next_window_on():
    with Runtime(BUNDLE, source(healthy())) as runtime:
        results = []
        for i, result in enumerate(runtime):
            results.append(result)
            runtime.set_budget(Budget(ratio=(0.0, 0.3, 0.6)[i % 3]))
    macs = [BUNDLE.plan(None, Budget(ratio=r)).cost.macs for r in (0.0, 0.3, 0.6)]
    assert [macs_of(r) for r in results[1:]] == [macs[i % 3] for i in range(len(results) - 1)]
    assert runtime.counters()["events"]["budget"] == len(results) - 1  # the first was no change


def test_a_budget_nobody_can_meet_gets_the_smallest_sub_network_and_says_so():
    with pytest.raises(BudgetError, match="smallest needs"):
        Runtime(BUNDLE, source(healthy()), budget=Budget(macs=10))
    with Runtime(BUNDLE, source(healthy())) as runtime:
        runtime.set_budget(Budget(macs=10))
        results = list(runtime)
    least = BUNDLE.plan(None, Budget(ratio=1))
    assert {r.plan_id for r in results} == {least.plan_id}
    assert all(r.status is Status.DEGRADED and "smallest needs" in r.reason for r in results)
    assert runtime.counters()["events"]["over_budget"] == 1


class Broken(OnnxRuntime):
    """An engine whose answers fail, or whose builds are slow, for smaller models than the dense one."""

    def __init__(self, *, fails: bool = False, build_s: float = 0.0) -> None:
        self.fails, self.build_s, self.builds = fails, build_s, 0

    def build(self, model, **options):
        self.builds += 1
        if self.builds <= 2:  # the slow sensor's part, and the rest
            return super().build(model, **options)
        time.sleep(self.build_s)
        answer = super().build(model, **options)

        def fail(feed):
            raise RuntimeError("out of order")

        return fail if self.fails else answer


def test_an_engine_that_breaks_is_a_fault_of_one_window_and_the_stream_goes_on():
    streams = healthy()
    streams["temp"] = without(streams["temp"], 9, 14)
    results, counted = run(streams, engine=Broken(fails=True))
    broken = [r for r in results if r.status is Status.FAULT]
    assert broken
    assert all("out of order" in r.reason and r.answer is None and (r.age_s or 0) > 0 for r in broken)
    assert [r.window_id for r in results] == list(range(10))
    assert {r.window_id for r in broken} == {r.window_id for r in results if "temp" not in r.present}
    assert counted["events"]["fault"] == len(broken)


def test_a_sub_network_that_is_not_ready_in_time_makes_the_answer_stale_not_late():
    streams = healthy(80)
    streams["temp"] = without(streams["temp"], 9)
    with Runtime(BUNDLE, source(streams, 81), engine=Broken(build_s=0.5), deadline_ms=20) as runtime:
        results = []
        for result in runtime:
            results.append(result)
            if result.status is Status.STALE:
                time.sleep(0.2)
    stale = [r for r in results if r.status is Status.STALE]
    assert stale
    assert all(r.delay_ms < 200 for r in stale)
    for r in stale:
        assert r.answer == results[stale[0].window_id - 1].answer
        assert (r.age_s or 0) > 0
        assert "not ready within 20 ms" in r.reason
    assert results[-1].status is Status.DEGRADED


def test_another_bundle_takes_over_between_windows_and_a_bad_one_changes_nothing():
    other = dataclasses.replace(
        BUNDLE, weights={n: 0.9 * w for n, w in BUNDLE.weights.items()}, digest="0" * 64
    )
    with Runtime(BUNDLE, source(healthy())) as runtime:
        first = next(iter(runtime))
        with pytest.raises(ConfigError, match="other sensors, classes"):
            runtime.swap(dataclasses.replace(BUNDLE, classes=("a", "b")))
        assert runtime.bundle is BUNDLE
        runtime.swap(other)
        rest = list(runtime)
    assert runtime.bundle is other
    assert len(rest) == 9
    assert {r.status for r in rest} == {first.status} == {Status.OK}
    assert runtime.counters()["events"]["bundle"] == 1


def test_a_bundle_that_fails_its_self_check_never_takes_over():
    def broken(name, weight):
        return np.full_like(weight, np.nan) if name.startswith("head.") else weight

    other = dataclasses.replace(BUNDLE, weights={n: broken(n, w) for n, w in BUNDLE.weights.items()})
    with Runtime(BUNDLE, source(healthy())) as runtime:
        next(iter(runtime))
        with pytest.raises(BundleError, match="self-check"):
            runtime.swap(other)
        assert {r.status for r in runtime} == {Status.OK}
        assert runtime.bundle is BUNDLE


def test_a_policy_follows_the_meter():
    left = iter(np.linspace(1.0, 0.0, 41))
    meter = CallbackMeter(
        lambda: {"charge": float(next(left, 0.0))}, tells={"charge"}, label="measured-battery", scope="test"
    )
    src = source(healthy())
    policy = read_policy("100%:ratio=0,60%:ratio=0.3,30%:ratio=0.6;dwell_s=1")
    with Runtime(BUNDLE, src, policy=policy, reader=open_reader(meter, now_s=0.0)) as runtime:
        results = list(runtime)
    macs = [macs_of(r) for r in results]
    assert macs == sorted(macs, reverse=True)
    assert set(macs) == {BUNDLE.plan(None, Budget(ratio=r)).cost.macs for r in (0.0, 0.3, 0.6)}
    assert {r.energy_label for r in results} == {"measured-battery"}
    with pytest.raises(ConfigError, match="follows a meter"):
        Runtime(BUNDLE, src, policy=policy)


def test_step_never_raises_and_events_are_written_down(tmp_path):
    class Torn(Scripted):
        def read(self, timeout_s):
            packets = super().read(timeout_s)
            if 9 < self._now_s < 10:
                raise OSError("cable torn")
            return packets

    torn = Torn([p for packets in healthy().values() for p in packets], 41.0)
    with Events(tmp_path / "events.jsonl") as events, Runtime(BUNDLE, torn, events=events) as runtime:
        results = list(runtime)
    assert [r.window_id for r in results] == list(range(10))
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "fault" for line in lines) == events.counts["fault"] == 1
    assert all({"kind", "unix_s", "at_s"} <= line.keys() for line in lines)
    assert any("cable torn" in line.get("reason", "") for line in lines)


def test_a_source_that_stays_dead_is_told_once_and_windows_go_on():
    class Dead(Scripted):
        def read(self, timeout_s):
            packets = super().read(timeout_s)
            if self._now_s > 9:
                raise OSError("cable torn")
            return packets

    dead = Dead([p for packets in healthy().values() for p in packets], 41.0)
    with Runtime(BUNDLE, dead) as runtime:
        results = [r for _ in range(160) for r in runtime.step(timeout_s=0.001)]
    assert [r.window_id for r in results] == list(range(9))
    assert all(r.status is Status.REFUSED for r in results[3:])
    assert runtime.counters()["events"]["fault"] == 1


def test_a_long_silence_at_the_end_is_answered_to_the_last_window():
    late = Packet("age", np.array([[40.0, 70.0]], np.float32), None, 5999.0)
    src = Scripted([*healthy(8.0)["acc"], late], 6000.0, tick_s=6000.0)
    with Runtime(BUNDLE, src) as runtime:
        results = list(runtime)
    assert [r.window_id for r in results] == list(range(1500))


def test_budgets_from_other_threads_do_not_keep_a_window_waiting():
    streams = healthy(400)
    with Runtime(BUNDLE, source(streams, 401), engine=Broken(build_s=0.02), deadline_ms=500) as runtime:
        stop = threading.Event()

        def restless():
            rng = np.random.default_rng(0)
            while not stop.is_set():
                runtime.set_budget(Budget(ratio=float(rng.choice([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))))
                time.sleep(0.005)

        thread = threading.Thread(target=restless)
        thread.start()
        results = list(runtime)
        stop.set()
        thread.join()
    assert len(results) == 100
    assert {r.status for r in results} == {Status.OK}
    for r in results[:20]:
        assert r.plan is not None
        assert r.plan_id == r.plan.plan_id


def test_a_bundle_that_takes_over_keeps_the_budget_and_brings_its_own_ranges():
    shift = {n: w + 1000 if n == "embed.acc.normalise.mean" else w for n, w in BUNDLE.weights.items()}
    other = dataclasses.replace(BUNDLE, weights=shift, digest="1" * 64)
    streams = healthy()
    moved = [changed(p, values=p.values + (1000 if p.received_s > 8 else 0)) for p in streams["acc"]]
    with Runtime(BUNDLE, source({**streams, "acc": moved}), budget=Budget(ratio=0.5)) as runtime:
        results = [next(iter(runtime))]
        runtime.swap(other)
        results += list(runtime)
    assert {macs_of(r) for r in results} == {BUNDLE.plan(None, Budget(ratio=0.5)).cost.macs}
    assert [r for r in results[3:] if "acc" in r.present]


def test_what_cannot_be_judged_is_refused_before_the_first_window_and_later():
    reader = open_reader("none", now_s=0.0)
    with pytest.raises(BudgetError, match="measured on the device"):
        Runtime(
            BUNDLE, source({}), policy=read_policy("100%:ratio=0,30%:ratio=0.5+latency_ms=4"), reader=reader
        )
    with pytest.raises(ConfigError, match="give one of them"):
        Runtime(
            BUNDLE, source({}), policy=read_policy("100%:ratio=0"), reader=reader, budget=Budget(ratio=0.1)
        )
    with pytest.raises(ConfigError, match="8 threads"):
        Runtime(BUNDLE, source({}), profile=dataclasses.replace(profile_of(BUNDLE), threads=8))
    with Runtime(BUNDLE, source({})) as runtime:
        with pytest.raises(BudgetError, match="measured on the device"):
            runtime.set_budget(Budget(latency_ms=5.0))
        assert runtime.budget == Budget(ratio=0.0)


def test_a_session_that_breaks_once_is_built_anew():
    class Once(OnnxRuntime):
        broken = 0

        def build(self, model, **options):
            answer = super().build(model, **options)

            def once(feed):
                if not self.broken:
                    self.broken = 1
                    raise RuntimeError("hiccup")
                return answer(feed)

            return once

    results, _ = run(healthy(), engine=Once(), scrub_s=0.0)  # the first answer is to a window
    assert [str(r.status) for r in results] == ["FAULT", *["OK"] * 9]


def test_windows_that_take_longer_than_the_budget_say_so():
    class Late(OnnxRuntime):
        def build(self, model, **options):
            answer = super().build(model, **options)

            def late(feed):
                time.sleep(0.01)
                return answer(feed)

            return late

    src, five = source(healthy(120), 121), Budget(latency_ms=5.0)
    with Runtime(BUNDLE, src, engine=Late(), profile=profile_of(BUNDLE), budget=five) as runtime:
        results = list(runtime)
    assert {r.status for r in results[:19]} == {Status.OK}
    assert all(r.status is Status.DEGRADED and "took longer" in r.reason for r in results[19:])
    assert runtime.counters()["events"]["too_slow"] >= 1


def profile_of(bundle) -> DeviceProfile:
    """A device on which everything takes no time worth mentioning."""
    found: dict[str, float] = {}
    for names in (bundle.names, *((name,) for name in bundle.names)):
        found |= dict.fromkeys(features(bundle.layout, names), 1e-4)
    return DeviceProfile("onnxruntime", 1, found, 1.0, 1.0, 1.0, None, None, None, {}, {})


def test_a_delay_of_one_sensor_is_told_where_all_share_a_clock():
    now = time.time()
    packets = healthy(20.0)
    for p in packets["acc"] + packets["temp"]:
        assert p.times_s is not None
        p.times_s[:] += now
    late = [changed(p, received_s=p.received_s + 3.0) for p in packets["temp"]]
    events = Events()
    source = Scripted([*packets["acc"], *late, *packets["age"]], 24.0)
    with Runtime(BUNDLE, source, events=events) as runtime:
        results = list(runtime)
    assert len(results) >= 5
    assert events.counts["delayed"] == 1
    with Runtime(BUNDLE, Scripted([p for k in packets.values() for p in k], 24.0)) as runtime:
        list(runtime)
        assert "delayed" not in runtime.events.counts


def test_a_policy_without_a_meter_says_that_it_is_at_its_most_careful():
    reader = open_reader("none", now_s=0.0)
    events = Events()
    policy = read_policy("100%:ratio=0,50%:ratio=0.6")
    source = Scripted([p for k in healthy(20.0).values() for p in k], 20.0)
    with Runtime(BUNDLE, source, policy=policy, reader=reader, events=events) as runtime:
        list(runtime)
        assert runtime.budget.ratio == 0.6
    assert events.counts["no_meter"] == 1
