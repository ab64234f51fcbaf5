"""What a manifest says is checked field by field, and every step by writing it. No torch."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.reliability.made import D, everything
from benchmarks.reliability.wiring import Wiring
from sentryfuse.bundle import load_bundle, save_bundle
from sentryfuse.bundle.container import Inconsistent
from sentryfuse.bundle.routes import check_routes
from sentryfuse.bundle.sizes import check_sizes
from sentryfuse.errors import BundleError
from sentryfuse.graph.kinds import _KINDS
from sentryfuse.planning.layout import AttentionRule, Block, Layout, Step
from sentryfuse.types import Modality

pytestmark = pytest.mark.device

NAMES = ("a", "b", "c")
Change = Callable[[dict[str, Any], dict[str, np.ndarray]], Any]


def layout(*steps: Step, names: tuple[str, ...] = NAMES) -> Layout:
    modalities = tuple(Modality(name, 1.0, 4, ("x",)) for name in names)
    embeds = (Step(f"e.{n}", "patch", (f"window.{n}",), f"t.{n}", needs=(n,), tokens=2) for n in names)
    return Layout(4, modalities, AttentionRule(), (*embeds, *steps))


def answers_everywhere(layout: Layout) -> bool:
    """By trying all sets of sensors."""
    for n in range(1, len(layout.names) + 1):
        for present in itertools.combinations(layout.names, n):
            route = layout.route(present)
            full = {step.name: step for step in layout.steps}
            for step in route:
                wanted = full[step.name].reads
                if (not step.reads and step.op != "bank") or (step.op != "concat" and step.reads != wanted):
                    return False
            if [step.writes for step in route].count("logits") != 1:
                return False
    return True


HEAD = Step("head", "mean head", ("joined",), "logits", leaves="one")
JOIN = Step("join", "concat", ("t.a", "t.b", "t.c"), "joined")
ROUTES: dict[str, tuple[Step, ...]] = {
    "joined": (JOIN, HEAD),
    "no head": (JOIN,),
    "one sensor forgotten": (Step("join", "concat", ("t.a", "t.b"), "joined"), HEAD),
    "head of one": (Step("head", "mean head", ("t.a",), "logits", leaves="one"),),
    "a bank for the others": (
        *(Step(f"bank.{n}", "bank", (), f"t.{n}", lacks=(n,), tokens=1) for n in NAMES),
        Step("pair", "layer", ("t.a", "t.b"), "paired"),
        Step("head", "mean head", ("paired",), "logits", leaves="one"),
    ),
    "a bank missing": (
        Step("bank.a", "bank", (), "t.a", lacks=("a",), tokens=1),
        Step("pair", "layer", ("t.a", "t.b"), "paired"),
        Step("head", "mean head", ("paired",), "logits", leaves="one"),
    ),
    "a pair that runs with one": (
        Step("pair", "layer", ("t.a", "t.b"), "paired", needs=("a",)),
        Step("join", "concat", ("paired", "t.a", "t.b", "t.c"), "joined"),
        HEAD,
    ),
    "two heads": (
        JOIN,
        Step("h.1", "mean head", ("joined",), "logits", needs=("a",), leaves="one"),
        Step("h.2", "mean head", ("joined",), "logits", lacks=("a",), leaves="one"),
    ),
    "two heads at once": (
        JOIN,
        Step("h.1", "mean head", ("joined",), "logits", needs=("a",), leaves="one"),
        Step("h.2", "mean head", ("joined",), "logits", lacks=("b",), leaves="one"),
    ),
}


@pytest.mark.parametrize("name", ROUTES)
def test_routes_are_refused_exactly_where_some_sensors_have_no_answer(name):
    made = layout(*ROUTES[name])
    if answers_everywhere(made):
        check_routes(made)
    else:
        with pytest.raises(Inconsistent):
            check_routes(made)


def test_both_kinds_of_routes_are_among_them():
    assert {answers_everywhere(layout(*steps)) for steps in ROUTES.values()} == {True, False}


@pytest.mark.parametrize(
    "steps",
    [
        (HEAD, JOIN),
        (JOIN, JOIN, HEAD),
        (JOIN, Step("other", "concat", ("t.a",), "joined"), HEAD),
        (JOIN, Step("loop", "layer", ("looped",), "looped"), HEAD),
        (JOIN, Step("join.x", "layer", ("joined",), "inside"), HEAD),
        (JOIN, Step("w", "layer", ("joined",), "join/x"), HEAD),
        (JOIN, Step("embed", "patch", ("window.a",), "always", tokens=1), HEAD),
        (JOIN, Step("never", "layer", ("joined",), "x", needs=("ghost",)), HEAD),
        (JOIN, Step("never", "layer", ("joined",), "x", needs=("a",), lacks=("a",)), HEAD),
        (JOIN, Step("window", "layer", ("joined",), "window.a"), HEAD),
    ],
)
def test_steps_that_do_not_follow_one_another_are_refused(steps):
    with pytest.raises(Inconsistent):
        check_routes(layout(*steps))


def test_routes_of_sixty_sensors_are_checked_at_once():
    names = tuple(f"s{i}" for i in range(60))
    pairs = [Step(f"p.{a}.{b}", "layer", (f"t.{a}", f"t.{b}"), f"p.{a}.{b}", needs=(a, b))
             for a, b in itertools.islice(itertools.permutations(names, 2), 1500)]  # fmt: skip
    reads = (*(f"t.{n}" for n in names), *(p.writes for p in pairs))
    check_routes(layout(*pairs, Step("join", "concat", reads, "joined"), HEAD, names=names))


def test_conditions_too_tangled_to_check_are_refused():
    names = tuple(f"s{i}" for i in range(40))
    rng = np.random.default_rng(0)
    steps = []
    for i in range(170):  # random clauses of three: the hard kind
        picked = rng.permutation(40)[:3]
        on = [names[j] for j in picked if rng.random() < 0.5]
        off = [names[j] for j in picked if names[j] not in on]
        steps.append(Step(f"x.{i}", "bank", (), f"v.{i}", needs=tuple(on), lacks=tuple(off), tokens=1))
    join = Step("join", "concat", tuple(s.writes for s in steps), "joined")
    with pytest.raises(Inconsistent):
        check_routes(layout(*steps, join, HEAD, names=names))


def change_and_load(folder: Path, change: Change) -> None:
    manifest, tensors = everything()
    change(manifest, tensors)
    save_bundle(folder / "changed.bundle", manifest=manifest, tensors=tensors)
    load_bundle(folder / "changed.bundle")


def test_the_bundle_made_by_hand_has_every_kind_of_step_and_loads(tmp_path):
    change_and_load(tmp_path, lambda m, t: None)
    ours = {name for name in _KINDS.names() if _KINDS.find(name).emit.__module__.startswith("sentryfuse.")}
    assert {step["op"] for step in everything()[0]["layout"]["steps"]} == ours


def step(m: dict[str, Any], which: str, /, **fields: Any) -> dict[str, Any]:
    """A step of a manifest, some of its fields changed."""
    found: dict[str, Any] = next(s for s in m["layout"]["steps"] if s["name"] == which)
    found.update(fields)
    return found


def target_of(task, mean=(), std=()):
    return {"task": task, "unit": "", "mean": list(mean), "std": list(std)}


def set_step(which: str, /, **fields: Any) -> Change:
    return lambda m, t: step(m, which, **fields)


def set_block(which: str, i: int, /, **fields: Any) -> Change:
    return lambda m, t: step(m, which)["blocks"][i].update(fields)


def set_modality(i: int, **fields: Any) -> Change:
    return lambda m, t: m["layout"]["modalities"][i].update(fields)


def set_tensor(name: str, value: Any) -> Change:
    """Another tensor, or a function of what was there."""
    return lambda m, t: t.update({name: np.asarray(value(t[name]) if callable(value) else value, np.float32)})


def set_node(i: int, /, **fields: Any) -> Change:
    """A node of a program."""
    return lambda m, t: step(m, "embed.own")["program"]["nodes"][i].update(fields)


def set_options(i: int, /, **options: Any) -> Change:
    return lambda m, t: step(m, "embed.own")["program"]["nodes"][i]["options"].update(options)


def set_own(i: int, /, **fields: Any) -> Change:
    """A weight of a program."""
    return lambda m, t: step(m, "embed.own")["program"]["weights"][i].update(fields)


def growing(m: dict[str, Any], t: dict[str, Any]) -> None:
    """A program that pads and pads."""
    program, pads = step(m, "embed.own")["program"], [0, 1 << 16, 1 << 16] * 2
    more = {"op": "pad", "reads": ["v0"], "options": {"pads": pads, "value": 0.0}}
    program["nodes"] = [program["nodes"][0], *[more] * 300]


def add(*args: Any, **more: Any) -> Change:
    """One more step in front of the heads."""
    return lambda m, t: Wiring(m, t, random.Random(0)).add(*args, **more)


def other_head(m: dict[str, Any], t: dict[str, Any]) -> None:
    """A head of one token whose answer would be taken for tokens."""
    own = {n.removeprefix("weights.head.a."): w for n, w in t.items() if n.startswith("weights.head.a.")}
    add("x", "mean head", ["tokens.c"], "y", macs_fixed=12, weights=own)(m, t)


def no_head(m: dict[str, Any], t: dict[str, Any]) -> None:
    """A layer whose answer would be taken for logits."""
    own = {n.replace("fusion", "head.a"): w for n, w in t.items() if n.startswith("weights.fusion.")}
    for name in [n for n in t if n.startswith("weights.head.a.")]:
        del t[name]
    t.update(own)
    fusion = copy.deepcopy(step(m, "fusion"))
    blocks = [{**block, "name": block["name"].replace("fusion", "head.a")} for block in fusion["blocks"]]
    fields = {f: fusion[f] for f in ("op", "options", "params_fixed", "macs_fixed")}
    step(m, "head.a", blocks=blocks, **fields)
    fit_gate(m, t)


def half_a_layer(m: dict[str, Any], t: dict[str, Any]) -> None:
    """Attention without a feed-forward."""
    step(m, "pair", blocks=step(m, "pair")["blocks"][:1])
    fit_gate(m, t)


def useless_block(m: dict[str, Any], t: dict[str, Any]) -> None:
    """A block without weights, which costs would be counted for."""
    fields = {"kind": "ffn", "units": 8, "groups": [], "head_dim": 0, "active": 0, "capacity": 0.0}
    step(m, "join", blocks=[{"name": "join.ffn", **fields}])
    fit_gate(m, t)


def fit_gate(m: dict[str, Any], t: dict[str, Any]) -> None:
    units = sum(block["units"] for step in m["layout"]["steps"] for block in step["blocks"])
    t.update({n: np.resize(t[n], (units, *t[n].shape[1:])) for n in ("gate.units.weight", "gate.units.bias")})


def short_codes(m: dict[str, Any], t: dict[str, Any]) -> None:
    """Codes for one token, where a part has two."""
    t["weights.codes.temporal"] = t["weights.codes.temporal"][:1]
    step(m, "codes")["params_fixed"] -= 2 * D


NOT_A_NUMBER = "has an unusable manifest: layout.steps.0.tokens: Input should be a valid integer"
CHECKS: list[tuple[str, Change]] = [
    ("embed.a that multiplies", set_step("embed.a", macs_fixed=7)),
    # fields
    ("steps.4.blocks.1.units: .*less than or equal to 16384", set_block("encoder.a", 1, units=10**12)),
    ("modalities.0.length: ", set_modality(0, length=10**9)),
    ("modalities.0.rate_hz: .*greater than or equal to 0", set_modality(0, rate_hz=-1.0)),
    ("modalities.0.rate_hz: .*valid number, got True", set_modality(0, rate_hz=True)),
    ("modalities.1.may_miss: .*valid boolean, got 1", set_modality(1, may_miss=1)),
    (NOT_A_NUMBER, set_step("embed.a", tokens=True)),
    (NOT_A_NUMBER, set_step("embed.a", tokens=3.0)),
    (NOT_A_NUMBER, set_step("embed.a", tokens="3")),
    ("steps.0.macs_fixed: .*greater than", set_step("embed.a", macs_fixed=-1)),
    ("layout.d_model: .*got a huge number", lambda m, t: m["layout"].update(d_model=10**40)),
    ("steps.0.name: .*isprintable", set_step("embed.a", name="a\nb")),
    ("classes.1: .*isprintable", lambda m, t: m.update(classes=["a", "\x1b[2J"])),
    ("has 1 class", lambda m, t: m.update(classes=["a"])),
    ("has 0 means and 0 deviations of 3", lambda m, t: m.update(target=target_of("regression"))),
    ("target.task: .*", lambda m, t: m.update(target={**target_of("regression"), "task": "ranking"})),
    ("target.std.0: .*greater than", lambda m, t: m.update(target=target_of("regression", [0.0], [0.0]))),
    ("normalise: Input should be 'train' or 'subject'", lambda m, t: m.update(normalise="none")),
    ("more: Unexpected", lambda m, t: m.update(more=1)),
    ("graphs: Unexpected", lambda m, t: m.update(graphs=["g"])),
    ("layout.more: Unexpected", lambda m, t: m["layout"].update(more=1)),
    ("layout.attention.more: Unexpected", lambda m, t: m["layout"]["attention"].update(more=1)),
    ("layout.modalities.0.more: Unexpected", set_modality(0, more=1)),
    ("layout.steps.0.more: Unexpected", set_step("embed.a", more=1)),
    ("layout.steps.4.blocks.0.more: Unexpected", set_block("encoder.a", 0, more=1)),
    # what no single field can say
    ("modality a 2 times", set_modality(2, name="a")),
    ("step pair 2 times", set_step("mean", name="pair")),
    ("class rest 2 times", lambda m, t: m.update(classes=["rest", "rest", "run"])),
    ("block encoder.attn in the step pair", set_block("pair", 0, name="encoder.attn")),
    ("2 numbers in subject_floor for b", lambda m, t: m.update(subject_floor={"b": [1.0, 1.0]})),
    ("subject_floor for ghost", lambda m, t: m.update(subject_floor={"ghost": [1.0]})),
    ("c of 3 steps without a rate", set_modality(2, length=3)),
    ("fusion.attn with a capacity and without", set_block("fusion", 0, capacity=1.0)),
    ("pair.ffn with a capacity and without", set_block("pair", 1, capacity=1.0)),
    # sizes
    ("more than 33554432 numbers", set_modality(1, length=10**6, channels=[*map(str, range(99))])),
    # programs
    ("embed.own whose program has a node 1 of the operator gru, which", set_node(1, op="gru")),
    ("has a node 1 .conv. that reads v1, which nothing before it makes", set_node(1, reads=["v1"])),
    ("has a node 1 .conv. that reads os.system, which nothing", set_node(1, reads=["os.system"])),
    ("node 1 .conv. that needs a read 1 of 3 to 3 axes", set_node(1, reads=["v0", "1_conv_bias"])),
    ("node 1 .conv. that needs its weights as .4,.", set_node(1, reads=["v0", *["0_conv_weight"] * 2])),
    ("node 1 .conv. that has a kernel that reaches over 29 steps", set_options(1, dilation=[14])),
    ("node 1 .conv. that needs stride as 1 whole numbers within 1", set_options(1, stride=[0])),
    ("node 1 .conv. that needs groups within 1", set_options(1, groups=0)),
    ("node 1 .conv. that has an option bits that it does not know", set_options(1, bits=4)),
    ("program.nodes.1.opti.*valid integer, got None", set_options(1, stride=None)),
    ("nodes.1.more: Unexpected", set_node(1, more=1)),
    ("nodes.0.reads: .*at least 1 item", set_node(0, reads=[])),
    ("weights.0.name: .*is_weight", set_own(0, name="v0")),
    ("weights.0.role: Input should be 'trained'", set_own(0, role="code")),
    ("program.weights.0.sh.*greater than", set_own(0, shape=[0, 2, 3])),
    ("embed.own that multiplies .* and 72 per window", set_options(1, stride=[5])),
    ("makes .B, 4, 4, 1. of a window, where", set_node(3, op="reshape", options={"shape": [-1, 4, 4, 1]})),
    ("reshape. that makes 20 numbers of 16", set_node(3, op="reshape", options={"shape": [-1, 5, 4]})),
    ("reshape. that mixes windows", set_node(3, op="reshape", options={"shape": [1, 4, 4]})),
    ("softmax. that works along the windows", set_node(3, op="softmax", options={"axis": 0})),
    ("permute. that names an axis twice", set_options(3, order=[0, 1, 1])),
    ("program has a node 1 .pad. that makes more than 33554432 numbers", growing),
    ("names a weight twice", set_own(3, name="2_mean")),
    ("has a weight 1_conv_bias that no node reads", set_node(1, reads=["v0", "0_conv_weight"])),
    ("holds weights.embed.own.own.0_conv_weight as|holds embed.own.own.0_conv_weight as", set_tensor(
        "weights.embed.own.own.0_conv_weight", lambda w: w[:, :1])),
    ("lacks the weight embed.own.own.0_conv", lambda m, t: t.pop("weights.embed.own.own.0_conv_weight")),
    ("variances that are not positive in embed.own.own.3_var", set_tensor(
        "weights.embed.own.own.3_variance", lambda v: -v)),
    ("embed.own .encoder. without a program", set_step("embed.own", program=None)),
    ("option input is 'raw'", set_step("embed.own", options={"input": "raw"})),
    ("embed.own that multiplies", set_step("embed.own", macs_fixed=0)),
    ("embed.own that makes 4 tokens, the layout says 5", set_step("embed.own", tokens=5)),
    ("join .concat. with a program that nothing asks for", lambda m, t: step(m, "join").update(
        program=step(m, "embed.own")["program"])),
    # steps
    ("embed.a of the kind conv, which", set_step("embed.a", op="conv")),
    (r"encoder.a \(layer\) with 0 reads", set_step("encoder.a", reads=[])),
    ("x that never runs", add("x", "layer", ["marked"], "y", lacks=["a", "b", "c"])),
    ("reads window.a, where its kind needs tokens", add("x", "mean", ["window.a"], "y", needs=["a"])),
    ("x .sax. that reads no window", add("x", "sax", ["marked"], "y")),
    ("x .patch. that reads no window", add("x", "patch", ["marked"], "y")),
    ("writes c0, a name graphs use", add("x", "concat", ["marked"], "c0", leaves="sum")),
    ("x that makes 3 tokens, whatever", add("x", "concat", ["marked"], "y", leaves="sum", tokens=3)),
    ("makes 12 tokens, the layout says 6", add("x", "concat", ["marked", "joined"], "y")),
    ("fusion .layer. that makes the sum", set_step("fusion", leaves="sum")),
    ("pair that names a sensor or a part twice", set_step("pair", needs=["a", "a", "b"])),
    ("averages values of different lengths", add("x", "mean", ["marked", "tokens.c"], "y")),
    ("head.a .layer. that writes logits, which it does not make", no_head),
    ("x .mean head. that writes y, which it does not", other_head),
    ("option norm is 'mid'", set_step("pair", options={"norm": "mid"})),
    ("option norm is None", set_step("pair", options={})),
    ("option tokens is True, not 1 to", set_step("embed.a", options={"tokens": True})),
    ("an option weighting that nothing", set_step("pair", options={"norm": "pre", "weighting": "raw"})),
    ("an option more that nothing asks for", set_step("join", options={"more": 1})),
    ("embed.a of 2 tokens that makes 3", set_step("embed.a", tokens=2)),
    ("holds a tensor pair.ffn.down.bias that nothing", half_a_layer),
    ("pair.attn with which 12 weights .norm_attn. and 0", set_block("pair", 0, shell_params=13)),
    ("pair.ffn with which 12 weights", set_block("pair", 1, shell=["norm_attn"])),
    ("encoder.b.ffn with which 64 weights .norm_ffn, halve. and 48", set_block("encoder.b", 1, shell_macs=0)),
    ("join.ffn that its step .concat. does not use", useless_block),
    ("codes whose parts do not make up", set_step("codes", parts=[])),
    ("head.both whose parts do not make up", set_step("head.both", parts=[])),
    ("weights of pair beside its units", set_step("pair", params_fixed=7)),
    ("head.a that multiplies 0 times per token, 0 .* and 12 per", set_step("head.a", macs_fixed=13)),
    ("head.both that multiplies", set_step("head.both", macs_per_entering=0)),
    ("join that multiplies", set_step("join", macs_per_token=1)),
    ("bank.c that multiplies", set_step("bank.c", macs_fixed=1)),
    ("embed.b that multiplies", set_step("embed.b", macs_fixed=0)),
    # tensors
    ("embed.c that multiplies", set_modality(2, channels=["x"])),
    ("lacks the weight fusion.norm_ffn.bias", lambda m, t: t.pop("weights.fusion.norm_ffn.bias")),
    ("lacks the weight codes.temporal", lambda m, t: t.pop("weights.codes.temporal")),
    ("codes.temporal as", set_tensor("weights.codes.temporal", np.ones(3))),
    ("1 rows in codes.temporal, where 3", short_codes),
    ("lacks the tensor gate.code.bias", lambda m, t: t.pop("gate.code.bias")),
    ("holds a tensor join.x that nothing", set_tensor("weights.join.x", np.ones(2))),
    ("weights.x.y, which belongs to no step", set_tensor("weights.x.y", np.ones(2))),
    ("of neither weights", set_tensor("other.x", np.ones(2))),
    ("beyond 1e\\+06", set_tensor("weights.head.a.norm.bias", np.full(D, 1e9))),
    ("deviations that are not positive", set_tensor("weights.embed.b.std", np.zeros(1))),
    ("deviations that are not positive", set_tensor("weights.embed.a.normalise.std", np.full(2, 1e-40))),
    ("gate whose scores overflow", set_tensor("gate.units.bias", lambda old: old + np.float32(99))),
]  # fmt: skip


@pytest.mark.parametrize(("words", "change"), CHECKS)
def test_what_is_wrong_is_refused_by_name(tmp_path, words, change):
    with pytest.raises(BundleError, match=words):
        change_and_load(tmp_path, change)


HUGE: dict[str, tuple[Step, ...]] = {
    "dense attention": (
        Step(
            "wide", "layer", ("joined",), "wide", blocks=(Block("wide.attn", "heads", 1, (0,), 1),)
        ),
    ),
    "as many channels": (
        Step("wide", "layer", ("joined",), "wide", blocks=(Block("wide.ffn", "ffn", 1 << 14),)),
    ),
    "uneven experts": (
        Step(
            "wide", "layer", ("joined",), "wide",
            blocks=(Block("wide.ffn", "ffn", 400, (*range(200), *[0] * 200), 0, 1, 1.0),),
        ),
    ),
    "joins of joins": tuple(
        Step(f"j{i}", "concat", ("joined", *(f"v{j}" for j in range(i))), f"v{i}", leaves="sum")
        for i in range(40)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE)
def test_what_takes_too_much_memory_is_refused_before_it_exists(name):
    made = layout(JOIN, *HUGE[name], HEAD)
    bank = Step("bank", "bank", (), "t.a", lacks=("a",), tokens=20_000)
    with pytest.raises(Inconsistent, match=r"numbers|uneven"):
        check_sizes(replace(made, attention=AttentionRule("dense"), steps=(bank, *made.steps)))


def test_a_long_sequence_is_fine_where_the_core_is_sparse():
    heads = Block("wide.attn", "heads", 8, (0,) * 8, 8)
    made = layout(JOIN, Step("wide", "layer", ("joined",), "wide", blocks=(heads,)), HEAD)
    bank = Step("bank", "bank", (), "t.a", lacks=("a",), tokens=20_000)
    check_sizes(replace(made, steps=(bank, *made.steps)))
    with pytest.raises(Inconsistent, match="numbers"):
        check_sizes(replace(made, attention=AttentionRule(sparse_from=1 << 20), steps=(bank, *made.steps)))
