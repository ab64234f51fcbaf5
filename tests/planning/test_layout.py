from __future__ import annotations

import math
from typing import Literal

import pytest

from sentryfuse.errors import ConfigError, NoSensorsError
from sentryfuse.planning.layout import AttentionRule, Block, Layout, Span, Step
from sentryfuse.types import Modality

pytestmark = pytest.mark.device

HEADS = Block("l.attn", "heads", 4, (0, 0, 1, 2), 8)
FFN = Block("l.ffn", "ffn", 24)
SPAN = Span(64, 64, 64)


def two_sensors(*, halves: bool = False) -> Layout:
    """a (20 tokens) with an encoder layer, b (1 token) without, one joint layer."""
    leaves: Literal["half", "same"] = "half" if halves else "same"
    encoder = (Block("enc.a.attn", "heads", 2, (0, 0), 4), Block("enc.a.ffn", "ffn", 8))
    fusion = (Block("fuse.attn", "heads", 2, (0, 1), 4), Block("fuse.ffn", "ffn", 16))
    steps = (
        Step("embed.a", "embed", ("window.a",), "tokens.a", needs=("a",), tokens=20),
        Step("enc.a", "layer", ("tokens.a",), "coded.a", ("a",), blocks=encoder, leaves=leaves),
        Step("embed.b", "embed", ("window.b",), "tokens.b", needs=("b",), tokens=1),
        Step("join", "concat", ("coded.a", "tokens.b"), "joined", leaves="sum"),
        Step("fuse", "layer", ("joined",), "fused", blocks=fusion, leaves=leaves),
        Step("head", "head", ("fused",), "logits", leaves="one"),
    )
    modalities = (Modality("a", 1.0, 20, ("x",)), Modality("b", 0.0, 1, ("y",)))
    return Layout(8, modalities, AttentionRule(), steps)


@pytest.mark.parametrize("core", ["", "Sentry", "flash"])
def test_an_unknown_core_is_refused(core):
    with pytest.raises(ConfigError, match="sentry or dense"):
        AttentionRule(core)


@pytest.mark.parametrize("numbers", [{"factor": 0}, {"sparse_from": 1}])
def test_numbers_no_core_can_use_are_refused(numbers):
    with pytest.raises(ConfigError, match=r"factor >= 1 and sparse_from >= 2"):
        AttentionRule(**numbers)


def test_the_core_follows_the_length():
    rule = AttentionRule()
    picked = 5 * math.ceil(math.log(64))
    assert [rule.picks(n, n) for n in (1, 63, 64)] == [None, None, (picked, picked)]
    assert AttentionRule("dense").picks(10_000, 10_000) is None
    assert AttentionRule(factor=100).picks(64, 64) is None, "never more than there are"


def test_the_core_follows_both_lengths_when_a_sequence_asks_another():
    rule = AttentionRule(factor=2)
    assert rule.picks(100, 1000) == (2 * 7, 2 * 5)
    assert rule.picks(100, 10) is rule.picks(10, 100) is None
    cross = HEADS.macs(16, rule, Span(100, 100, 1000))
    projections = 2 * 16 * 8 * (100 * 4 + 1000 * 3)
    assert cross == projections + (100 * 14 + 2 * 10 * 1000) * 8 * 4


def test_an_expert_counts_as_long_as_one_of_its_channels_stays():
    experts = Block("experts", "ffn", 4, (0, 0, 1, 1), active=1)
    one = 2 * 16 + 1  # of a channel: a row, a bias, a column; of an expert: router, its bias, output bias
    assert experts.params(16) == 6 * one
    assert experts.params(16, [0, 1]) == 3 * one
    assert experts.params(16, [1, 3]) == 4 * one
    assert experts.macs(16, AttentionRule(), SPAN, [0, 1]) == 2 * 64 * 16 * 3


def test_a_group_counts_as_long_as_one_of_its_heads_stays():
    assert HEADS.groups_of([0, 1]) == [0]
    assert HEADS.groups_of([1, 3]) == [0, 2]
    only_heads = HEADS.params(16, [0, 1]) - HEADS.params(16, [0])
    with_group = HEADS.params(16, [0, 2]) - HEADS.params(16, [0])
    assert only_heads == 8 * (2 * 16 + 1)
    assert with_group == only_heads + 8 * 2 * (16 + 1)


def test_dense_and_sparse_cores_are_counted_as_executed():
    rule = AttentionRule(factor=1)
    projections = 2 * 64 * 16 * 8 * (4 + 3)
    assert HEADS.macs(16, AttentionRule("dense"), SPAN) == projections + 2 * 64 * 64 * 8 * 4
    assert HEADS.macs(16, rule, SPAN) == projections + (64 * 5 + 2 * 5 * 64) * 8 * 4
    assert FFN.macs(16, rule, SPAN) == 2 * 64 * 16 * 24
    assert FFN.macs(16, rule, SPAN, [1, 2, 3]) == 2 * 64 * 16 * 3


def test_steps_of_absent_sensors_are_not_on_the_route():
    layout = two_sensors()
    assert [s.name for s in layout.route(["b"])] == ["embed.b", "join", "fuse", "head"]
    assert layout.route(["b"])[1].reads == ("tokens.b",)
    assert layout.route(None)[3].reads == ("coded.a", "tokens.b")
    assert [s.name for s in layout.route(["a"])] == ["embed.a", "enc.a", "join", "fuse", "head"]


def test_lengths_add_up_where_tokens_join_and_halve_rounding_up():
    assert two_sensors().spans(None)["fuse"] == (21, 21, 21)
    assert two_sensors().spans(["b"])["fuse"] == (1, 1, 1)
    halved = two_sensors(halves=True).spans(None)
    assert halved["enc.a"] == (20, 10, 20)
    assert halved["join"] == (11, 11, 1)
    assert halved["fuse"] == (11, 6, 11)
    assert halved["head"] == (6, 1, 6)


def test_a_route_without_sensors_or_with_unknown_ones_is_refused():
    with pytest.raises(NoSensorsError):
        two_sensors().route([])
    with pytest.raises(ConfigError, match="unknown sensor c"):
        two_sensors().route(["a", "c"])


def test_blocks_are_listed_in_the_order_of_the_computation():
    assert list(two_sensors().blocks) == ["enc.a.attn", "enc.a.ffn", "fuse.attn", "fuse.ffn"]
