"""What is put together computes what the plain nodes compute, and what is not recognised stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from sentryfuse.bundle import load_bundle
from sentryfuse.engine.assemble import assemble, assemble_bytes
from sentryfuse.engine.engines import OnnxRuntime
from sentryfuse.engine.fuse import fuse
from sentryfuse.types import Budget
from tests.laws.hand_plans import any_plan
from tests.tiny import GOLDEN, SENSOR_SETS, tiny_batch

pytestmark = pytest.mark.device

node = helper.make_node


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(GOLDEN / "tiny-v1.bundle")


def plain_answer(model: onnx.ModelProto, feed):
    engine = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return engine.run(None, feed)[0]


@pytest.mark.parametrize("present", SENSOR_SETS, ids="+".join)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_fused_graph_answers_as_the_plain_one(bundle, present, batch):
    feed = {f"window.{name}": x for name, x in tiny_batch(batch).items() if name in present}
    for seed, plan in enumerate((bundle.plan(present), bundle.plan(present, Budget(ratio=0.4)))):
        for each in (plan, any_plan(bundle.layout, present, seed=seed)):
            model = assemble_bytes(bundle, each, batch=batch, fused=True)
            logits = OnnxRuntime().build(model, threads=1, batch=batch)(feed)
            want = plain_answer(assemble(bundle, each), feed)
            np.testing.assert_allclose(logits, want, atol=1e-5, rtol=1e-5)


def check(nodes, values, shapes, *, ops, settled=True):
    """Fuse, and compare with the plain nodes on random inputs `i*`; `out*` are what is made."""
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    held = [onnx.numpy_helper.from_array(x, name) for name, x in values.items()]
    made = [n for each in nodes for n in each.output if n.startswith("out")]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in made]
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]

    def model(parts, constants):
        graph = helper.make_graph(parts, "g", inputs, outputs, constants)
        return helper.make_model(graph, opset_imports=opsets, ir_version=11)

    inferred = onnx.shape_inference.infer_shapes(model(nodes, held)).graph
    sizes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    known = dict(values)
    fused = fuse(nodes, known, sizes, made, settled=settled)
    assert sorted(each.op_type for each in fused) == sorted(ops)
    rng = np.random.default_rng(0)
    feed = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    want = ort.InferenceSession(model(nodes, held).SerializeToString()).run(made, feed)
    now = model(fused, [onnx.numpy_helper.from_array(x, name) for name, x in known.items()])
    got = ort.InferenceSession(now.SerializeToString()).run(made, feed)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def slices(*ranges, of="i"):
    values: dict[str, np.ndarray] = {}
    nodes = []
    for k, (start, end) in enumerate(ranges):
        names = [f"{of}{k}{part}" for part in "sea"]
        numbers = (start, end, 1)
        values |= {n: np.array([x], np.int64) for n, x in zip(names, numbers, strict=True)}
        nodes.append(node("Slice", [of, *names], [f"out{of}{k}"]))
    return nodes, values


WHOLE = 2**63 - 1


@pytest.mark.parametrize(
    ("ranges", "ops"),
    [
        (((0, 3), (3, WHOLE)), ["Split"]),
        (((3, 7), (0, 3)), ["Split"]),
        (((0, 3), (2, 7)), ["Slice"] * 2),
        (((0, 3), (3, 6)), ["Slice"] * 2),
        (((0, 7),), ["Slice"]),
    ],
    ids=["two parts", "out of order", "overlapping", "not all", "one"],
)
def test_slices_that_make_up_a_value_are_one_split(ranges, ops):
    nodes, values = slices(*ranges)
    check(nodes, values, {"i": (2, 7)}, ops=ops)
    check(nodes, values, {"i": (2, 7)}, ops=["Slice"] * len(ranges), settled=False)


def test_a_slice_of_a_slice_is_a_slice():
    outer, values = slices((0, 3), (3, 7))
    outer[1].output[0] = "rest"
    inner, more = slices((0, 1), (1, WHOLE), of="rest")
    check([*outer, *inner], values | more, {"i": (2, 7)}, ops=["Split"])


@pytest.mark.parametrize("exposed", [False, True])
def test_scaled_dot_products_are_one_attention(exposed):
    logits = "out_logits" if exposed else "logits"
    nodes = [
        node("Mul", ["q", "scale"], ["scaled"]),
        node("Transpose", ["k"], ["turned"], perm=[0, 1, 3, 2]),
        node("MatMul", ["scaled", "turned"], [logits]),
        node("Softmax", [logits], ["weights"], axis=-1),
        node("MatMul", ["weights", "v"], ["out"]),
    ]
    shapes = {"q": (2, 3, 5, 4), "k": (2, 3, 6, 4), "v": (2, 3, 6, 4)}
    kept = ["FusedMatMul", "MatMul", "Mul", "Softmax"]  # the logits are wanted, so they must exist
    check(nodes, {"scale": np.array([0.5], np.float32)}, shapes, ops=kept if exposed else ["Attention"])
