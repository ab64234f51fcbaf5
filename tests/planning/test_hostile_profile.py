"""A profile is a file anybody may write: it is refused in one sentence, or plans are made with it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentryfuse.bundle import load_bundle
from sentryfuse.errors import ConfigError, InputError
from sentryfuse.planning.profile import DeviceProfile, features, readout_features
from sentryfuse.types import Budget
from tests.tiny import GOLDEN

pytestmark = pytest.mark.device

BUNDLE = load_bundle(GOLDEN / "tiny-v3.bundle")
NAMES = BUNDLE.names
GOOD: dict[str, Any] = {
    "format": 1,
    "engine": "onnxruntime",
    "threads": 1,
    "ms_per": {
        name: 0.25
        for present in (NAMES, *((name,) for name in NAMES))
        for name in features(BUNDLE.layout, present) | readout_features(present)
    },
    "p95_factor": 1.2,
    "safe_factor": 1.5,
    "cold_switch_ms": 10.0,
    "rss_mb": 80.0,
    "sparse_from": None,
    "mj_per_ms": 2.5,
    "energy": {"label": "measured-onboard"},
    "about": {"device": "a box"},
}
HUGE: list[Any] = [10**18, 10**400, -(10**400), 1e308, -1e308, 5e-324, 1e-300]
OTHER: list[Any] = [None, True, False, 0, -1, 2, 0.5, "", "1", "x", "\x1b[2J", "9" * 5000]
TREES: list[Any] = [[], [1], {}, {"x": 1}, {"": {}}, [[[]]]]
WRONG = st.sampled_from([*HUGE, *OTHER, *TREES])


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = node.items() if isinstance(node, dict) else ()
    return [path, *(found for key, value in inside for found in places(value, (*path, key)))]


PLACES = [path for path in places(GOOD) if path]


def used(data: Any, path) -> bool:
    """Whether the profile is taken; then every question must have a plan or a sentence."""
    path.write_text(json.dumps(data), encoding="utf-8")
    said: list[str] = []
    profile = None
    try:
        profile = DeviceProfile.load(path)
    except InputError as error:
        said.append(str(error))
    asked = (Budget(latency_ms=1.0), Budget(energy_mj=3.0), Budget(ratio=0.5, latency_ms=1e9))
    for budget in asked if profile is not None else ():
        for present in (NAMES, NAMES[:1]):
            try:
                BUNDLE.plan(present, budget, profile)
            except InputError as error:
                said.append(str(error))
    assert all(0 < len(text) < 500 and text.isprintable() for text in said)
    if profile is None:
        return False
    json.dumps(profile.to_json(), allow_nan=False)
    BUNDLE.with_break_even(profile.sparse_from).plan(NAMES, Budget(ratio=0.5))
    return True


@settings(max_examples=400, deadline=None)
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), WRONG), min_size=1, max_size=3))
@example(changes=[(("ms_per", "session"), 10**400)])
@example(changes=[(("p95_factor",), "1")])
@example(changes=[(("sparse_from",), 10**400)])
@example(changes=[(("energy",), None)])
def test_a_changed_profile_is_refused_in_a_sentence_or_plans(changes, tmp_path_factory):
    data = copy.deepcopy(GOOD)
    for (*path, last), value in changes:
        node = data
        for key in path:
            node = node.get(key, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node[last] = copy.deepcopy(value)  # which is drawn once and may be changed below
    used(data, tmp_path_factory.getbasetemp() / "profile.json")


def test_the_good_one_is_taken(tmp_path):
    assert used(GOOD, tmp_path / "p.json")


@pytest.mark.parametrize("key", [key for key in GOOD if key != "format"])
@pytest.mark.parametrize("value", [10**400, [], "gone"], ids=["huge", "list", "gone"])
def test_every_field_is_checked_by_name(key, value, tmp_path):
    data = {**GOOD, key: value}
    if value == "gone":
        del data[key]
    (tmp_path / "p.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=rf"p\.json is a damaged profile \((it lacks )?{key}.*; measure it again"
    ):
        DeviceProfile.load(tmp_path / "p.json")


def test_a_file_of_digits_is_refused(tmp_path):
    (tmp_path / "p.json").write_text('{"format": 1, "threads": ' + "9" * 10_000 + "}", encoding="utf-8")
    with pytest.raises(InputError):
        DeviceProfile.load(tmp_path / "p.json")
