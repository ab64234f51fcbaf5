"""A backbone that does not keep the protocol is refused with a sentence."""

from __future__ import annotations

import pytest
from torch import nn

from sentryfuse.errors import ConfigError
from sentryfuse.model import Backbone, Concat, MeanHead, PatchTokens
from sentryfuse.planning.layout import AttentionRule, Layout, Step
from tests.tiny import MODALITIES

M = MODALITIES[0]


class Small(Backbone):
    def __init__(self, change):
        super().__init__()
        self.embed, self.join, self.head = (
            PatchTokens("embed", M, 8, tokens=2),
            Concat(),
            MeanHead("head", 8, 3),
        )
        self.change = change

    def build_layout(self):
        steps = [
            self.embed.step(),
            self.join.step("join", ("tokens.acc",), "joined"),
            self.head.step("joined"),
        ]
        return Layout(8, (M,), AttentionRule(), tuple(self.change(self, steps)))


def test_what_keeps_the_protocol_is_taken():
    assert Small(lambda model, steps: steps).layout.names == ("acc",)


def without_statistics(model, steps):
    model.embed = nn.Linear(3, 8)
    return steps


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m, steps: [*steps, Step("tail", "norm", ("joined",), "x")], "step tail and no submodule"),
        (lambda m, steps: steps[1:], "reads the window of acc in 0 steps"),
        (without_statistics, "without buffers `mean` and `std`"),
    ],
)
def test_what_does_not_is_named(change, said):
    with pytest.raises(ConfigError, match=said):
        _ = Small(change).layout
