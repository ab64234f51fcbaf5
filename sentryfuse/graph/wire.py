"""ONNX as bytes, without the onnx package: the few messages of its protobuf schema that a graph needs.

Numbers are those of `onnx.proto3`: field numbers of ModelProto, GraphProto, NodeProto, TensorProto,
AttributeProto and ValueInfoProto. The onnx package reads what is written here (tests do).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

OWN = "com.microsoft"  # domain of onnxruntime's own operators
TREES = "ai.onnx.ml"  # domain of ensembles of trees
OPSET, PLAIN_OPSET = 23, 20  # 23 is the first with Attention
IR_VERSION = 10
PRODUCER = "sentryfuse"
VERSIONS = {OWN: 1, TREES: 3}  # of operators beside the standard ones
DATA_TYPES = {"<f4": 1, "<i8": 7, "|b1": 9}  # numbers of TensorProto.DataType
Piece = bytes | memoryview
Shape = Sequence[int | str]
cached = lru_cache(maxsize=8192, typed=True)  # typed: 1 and 1.0 are different attributes


@cached
def varint(n: int) -> bytes:
    """A whole number in base 128, negative ones as 64-bit two's complement."""
    out = bytearray()
    n &= (1 << 64) - 1
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def message(number: int, *body: bytes) -> bytes:
    """A field that holds a message or bytes."""
    return varint(number << 3 | 2) + varint(sum(map(len, body))) + b"".join(body)


@cached
def text(number: int, value: str) -> bytes:
    """A field that holds a string."""
    return message(number, value.encode())


@cached
def whole(number: int, value: int) -> bytes:
    """A field that holds a whole number."""
    return varint(number << 3) + varint(value)


@cached
def attribute(name: str, value: float | int | str | tuple[int, ...]) -> bytes:
    """An attribute of a node; whole numbers and floats are told apart by their Python type."""
    if isinstance(value, float):
        body = b"\x15" + np.float32(value).tobytes() + whole(20, 1)
    elif isinstance(value, int):
        body = whole(3, value) + whole(20, 2)
    elif isinstance(value, str):
        body = text(4, value) + whole(20, 3)
    else:
        body = b"".join(whole(8, n) for n in value) + whole(20, 7)
    return message(5, text(1, name), body)


def attribute_of_many(name: str, values: NDArray[Any] | list[str]) -> bytes:
    """An attribute of a node that holds many numbers or strings; whole numbers are not negative."""
    if isinstance(values, list):
        body = b"".join([text(9, value) for value in values]) + whole(20, 8)
    elif values.dtype.kind == "f":
        body = message(7, values.astype("<f4").tobytes()) + whole(20, 6)
    else:
        body = message(8, varints(values)) + whole(20, 7)
    return message(5, text(1, name), body)


def varints(values: NDArray[Any]) -> bytes:
    """Whole numbers of at most 28 bits in base 128, one after the other."""
    parts = values.astype(np.int64)[:, None] >> np.arange(0, 28, 7)
    more = np.concatenate([parts[:, 1:] > 0, np.zeros((len(parts), 1), bool)], axis=1)
    there = np.concatenate([np.ones((len(parts), 1), bool), more[:, :-1]], axis=1)
    return bytes(((parts & 127) | (more * 128))[there].astype(np.uint8).tobytes())


def node(
    kind: str, reads: Sequence[str], writes: Sequence[str], name: str, options: Mapping[str, Any], domain: str
) -> tuple[Piece, ...]:
    """One operator as it stands in a graph."""
    body = b"".join(
        (
            *(text(1, value) for value in reads),
            *(text(2, value) for value in writes),
            text(3, name),
            text(4, kind),
            *(
                attribute_of_many(key, value)
                if isinstance(value, np.ndarray | list)
                else attribute(key, value)
                for key, value in options.items()
            ),
            text(7, domain),
        )
    )
    return b"\x0a" + varint(len(body)), body


def tensor(name: str, value: NDArray[Any]) -> tuple[Piece, ...]:
    """A constant as it stands in a graph, float32, int64 or bool; its numbers are not copied."""
    start = b"".join(whole(1, n) for n in value.shape) + whole(2, DATA_TYPES[value.dtype.str]) + text(8, name)
    start += varint(9 << 3 | 2) + varint(value.nbytes)
    return (
        varint(5 << 3 | 2) + varint(len(start) + value.nbytes) + start,
        value.reshape(-1).view(np.uint8).data,
    )


def described(number: int, name: str, shape: Shape) -> bytes:
    """An input or output of a graph: float32, with the sizes that are known and names for the others."""
    sizes = b"".join(message(1, text(2, n) if isinstance(n, str) else whole(1, n)) for n in shape)
    return message(number, text(1, name), message(2, message(1, whole(1, 1), message(2, sizes))))


def model(
    pieces: Iterable[Piece],
    inputs: Mapping[str, Shape],
    output: tuple[str, Shape],
    *,
    fused: bool,
    domains: Iterable[str] = (),
) -> bytes:
    """The whole file.

    Args:
        pieces: nodes in the order they run, and constants.
        inputs: name -> shape.
        output: name and shape.
        fused: nodes of onnxruntime's own and of the newest operator set are among the pieces.
        domains: others that nodes are of.
    """
    about = text(2, PRODUCER) + b"".join(described(11, *item) for item in inputs.items())
    about += described(12, *output)
    held = [*pieces]
    size = len(about) + sum(map(len, held))
    head = whole(1, IR_VERSION) + message(8, whole(2, OPSET if fused else PLAIN_OPSET))
    for domain in ([OWN] if fused else []) + [name for name in domains if name != OWN]:
        head += message(8, text(1, domain), whole(2, VERSIONS[domain]))
    return b"".join([head, varint(7 << 3 | 2), varint(size), about, *held])
