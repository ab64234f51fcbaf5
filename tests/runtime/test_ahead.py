"""Sub-networks of what may come next are built while the stream rests, of what is asked for at once."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.engine.warm import memory_mb
from sentryfuse.errors import ConfigError
from sentryfuse.power import read_policy
from sentryfuse.runtime import Events, Runtime
from sentryfuse.runtime.ahead import BURST_S, SHARE, Ahead, one_step, questions
from sentryfuse.runtime.answering import Answering
from sentryfuse.runtime.runtime import MOST_ASKS
from sentryfuse.runtime.serving import Serving
from sentryfuse.stream import HealthRules, Packet
from sentryfuse.stream.packet import LiveSource
from sentryfuse.types import Budget, Modality
from tests.tiny import GOLDEN, NAMES, SENSOR_SETS

pytestmark = pytest.mark.device

BUNDLE = load_bundle(GOLDEN / "tiny-v3.bundle")
MODALITIES = BUNDLE.layout.modalities
ROOM_MB = 100.0


class Counting(OnnxRuntime):
    """Counts builds."""

    def __init__(self):
        self.built = 0

    def build(self, model, *, threads, batch):
        self.built += 1
        return super().build(model, threads=threads, batch=batch)


class Clock:
    """Moved by the test alone."""

    def __init__(self):
        self.at_s = 0.0

    def __call__(self):
        return self.at_s


@pytest.fixture
def serving():
    made = Serving(
        BUNDLE,
        budget=Budget(ratio=0.2),
        profile=None,
        threads=1,
        kept=4,
        engine=Counting(),
        apart=(),
        events=Events(),
    )
    yield made
    made.close()


def rested(serving, *, hop_s=10.0, hops=1, clock=None, **options):
    """After some windows, each answered the moment it was cut."""
    clock = clock or Clock()
    ahead = Ahead(serving, clock=clock, **{"most_mb": ROOM_MB, **options})
    play(ahead, serving, clock, hop_s=hop_s, hops=hops)
    return ahead, clock


def play(ahead, serving, clock, *, hop_s=10.0, hops=1):
    for _ in range(hops + 1):
        clock.at_s += hop_s
        ahead.cut()
        ahead.rest(serving.current.plan.present)
        assert serving.sessions.wait(30)


def is_there(serving, present, ratio=0.2):
    return serving.sessions.look(BUNDLE.plan(present, Budget(ratio=ratio))) is not None


budgets = st.sampled_from([Budget(ratio=ratio) for ratio in (0.0, 0.2, 0.4, 0.6)])


@given(
    st.lists(st.sampled_from([0.0, 4.0]), min_size=1, max_size=8),
    st.data(),
    budgets,
    st.lists(budgets, max_size=4, unique=True),
    st.lists(budgets, max_size=6),
)
def test_each_question_is_one_step_away_and_asked_once(rates, data, budget, levels, before):
    modalities = [Modality(f"s{i}", rate, 1, ("x",)) for i, rate in enumerate(rates)]
    names = [m.name for m in modalities]
    present = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True).map(sorted))
    away = data.draw(st.sets(st.sampled_from(names)))
    near = [*one_step(modalities, present, away)]
    asked = [*questions(near, present, budget, levels, before)]
    assert len(set(asked)) == len(asked)
    assert (tuple(present), budget) not in asked
    for some, other in asked:
        assert list(some) == [name for name in names if name in some]
        if other == budget:
            assert len(set(some) ^ set(present)) == 1
            assert not any(rates) or any(m.rate_hz for m in modalities if m.name in some)
        else:
            assert list(some) == present
            assert other in [*levels, *before]
    back = [len(some) > len(present) and {*some} <= {*present} | away for some in near]
    assert back == sorted(back, reverse=True)


def test_the_next_levels_of_a_policy_come_before_budgets_of_the_past():
    levels = [
        level.budget for level in read_policy("100%:ratio=0,60%:ratio=0.2,30%:ratio=0.5,9%:ratio=0.9").levels
    ]
    asked = questions(one_step(MODALITIES, NAMES), NAMES, levels[1], levels, [levels[3]])
    found = [budget for present, budget in asked if present == NAMES]
    assert found == [levels[2], levels[0], levels[3]]


def test_after_a_rest_whatever_one_sensor_does_is_ready(serving):
    rested(serving, hops=3)
    for name in NAMES:
        others = tuple(other for other in NAMES if other != name)
        assert is_there(serving, others)
    assert not is_there(serving, ("acc",))
    built = serving.sessions.engine.built
    session = serving.session(serving.choose(("acc", "age")).plan, 0.0)
    assert session is not None
    assert serving.sessions.engine.built == built


def test_what_is_likely_follows_the_sensors_and_the_budget(serving):
    ahead, clock = rested(serving, hops=3)
    serving.put_in_force(serving.session(serving.choose(("acc",)).plan, time.perf_counter() + 20))
    serving.ask(Budget(ratio=0.5))
    play(ahead, serving, clock, hops=3)
    for present in (("acc", "temp"), ("acc", "age")):
        assert is_there(serving, present, 0.5)
    assert is_there(serving, ("acc",), 0.2)  # that was asked for before


@pytest.mark.parametrize("options", [{"most_mb": 0.0}, {"hop_s": 1e-6}])
def test_without_memory_or_time_nothing_is_built_ahead(serving, options):
    built = serving.sessions.engine.built
    rested(serving, hops=5, **options)
    assert serving.sessions.engine.built == built


def test_memory_is_a_limit_and_smaller_ones_may_still_fit(serving):
    wanted = [tuple(n for n in NAMES if n != lost) for lost in NAMES]
    sizes = {p: BUNDLE.plan(p, Budget(ratio=0.2)).cost.weights_mb for p in wanted}
    rested(serving, hops=3, most_mb=2.5 * min(sizes.values()) + 1e-6)
    assert [p for p in wanted if is_there(serving, p)] == [min(wanted, key=sizes.__getitem__)]


def test_what_comes_next_if_nothing_happens_is_not_pushed_out_by_what_may_come_after(serving):
    here, budget = ("acc", "age"), Budget(ratio=0.2)
    plan = BUNDLE.plan(here, budget)
    left = iter([plan])
    room = memory_mb(plan) + 0.5 * memory_mb(BUNDLE.plan(("acc",), budget))
    serving.sessions.expect(lambda: next(left, None), most_mb=room)
    assert serving.sessions.wait(30)
    assert serving.sessions.look(plan) == memory_mb(plan)
    clock = Clock()
    ahead = Ahead(serving, clock=clock, most_mb=room)
    for _ in range(4):
        clock.at_s += 10.0
        ahead.cut()
        ahead.rest(here)
        assert serving.sessions.wait(30)
    assert ahead._walk is not None
    assert ahead._walk.ended
    assert serving.sessions.look(plan) == memory_mb(plan)


def test_building_ahead_takes_no_more_than_its_share_of_a_core(serving):
    clock = Clock()
    ahead, _ = rested(serving, clock=clock, hop_s=0.5, hops=1)
    begun = ahead._clock()
    spent, rng = 0.0, np.random.default_rng(0)
    for k in range(200):
        serving.ask(Budget(ratio=float(rng.uniform(0, 0.9))))
        plan = serving.choose(SENSOR_SETS[k % len(SENSOR_SETS)]).plan
        serving.put_in_force(serving.sessions.get(plan))
        built = serving.sessions.engine.built
        play(ahead, serving, clock, hop_s=0.05, hops=0)
        spent += (serving.sessions.engine.built - built) * serving.sessions.build_ms / 1e3
    most_s = BURST_S + SHARE * (clock.at_s - begun)
    assert spent <= 1.5 * most_s + 0.5  # builds are counted by the median of the latest


def test_a_memory_that_means_nothing_is_refused(serving):
    for most_mb in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="ahead_mb"):
            Ahead(serving, most_mb=most_mb)


class Wearer(LiveSource):
    """Healthy sensors on a clock that goes on a tick with every read."""

    def __init__(self, seconds: float, tick_s: float = 0.1) -> None:
        self.start_s: float | None = 0.0
        self.at_s, self._seconds, self._tick_s = 0.0, seconds, tick_s
        self._rng = np.random.default_rng(3)
        self._sent = {m.name: 0 for m in MODALITIES}
        self.spoilt: set[str] = set()

    @property
    def ended(self) -> bool:
        return self.at_s >= self._seconds

    def now_s(self) -> float:
        return self.at_s

    def read(self, timeout_s: float) -> list[Packet]:
        self.at_s += self._tick_s
        made = []
        for m in MODALITIES:
            n, sent = int(self.at_s * m.rate_hz) if m.rate_hz else 1, self._sent[m.name]
            if n <= sent:
                continue
            mean, std = (BUNDLE.weights[f"embed.{m.name}.normalise.{leaf}"] for leaf in ("mean", "std"))
            values = (mean + std * self._rng.standard_normal((n - sent, len(mean)))).astype(np.float32)
            if m.name in self.spoilt:
                values[:] = np.nan
            times = np.arange(sent, n) / m.rate_hz if m.rate_hz else None
            made.append(Packet(m.name, values, times, float(self.at_s)))
            self._sent[m.name] = n
        return made

    def counters(self) -> dict[str, dict[str, int]]:
        return {}

    def close(self) -> None:
        pass


@pytest.mark.parametrize("ahead_mb", [0.0, ROOM_MB])
def test_a_sensor_whose_values_are_spoilt_finds_its_sub_network_ready(monkeypatch, ahead_mb):
    seen, answer, engine, budget = [], Answering.answer, Counting(), Budget(ratio=0.2)

    def seen_answer(self, window, cut):
        built = engine.built
        result = answer(self, window, cut)
        seen.append((window, result, engine.built - built))
        return result

    monkeypatch.setattr(Answering, "answer", seen_answer)
    source = Wearer(12.0)
    monkeypatch.setattr("sentryfuse.runtime.runtime.Ahead", partial(Ahead, clock=source.now_s))
    rules = HealthRules(max_gap=0.0, silent_s=5.0)
    late: Any = {"deadline_ms": 20_000, "engine": engine, "kept": 1, "ahead_mb": ahead_mb}
    with Runtime(BUNDLE, source, budget=budget, hop_s=0.5, rules=rules, **late) as runtime:
        while not source.ended:
            for result in runtime.step():
                if result.window_id == 10:
                    source.spoilt = {"acc"}
            assert runtime.serving.sessions.wait(30)  # what is built between two windows, is built now
    lost = next(k for k, (window, _, _) in enumerate(seen) if "acc" not in window.present and k > 10)
    assert seen[lost - 1][0].present == NAMES
    assert seen[lost][1].present == ("temp", "age")
    assert (seen[lost][2] == 0) == bool(ahead_mb)
    for window, result, _ in seen:
        if window.present:
            plan = BUNDLE.plan(window.present, budget)
            alone = Session(BUNDLE, plan, batch=1, apart=("age",)).run(window.values)[0]
            assert result.plan_id == plan.plan_id
            np.testing.assert_array_equal(result.probabilities, alone)


@pytest.mark.parametrize("ask", ["budget", "sensors"])
def test_what_is_asked_for_is_built_from_then_on_not_when_a_window_comes(ask):
    engine = Counting()
    with Runtime(BUNDLE, Wearer(60.0), hop_s=0.5, engine=engine, ahead_mb=0.0) as runtime:
        while not (results := runtime.step()):
            pass
        before, sessions, built = results[-1].plan_id, runtime.serving.sessions, engine.built
        if ask == "budget":
            runtime.set_budget(Budget(ratio=0.5))
        else:
            runtime.asked.only(["acc", "age"])
        assert sessions.wait(20)
        plan = BUNDLE.plan(*((None, Budget(ratio=0.5)) if ask == "budget" else (["acc", "age"], None)))
        assert sessions.look(plan) == 0.0
        assert engine.built > built
        built = engine.built
        while not (results := runtime.step()):
            pass
        assert results[-1].plan_id == plan.plan_id != before
        assert engine.built == built


def test_somebody_who_asks_all_the_time_has_few_built_from_one_window_to_the_next():
    engine = Counting()
    with Runtime(BUNDLE, Wearer(60.0), hop_s=0.5, engine=engine, ahead_mb=0.0) as runtime:
        while not (results := runtime.step()):
            pass
        for k in range(50):
            runtime.set_budget(Budget(ratio=(1 + k) / 100))
            assert runtime.serving.sessions.wait(20)
            if k < MOST_ASKS:
                built = engine.built
        assert engine.built == built
        while not (results := runtime.step()):
            pass
        assert results[-1].plan_id == BUNDLE.plan(results[-1].present, Budget(ratio=0.5)).plan_id
        assert engine.built > built
