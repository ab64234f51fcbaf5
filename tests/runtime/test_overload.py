"""A machine that cannot follow: answers stay fresh, windows are dropped and counted, small networks help."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from sentryfuse.bundle import load_bundle
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.errors import ConfigError
from sentryfuse.runtime import Events, Result, Runtime, Status
from sentryfuse.runtime.load import LoadLoop
from sentryfuse.runtime.serving import Serving
from sentryfuse.stream import Packet
from sentryfuse.stream.packet import LiveSource
from sentryfuse.types import Budget
from tests.tiny import GOLDEN

pytestmark = pytest.mark.device

BUNDLE = load_bundle(GOLDEN / "tiny-v3.bundle")


class Wearer(LiveSource):
    """A healthy sensor of each kind, on a clock that the test moves: time passes while work is done."""

    def __init__(self, seconds: float, tick_s: float = 0.05) -> None:
        self.start_s: float | None = 0.0
        self.at_s = 0.0
        self._seconds, self._tick_s = seconds, tick_s
        self._sent = {m.name: 0 for m in BUNDLE.layout.modalities}
        self._rng = np.random.default_rng(3)

    @property
    def ended(self) -> bool:
        return self.at_s >= self._seconds

    def now_s(self) -> float:
        return self.at_s

    def read(self, timeout_s: float) -> list[Packet]:
        if timeout_s:
            self.at_s += self._tick_s
        made = []
        for m in BUNDLE.layout.modalities:
            due, sent = int(self.at_s * m.rate_hz) if m.rate_hz else 1, self._sent[m.name]
            if due <= sent:
                continue
            mean, std = (BUNDLE.weights[f"embed.{m.name}.normalise.{leaf}"] for leaf in ("mean", "std"))
            values = (mean + std * self._rng.standard_normal((due - sent, len(mean)))).astype(np.float32)
            times = np.arange(sent, due) / m.rate_hz if m.rate_hz else None
            made.append(Packet(m.name, values, times, float(self.at_s)))
            self._sent[m.name] = due
        return made

    def counters(self) -> dict[str, dict[str, int]]:
        return {}

    def close(self) -> None:
        pass


class Slow(OnnxRuntime):
    """An engine on which a graph takes time in proportion to its weights, on the wearer's clock."""

    def __init__(self, source: Wearer, seconds: Callable[[int], float]) -> None:
        super().__init__()
        self._source, self._seconds = source, seconds

    def build(self, model, **options):
        answer, size = super().build(model, **options), len(model)

        def slowly(*words):
            taken = self._seconds(size)
            self._source.at_s += taken
            time.sleep(min(taken, 0.002))
            return answer(*words)

        return slowly


def answered(source: Wearer, engine, **options) -> tuple[list[Result], Runtime]:
    with Runtime(BUNDLE, source, engine=engine, deadline_ms=2000, **options) as runtime:
        return list(runtime), runtime


def test_answers_are_never_older_than_promised_and_no_window_is_lost():
    source = Wearer(60)
    results, runtime = answered(source, Slow(source, lambda size: 0.1), hop_s=0.1, max_age_ms=800)
    assert [r.window_id for r in results] == list(range(len(results)))
    good = [r for r in results if r.status in (Status.OK, Status.DEGRADED)]
    assert good
    assert all(r.age_s is not None and r.age_s <= 0.8 for r in good)
    assert len(good) > 60 / 0.3 / 2  # it does what it can
    dropped = [r for r in results if r.reason.startswith("dropped")]
    assert {r.status for r in dropped} == {Status.STALE}
    counters = runtime.counters()
    assert counters["dropped_windows"] == len(dropped) > 100
    assert counters["events"]["overload"] == 1
    assert source.now_s() - results[-1].end_s < 1.5  # and it is not behind at the end


def test_a_hop_nobody_can_follow_keeps_the_queue_short():
    source = Wearer(8, tick_s=0.05)
    results, runtime = answered(source, Slow(source, lambda size: 0.02), hop_s=0.005)
    assert [r.window_id for r in results] == list(range(len(results)))
    assert all((r.age_s or 0) <= runtime.max_age_s for r in results if r.status is Status.OK)
    assert runtime.counters()["dropped_windows"] > 300


def test_who_keeps_up_drops_nothing_and_a_hiccup_is_over_again():
    source = Wearer(200)
    pause = iter([0.0] * 20 + [9.0])
    results, runtime = answered(source, Slow(source, lambda size: next(pause, 0.001)), hop_s=1.0)
    assert runtime.counters()["events"]["overload"] == runtime.counters()["events"]["overload_over"] == 1
    assert 0 < runtime.counters()["dropped_windows"] < 12
    assert {str(r.status) for r in results[40:]} == {"OK"}
    assert "step_down" not in runtime.counters()["events"]


@pytest.mark.parametrize("budget", [Budget(ratio=0.0), Budget(ratio=0.3), Budget(memory_mb=0.05)])
def test_times_over_the_limit_lead_to_a_smaller_network_and_back_when_there_is_room(budget):
    events, names = Events(), BUNDLE.names
    serving = Serving(
        BUNDLE, budget=budget, profile=None, threads=1, kept=4, engine="onnxruntime", apart=(), events=events
    )
    loop = LoadLoop(serving, events, hop_ms=10.0)
    dense = serving.current.plan.cost.macs
    macs = []
    for window_id in range(3000):
        load = 20.0 if 500 <= window_id < 1500 else 4.0  # [ms] of the whole network
        loop.see(load * serving.current.plan.cost.macs / dense, window_id)
        serving.sessions.wait(5.0)
        session = serving.session(serving.choose(names).plan, time.perf_counter() + 5)
        assert session is not None
        serving.put_in_force(session)
        macs.append(session.plan.cost.macs)
    serving.close()
    assert set(macs[:500]) == {dense}
    assert max(macs[600:1500]) * 20.0 / dense <= 8.0  # what a hop leaves for it
    assert set(macs[2500:]) == {dense}
    assert events.counts["step_down"] == events.counts["step_up"] <= 8


def test_a_step_that_did_not_last_is_tried_less_and_less_often():
    """The larger network never holds the limit, though the smaller one has room."""
    events = Events()
    serving = Serving(
        BUNDLE, budget=Budget(ratio=0.0), profile=None, threads=1, kept=4, engine="onnxruntime", apart=(),
        events=events,
    )  # fmt: skip
    loop = LoadLoop(serving, events, hop_ms=10.0)
    for window_id in range(4000):
        loop.see(30.0 if serving.step == 0 else 2.0, window_id)
        serving.sessions.wait(5.0)
        session = serving.session(serving.choose(BUNDLE.names).plan, time.perf_counter() + 5)
        assert session is not None
        serving.put_in_force(session)
    serving.close()
    assert 2 <= events.counts["step_up"] <= 6


def test_numbers_that_mean_nothing_are_refused():
    source = Wearer(1)
    for options, said in (
        ({"max_age_ms": 0}, "max_age_ms"),
        ({"max_age_ms": float("nan")}, "max_age_ms"),
        ({"threads": 100_000}, "threads"),
        ({"hop_s": 1e9}, "s of samples"),
        ({"wait_s": 1e9}, "s of samples"),
    ):
        with pytest.raises(ConfigError, match=said):
            Runtime(BUNDLE, source, **options)
    with Runtime(BUNDLE, source) as runtime:
        with pytest.raises(ConfigError, match="must be a Budget"):
            runtime.set_budget(None)  # type: ignore[arg-type]
        assert runtime.budget == Budget(ratio=0.0)
