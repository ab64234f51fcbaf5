from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sentryfuse.errors import BudgetError, ConfigError, NoSensorsError
from sentryfuse.planning.cost import count
from sentryfuse.planning.layout import AttentionRule, Block, Layout, Span, Step
from sentryfuse.planning.plan import plan_layout
from sentryfuse.types import Budget, Modality

pytestmark = pytest.mark.device


def one_layer(n_heads: int = 4, d_ff: int = 32) -> Layout:
    groups = tuple(head // 2 for head in range(n_heads))
    blocks = (Block("l.attn", "heads", n_heads, groups, 4), Block("l.ffn", "ffn", d_ff))
    steps = (
        Step("embed.a", "embed", ("window.a",), "tokens", needs=("a",), tokens=10, macs_fixed=7),
        Step("l", "layer", ("tokens",), "out", blocks=blocks, params_fixed=16),
        Step("head", "head", ("out",), "logits", macs_fixed=5, params_fixed=9),
    )
    return Layout(8, (Modality("a", 1.0, 10, ("x",)),), AttentionRule(), steps)


def scores_of(layout: Layout, **given: np.ndarray) -> dict[str, np.ndarray]:
    return {n: given.get(n, np.ones(b.units)) for n, b in layout.blocks.items()}


def ask(layout: Layout, scores=None, **limits):
    scores = scores_of(layout) if scores is None else scores
    return plan_layout(layout, scores, budget=Budget(**limits), scorer="hand")


def test_the_unimportant_go_first():
    layout = one_layer()
    scores = scores_of(
        layout, **{"l.attn": np.array([9.0, 1, 9, 9]), "l.ffn": np.r_[np.ones(8), np.full(24, 9)]}
    )
    made = ask(layout, scores, ratio=0.1)
    assert 1 not in made.kept["l.attn"] or set(range(8)).isdisjoint(made.kept["l.ffn"])
    assert made.binding == "ratio"
    assert made.scorer == "hand"


def test_cost_is_what_the_counter_says():
    layout = one_layer()
    kept = {"l.attn": (0, 1), "l.ffn": tuple(range(8))}
    heads = 2 * 10 * 8 * 4 * (2 + 1) + 2 * 10 * 10 * 4 * 2
    ffn = 2 * 10 * 8 * 8
    cost = count(layout, kept=kept)
    assert cost.prunable_macs == heads + ffn
    assert cost.macs == heads + ffn + 7 + 5
    assert cost.params == 4 * (2 * 17 + 1 * 2 * 9) + 8 * 17 + 16 + 9
    assert cost.weights_mb == pytest.approx(cost.params * 4 / 1e6)


def test_a_block_goes_with_its_last_unit():
    layout = one_layer(1, 8)
    assert ask(layout, ratio=0.0).kept == {"l.attn": (0,), "l.ffn": tuple(range(8))}
    assert sorted(map(len, ask(layout, ratio=0.1).kept.values())) in ([0, 1], [0, 8])
    assert ask(layout, ratio=1).kept == {"l.attn": (), "l.ffn": ()}


def test_milliseconds_and_millijoules_need_a_profile():
    for limits in ({"latency_ms": 1.0}, {"energy_mj": 1.0}):
        with pytest.raises(BudgetError, match="measured on the device"):
            ask(one_layer(), **limits)


@pytest.mark.parametrize(
    "bad", [np.ones(3), np.ones((4, 1)), np.array([1, 2, 3, np.nan]), np.array([1, 2, 3, np.inf])]
)
def test_scores_that_do_not_fit_are_refused_by_block(bad):
    layout = one_layer()
    with pytest.raises(ConfigError, match=r"l\.attn.*give 4 finite numbers"):
        ask(layout, scores_of(layout, **{"l.attn": bad}), ratio=0.5)


def test_missing_scores_are_refused_by_block():
    layout = one_layer()
    with pytest.raises(ConfigError, match=r"l\.ffn"):
        ask(layout, {"l.attn": np.ones(4)}, ratio=0.5)


def test_unknown_and_absent_sensors_are_refused():
    layout = one_layer()
    for present, error in ((["b"], ConfigError), ([], NoSensorsError)):
        with pytest.raises(error):
            plan_layout(layout, scores_of(layout), present=present, budget=Budget(), scorer="hand")


def test_scores_of_zero_are_fine():
    layout = one_layer()
    nothing = {n: np.zeros(b.units) for n, b in layout.blocks.items()}
    made = ask(layout, nothing, ratio=1)
    assert made.kept == {"l.attn": (), "l.ffn": ()}


def test_the_binding_limit_is_the_one_that_decides():
    layout = one_layer()
    dense = count(layout)
    assert ask(layout, ratio=0.1, macs=dense.macs).binding == "ratio"
    assert ask(layout, ratio=0.0, macs=dense.macs - 1).binding == "macs"
    assert ask(layout, ratio=0.1, memory_mb=dense.weights_mb * 0.6).binding == "memory_mb"
    assert ask(layout, macs=dense.macs, memory_mb=dense.weights_mb).binding == "none"


def test_a_longer_window_makes_attention_dearer_than_ffn_channels():
    layout = one_layer()
    embed = dataclasses.replace(layout.steps[0], tokens=60)
    longer = dataclasses.replace(layout, steps=(embed, *layout.steps[1:]))
    share = [
        block.macs(8, layout.attention, Span(tokens, tokens, tokens))
        for tokens in (10, 60)
        for block in layout.blocks.values()
    ]
    assert share[2] / share[3] > share[0] / share[1]
    assert count(longer).prunable_macs == share[2] + share[3]
