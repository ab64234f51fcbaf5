from __future__ import annotations

import dataclasses
import json
import math

import pytest

from sentryfuse.errors import BudgetError, ConfigError, NoSensorsError
from sentryfuse.types import Budget, Cost, Modality, Plan, check_present

pytestmark = pytest.mark.device
COST = Cost(macs=10, prunable_macs=5, params=3, weights_mb=1.2e-5)


def a_plan(**changes):
    plan = Plan(
        present=("acc", "bvp"),
        kept={"x.attn": (0, 2), "x.ffn": (1, 3, 5)},
        budget=Budget(ratio=0.5, macs=7, protocol="full"),
        scorer="gate",
        cost=COST,
        dense=COST,
        binding="macs",
    )
    return dataclasses.replace(plan, **changes)


@pytest.mark.parametrize("ratio", [-0.1, 1.001, 1.5, math.nan, math.inf])
def test_a_ratio_outside_its_range_is_refused(ratio):
    with pytest.raises(BudgetError, match="0 <= ratio <= 1"):
        Budget(ratio=ratio)


@pytest.mark.parametrize("name", ["macs", "latency_ms", "memory_mb", "energy_mj"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_a_limit_that_is_not_a_positive_number_is_refused_by_name(name, value):
    with pytest.raises(BudgetError, match=name):
        Budget(**{name: value})


def test_an_unknown_protocol_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ConfigError, match="present, full"):
        Budget(ratio=0.5, protocol="half")


def test_the_nouns_are_frozen():
    for noun, name in ((a_plan(), "scorer"), (Budget(), "ratio"), (COST, "macs")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(noun, name, 1)


def test_a_plan_survives_json():
    again = Plan.from_json(json.loads(json.dumps(a_plan().to_json())))
    assert again == a_plan()
    assert again.plan_id == a_plan().plan_id


def test_equal_subnetworks_have_equal_ids_whatever_was_asked():
    other = a_plan(budget=Budget(), scorer="random", binding="none")
    swapped = a_plan(kept=dict(reversed(a_plan().kept.items())))
    assert other.plan_id == a_plan().plan_id == swapped.plan_id


@pytest.mark.parametrize(
    "change",
    [{"present": ("acc",)}, {"kept": {"x.attn": (0, 1), "x.ffn": (1, 3, 5)}}, {"kept": {}}],
)
def test_other_subnetworks_have_other_ids(change):
    assert a_plan(**change).plan_id != a_plan().plan_id


def test_nesting_compares_units_block_by_block():
    smaller = a_plan(kept={"x.attn": (2,), "x.ffn": (1, 5)})
    assert smaller.is_nested_in(a_plan())
    assert not a_plan().is_nested_in(smaller)
    assert not a_plan(kept={"y.attn": (0,)}).is_nested_in(a_plan())


def test_a_modality_survives_json_and_counts_its_channels():
    modality = Modality("acc", 32.0, 64, ("x", "y"), may_miss=True)
    again = Modality.from_json(json.loads(json.dumps(dataclasses.asdict(modality))))
    assert again == modality
    assert again.n_channels == 2


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, ("acc", "bvp", "eda")),
        (["eda", "acc"], ("acc", "eda")),
        (("bvp", "bvp"), ("bvp",)),
        ("bvp", ("bvp",)),
        (iter(["eda", "bvp"]), ("bvp", "eda")),
    ],
)
def test_sensor_names_come_back_in_the_order_of_the_model(asked, expected):
    assert check_present(asked, ["acc", "bvp", "eda"]) == expected


def test_an_unknown_sensor_is_named_beside_those_there_are():
    with pytest.raises(ConfigError, match=r"ecg, hr.*acc, bvp"):
        check_present(["hr", "acc", "ecg"], ["acc", "bvp"])


def test_no_sensor_at_all_is_refused():
    with pytest.raises(NoSensorsError, match="name at least one"):
        check_present([], ["acc"])


@pytest.mark.parametrize("name", ["ratio", "macs", "latency_ms", "memory_mb", "energy_mj"])
@pytest.mark.parametrize("value", ["0.5", True, False, [1], {}, b"1", 1j], ids=repr)
def test_a_limit_that_is_no_number_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be a number, got .*; give for example {name}="):
        Budget(**{name: value})


@pytest.mark.parametrize("name", ["ratio", "macs", "latency_ms", "memory_mb", "energy_mj"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 10**400, -(10**400), 1e31])
def test_a_limit_that_means_nothing_is_refused_in_a_short_sentence(name, value):
    with pytest.raises(BudgetError) as caught:
        Budget(**{name: value})
    assert len(str(caught.value)) < 200


def test_numbers_of_numpy_are_numbers():
    import numpy as np

    assert Budget(ratio=np.float32(0.5)).ratio == 0.5  # type: ignore[arg-type]
    assert Budget(macs=np.int64(7)).macs == 7  # type: ignore[arg-type]
