"""Layouts whose fields are all of the right types and which no model has: attacks on a bundle's wiring."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Manifest = dict[str, Any]
Tensors = dict[str, np.ndarray]


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
        steps: list[Any] = self.layout["steps"]
        return steps

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
