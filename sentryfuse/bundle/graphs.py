"""ONNX bytes -> a graph of known operators, or nothing. The engine never sees what was not checked here.

First the wire format is walked without building anything, so that a small message cannot become a large
one in memory; then the message is parsed and held against closed lists.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from sentryfuse.bundle.container import Inconsistent, is_name
from sentryfuse.bundle.operators import ATTRIBUTES, FLAGS, OPERATORS

IR_VERSIONS = range(8, 14)
OPSETS = range(18, 26)
MAX_NODES = 2000
MAX_PARTS = 10_000  # nodes, constants, inputs, outputs of a graph together
MAX_BYTES = 2**18  # of a graph, the contents of its constants left out
MAX_RANK = 8
LARGEST = 1e9  # of a constant; what silences experts and pads maxima is as large
CONSTANTS: Mapping[int, type] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.INT64: np.int64,
    TensorProto.BOOL: np.bool_,
}
LENGTH_DELIMITED = 2
# numbers of fields in onnx.proto
MODEL_GRAPH, GRAPH_CONSTANT, TENSOR_CONTENT = 7, 5, 9


def read_graph(data: memoryview, key: str) -> ModelProto:
    """Parse and check one graph.

    Args:
        data: its bytes.
        key: its name in the manifest, for messages.

    Returns:
        A model with nodes in order, all of them in `OPERATORS`, constants inside, and the output `y`.

    Raises:
        Inconsistent: anything else.
    """
    try:
        _check_wire(data)
        model: ModelProto = ModelProto.FromString(bytes(data))
        model.DiscardUnknownFields()
        _check_model(model)
        _check_names(model.graph)
    except Inconsistent as error:
        raise Inconsistent(f"has a graph {key!r} {error}") from None
    except (DecodeError, ValueError):
        raise Inconsistent(f"has a graph {key!r} that is not ONNX") from None
    return model


def _check_wire(data: memoryview) -> None:
    graphs = [part for number, part in _parts(data) if number == MODEL_GRAPH]
    if len(graphs) != 1:
        raise Inconsistent(f"with {len(graphs)} bodies")
    size = len(data)
    for number, part in _parts(graphs[0]):
        if number == GRAPH_CONSTANT:
            size -= sum(len(content) for field, content in _parts(part) if field == TENSOR_CONTENT)
    if size > MAX_BYTES:
        raise Inconsistent(f"of {size} bytes beside its constants, more than the limit {MAX_BYTES}")


def _parts(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Fields of a message as (number, content), contents of numbers empty.

    Raises:
        Inconsistent: too many.
        ValueError: not a message.
    """
    at = count = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == LENGTH_DELIMITED:
            size, at = _varint(data, at)
        elif not size:
            raise ValueError("groups are not used in ONNX")
        if at + size > len(data):
            raise ValueError("ends too early")
        yield tag >> 3, data[at : at + size] if kind == LENGTH_DELIMITED else data[:0]
        at += size
        count += 1
        if count > MAX_PARTS:
            raise Inconsistent(f"of more than {MAX_PARTS} parts")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("ends too early")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number without end")


def _check_model(model: ModelProto) -> None:
    if model.ir_version not in IR_VERSIONS:
        raise Inconsistent(f"of ONNX IR version {model.ir_version}, which is not known")
    opsets = [(o.domain, o.version) for o in model.opset_import]
    if len(opsets) != 1 or opsets[0][0] or opsets[0][1] not in OPSETS:
        raise Inconsistent(f"of operator sets {opsets[:2]}, not one of version {OPSETS[0]} to {OPSETS[-1]}")
    graph = model.graph
    if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
        raise Inconsistent("with functions, training or sparse constants")
    if len(graph.node) > MAX_NODES:
        raise Inconsistent(f"of more than {MAX_NODES} nodes")
    for constant in graph.initializer:
        _check_constant(constant)
    for node in graph.node:
        _check_node(node)


def _check_constant(constant: TensorProto) -> None:
    if constant.external_data or constant.data_location != TensorProto.DEFAULT:
        raise Inconsistent("that takes data from other files")
    dtype = CONSTANTS.get(constant.data_type)
    dims = list(constant.dims)
    least = 0 if dtype is np.int64 and len(dims) == 1 else 1  # only a list of axes or sizes may be empty
    if dtype is None or constant.HasField("segment") or len(dims) > MAX_RANK or min(dims, default=1) < least:
        raise Inconsistent("with a constant of an unknown type or shape")
    if math.prod(dims) * np.dtype(dtype).itemsize != len(constant.raw_data):
        raise Inconsistent("with a constant whose shape is not that of its bytes")
    if dtype is np.float32 and not (np.abs(np.frombuffer(constant.raw_data, dtype)) <= LARGEST).all():
        raise Inconsistent(f"with a constant beyond {LARGEST:g}")


def _check_node(node: NodeProto) -> None:
    operator = OPERATORS.get(node.op_type)
    if operator is None or node.domain or node.overload:
        raise Inconsistent(f"with an operator that no export writes ({ascii(node.op_type)[:40]})")
    if not operator.least <= len(node.input) <= operator.most or len(node.output) != operator.outputs:
        raise Inconsistent(f"with {node.op_type} of {len(node.input)} inputs and {len(node.output)} outputs")
    seen = set()
    for attribute in node.attribute:
        if (
            attribute.name not in operator.attributes
            or attribute.type != ATTRIBUTES[attribute.name]
            or attribute.ref_attr_name
            or attribute.name in seen
        ):
            raise Inconsistent(f"with an attribute of {node.op_type} that no export writes")
        seen.add(attribute.name)
        # parts of an engine differ in whether 2 means yes
        if attribute.name in FLAGS and attribute.i not in (0, 1):
            raise Inconsistent(f"with an attribute of {node.op_type} that is neither 0 nor 1")
        if attribute.type == AttributeProto.FLOAT and not 0 < attribute.f <= 1:
            raise Inconsistent(f"with an attribute of {node.op_type} that is not within 0 to 1")


def _check_names(graph: GraphProto) -> None:
    """Every name is made once, before it is read: no cycles, nothing dangling."""
    names = [node.name for node in graph.node]
    if len(set(names)) < len(names) or not all(map(is_name, names)):
        raise Inconsistent("with nodes whose names are not their own")
    known: set[str] = set()

    def make(name: str) -> None:
        if not is_name(name) or name in known:
            raise Inconsistent("where a value has no name or two origins")
        known.add(name)

    for value in (*graph.input, *graph.initializer):
        make(value.name)
    if known & {"y"} or not {"x", "source"}.isdisjoint(c.name for c in graph.initializer):
        raise Inconsistent("whose constants take the place of what it reads or writes")
    for node in graph.node:
        if not known.issuperset(node.input):
            raise Inconsistent("that reads a value before it is made")
        for name in node.output:
            make(name)
    if [value.name for value in graph.output] != ["y"] or "y" not in known:
        raise Inconsistent("whose only output is not y")
