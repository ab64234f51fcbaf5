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
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

import numpy as np

from benchmarks.reliability.wiring import WIRING, Manifest, Tensors, Wiring
from sentryfuse.bundle import FORMAT, SEAL
from sentryfuse.planning.layout import AttentionRule, Block, Step
from sentryfuse.types import Modality

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
    manifest = {"format": FORMAT, **manifest, "digests": {name: _digest(t) for name, t in tensors.items()}}
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
    every = [*places(manifest, ())]
    rng.shuffle(every)
    for i in range(n):
        *path, last = every[i % len(every)]
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
            node[last] = copy.deepcopy(at_place(manifest, rng.choice(every)))
        else:
            node[last] = value
        label = ".".join(map(str, (*path, last)))
        text = f"manifest: {label} {kind} {ascii(value)[:30]}"
        if changed.get("format") == FORMAT and type(changed["format"]) is int:
            yield Mutant(text, signed(changed, tensors), signed=True)
        else:
            yield Mutant(text, signed({**changed, "format": changed.get("format")}, tensors), signed=False)
    for label, raw in {
        "deep": '{"format":2,"a":' * 40_000 + "1" + "}" * 40_000,
        "twice": '{"format":2,' + json.dumps(manifest)[1:],
        "nothing": "",
        "null": "null",
        "wide": '{"format":2,"a":[' + "1," * 10**6 + "1]}",
    }.items():
        yield Mutant(f"manifest: {label}", sealed(raw, tensors), signed=False)


DEFAULTS = {  # of fields that an older file may lack
    field.name
    for kind in (Modality, AttentionRule, Block, Step)
    for field in fields(kind)
    if field.default is not MISSING or field.default_factory is not MISSING
}
NEVER: tuple[Any, ...] = (None, -1, 10**40, -1e-320, [[]], {"x": {}}, "\x1b[2J", "x" * 10**4)


def every_field(good: bytes) -> Iterator[Mutant]:
    """The last field of every sort removed, repeated under another name, and set to what none may be."""
    manifest, tensors = taken_apart(good)
    manifest.pop("digests")
    seen = set()
    for *path, last in [*places(manifest, ())][::-1]:
        sort = tuple("*" if isinstance(key, int) else key for key in (*path, last))
        if sort in seen or sort[0] == "about":
            continue
        seen.add(sort)
        label = ".".join(map(str, (*path, last)))
        free = "subject_floor" in path or last in DEFAULTS
        changes = [("value", value) for value in NEVER] + [("gone", None)] * (not free) + [("more", 0)]
        for kind, value in changes:
            changed = copy.deepcopy(manifest)
            node = at_place(changed, tuple(path))
            if kind == "gone" and isinstance(node, dict):
                del node[last]
            elif kind == "more" and isinstance(node, dict):
                node[f"{last} "] = node[last]
            elif kind == "value" and node[last] != value:
                node[last] = copy.deepcopy(value)
            else:
                continue
            content = signed({**changed, "format": changed.get("format")}, tensors)
            yield Mutant(f"{label} = {kind} {ascii(value)[:30]}", content, signed=True)


def broken_tensors(good: bytes, rng: random.Random, n: int) -> Iterator[Mutant]:
    """Weights of another shape, type or content, missing, renamed; digests fit."""
    manifest, tensors = taken_apart(good)
    names = [*tensors]
    for i in range(n):
        name, other = rng.sample(names, 2)
        t = tensors[name].copy()
        at = tuple(rng.randrange(size) for size in t.shape)
        changed = dict(tensors)
        kind = i % 12
        if kind < 5:
            t[at] = (np.nan, np.inf, -np.inf, 3e38, -1e-45)[kind]
            changed[name] = t
        elif kind == 5:
            changed[name] = t.T.reshape(t.shape[::-1]) if t.ndim > 1 else t[None]
        elif kind == 6:
            changed[name] = t.astype(rng.choice(["float64", "float16", "int64", "bool", "uint8"]))
        elif kind == 7:
            del changed[name]
        elif kind == 8:
            changed[name], changed[other] = changed[other], changed[name]
        elif kind == 9:
            changed[name] = np.concatenate([t, t])
        elif kind == 10:
            changed[name] = t.reshape(-1)[0]
        else:
            changed[name + rng.choice(["", ".x", "\n", "." * 300])] = changed.pop(name) * np.float32(1e30)
        yield Mutant(f"tensor: {kind} of {name}", signed(manifest, changed), signed=True)


def broken_wiring(good: bytes, rng: random.Random, n: int) -> Iterator[Mutant]:
    """Layouts whose fields are all of the right types and which no model has; digests fit."""
    manifest, tensors = taken_apart(good)
    manifest.pop("digests")
    for i in range(n):
        label = [*WIRING][i % len(WIRING)]
        changed, other = copy.deepcopy(manifest), dict(tensors)
        try:
            WIRING[label](Wiring(changed, other, rng))
        except IndexError:  # nothing of that sort in this bundle
            continue
        yield Mutant(f"wiring: {label}", signed(changed, other), signed=True)


KINDS: dict[str, Callable[[bytes, random.Random, int], Iterator[Mutant]]] = {
    "copies": broken_copies,
    "headers": broken_headers,
    "manifests": broken_manifests,
    "tensors": broken_tensors,
    "wiring": broken_wiring,
}


def all_mutants(
    good: bytes, *, seed: int, share: int, kinds: Iterable[str] = tuple(KINDS)
) -> Iterator[Mutant]:
    """About `share` mutants of every kind."""
    for kind in kinds:
        yield from KINDS[kind](good, random.Random(seed), share)


def places(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON tree below `path`, as the keys that lead to it."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def at_place(tree: Any, path: tuple[Any, ...]) -> Any:
    """What stands at a place of a JSON tree."""
    for key in path:
        tree = tree[key]
    return tree


def _digest(tensor: np.ndarray) -> str:
    return hashlib.sha256(f"{tensor.dtype} {tensor.shape} ".encode() + tensor.tobytes()).hexdigest()
