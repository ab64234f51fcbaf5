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

from sentryfuse.bundle import FORMAT, SEAL
from sentryfuse.planning.layout import AttentionRule, Block, Step
from sentryfuse.types import Modality

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
    for *path, last in [*_places(manifest, ())][::-1]:
        sort = tuple("*" if isinstance(key, int) else key for key in (*path, last))
        if sort in seen or sort[0] == "about":
            continue
        seen.add(sort)
        label = ".".join(map(str, (*path, last)))
        free = "subject_floor" in path or last in DEFAULTS
        changes = [("value", value) for value in NEVER] + [("gone", None)] * (not free) + [("more", 0)]
        for kind, value in changes:
            changed = copy.deepcopy(manifest)
            node = _at(changed, tuple(path))
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


class Wiring(NamedTuple):
    """A bundle to be changed in place.

    Attributes:
        manifest: without digests.
        tensors: by name.
        rng: what to change.
    """

    manifest: Manifest
    tensors: Tensors
    rng: random.Random

    @property
    def layout(self) -> Any:
        """Of the manifest."""
        return self.manifest["layout"]

    @property
    def steps(self) -> list[Any]:
        """Of the layout."""
        return self.layout["steps"]

    def step(self, field: str = "name") -> Any:
        """Any step in which a field holds something."""
        return self.rng.choice([step for step in self.steps if step[field]])

    def other(self, step: Any) -> Any:
        """Any step but one."""
        return self.rng.choice([other for other in self.steps if other is not step])

    def block(self, **fields: Any) -> Any:
        """A block whose fields hold something (True) or nothing (False)."""
        blocks = [block for step in self.steps for block in step["blocks"]]
        return self.rng.choice([b for b in blocks if all(bool(b[k]) == v for k, v in fields.items())])

    def add(self, name: str, op: str, reads: list[str], writes: str, **more: Any) -> None:
        """One more step, before the first head; its weights are those of `weights`."""
        empty: Any = {"needs": [], "lacks": [], "parts": [], "blocks": [], "options": {}, "leaves": "same"}
        empty |= dict.fromkeys(("tokens", "macs_per_token", "macs_per_entering", "macs_fixed"), 0)
        weights = more.pop("weights", {})
        empty["params_fixed"] = sum(t.size for n, t in weights.items() if n not in ("mean", "std"))
        first = next(i for i, step in enumerate(self.steps) if step["writes"] == "logits")
        self.steps.insert(first, empty | {"name": name, "op": op, "reads": reads, "writes": writes} | more)
        self.tensors.update({f"weights.{name}.{n}": t for n, t in weights.items()})

    def sensor(self, name: str, length: int) -> None:
        """One more sensor, which the gate has heard of."""
        m = {"name": name, "rate_hz": 1.0, "length": length, "channels": ["x"], "may_miss": False}
        self.layout["modalities"].append(m)
        t = self.tensors["gate.hidden.weight"]
        self.tensors["gate.hidden.weight"] = np.concatenate([t, t[:, :1]], 1)

    def sax(self, name: str, sensor: str, tokens: int) -> None:
        """One more step that reads a window, right in itself."""
        m = next(m for m in self.layout["modalities"] if m["name"] == sensor)
        d, channels = self.layout["d_model"], len(m["channels"])
        shapes = {"mean": [channels], "std": [channels], "project.weight": [d, channels], "project.bias": [d]}
        self.add(
            name, "sax", [f"window.{sensor}"], f"made.{name}", needs=[sensor], tokens=tokens,
            options={"tokens": tokens}, macs_fixed=tokens * d * channels,
            weights={n: np.ones(shape, np.float32) for n, shape in shapes.items()},
        )  # fmt: skip


def _reads_nobody(w: Wiring) -> None:
    step = w.step("reads")
    step["reads"][w.rng.randrange(len(step["reads"]))] = w.rng.choice(["nobody", "window.ghost", "x" * 500])


def _reads_itself(w: Wiring) -> None:
    step = w.step("reads")
    step["reads"][0] = step["writes"]


def _reads_later(w: Wiring) -> None:
    i = w.rng.randrange(len(w.steps) - 1)
    w.steps[i]["reads"] = [w.rng.choice(w.steps[i + 1 :])["writes"]]


def _reads_another(w: Wiring) -> None:
    step = w.step("reads")
    i = w.rng.randrange(len(step["reads"]))
    step["reads"][i] = w.rng.choice(w.steps)["writes"]


def _reads_a_window(w: Wiring) -> None:
    step = w.step("reads")
    step["reads"] = [f"window.{w.rng.choice(w.layout['modalities'])['name']}"]
    step["needs"] = [step["reads"][0].removeprefix("window.")]


def _window_steps_read_tokens(w: Wiring) -> None:
    sensors = [step for step in w.steps if step["reads"] and step["reads"][0].startswith("window.")]
    w.rng.choice(sensors[1:])["reads"] = [sensors[0]["writes"]]


def _more_reads(w: Wiring) -> None:
    step = w.step("reads")
    step["reads"] += [other["writes"] for other in w.steps[: w.rng.choice([1, 2, 9])]]


def _fewer_reads(w: Wiring) -> None:
    step = w.step("reads")
    del step["reads"][w.rng.choice([0, -1])]


def _twice_the_same(w: Wiring) -> None:
    step = w.step("reads")
    step["reads"].append(step["reads"][0])


def _two_writers(w: Wiring) -> None:
    step = w.step()
    step["writes"] = w.other(step)["writes"]


def _two_names(w: Wiring) -> None:
    step = w.step()
    step["name"] = w.rng.choice([w.other(step)["name"], step["name"] + ".x"])


def _turned_around(w: Wiring) -> None:
    w.steps.reverse()


def _another_order(w: Wiring) -> None:
    w.rng.shuffle(w.steps)


def _without_a_step(w: Wiring) -> None:
    del w.steps[w.rng.randrange(len(w.steps))]


def _a_step_twice(w: Wiring) -> None:
    w.steps.append(copy.deepcopy(w.step()))


def _another_kind(w: Wiring) -> None:
    step = w.step()
    step["op"] = w.other(step)["op"]


def _no_kind(w: Wiring) -> None:
    w.step()["op"] = w.rng.choice(["conv", "Layer", "logits", "layer ", "__class__"])


def _another_option(w: Wiring) -> None:
    step = w.step("options")
    name = w.rng.choice([*step["options"]])
    step["options"][name] = w.rng.choice(["x", "y" * 9999, 0, -1, 1 << 40, 2.5, True, "pre", "raw"])


def _without_an_option(w: Wiring) -> None:
    step = w.step("options")
    del step["options"][w.rng.choice([*step["options"]])]


def _one_more_option(w: Wiring) -> None:
    w.step()["options"][w.rng.choice(["more", "tokenizer", "weighting", "norm"])] = "raw"


def _other_tokens(w: Wiring) -> None:
    w.step()["tokens"] = w.rng.choice([1, 2, 3, 17, 65536])


def _other_leaves(w: Wiring) -> None:
    w.step()["leaves"] = w.rng.choice(["same", "half", "sum", "one"])


def _other_conditions(w: Wiring) -> None:
    step, names = w.step(), [m["name"] for m in w.layout["modalities"]]
    for field in ("needs", "lacks"):
        if w.rng.random() < 0.6:
            step[field] = w.rng.sample(names, w.rng.randrange(len(names) + 1))


def _never_runs(w: Wiring) -> None:
    step = w.step("reads")
    step["needs"], step["lacks"] = [], [m["name"] for m in w.layout["modalities"]]


def _other_parts(w: Wiring) -> None:
    step = w.step("parts")
    step["parts"] = w.rng.choice([[], step["parts"][::-1], step["parts"][1:], step["parts"] * 2, ["x"]])


def _parts_for_all(w: Wiring) -> None:
    w.step()["parts"] = [w.step()["writes"], "x"]


def _blocks_of_another(w: Wiring) -> None:
    step = w.step("blocks")
    step["blocks"] = copy.deepcopy(w.step("blocks")["blocks"])


def _blocks_for_all(w: Wiring) -> None:
    w.step()["blocks"] = copy.deepcopy(w.step("blocks")["blocks"])


def _a_block_of_nothing(w: Wiring) -> None:
    """A block without weights, in a step that has no use for it; the gate knows its units."""
    step = w.rng.choice([step for step in w.steps if not step["blocks"]])
    fields = {"kind": "ffn", "units": 8, "groups": [], "head_dim": 0, "active": 0, "capacity": 0.0}
    step["blocks"] = [{"name": f"{step['name']}.ffn", **fields}]
    before = w.steps[: w.steps.index(step)]
    at = sum(block["units"] for other in before for block in other["blocks"])
    for name in ("gate.units.weight", "gate.units.bias"):
        t = w.tensors[name]
        w.tensors[name] = np.concatenate([t[:at], t[:1].repeat(8, 0), t[at:]])


def _without_a_block(w: Wiring) -> None:
    del w.step("blocks")["blocks"][w.rng.choice([0, -1])]


def _blocks_turned_around(w: Wiring) -> None:
    w.step("blocks")["blocks"].reverse()


def _another_block(w: Wiring) -> None:
    block, other = w.block(), w.block()
    field = w.rng.choice([*block])
    block[field] = other[field]


def _block_numbers(w: Wiring) -> None:
    block = w.block()
    field = w.rng.choice(["units", "head_dim", "active", "capacity"])
    block[field] = w.rng.choice([0, 1, 2, 5, 16384])


def _other_groups(w: Wiring) -> None:
    groups = w.block(groups=True)["groups"]
    groups[:] = w.rng.choice([groups[::-1], sorted(groups), [0] * len(groups), [*range(len(groups))]])


def _capacity_without_experts(w: Wiring) -> None:
    w.block(active=False)["capacity"] = w.rng.choice([0.5, 1.0, 1e-300, 16384.0])


def _uneven_experts(w: Wiring) -> None:
    """One expert of thousands of channels, thousands of one channel."""
    block = w.block(active=True)
    n, d, old = 1 << 13, w.layout["d_model"], block["units"]
    block |= {"units": 2 * n, "groups": [*range(n)] + [0] * n, "capacity": 1.0}
    for leaf, shape in {
        "up.weight": (2 * n, d), "up.bias": (2 * n,), "down.weight": (d, 2 * n),
        "router.weight": (n, d), "router.bias": (n,), "bias": (n, d),
    }.items():  # fmt: skip
        w.tensors[f"weights.{block['name']}.{leaf}"] = np.zeros(shape, np.float32)
    for name in ("gate.units.weight", "gate.units.bias"):
        t = w.tensors[name]
        w.tensors[name] = np.concatenate([t, t[:1].repeat(2 * n - old, 0)])


def _other_counts(w: Wiring) -> None:
    field = w.rng.choice(["macs_per_token", "macs_per_entering", "macs_fixed", "params_fixed"])
    w.step()[field] = w.rng.choice([0, 1, 7, 10**15])


def _other_width(w: Wiring) -> None:
    w.layout["d_model"] = w.rng.choice([1, 2, 3, 8, 16384])


def _other_windows(w: Wiring) -> None:
    m = w.rng.choice(w.layout["modalities"])
    field, value = w.rng.choice(
        [("length", 1), ("length", 5), ("length", 10**6), ("rate_hz", 0.0), ("may_miss", not m["may_miss"])]
    )
    m[field] = value


def _wide_windows(w: Wiring) -> None:
    w.rng.choice(w.layout["modalities"]).update(length=10**6, channels=[f"c{i}" for i in range(4096)])


def _other_sensors(w: Wiring) -> None:
    modalities = w.layout["modalities"]
    if w.rng.random() < 0.5:
        w.rng.shuffle(modalities)
    else:
        w.rng.choice(modalities)["name"] = w.rng.choice(["ghost", modalities[0]["name"]])


def _more_sensors(w: Wiring) -> None:
    for i in range(w.rng.choice([1, 61, 62])):
        w.sensor(f"s{i}", 4)


def _other_attention(w: Wiring) -> None:
    w.layout["attention"] = {
        "core": w.rng.choice(["sentry", "dense"]),
        "factor": w.rng.choice([1, 16384]),
        "sparse_from": w.rng.choice([2, 3, 1 << 31]),
    }


def _doubling(w: Wiring) -> None:
    """Joins of joins: each makes twice as many tokens as the one before."""
    tokens = next(s["writes"] for s in w.steps if not s["needs"] and s["writes"] != "logits" and s["reads"])
    w.add("d0", "concat", [tokens], "twice.0", leaves="sum")
    for i in range(1, 100):
        w.add(f"d{i}", "concat", [*(f"twice.{j}" for j in range(i)), tokens], f"twice.{i}", leaves="sum")
    if w.rng.random() < 0.5:
        next(step for step in w.steps if step["writes"] == "logits")["reads"] = ["twice.99"]


def _many_tokens(w: Wiring) -> None:
    """As many tokens as a layout may have, again and again."""
    w.sensor("long", 1 << 16)
    for i in range(200):
        w.sax(f"long{i}", "long", 1 << 16)


def _long_patches(w: Wiring) -> None:
    """The same long window, described by many steps."""
    w.sensor("long", 10**6)
    for i in range(200):
        w.sax(f"long{i}", "long", 10)


def _names_of_graphs(w: Wiring) -> None:
    step = w.rng.choice([step for step in w.steps if step["writes"] != "logits"])
    old, new = step["writes"], w.rng.choice(["v1.0", "c0", "c/<f4()", "i/(3,)"])
    for other in w.steps:
        other["writes"] = new if other["writes"] == old else other["writes"]
        for field in ("reads", "parts"):
            other[field] = [new if name == old else name for name in other[field]]


def _long_names(w: Wiring) -> None:
    step = w.step("reads")
    step["name"] = step["writes"] = step["reads"][0] = "a." * 250


def _many_conditions(w: Wiring) -> None:
    """Steps that each lack other sensors."""
    for i in range(20):
        w.sensor(f"s{i}", 1)
    d = w.layout["d_model"]
    for i in range(1000):
        lacks = [f"s{bit}" for bit in range(20) if (i + 1) >> bit & 1]
        bank = {"base": np.zeros((1, d), np.float32), "given": np.zeros((1, d), np.float32)}
        w.add(f"b{i}", "bank", [], f"bank.{i}", lacks=lacks, parts=["window.s0"], tokens=1, weights=bank)


def _other_classes(w: Wiring) -> None:
    classes = w.manifest["classes"]
    w.manifest["classes"] = w.rng.choice([classes[:1], [classes[0]] * 3, [*classes, "more"], ["x"] * 9999])


def _other_floors(w: Wiring) -> None:
    name = w.layout["modalities"][0]["name"]
    w.manifest["subject_floor"] = w.rng.choice([{"ghost": [1.0]}, {name: [1.0] * 999}, {name: [1e-320]}])


def _other_gate(w: Wiring) -> None:
    name = w.rng.choice([name for name in w.tensors if name.startswith("gate.")])
    w.tensors[name] = w.tensors[name] * np.float32(1e30)


def _unowned(w: Wiring) -> None:
    name = w.rng.choice(["weights.x", "weights.", "gate.x", "weights.nobody.x", "x", ".x", "weights"])
    w.tensors[name] = np.ones(3, np.float32)


def _one_more_weight(w: Wiring) -> None:
    w.tensors[f"weights.{w.step()['name']}.more"] = np.ones(3, np.float32)


def _extra_anywhere(w: Wiring) -> None:
    layout = w.layout
    places = [w.manifest, layout, layout["attention"], layout["modalities"][0], w.step(), w.block()]
    w.rng.choice(places)[w.rng.choice(["more", "graphs", "", "__class__"])] = w.rng.choice([0, {}, "x"])


WIRING: dict[str, Callable[[Wiring], None]] = {
    change.__name__.strip("_").replace("_", " "): change
    for change in (
        *(_reads_nobody, _reads_itself, _reads_later, _reads_another, _reads_a_window, _more_reads),
        *(_window_steps_read_tokens, _fewer_reads, _twice_the_same, _two_writers, _two_names, _turned_around),
        *(_another_order, _without_a_step, _a_step_twice, _another_kind, _no_kind, _another_option),
        *(_without_an_option, _one_more_option, _other_tokens, _other_leaves, _other_conditions),
        *(_never_runs, _other_parts, _parts_for_all, _blocks_of_another, _blocks_for_all, _another_block),
        *(_a_block_of_nothing, _without_a_block, _blocks_turned_around, _block_numbers, _other_groups),
        *(_capacity_without_experts, _uneven_experts, _other_counts, _other_width, _other_windows),
        *(_wide_windows, _other_sensors, _more_sensors, _other_attention, _doubling, _many_tokens),
        *(_long_patches, _names_of_graphs, _long_names, _many_conditions, _other_classes, _other_floors),
        *(_other_gate, _unowned, _one_more_weight, _extra_anywhere),
    )
}
