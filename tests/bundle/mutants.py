"""Damaged and hostile bundles made from a good one, the same ones for the same seed.

Each mutant is a label and the bytes of a file. `damaged` ones keep the old digests, as a broken disk or a bad
copy leaves them. The others are signed again, as somebody who knows the format would do: only their content
can give them away, and a few of them are sound.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sentryfuse.bundle import SEAL

Manifest = dict[str, Any]
Tensors = dict[str, np.ndarray]
DTYPES = {"float32": "F32", "uint8": "U8", "float64": "F64", "int64": "I64", "float16": "F16", "bool": "BOOL"}
WRONG: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 63, 10**12, 2**63, -(2**63), 10**40, 1.5, -0.0, 1e308, 1e-320),
    *(
        "",
        "x",
        "acc",
        "window.acc",
        "logits",
        "sparse",
        "../../etc/passwd",
        "a\nb",
        "\x1b[2J",
        "\ud800",
        "x" * 10**4,
    ),
    *([], [0], [None], ["x"], [[[]]], {}, {"x": 1}, [10**12] * 3, ["acc"] * 99, float("nan"), float("inf")),
)


UNKNOWN = (
    *(
        "Loop",
        "If",
        "Scan",
        "Resize",
        "RandomNormal",
        "ConstantOfShape",
        "Range",
        "NonZero",
        "Tile",
        "Constant",
    ),
    *("StringConcat", "Optional", "SequenceEmpty", "Custom", "add", ""),
)


class Mutant(NamedTuple):
    """A bundle that is not what it was.

    Attributes:
        label: what was done.
        content: bytes of the file.
        signed: the digests fit, so a reader may find nothing wrong.
    """

    label: str
    content: bytes
    signed: bool


def taken_apart(content: bytes) -> tuple[Manifest, Tensors]:
    """Manifest and tensors of a bundle, the seal left out."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    manifest = json.loads(header.pop("__metadata__")["manifest"])
    dtypes = {"F32": np.float32, "U8": np.uint8}
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + at for at in entry["data_offsets"])
        tensors[name] = np.frombuffer(content[start:end], dtypes[entry["dtype"]]).reshape(entry["shape"])
    del tensors[SEAL]
    return manifest, tensors


def signed(manifest: Manifest, tensors: Tensors) -> bytes:
    """A file whose digests fit, whatever it holds."""
    manifest = {"format": 1, **manifest, "digests": {name: _digest(t) for name, t in tensors.items()}}
    return sealed(json.dumps(manifest, sort_keys=True), tensors)


def sealed(text: str, tensors: Tensors) -> bytes:
    """A file whose manifest is this text, with a seal that fits."""
    seal = hashlib.sha256(text.encode(errors="replace")).digest()
    tensors = tensors | {SEAL: np.frombuffer(seal, np.uint8)}
    header, at = {"__metadata__": {"manifest": text}}, 0
    for name, t in tensors.items():
        entry: Any = {
            "dtype": DTYPES[str(t.dtype)],
            "shape": list(t.shape),
            "data_offsets": [at, at + t.nbytes],
        }
        header[name], at = entry, at + t.nbytes
    return packed(json.dumps(header).encode(), b"".join(t.tobytes() for t in tensors.values()))


def packed(header: bytes, body: bytes) -> bytes:
    """A safetensors file of any header and any body."""
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + body


def broken_copies(good: bytes, rng: random.Random, n: int) -> Iterator[Mutant]:
    """Truncated, flipped, overwritten, shifted."""
    length = 8 + int.from_bytes(good[:8], "little")
    for i in range(n):
        where = rng.choice([range(8), range(8, length), range(length, len(good)), range(len(good))])
        at, kind = rng.choice(where), i % 6
        content = bytearray(good)
        if kind == 0:
            del content[at:]
        elif kind == 1:
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            for _ in range(rng.randrange(2, 60)):
                content[rng.choice(where)] ^= 1 << rng.randrange(8)
        elif kind == 3:
            size = rng.choice([1, 7, 512, 4096])
            new = rng.randbytes(size) if rng.random() < 0.5 else rng.choice([b"\0", b"\xff"]) * size
            content[at : at + size] = new if new != content[at : at + size] else b"\x55" * size
        elif kind == 4:
            del content[at : at + rng.choice([1, 8, 512, 4096])]
        else:
            content[at:at] = rng.randbytes(rng.choice([1, 8, 4096]))
        yield Mutant(f"copy: {kind} at {at}", bytes(content), signed=False)


def broken_headers(good: bytes, rng: random.Random, n: int) -> Iterator[Mutant]:
    """Entries that lie about place, type and shape; headers of any size. The seal fits its manifest."""
    length = int.from_bytes(good[:8], "little")
    body = good[8 + length :]
    names = [name for name in json.loads(good[8 : 8 + length]) if name != "__metadata__"]
    for i in range(n):
        header = json.loads(good[8 : 8 + length])
        name, other = rng.sample(names, 2)
        entry = header[name]
        start, end = entry["data_offsets"]
        big = rng.choice([2**31, 2**32, 2**62, 2**63 - 1, 2**64, 10**30])
        changes: dict[str, Any] = {
            "swapped": lambda h=header, a=name, b=other: h.update({a: h[b], b: h[a]}),
            "overlap": lambda e=entry, o=header[other]: e.update(data_offsets=o["data_offsets"]),
            "hole": lambda e=entry, a=start, b=end: e.update(data_offsets=[a + 4, b + 4]),
            "backwards": lambda e=entry, a=start, b=end: e.update(data_offsets=[b, a]),
            "negative": lambda e=entry, b=end: e.update(data_offsets=[-4, b]),
            "far": lambda e=entry, a=start, big=big: e.update(data_offsets=[a, a + big]),
            "huge shape": lambda e=entry, big=big: e.update(shape=[big, 4]),
            "product of 0": lambda e=entry, big=big: e.update(shape=[big, 0, 4]),
            "product that wraps": lambda e=entry: e.update(shape=[2**32, 2**32, *e["shape"]]),
            "negative shape": lambda e=entry: e.update(shape=[-1, *e["shape"]]),
            "deep shape": lambda e=entry: e.update(shape=[1] * 60 + e["shape"]),
            "ones": lambda e=entry: e.update(shape=[1, *e["shape"]]),
            "other type": lambda e=entry: e.update(
                dtype=rng.choice(["F64", "I32", "BOOL", "F4", "", None, 3, []])
            ),
            "more fields": lambda e=entry: e.update(more=1),
            "not an entry": lambda h=header, a=name: h.update({a: rng.choice([None, [], "x", 3, {}])}),
            "gone": lambda h=header, a=name: h.pop(a),
            "renamed": lambda h=header, a=name: h.update({rng.choice(["x", "", "\n", "a" * 999]): h.pop(a)}),
            "metadata": lambda h=header: h.update(
                __metadata__=rng.choice([None, [], {}, {"manifest": 3}, "x"])
            ),
            "float place": lambda e=entry, a=start, b=end: e.update(data_offsets=[float(a), float(b)]),
            "true place": lambda e=entry: e.update(data_offsets=[False, True]),
            "short place": lambda e=entry, a=start: e.update(data_offsets=[a]),
        }
        label = [*changes][i % len(changes)]
        changes[label]()
        yield Mutant(f"header: {label} of {name}", packed(json.dumps(header).encode(), body), signed=False)
    text = good[8 : 8 + length].rstrip()
    many = ",".join(
        f'"t{i}":{{"dtype":"F32","shape":[1],"data_offsets":[{4 * i},{4 * i + 4}]}}' for i in range(10**5)
    )
    raw = {
        "100,000 entries": b"{" + many.encode() + b"}",
        "100,000 entries more": text[:-1] + b"," + many.encode() + b"}",
        "deep": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "deep list": b'{"a":' + b"[" * 90_000 + b"]" * 90_000 + b"}",
        "wide list": b'{"a":[' + b"[],{}," * 10**6 + b"1]}",
        "one name": b'{"' + b"a" * 5_000_000 + b'":1}',
        "a long number": b'{"a":' + b"9" * 10**6 + b"}",
        "twice": text[:-1] + b"," + text[1:],
        "not UTF-8": text.replace(b"embed", b"emb\xffd"),
        "a list": b"[" + text + b"]",
        "NaN": text[:-1] + b',"x":NaN}',
        "space before": b"  " + text,
        "nothing": b"",
        "braces": b"{}",
    }
    for label, content in raw.items():
        yield Mutant(f"header: {label}", packed(content, body), signed=False)
    for size in (0, 1, 2**31, 2**40, 2**63, 2**64 - 1, len(good), len(good) - 8):
        yield Mutant(f"header of {size} bytes", size.to_bytes(8, "little") + good[8:], signed=False)


def broken_manifests(good: bytes, rng: random.Random, n: int) -> Iterator[Mutant]:
    """Every place of the JSON tree removed, repeated, or filled with something else."""
    manifest, tensors = taken_apart(good)
    manifest.pop("digests")
    places = [*_places(manifest, ())]
    rng.shuffle(places)
    for i in range(n):
        *path, last = places[i % len(places)]
        changed = copy.deepcopy(manifest)
        node: Any = changed
        for step in path:
            node = node[step]
        kind, value = rng.randrange(8), copy.deepcopy(rng.choice(WRONG))
        if kind == 0:
            del node[last]
        elif kind == 1 and isinstance(node, list):
            node.append(node[last])
        elif kind == 1:
            node[value if isinstance(value, str) else "more"] = node[last]
        elif kind == 2 and isinstance(node[last], int | float) and not isinstance(node[last], bool):
            node[last] = rng.choice(
                [node[last] * 2, node[last] + 1, -node[last], node[last] * 10**6, float(node[last])]
            )
        elif kind == 3:
            node[last] = copy.deepcopy(_at(manifest, rng.choice(places)))
        else:
            node[last] = value
        label = ".".join(map(str, (*path, last)))
        text = f"manifest: {label} {kind} {ascii(value)[:30]}"
        if changed.get("format") == 1 and type(changed["format"]) is int:
            yield Mutant(text, signed(changed, tensors), signed=True)
        else:
            yield Mutant(text, signed({**changed, "format": changed.get("format")}, tensors), signed=False)
    for label, raw in {
        "deep": '{"format":1,"a":' * 40_000 + "1" + "}" * 40_000,
        "twice": '{"format":1,' + json.dumps(manifest)[1:],
        "nothing": "",
        "null": "null",
        "wide": '{"format":1,"a":[' + "1," * 10**6 + "1]}",
    }.items():
        yield Mutant(f"manifest: {label}", sealed(raw, tensors), signed=False)


def broken_tensors(good: bytes, rng: random.Random, n: int) -> Iterator[Mutant]:
    """Weights of another shape, type or content, missing, renamed; digests fit."""
    manifest, tensors = taken_apart(good)
    floats = [name for name, t in tensors.items() if t.dtype == np.float32]
    for i in range(n):
        name, other = rng.sample(floats, 2)
        t = tensors[name].copy()
        at = tuple(rng.randrange(size) for size in t.shape)
        changed = dict(tensors)
        kind = i % 9
        if kind < 3:
            t[at] = (np.nan, np.inf, -np.inf)[kind]
            changed[name] = t
        elif kind == 3:
            changed[name] = t.T.reshape(t.shape[::-1]) if t.ndim > 1 else t[None]
        elif kind == 4:
            changed[name] = t.astype(rng.choice(["float64", "float16", "int64", "bool"]))
        elif kind == 5:
            del changed[name]
        elif kind == 6:
            changed[name], changed[other] = changed[other], changed[name]
        elif kind == 7:
            changed[name] = np.concatenate([t, t])
        else:
            changed[name + rng.choice(["", ".x", "\n"])] = changed.pop(name) * np.float32(1e30)
        yield Mutant(f"tensor: {kind} of {name}", signed(manifest, changed), signed=True)


def hostile_graphs(good: bytes, rng: random.Random, n: int) -> Iterator[Mutant]:
    """Graphs that are noise, reach outside, or mean something else; digests fit."""
    manifest, tensors = taken_apart(good)
    names = [name for name in tensors if name.startswith("graph.")]
    for i in range(n):
        name = rng.choice(names)
        content = tensors[name].tobytes()
        label = [*ATTACKS][i % len(ATTACKS)]
        attack = ATTACKS[label]
        hostile = attack(content, rng)
        changed = tensors | {name: np.frombuffer(hostile or b"\0", np.uint8)}
        yield Mutant(f"graph: {label} in {name}", signed(manifest, changed), signed=True)


KINDS: dict[str, Callable[[bytes, random.Random, int], Iterator[Mutant]]] = {
    "copies": broken_copies,
    "headers": broken_headers,
    "manifests": broken_manifests,
    "tensors": broken_tensors,
    "graphs": hostile_graphs,
}


def all_mutants(
    good: bytes, *, seed: int, share: int, kinds: Iterable[str] = tuple(KINDS)
) -> Iterator[Mutant]:
    """About `share` mutants of every kind."""
    for kind in kinds:
        yield from KINDS[kind](good, random.Random(seed), share)


def _places(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _digest(tensor: np.ndarray) -> str:
    return hashlib.sha256(f"{tensor.dtype} {tensor.shape} ".encode() + tensor.tobytes()).hexdigest()


def _noise(content: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice([1, 30, 3000]))


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 5])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, len(content))]


def _empties(content: bytes, rng: random.Random) -> bytes:
    """Half a million empty nodes: 2 bytes each in the file, many more in memory."""
    return ModelProto(ir_version=10, opset_import=[helper.make_opsetid("", 20)]).SerializeToString() + _field(
        7, rng.choice([b"\x0a\x00", b"\x2a\x00", b"\x12\x00"]) * 500_000
    )


def _nested(content: bytes, rng: random.Random) -> bytes:
    inner = b""
    for _ in range(3000):  # graph of an attribute of a node of a graph
        inner = _field(1, _field(5, _field(6, inner)))[: 2**20]
    return _field(7, inner)


def _field(number: int, content: bytes) -> bytes:
    size, length = len(content), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def _edit(change: Any) -> Any:
    def attack(content: bytes, rng: random.Random) -> bytes:
        model = ModelProto.FromString(content)
        change(model, rng)
        made: bytes = model.SerializeToString()
        return made

    return attack


def _external(model: ModelProto, rng: random.Random) -> None:
    constant = rng.choice(model.graph.initializer)
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value=rng.choice(["/etc/passwd", "../x", "/dev/zero"]))


def _external_beside(model: ModelProto, rng: random.Random) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


def _unknown_operator(model: ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    node.op_type = rng.choice(UNKNOWN)


def _known_operator(model: ModelProto, rng: random.Random) -> None:
    node, other = rng.choice(model.graph.node), rng.choice(model.graph.node)
    node.op_type = other.op_type
    if rng.random() < 0.5:
        del node.attribute[:]
        node.attribute.extend(other.attribute)


def _other_domain(model: ModelProto, rng: random.Random) -> None:
    domain = rng.choice(["com.microsoft", "ai.onnx.ml", "x"])
    rng.choice(model.graph.node).domain = domain
    model.opset_import.add(domain=domain, version=1)


def _subgraph(model: ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    node.attribute.append(helper.make_attribute("body", model.graph))


def _function(model: ModelProto, rng: random.Random) -> None:
    node = helper.make_node("Add", ["a", "a"], ["b"])
    model.functions.append(helper.make_function("", "Gelu", ["a"], ["b"], [node], list(model.opset_import)))


def _cycle(model: ModelProto, rng: random.Random) -> None:
    nodes = model.graph.node
    i = rng.randrange(len(nodes) - 1)
    nodes[i].input[0] = nodes[rng.randrange(i, len(nodes))].output[0]


def _dangling(model: ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.node).input[0] = "nobody"


def _rewired(model: ModelProto, rng: random.Random) -> None:
    i = rng.randrange(1, len(model.graph.node))
    node = model.graph.node[i]
    known = [v.name for v in (*model.graph.input, *model.graph.initializer)]
    known += [name for before in model.graph.node[:i] for name in before.output]
    node.input[rng.randrange(len(node.input))] = rng.choice(known)


def _missing_node(model: ModelProto, rng: random.Random) -> None:
    del model.graph.node[rng.randrange(len(model.graph.node))]


def _turned_around(model: ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[::-1])


def _two_origins(model: ModelProto, rng: random.Random) -> None:
    a, b = rng.sample([*model.graph.node], 2)
    a.output[0] = b.output[0]


def _constant(model: ModelProto, rng: random.Random) -> None:
    constant = rng.choice(model.graph.initializer)
    value = np.array(numpy_helper.to_array(constant))
    new: list[Any] = [0, 1, -1, 3, 7, 64, 10**6, 10**9, 2**31, 2**62, -(2**63)]
    if value.dtype == np.float32:
        new = [np.nan, np.inf, 0, 1e38, -1]
    flat = value.reshape(-1).copy()
    flat[rng.randrange(flat.size)] = rng.choice(new)
    constant.CopyFrom(numpy_helper.from_array(flat.reshape(value.shape), constant.name))


def _longer_constant(model: ModelProto, rng: random.Random) -> None:
    constant = rng.choice(model.graph.initializer)
    value = numpy_helper.to_array(constant)
    constant.CopyFrom(numpy_helper.from_array(np.concatenate([value.ravel()] * 2), constant.name))


def _giant_constant(model: ModelProto, rng: random.Random) -> None:
    constant = rng.choice(model.graph.initializer)
    constant.dims[:] = [rng.choice([10**6, 2**40, 2**62])] * rng.choice([1, 2, 3])


def _empty_constant(model: ModelProto, rng: random.Random) -> None:
    constant = rng.choice(model.graph.initializer)
    constant.ClearField("raw_data")
    constant.dims[:] = rng.choice([[0], [0, 2**62], [-1], [10**9]])


def _constant_type(model: ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.initializer).data_type = rng.choice([0, 2, 6, 8, 10, 11, 16, 99, -1])


def _node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> NodeProto:
    """A node with a name of its own, as the exporter gives them."""
    return helper.make_node(operator, inputs, outputs, name=f"made {outputs[0]}", **attributes)


def _giant(model: ModelProto, rng: random.Random) -> None:
    """The answer, spread over more than any memory before it shrinks again."""
    graph = model.graph
    last = graph.node[-1]
    sizes = rng.choice([[10**12], [10**6, 10**6], [1 << 20, 1 << 20, 1 << 20], [2**62, 4]])
    graph.initializer.append(numpy_helper.from_array(np.array([*sizes, 1, 1, 1], np.int64), "giant"))
    graph.initializer.append(numpy_helper.from_array(np.arange(len(sizes)), "giant axes"))
    last.output[0] = "small"
    graph.node.append(_node("Expand", ["small", "giant"], ["large"]))
    graph.node.append(_node("ReduceMax", ["large", "giant axes"], ["y"], keepdims=0))


def _giant_pad(model: ModelProto, rng: random.Random) -> None:
    graph = model.graph
    pads = np.array([0, 0, 0, 0, 0, rng.choice([10**9, 2**40, 2**62])], np.int64)
    graph.initializer.append(numpy_helper.from_array(pads, "pads"))
    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "nil"))
    graph.node[-1].output[0] = "small"
    graph.node.append(_node("Pad", ["small", "pads", "nil"], ["large"]))
    graph.node.append(_node("Identity", ["large"], ["y"]))


def _doubling(model: ModelProto, rng: random.Random) -> None:
    """Forty times twice as much."""
    graph = model.graph
    graph.node[-1].output[0] = "d0"
    for i in range(40):
        graph.node.append(_node("Concat", [f"d{i}", f"d{i}"], [f"d{i + 1}"], axis=1))
    graph.node.append(_node("ReduceMax", ["d40"], ["y"]))


def _attribute(model: ModelProto, rng: random.Random) -> None:
    found = [a for node in model.graph.node for a in node.attribute]
    attribute = rng.choice(found)
    if attribute.type == AttributeProto.INT:
        attribute.i = rng.choice([-1, 0, 1, 2, 5, 7, 99, 2**31, -(2**63), 2**63 - 1])
    elif attribute.type == AttributeProto.INTS:
        attribute.ints[:] = rng.choice([[], [0], [9, 9], [1, 0], [2**62] * 3, list(range(30))])
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = rng.choice([float("nan"), float("inf"), -1.0, 0.0, 1e38])
    else:
        attribute.s = rng.choice([b"", b"\xff", b"reflect", b"tanh", b"add"])


def _attribute_type(model: ModelProto, rng: random.Random) -> None:
    found = [a for node in model.graph.node for a in node.attribute]
    rng.choice(found).type = rng.choice([0, 1, 2, 3, 4, 5, 7, 8, 10])


def _more_attributes(model: ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    node.attribute.append(
        helper.make_attribute(rng.choice(["axis", "keepdims", "to", "body", "x"]), rng.choice([1, 0]))
    )


def _versions(model: ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.5:
        model.ir_version = rng.choice([0, 1, 3, 99, -1, 2**40])
    else:
        model.opset_import[0].version = rng.choice([0, 1, 7, 13, 99, 2**40, -1])


def _many_nodes(model: ModelProto, rng: random.Random) -> None:
    for i in range(5000):
        model.graph.node.append(_node("Identity", ["x"], [f"n{i}"]))


def _inputs(model: ModelProto, rng: random.Random) -> None:
    value = rng.choice(model.graph.input)
    value.name = rng.choice(["x", "source", "y", "", "pick.sampled", "nobody", "a\nb"])


def _outputs(model: ModelProto, rng: random.Random) -> None:
    model.graph.output[0].name = rng.choice(["x", "", "nobody", model.graph.node[0].output[0]])


def _constant_answer(model: ModelProto, rng: random.Random) -> None:
    graph = model.graph
    graph.node[-1].output[0] = "unused"
    graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3), np.float32), "fixed"))
    graph.node.append(_node("Identity", ["fixed"], ["y"]))


ATTACKS: dict[str, Any] = {
    "noise": _noise,
    "flipped": _flipped,
    "cut": _cut,
    "empties": _empties,
    "nested": _nested,
} | {
    change.__name__.strip("_").replace("_", " "): _edit(change)
    for change in (
        *(
            _external,
            _external_beside,
            _unknown_operator,
            _known_operator,
            _other_domain,
            _subgraph,
            _function,
        ),
        *(
            _cycle,
            _dangling,
            _rewired,
            _missing_node,
            _turned_around,
            _two_origins,
            _constant,
            _longer_constant,
        ),
        *(_giant_constant, _empty_constant, _constant_type, _giant, _giant_pad, _doubling, _attribute),
        *(_attribute_type, _more_attributes, _versions, _many_nodes, _inputs, _outputs, _constant_answer),
    )
}
