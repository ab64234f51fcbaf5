from __future__ import annotations

import json
import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfuse.errors import ConfigError
from sentryfuse.files import write_json
from sentryfuse.power import Level, Policy, read_policy
from sentryfuse.types import Budget

pytestmark = pytest.mark.device


def test_a_short_text_is_a_table():
    policy = read_policy("100%:ratio=0, 50%/60%:ratio=0.4+latency_ms=8, 20%:ratio=0.8+latency_ms=4;dwell_s=5")
    assert policy == Policy(
        watch="charge",
        dwell_s=5.0,
        levels=(
            Level(at=math.inf, back_at=math.inf, budget=Budget(ratio=0.0)),
            Level(at=0.5, back_at=0.6, budget=Budget(ratio=0.4, latency_ms=8.0)),
            Level(at=0.2, back_at=0.23, budget=Budget(ratio=0.8, latency_ms=4.0)),
        ),
    )


def test_watts_follow_a_limit_on_power():
    policy = read_policy("15W:protocol=full+macs=4e6,8W:protocol=full+macs=1000000;lost_after_s=9")
    assert policy.watch == "cap_w"
    assert policy.lost_after_s == 9.0
    assert [level.budget.macs for level in policy.levels] == [4_000_000, 1_000_000]
    assert policy.levels[1].back_at == pytest.approx(8.8)


def test_the_band_is_half_the_way_where_levels_are_close():
    policy = read_policy("100%:ratio=0,99%:ratio=0.1,98%:ratio=0.2")
    assert [level.back_at for level in policy.levels[1:]] == [pytest.approx(0.995), pytest.approx(0.985)]


def test_one_level_is_a_policy():
    assert len(read_policy("100%:ratio=0.5").levels) == 1


@pytest.mark.parametrize(
    "text", ["100%:ratio=0,50%:ratio=0.4,20%:ratio=0.8;dwell_s=1", "9W:macs=9,8W:macs=8"]
)
def test_a_file_says_the_same(tmp_path, text):
    policy = read_policy(text)
    path = tmp_path / "policy.json"
    write_json(path, policy.to_json())
    assert read_policy(path) == policy
    assert read_policy(str(path)) == policy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not THRESHOLD:LIMIT=NUMBER"),
        ("100%", "is not THRESHOLD:LIMIT=NUMBER"),
        ("100%:", "is not LIMIT=NUMBER"),
        ("100%:ratio", "is not LIMIT=NUMBER"),
        ("100%:ratio=0+ratio=1", "is not LIMIT=NUMBER"),
        ("100%:ratio=much", "ratio must be a number, got 'much'"),
        ("100%:ratio=nan", "ratio must be a number"),
        ("100%:ratio=1.5", "outside 0 <= ratio <= 1"),
        ("100%:latency_ms=-1", "latency_ms must be a positive number"),
        ("100%:macs=1.5", "macs must be a whole number"),
        ("100%:protocol=odd", "protocol 'odd' is unknown"),
        ("100%:speed=1", "unknown name 'speed'; choose of ratio, macs"),
        ("100:ratio=0", "threshold '100' has no unit"),
        ("%:ratio=0", "threshold must be a number"),
        ("90%:ratio=0", "the first level must begin at 100%, not at 90 %"),
        ("100%/90%:ratio=0", "the first level holds above all others"),
        ("100%:ratio=0,8W:ratio=0.5", "mixes % and W"),
        ("100%:ratio=0,50%/8W:ratio=0.5", "mixes % and W"),
        ("100%:ratio=0,50%:ratio=0.4,50%:ratio=0.5", "the level at 50 % must lie below the one before it"),
        ("100%:ratio=0,50%:ratio=0.4,60%:ratio=0.5", "from the fullest to the emptiest"),
        ("100%:ratio=0,100%:ratio=0.4", "the level at 100 % must lie below"),
        ("100%:ratio=0,0%:ratio=0.4", "must lie below the one before it and above 0"),
        ("8W:ratio=0,-1W:ratio=0.4", "and above 0"),
        ("100%:ratio=0,50%/50%:ratio=0.4", "is left at 50 %; that must be above its own threshold"),
        ("100%:ratio=0,50%/120%:ratio=0.4", "is left at 120 %"),
        ("100%:ratio=0,50%:ratio=0.4,20%/51%:ratio=0.8", "not above that of the level before it"),
        ("100%:ratio=0.5,50%:ratio=0.4", "the level at 50 % has a looser ratio"),
        ("100%:macs=5,50%:ratio=0.4", "has a looser macs"),
        ("100%:latency_ms=5,50%:latency_ms=6", "has a looser latency_ms"),
        ("100%:ratio=0,50%:ratio=0.4+protocol=full", "changes the protocol"),
        ("100%:ratio=0;dwell=3", "'dwell=3' is not one of dwell_s=SECONDS"),
        ("100%:ratio=0;dwell_s=0", "dwell_s must be a positive time, got 0.0"),
        ("100%:ratio=0;lost_after_s=inf", "lost_after_s must be a number"),
        (",".join(["100%:ratio=0"] + [f"{99 - i / 2}%:ratio=0" for i in range(100)]), "has 101 levels"),
        ("none.json", "cannot read none.json: there is no such file"),
    ],
)
def test_a_bad_policy_is_one_sentence(text, words):
    with pytest.raises(ConfigError) as caught:
        read_policy(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


GOOD = {"format": 1, "watch": "charge", "levels": [{"budget": {}}, {"at": 0.5, "budget": {"ratio": 0.4}}]}


def test_a_level_without_limits_is_allowed_in_a_file():
    assert Policy.from_json(GOOD).levels[0].budget == Budget()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "one object with format 1"),
        ({"watch": "power_w"}, "cannot watch 'power_w'; choose one of charge, cap_w"),
        ({"watch": ["charge"]}, "cannot watch"),
        ({"levels": 3}, "levels must be a list of objects"),
        ({"levels": [3]}, "levels must be a list of objects"),
        ({"levels": []}, "has 0 levels"),
        ({"levels": [{"budget": 3}]}, "every level needs a budget"),
        ({"levels": [{}]}, "every level needs a budget"),
        ({"levels": [{"at": 1, "budget": {}}]}, "policy level 0: unknown name 'at'"),
        ({"levels": [{"budget": {}}, {"budget": {}}]}, "at must be a number, got 'None'"),
        ({"levels": [{"budget": {}}, {"at": True, "budget": {}}]}, "at must be a number, got 'True'"),
        ({"levels": [{"budget": {}}, {"at": "0.5", "budget": {}}]}, "at must be a number, got '0.5'"),
        ({"levels": [{"budget": {"ratio": None}}]}, "ratio must be a number"),
        ({"levels": [{"budget": {"macs": 10**400}}]}, "macs is far too large"),
        ({"dwell_s": "3"}, "dwell_s must be a number"),
        ({"dwel_s": 3}, "policy: unknown name 'dwel_s'"),
    ],
)
def test_a_bad_policy_file_is_one_sentence(tmp_path, change, words):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(ConfigError, match=r"policy\.json") as caught:
        read_policy(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_json_is_one_sentence(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text("100%:ratio=0")
    with pytest.raises(ConfigError, match="it is not valid JSON"):
        read_policy(path)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="one object with format 1"):
        read_policy(path)


def test_a_table_made_by_hand_is_checked():
    with pytest.raises(ConfigError, match="the first level holds above all others, so it has no threshold"):
        Policy(watch="charge", levels=(Level(at=1.0, back_at=1.0, budget=Budget()),))
    with pytest.raises(ConfigError, match="cannot watch"):
        Policy(watch="luck", levels=())  # type: ignore[arg-type]


@given(st.text(alphabet="0123456789%W:=,;+/.-e ratiomcsdwel_", max_size=60) | st.text(max_size=30))
def test_any_text_is_a_policy_or_a_config_error(text):
    with suppress(ConfigError):
        assert read_policy(text).levels
