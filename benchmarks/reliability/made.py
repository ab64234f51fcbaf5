"""A bundle with a step of every kind, in every form, made by hand in a millisecond. No torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sentryfuse.bundle.tensors import MEASURED
from sentryfuse.graph.patch_sizes import PatchSizes
from sentryfuse.planning.layout import AttentionRule, Block, Layout, Step
from sentryfuse.planning.program import Node, Program, Weight
from sentryfuse.types import Modality

D, CLASSES = 4, ("rest", "walk", "run")
MODALITIES = (
    Modality("a", 4.0, 16, ("x", "y")),
    Modality("b", 2.0, 6, ("x",), may_miss=True),
    Modality("c", 0.0, 1, ("x", "y")),
)
ENDS = ("heard.a", "coded.b", "tokens.c")
NORM = {"norm.weight": (D,), "norm.bias": (D,)}
NORMS = {f"norm_{part}.{leaf}": (D,) for part in ("attn", "ffn") for leaf in ("weight", "bias")}
Shapes = dict[str, tuple[int, ...]]


def layer(name: str, reads: tuple[str, ...], writes: str, ffn: dict[str, Any], **more: Any) -> Step:
    """A transformer layer of three heads in two groups."""
    halves = 3 * D * D if more.get("leaves") == "half" else 0
    bias = 0 if "groups" in ffn else D
    shells: list[dict[str, Any]] = [
        {"shell": ("norm_attn",), "shell_params": 2 * D + D},
        {
            "shell": ("norm_ffn", "halve") if halves else ("norm_ffn",),
            "shell_params": 2 * D + bias + (halves + D if halves else 0),
            "shell_macs": halves,
        },
    ]
    heads = Block(f"{name}.attn", "heads", 3, (0, 1, 1), 2, **shells[0])
    blocks = (heads, Block(f"{name}.ffn", "ffn", **ffn, **shells[1]))
    return Step(name, "layer", reads, writes, blocks=blocks, **more)


A_SIZES = PatchSizes(MODALITIES[0], 2)


def patch(name: str, tokens: int) -> Step:
    """An encoder that cuts a window into two patches."""
    sizes = PatchSizes(next(m for m in MODALITIES if m.name == name), 2)
    return Step(
        f"embed.{name}",
        "patch",
        (f"window.{name}",),
        f"tokens.{name}",
        needs=(name,),
        tokens=tokens,
        options={"tokens": 2},
        macs_fixed=sizes.macs(D),
    )


TURN = Node("permute", ("x",), {"order": (0, 2, 1)})
CONV: dict[str, Any] = {"stride": (4,), "pads": (0, 0), "dilation": (1,), "groups": 1}
PROGRAM = Program(
    (
        Weight("0_conv_weight", (D, 2, 3)),
        Weight("1_conv_bias", (D,), "frozen"),
        Weight("2_mean", (D,), "measured"),
        Weight("3_variance", (D,), "measured"),
    ),
    (
        TURN,
        Node("conv", ("v0", "0_conv_weight", "1_conv_bias"), CONV),
        Node("batch norm", ("v1", "2_mean", "3_variance"), {"eps": 1e-5, "momentum": 0.1}),
        replace(TURN, reads=("v2",)),
    ),
)

STATISTICS = ("2_mean", "3_variance")


def steps() -> dict[Step, dict[str, Any]]:
    """Every step, and the shapes of its weights that belong to no block."""
    plain, experts = {"units": 16}, {"units": 5, "groups": (0, 0, 1, 2, 2), "active": 2}
    norm, soft = {"norm": "pre"}, {"weighting": "softmax", "activation": "gelu"}
    relu = norm | {"activation": "relu"}
    raw = {"weighting": "raw", "activation": "relu"}
    halve = {"halve.weight": (D, 3 * D), "halve.bias": (D,)}
    classify: Shapes = {"classify.weight": (3, D), "classify.bias": (3,)}
    windows = tuple(f"window.{m.name}" for m in MODALITIES)
    fixed = {
        "normalise.mean": (2,),
        "normalise.std": (2,),
        "project.bias": (D,),
    }
    return {
        patch("a", 3): fixed
        | {
            "project.weight": (D, A_SIZES.per_patch),
            "position": (3, D),
            "within": (2,),
            "summary_mean": (A_SIZES.summary,),
            "summary_std": (A_SIZES.summary,),
            "summarise.weight": (D, A_SIZES.summary),
            "summarise.bias": (D,),
        },
        Step(
            "embed.b", "sax", ("window.b",), "tokens.b", ("b",), tokens=3,
            options={"tokens": 3}, macs_fixed=3 * D,
        ): {"mean": (1,), "std": (1,), "project.weight": (D, 1), "project.bias": (D,)},
        patch("c", 1): fixed | {"project.weight": (D, 2), "position": (1, D)},
        Step("bank.c", "bank", (), "tokens.c", lacks=("c",), parts=windows, tokens=1): {
            "base": (1, D),
            "given": (3, D),
        },
        layer(
            "encoder.a", ("tokens.a",), "coded.a", experts | {"capacity": 0.75},
            needs=("a",), options=norm | soft,
        ): NORMS,
        layer(
            "encoder.b", ("tokens.b",), "coded.b", plain,
            needs=("b",), leaves="half", options={"norm": "post"}, macs_per_token=3 * D * D,
        ): NORMS | halve,
        layer("pair", ("coded.a", "tokens.b"), "paired", plain, needs=("a", "b"), options=relu): NORMS,
        Step("mean", "mean", ("coded.a", "paired"), "heard.a", ("a",)): {},
        Step("join", "concat", ENDS, "joined", leaves="sum"): {},
        Step("codes", "codes", ("joined",), "marked", parts=ENDS): {
            "hidden.weight": (3, 3),
            "hidden.bias": (3,),
            "budget.weight": (3, 3),
            "budget.bias": (3,),
            "temporal": (3, D),
            "modality": (3, D),
        },
        layer("fusion", ("marked",), "fused", experts, options=norm | raw): NORMS,
        Step(
            "head.both", "modality head", ("fused",), "logits", ("a", "b"), parts=ENDS, leaves="one",
            macs_fixed=9 * D, macs_per_entering=3 * D,
        ): NORM | {"classify.weight": (3, 3 * D), "classify.bias": (3,)},
        Step(
            "head.a", "mean head", ("fused",), "logits", ("a",), ("b",), leaves="one", macs_fixed=3 * D
        ): NORM | classify,
        Step(
            "head.b", "hidden head", ("fused",), "logits", ("b",), ("a",), leaves="one",
            macs_fixed=D * D + 3 * D,
        ): {"hidden.weight": (D, D), "hidden.bias": (D,)} | classify,
        Step(
            "embed.own", "encoder", ("window.a",), "own.a", ("a",), tokens=4,
            options={"input": "normalised"}, macs_fixed=4 * D * 6, program=PROGRAM,
        ): {"normalise.mean": (2,), "normalise.std": (2,), "position": (4, D)}
        | {f"own.{w.name}": w.shape for w in PROGRAM.weights},
        Step("last", "norm", ("fused",), "normed", ("c",), ("a", "b")): NORM,
        Step(
            "head.c", "linear head", ("normed",), "logits", ("c",), ("a", "b"), leaves="one",
            macs_fixed=3 * D,
        ): classify,
    }  # fmt: skip


def everything(seed: int = 0) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Manifest and tensors, as `save_bundle` takes them."""
    rng = np.random.default_rng(seed)
    shapes: Shapes = {}
    made = []
    for step, own in steps().items():
        trained = {n: shape for n, shape in own.items() if n.rsplit(".")[-1] not in (*MEASURED, *STATISTICS)}
        for block in step.blocks:
            part = block.name.removeprefix(f"{step.name}.")
            inside = {f"{part}.{leaf}": shape for leaf, shape in block.shapes(D).items()}
            own, trained = own | inside, trained | inside
        numbers = sum(int(np.prod(shape)) for shape in trained.values())
        numbers -= sum(block.params(D) for block in step.blocks)
        made.append(replace(step, params_fixed=numbers))
        shapes |= {f"weights.{step.name}.{n}": shape for n, shape in own.items()}
    layout = Layout(D, MODALITIES, AttentionRule(factor=1, sparse_from=3), tuple(made))
    units = sum(block.units for block in layout.blocks.values())
    for name, out, given in (("hidden", 5, 3), ("code", 2, 5), ("units", units, 2)):
        shapes |= {f"gate.{name}.weight": (out, given), f"gate.{name}.bias": (out,)}
    tensors = {n: rng.normal(0, 0.5, shape).astype(np.float32) for n, shape in shapes.items()}
    tensors |= {
        n: np.abs(t) + np.float32(0.5)
        for n, t in tensors.items()
        if n.endswith(("std", "within", "variance"))
    }
    manifest = {
        "layout": layout.to_json(),
        "classes": list(CLASSES),
        "normalise": "subject",
        "subject_floor": {"a": [0.5, 0.25]},
        "readout": None,
        "about": {"backbone": "by hand", "epochs": [3, 1.5]},
    }
    return manifest, tensors
