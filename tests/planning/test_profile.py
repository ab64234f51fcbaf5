"""A profile is a file and a formula; what it says adds up, and plans hold its milliseconds."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from sentryfuse.errors import BudgetError, ConfigError
from sentryfuse.measure.profiling import fit
from sentryfuse.planning.plan import plan_layout
from sentryfuse.planning.profile import DeviceProfile, features, readout_features
from sentryfuse.types import Budget, Cost
from tests.laws.strategies import questions, random_question

pytestmark = pytest.mark.device

laws = settings(max_examples=40, deadline=None, derandomize=True)
PROFILE = DeviceProfile(
    engine="onnxruntime",
    threads=1,
    ms_per={},
    p95_factor=1.2,
    safe_factor=1.5,
    cold_switch_ms=10.0,
    rss_mb=80.0,
    sparse_from=None,
    mj_per_ms=2.5,
    energy={"label": "measured-onboard"},
    about={},
)


def profile_for(ask) -> DeviceProfile:
    """A device on which every feature of this layout takes its own time."""
    found: dict[str, float] = {}
    for present in [(name,) for name in ask.layout.names] + [ask.present, ask.layout.names]:
        found |= features(ask.layout, present)
    rng = np.random.default_rng(0)
    return replace(PROFILE, ms_per={name: float(rng.uniform(0.01, 1)) for name in found})


def plan(ask, **limits):
    return plan_layout(
        ask.layout,
        ask.scores,
        present=ask.present,
        budget=Budget(**limits),
        scorer="law",
        profile=profile_for(ask),
    )


@laws
@given(questions)
def test_a_budget_in_millijoules_holds_by_the_power_that_was_measured(ask):
    device = profile_for(ask)

    def taken(kept=None) -> float:
        return device.energy_mj(ask.layout, ask.present, kept) or 0.0

    dense, least = taken(), taken(ask.smallest().kept)
    asked = float(ask.rng.uniform(least, dense)) * (1 + 1e-9)
    made = plan(ask, energy_mj=asked)
    assert taken(made.kept) <= asked * (1 + 1e-9)
    assert made.is_nested_in(plan(ask, energy_mj=2 * asked))
    with pytest.raises(BudgetError, match="thriftiest needs"):
        plan(ask, energy_mj=0.9 * least)


def test_a_budget_in_millijoules_without_a_figure_says_why():
    ask = random_question(3)
    unmeasured = replace(profile_for(ask), mj_per_ms=None, energy={"refused": "no meter"})
    for device, words in ((None, r"none was given.*profile --power"), (unmeasured, r"has none .no meter.")):
        with pytest.raises(BudgetError, match=words):
            plan_layout(
                ask.layout,
                ask.scores,
                present=ask.present,
                budget=Budget(energy_mj=1.0),
                scorer="law",
                profile=device,
            )


@laws
@given(questions)
def test_a_budget_in_milliseconds_holds_at_the_safe_factor(ask):
    device = profile_for(ask)
    dense = device.safe_factor * device.median_ms(ask.layout, ask.present)
    least = device.safe_factor * device.median_ms(ask.layout, ask.present, ask.smallest().kept)
    asked = float(ask.rng.uniform(least, dense)) * (1 + 1e-9)
    try:
        made = plan(ask, latency_ms=asked)
    except BudgetError:  # the smallest in milliseconds may be smaller than the one in MACs, never larger
        pytest.fail("a budget that a sub-network holds was refused")
    assert device.safe_factor * device.median_ms(ask.layout, ask.present, made.kept) <= asked * (1 + 1e-6)
    assert made.is_nested_in(plan(ask, latency_ms=dense * 1.01))


@laws
@given(questions)
def test_an_impossible_time_names_the_nearest_and_that_one_works(ask):
    with pytest.raises(BudgetError, match="the fastest needs") as refused:
        plan(ask, latency_ms=1e-6)
    nearest = float(str(refused.value).rsplit("needs", 1)[1].split()[0])
    assert plan(ask, latency_ms=nearest).binding in ("latency_ms", "none")


BESIDE = Cost(macs=100, prunable_macs=0, params=50, weights_mb=0.0002)


def plan_beside(ask, device, **limits):
    """With a readout beside the transformer."""
    return plan_layout(
        ask.layout, ask.scores, present=ask.present, budget=Budget(**limits), scorer="law", profile=device,
        beside=BESIDE,
    )  # fmt: skip


@laws
@given(questions)
def test_below_the_smallest_sub_network_the_readout_answers_where_it_was_timed(ask):
    untimed = profile_for(ask)
    alone_ms = dict.fromkeys(readout_features(ask.present), 0.0001)
    timed = replace(untimed, ms_per={**untimed.ms_per, **alone_ms})
    least_ms = timed.safe_factor * sum(alone_ms.values())
    made = plan_beside(ask, timed, latency_ms=least_ms * 1.01)
    assert made.readout_alone
    assert made.binding == "latency_ms"
    assert plan_beside(ask, timed, energy_mj=(timed.mj_per_ms or 0.0) * least_ms).readout_alone
    with pytest.raises(BudgetError, match="the readout alone needs") as refused:
        plan_beside(ask, timed, latency_ms=least_ms / 2)
    nearest = float(str(refused.value).rsplit("needs", 1)[1].split()[0])
    assert plan_beside(ask, timed, latency_ms=nearest).readout_alone
    with pytest.raises(BudgetError, match="the fastest needs"):
        plan_beside(ask, untimed, latency_ms=least_ms * 1.01)
    with pytest.raises(BudgetError, match="the readout alone needs 100"):
        plan_beside(ask, timed, latency_ms=least_ms * 1.01, macs=99)
    with pytest.raises(BudgetError, match="profile with energy"):
        plan_beside(ask, replace(timed, mj_per_ms=None), energy_mj=1.0)


def test_the_tightest_of_several_limits_binds():
    ask = next(q for q in map(random_question, range(50)) if len(q.layout.blocks) > 3)
    device = profile_for(ask)
    dense = device.safe_factor * device.median_ms(ask.layout, ask.present)
    assert plan(ask, latency_ms=dense * 2, macs=10**12).binding == "none"
    assert plan(ask, latency_ms=dense * 0.999, macs=10**12).binding == "latency_ms"


def test_milliseconds_without_a_profile_and_millijoules_are_refused():
    ask = random_question(0)
    with pytest.raises(BudgetError, match="sentryfuse profile"):
        ask.plan(latency_ms=5.0)
    with pytest.raises(BudgetError, match="mJ"):
        plan(ask, energy_mj=5.0)


def test_the_fit_finds_the_times_that_made_the_measurements():
    rng = np.random.default_rng(0)
    described = [
        {"session": 1.0, "heads": float(rng.uniform(1, 9)), "ffn": float(rng.uniform(1, 9))}
        for _ in range(40)
    ]
    true = {"session": 0.5, "heads": 0.1, "ffn": 0.03}
    measured = np.array([sum(v * true[k] for k, v in row.items()) for row in described])
    found = fit(described, measured)
    assert all(found[name] == pytest.approx(true[name], rel=0.02) for name in true)


def test_no_feature_ever_gets_a_negative_time():
    rng = np.random.default_rng(1)
    described = [{"a": float(rng.uniform(1, 2)), "b": float(rng.uniform(1, 2))} for _ in range(30)]
    measured = np.array([5 * row["a"] - 1.5 * row["b"] for row in described])
    assert min(fit(described, measured).values()) >= 0


def test_a_kind_of_step_that_was_not_timed_is_refused():
    with pytest.raises(ConfigError, match="profile a bundle of this model"):
        PROFILE.median_ms(random_question(0).layout, None)


def test_a_profile_survives_its_file(tmp_path):
    made = replace(PROFILE, ms_per={"session": 0.1}, about={"machine": "m"})
    made.save(tmp_path / "p.json")
    assert DeviceProfile.load(tmp_path / "p.json") == made


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 7}, "not a device profile"),
        ({"p95_factor": None}, "damaged"),
        ({"p95_factor": -1.0}, "which it cannot be"),
        ({"ms_per": {"session": -1.0}}, "which it cannot be"),
        ({"ms_per": [1, 2]}, "damaged"),
    ],
)
def test_a_damaged_profile_is_refused(change, words, tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({**PROFILE.to_json(), **change}))
    with pytest.raises(ConfigError, match=words):
        DeviceProfile.load(path)
