"""ONNX models as bytes, put together from pieces that are ready: no message is built, copied or walked.

A protobuf message is its fields one after another, each with its number and its length, so a graph is the
concatenation of its nodes' and tensors' bytes, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

Pieces = list[bytes | memoryview]

# field numbers of onnx.proto
_GRAPH_NODE, _GRAPH_NAME, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 2, 5, 11, 12
_MODEL_GRAPH = 7
_TENSOR_RAW = 9
_type_of = cache(helper.np_dtype_to_tensor_dtype)


def node_bytes(node: NodeProto) -> bytes:
    """One node as a field of a graph."""
    return _field(_GRAPH_NODE, node.SerializeToString())


def tensor_pieces(name: str, value: NDArray[Any]) -> Pieces:
    """One initialiser as a field of a graph; a contiguous array is not copied.

    Args:
        name: of the initialiser.
        value: of any shape and a type that ONNX knows.

    Returns:
        Pieces to join; the last one is the array's own memory.
    """
    value = np.asarray(value, order="C")
    head = TensorProto(dims=value.shape, data_type=_type_of(value.dtype), name=name).SerializeToString()
    head += _head(_TENSOR_RAW, value.nbytes)
    body = value.reshape(-1).view(np.uint8).data if value.nbytes else b""
    return [_head(_GRAPH_INITIALIZER, len(head) + value.nbytes) + head, body]


def model_bytes(
    pieces: Pieces,
    *,
    inputs: Iterable[tuple[str, Sequence[int | str]]],
    output: tuple[str, Sequence[int | str]],
    header: bytes,
) -> bytes:
    """A whole model.

    Args:
        pieces: nodes in order, and initialisers.
        inputs: name and shape of each float32 input.
        output: name and shape of the float32 output.
        header: of `model_header`.

    Returns:
        What `ModelProto.FromString` reads.
    """
    about = _field(_GRAPH_NAME, b"sentryfuse")
    for field, values in ((_GRAPH_INPUT, inputs), (_GRAPH_OUTPUT, [output])):
        for name, shape in values:
            info = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            about += _field(field, info.SerializeToString())
    size = sum(map(len, pieces)) + len(about)
    return b"".join([header, _head(_MODEL_GRAPH, size), about, *pieces])


def model_header(model: ModelProto, *, opset: int = 0, own: str = "") -> bytes:
    """Versions of a model, without its graph.

    Args:
        model: whose versions are taken.
        opset: least version of the ONNX operators.
        own: one more domain whose operators are used.
    """
    header = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    for entry in header.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version < opset:
            entry.version = opset
            header.ir_version = max(model.ir_version, helper.find_min_ir_version_for(header.opset_import))
    if own:
        header.opset_import.append(helper.make_opsetid(own, 1))
    made: bytes = header.SerializeToString()
    return made


def _field(number: int, body: bytes) -> bytes:
    return _head(number, len(body)) + body


def _head(number: int, length: int) -> bytes:
    """Number and length of a field that has a length."""
    head = bytearray([number << 3 | 2])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)
