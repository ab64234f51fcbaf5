"""Random layouts, sensors, scores and ratios for the laws, all from one seed; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from sentryfuse.planning.layout import AttentionRule, Block, Layout, Step
from sentryfuse.planning.plan import plan_layout
from sentryfuse.types import Budget, Modality, Plan


@dataclass(frozen=True)
class Question:
    """What a planner is asked: a layout, the sensors that are on and the importance of every unit."""

    layout: Layout
    present: tuple[str, ...]
    scores: Mapping[str, NDArray[np.float32]]
    rng: np.random.Generator

    def plan(self, **limits: Any) -> Plan:
        """The plan for these limits."""
        return plan_layout(
            self.layout,
            self.scores,
            present=self.present,
            budget=Budget(**limits),
            scorer="law",
        )

    def ratio(self) -> float:
        """A ratio: all, nothing, or in between."""
        return float(self.rng.choice([1, self.rng.random(), self.rng.random(), 0]))

    def smallest(self) -> Plan:
        """The plan that keeps no unit."""
        return self.plan(ratio=1)


def random_question(seed: int) -> Question:
    """Any layout, any non-empty set of its sensors, any scores."""
    rng = np.random.default_rng(seed)
    layout = random_layout(rng)
    on = rng.random(len(layout.names)) < 0.6
    on[rng.integers(len(on))] = True
    present = tuple(name for name, keep in zip(layout.names, on, strict=True) if keep)
    return Question(layout, present, random_importance(layout, rng), rng)


def random_layout(rng: np.random.Generator) -> Layout:
    """One to three sensors, branches of up to two layers, one or two joint layers."""
    names = ("a", "b", "c")[: rng.integers(1, 4)]
    steps: list[Step] = []
    ends = []
    for name in names:
        embed = Step(
            f"embed.{name}",
            "embed",
            (f"window.{name}",),
            f"tokens.{name}",
            needs=(name,),
            tokens=int(rng.integers(1, 70)),
            macs_fixed=int(rng.integers(1000)),
            params_fixed=int(rng.integers(100)),
        )
        steps.append(embed)
        for i in range(rng.integers(3)):
            steps.append(_layer(f"encoder.{name}.{i}", steps[-1].writes, (name,), rng))
        ends.append(steps[-1].writes)
    steps.append(Step("join", "concat", tuple(ends), "joined", leaves="sum"))
    for i in range(rng.integers(1, 3)):
        steps.append(_layer(f"fusion.{i}", steps[-1].writes, (), rng))
    head = (steps[-1].writes,)
    steps.append(Step("head", "head", head, "logits", leaves="one", macs_fixed=48, params_fixed=51))
    rule = AttentionRule("sentry" if rng.random() < 0.5 else "dense", int(rng.integers(1, 6)))
    modalities = tuple(Modality(name, 1.0, 4, ("x",)) for name in names)
    return Layout(int(rng.choice([8, 16])), modalities, rule, tuple(steps))


def _layer(name: str, reads: str, needs: tuple[str, ...], rng: np.random.Generator) -> Step:
    """Heads whose KV groups are of any size in any order; one feed-forward or two experts."""
    raw = rng.integers(0, 4, rng.integers(1, 9)).tolist()
    groups = tuple(sorted(set(raw)).index(group) for group in raw)
    shells = rng.integers(0, 40, (2, 2)).tolist()
    blocks = [
        Block(
            f"{name}.attn",
            "heads",
            len(groups),
            groups,
            int(rng.choice([4, 8])),
            shell_params=shells[0][0],
            shell_macs=shells[0][1],
        )
    ]
    n = int(rng.choice([8, 16, 24, 64, 12, 5]))  # a width made by hand need not be a multiple of 8
    experts: tuple[int, ...] = ()
    if rng.random() < 0.4:
        drawn = rng.integers(0, 4, n).tolist()
        experts = tuple(sorted(set(drawn)).index(expert) for expert in drawn)
    active, capacity = (1, float(rng.choice([0.0, 0.0, 1.0, 1.5]))) if experts else (0, 0.0)
    blocks.append(
        Block(
            f"{name}.ffn",
            "ffn",
            n,
            experts,
            active=active,
            capacity=capacity,
            shell_params=shells[1][0],
            shell_macs=shells[1][1],
        )
    )
    return Step(
        name,
        "layer",
        (reads,),
        f"{name}.out",
        needs=needs,
        blocks=tuple(blocks),
        leaves="half" if rng.random() < 0.3 else "same",
        macs_per_token=shells[0][1] + shells[1][1] + int(rng.integers(50)),
        params_fixed=shells[0][0] + shells[1][0] + int(rng.integers(100)),
    )


def random_importance(layout: Layout, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Importance: continuous, full of ties, all equal, or huge and tiny side by side."""
    kind = rng.integers(4)
    made = {}
    for name, block in layout.blocks.items():
        values = (
            rng.random(block.units),
            rng.integers(0, 3, block.units),
            np.ones(block.units),
            np.exp(rng.normal(0, 20, block.units)),
        )[kind]
        made[name] = values.astype(np.float32)
    return made


questions = st.integers(0, 2**32 - 1).map(random_question)
