"""Single checks of the reader: routes for every set of sensors, sizes, closed lists. No torch."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper
from sentryfuse.bundle.operators import OPERATORS, Value
from sentryfuse.bundle.shapes import follow, nodes_of

from sentryfuse.bundle import load_bundle, save_bundle
from sentryfuse.bundle.container import Inconsistent
from sentryfuse.bundle.routes import check_routes
from sentryfuse.errors import BundleError
from sentryfuse.planning.layout import AttentionRule, Layout, Step
from sentryfuse.types import Modality
from tests.bundle.mutants import taken_apart
from tests.tiny import GOLDEN

pytestmark = pytest.mark.device

GOOD = (GOLDEN / "tiny-v2.bundle").read_bytes()
NAMES = ("a", "b", "c")


def layout(*steps: Step, names: tuple[str, ...] = NAMES) -> Layout:
    modalities = tuple(Modality(name, 1.0, 4, ("x",)) for name in names)
    embeds = (Step(f"e.{n}", "embed", (f"window.{n}",), f"t.{n}", needs=(n,), tokens=2) for n in names)
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


HEAD = Step("head", "head", ("joined",), "logits")
JOIN = Step("join", "concat", ("t.a", "t.b", "t.c"), "joined")
ROUTES: dict[str, tuple[Step, ...]] = {
    "joined": (JOIN, HEAD),
    "no head": (JOIN,),
    "one sensor forgotten": (Step("join", "concat", ("t.a", "t.b"), "joined"), HEAD),
    "head of one": (Step("head", "head", ("t.a",), "logits"),),
    "a bank for the others": (
        *(Step(f"bank.{n}", "bank", (), f"t.{n}", lacks=(n,), tokens=1) for n in NAMES),
        Step("pair", "layer", ("t.a", "t.b"), "paired"),
        Step("head", "head", ("paired",), "logits"),
    ),
    "a bank missing": (
        Step("bank.a", "bank", (), "t.a", lacks=("a",), tokens=1),
        Step("pair", "layer", ("t.a", "t.b"), "paired"),
        Step("head", "head", ("paired",), "logits"),
    ),
    "a pair that runs with one": (
        Step("pair", "layer", ("t.a", "t.b"), "paired", needs=("a",)),
        Step("join", "concat", ("paired", "t.a", "t.b", "t.c"), "joined"),
        HEAD,
    ),
    "two heads": (
        JOIN,
        Step("h.1", "head", ("joined",), "logits", needs=("a",)),
        Step("h.2", "head", ("joined",), "logits", lacks=("a",)),
    ),
    "two heads at once": (
        JOIN,
        Step("h.1", "head", ("joined",), "logits", needs=("a",)),
        Step("h.2", "head", ("joined",), "logits", lacks=("b",)),
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
        (JOIN, Step("raw", "layer", ("window.a",), "raw", needs=("a",)), HEAD),
        (JOIN, Step("embed", "embed", ("window.a",), "always", tokens=1), HEAD),
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


def arrays() -> dict[str, tuple[list[np.ndarray], dict[str, Any]]]:
    x, y = np.ones((2, 3, 4), np.float32), np.ones((4, 5), np.float32)
    i = np.array([2, 0], np.int64)
    return {
        "MatMul": ([x, y], {}),
        "Gemm": ([x[0], y.T, np.ones(5, np.float32)], {"transB": 1}),
        "Concat": ([x, x, x], {"axis": -1}),
        "Gather": ([x, i], {"axis": 1}),
        "Transpose": ([x], {"perm": [2, 0, 1]}),
        "ReduceMean": ([x, np.array([-1, 0])], {"keepdims": 0}),
        "ReduceSum": ([x, np.array([1])], {}),
        "Reshape": ([x, np.array([-1, 6])], {}),
        "Unsqueeze": ([x, np.array([0, -1])], {}),
        "Squeeze": ([x[:1, :, :1]], {}),
        "Slice": ([x, np.array([-1]), np.array([-100]), np.array([2]), np.array([-2])], {}),
        "Pad": ([x, np.array([0, 1, 2, 0, 0, 3]), np.zeros((), np.float32)], {"mode": "constant"}),
        "Expand": ([x[:, :1], np.array([2, 3, 4])], {}),
        "Where": ([x > 0, x, np.zeros((), np.float32)], {}),
        "GatherElements": ([x, np.zeros((1, 3, 9), np.int64)], {"axis": 2}),
        "ScatterElements": ([x, np.zeros((1, 3, 1), np.int64), x[:1, :, :1]], {"axis": 2}),
        "TopK": ([x, np.array([2])], {"axis": -1}),
        "Split": ([x, np.array([1, 3])], {"axis": 2}),
        "LayerNormalization": ([x, y[:, 0], y[:, 1]], {"axis": -1}),
        "Softmax": ([x], {"axis": 1}),
        "Equal": ([x, x[0]], {}),
        "Div": ([np.array([7, 9]), np.array([2])], {}),
        "Shape": ([x], {"start": 1}),
        "Cast": ([x], {"to": 7}),
        "IsNaN": ([x], {}),
        "Clip": ([x, np.zeros((), np.float32), np.ones((), np.float32)], {}),
    }


@pytest.mark.parametrize("name", arrays())
def test_rules_agree_with_the_engine(name):
    import onnxruntime as ort

    given, options = arrays()[name]
    names = [f"i{i}" for i in range(len(given))]
    made = [f"o{i}" for i in range(OPERATORS[name].outputs)]
    kinds = {"float32": ("f", 1), "int64": ("i", 7), "bool": ("b", 9)}
    graph = helper.make_graph(
        [helper.make_node(name, names, made, **options)],
        "one",
        [
            helper.make_tensor_value_info(n, kinds[str(a.dtype)][1], a.shape)
            for n, a in zip(names, given, strict=True)
        ],
        [helper.make_empty_tensor_value_info(n) for n in made],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, dict(zip(names, given, strict=True)))
    values: list[Any] = [
        Value(kinds[str(a.dtype)][0], a.shape, a if a.dtype == np.int64 else None)  # type: ignore[arg-type]
        for a in given
    ]
    encoded = {k: v.encode() if isinstance(v, str) else v for k, v in options.items()}
    for value, array in zip(OPERATORS[name].rule(values, encoded), wanted, strict=True):
        assert (value.kind, value.shape) == (kinds[str(array.dtype)][0], array.shape)
        if value.known is not None:
            np.testing.assert_array_equal(value.known, array)


def test_what_is_too_large_is_refused_before_it_exists():
    graph = helper.make_graph(
        [helper.make_node("Expand", ["x", "size"], ["y"])],
        "one",
        [],
        [],
        [numpy_helper.from_array(np.arange(2))],
    )
    given = {"x": Value("f", (1, 1)), "size": Value("i", (2,), np.array([10**5, 10**5]))}
    with pytest.raises(ValueError, match=r"Expand makes \(100000, 100000\)"):
        follow(nodes_of(graph), given, 10**8)


def test_a_size_that_follows_from_the_data_is_refused():
    graph = helper.make_graph([helper.make_node("Expand", ["x", "size"], ["y"])], "one", [], [])
    with pytest.raises(ValueError, match="does not follow"):
        follow(nodes_of(graph), {"x": Value("f", (1,)), "size": Value("i", (1,))}, 10**8)


def change_and_load(tmp_path: Path, change: Any) -> None:
    manifest, tensors = taken_apart(GOOD)
    manifest = copy.deepcopy(manifest)
    change(manifest, tensors)
    manifest.pop("digests", None)
    save_bundle(tmp_path / "changed.bundle", manifest=manifest, tensors=tensors)
    load_bundle(tmp_path / "changed.bundle")


def test_fields_of_later_versions_are_left_alone(tmp_path):
    change_and_load(tmp_path, lambda m, t: m.update(signature={"by": "somebody"}))


def set_step(m: dict[str, Any], i: int, **fields: Any) -> None:
    m["layout"]["steps"][i].update(fields)


def set_units(m: dict[str, Any], units: int) -> None:
    m["layout"]["steps"][1]["blocks"][0]["units"] = units


def drop_channel(m: dict[str, Any]) -> None:
    m["layout"]["modalities"][0]["channels"].pop()


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("units is 1000000000000, not a whole", lambda m, t: set_units(m, 10**12)),
        ("length is 1000000000, not", lambda m, t: m["layout"]["modalities"][0].update(length=10**9)),
        ("rate_hz is -1.0, not a number", lambda m, t: m["layout"]["modalities"][0].update(rate_hz=-1.0)),
        ("rate_hz is True", lambda m, t: m["layout"]["modalities"][0].update(rate_hz=True)),
        ("tokens is 1000000000000", lambda m, t: set_step(m, 0, tokens=10**12)),
        ("macs_fixed is -1", lambda m, t: set_step(m, 0, macs_fixed=-1)),
        ("modality acc 2 times", lambda m, t: m["layout"]["modalities"][2].update(name="acc")),
        ("weights of embed.acc beside", lambda m, t: set_step(m, 0, params_fixed=7)),
        ("as \\(3,\\), the layout asks for \\(2,\\)", lambda m, t: drop_channel(m)),
        ("not positive", lambda m, t: t.update({"weights.embed.acc.normalise.std": np.zeros(3, np.float32)})),
        ("beyond 1e\\+06", lambda m, t: t.update({"weights.head.norm.bias": np.full(16, 1e9, np.float32)})),
        ("subject_floor", lambda m, t: m.update(subject_floor={"acc": [1.0, 0.0]})),
        ("no step uses", lambda m, t: (m["graphs"].append("g"), t.update({"graph.6": t["graph.0"]}))),
        ("classes is .*, not a short name", lambda m, t: m.update(classes=["a", "\x1b[2J"])),
    ],
)  # fmt: skip
def test_what_a_field_says_is_checked_and_named(tmp_path, words, change):
    with pytest.raises(BundleError, match=words):
        change_and_load(tmp_path, change)


def test_graphs_of_different_versions_are_refused(tmp_path):
    def change(m: Any, t: dict[str, np.ndarray]) -> None:
        model = ModelProto.FromString(t["graph.0"].tobytes())
        model.opset_import[0].version = 21
        t["graph.0"] = np.frombuffer(model.SerializeToString(), np.uint8)

    with pytest.raises(BundleError, match="different ONNX versions"):
        change_and_load(tmp_path, change)


@pytest.mark.parametrize(("attribute", "value"), [("keepdims", 99), ("largest", 2), ("epsilon", -1.0)])
def test_attributes_that_engines_read_differently_are_refused(tmp_path, attribute, value):
    """Any number but 0 may mean yes to one part of an engine and no to another."""

    def change(m: Any, t: dict[str, np.ndarray]) -> None:
        for name in [name for name in t if name.startswith("graph.")]:
            model = ModelProto.FromString(t[name].tobytes())
            for found in (a for node in model.graph.node for a in node.attribute if a.name == attribute):
                found.CopyFrom(helper.make_attribute(attribute, value))
            t[name] = np.frombuffer(model.SerializeToString(), np.uint8)

    with pytest.raises(BundleError, match="attribute"):
        change_and_load(tmp_path, change)


def test_a_constant_of_nothing_is_refused(tmp_path):
    """The engine takes it, and fails later, with the number of windows."""

    def change(m: Any, t: dict[str, np.ndarray]) -> None:
        for name in [name for name in t if name.startswith("graph.")]:
            model = ModelProto.FromString(t[name].tobytes())
            for constant in model.graph.initializer:
                if constant.data_type == 1:
                    constant.CopyFrom(numpy_helper.from_array(np.zeros(0, np.float32), constant.name))
            t[name] = np.frombuffer(model.SerializeToString(), np.uint8)

    with pytest.raises(BundleError, match="unknown type or shape"):
        change_and_load(tmp_path, change)


@pytest.mark.parametrize("kind", ["f", "b"])
def test_a_value_of_nothing_is_refused(kind):
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "one", [], [])
    with pytest.raises(ValueError, match=r"Identity makes \(2, 0\)"):
        follow(nodes_of(graph), {"x": Value(kind, (2, 0))}, 10**8)


def test_sizes_that_are_a_single_number_are_refused():
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "size"], ["y"])], "one", [], [])
    with pytest.raises(ValueError, match="does not follow"):
        follow(nodes_of(graph), {"x": Value("f", (4,)), "size": Value("i", (), np.array(4))}, 10**8)


@pytest.mark.parametrize("name", ["", "same", "a\nb"])
def test_nodes_without_names_of_their_own_are_refused(tmp_path, name):
    def change(m: Any, t: dict[str, np.ndarray]) -> None:
        model = ModelProto.FromString(t["graph.0"].tobytes())
        for node in model.graph.node:
            node.name = name
        t["graph.0"] = np.frombuffer(model.SerializeToString(), np.uint8)

    with pytest.raises(BundleError, match="nodes whose names"):
        change_and_load(tmp_path, change)


@pytest.mark.parametrize(("axis", "fits"), [(2, True), (1, False)])
def test_positions_that_only_the_engine_knows_stay_inside(axis, fits):
    """The best 2 of 9 are positions below 9: along that axis, and along no shorter one."""
    nodes = [
        helper.make_node("TopK", ["x", "two"], ["best", "at"]),
        helper.make_node("GatherElements", ["x", "at"], ["y"], axis=axis),
    ]
    given = {"x": Value("f", (1, 4, 9)), "two": Value("i", (1,), np.array([2]))}
    graph = nodes_of(helper.make_graph(nodes, "one", [], []))
    if fits:
        assert follow(graph, given, 10**8).shape == (1, 4, 2)
    else:
        with pytest.raises(ValueError, match="positions that may not be there"):
            follow(graph, given, 10**8)
