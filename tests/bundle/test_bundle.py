"""A bundle is whole or refused: damage of any kind is one clear error. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from benchmarks.reliability.mutants import sealed
from sentryfuse.bundle import SEAL, Bundle, load_bundle, save_bundle
from sentryfuse.errors import BundleError, ConfigError
from sentryfuse.types import Budget
from tests.tiny import CLASSES, GOLDEN, NAMES, SENSOR_SETS

pytestmark = pytest.mark.device

GOOD = GOLDEN / "tiny-v3.bundle"
CONTENT = GOOD.read_bytes()
HEADER = 8 + int.from_bytes(CONTENT[:8], "little")
damages = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bundle") / "damaged.bundle"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(GOOD)


def parts() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with safe_open(GOOD, framework="np") as file:
        manifest = json.loads(file.metadata()["manifest"])
        names = sorted({*file.keys()} - {SEAL})
        return manifest, {name: file.get_tensor(name) for name in names}


def refused(path: Path, words: str | None = None) -> str:
    with pytest.raises(BundleError, match=words) as caught:
        load_bundle(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_a_good_bundle_says_what_it_holds(bundle):
    assert bundle.names == NAMES
    assert bundle.classes == CLASSES
    assert bundle.normalise == "train"
    assert bundle.about["backbone"] == "maestro"
    assert bundle.digest == load_bundle(GOOD).digest
    assert len(bundle.digest) == 64


@damages
@given(st.integers(0, len(CONTENT) - 1))
def test_a_truncated_bundle_is_refused(target, size):
    target.write_bytes(CONTENT[:size])
    refused(target)


@damages
@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_refused(target, position, bit):
    damaged = bytearray(CONTENT)
    damaged[position] ^= 1 << bit
    target.write_bytes(damaged)
    refused(target)


@damages
@given(st.integers(0, HEADER - 1), st.integers(0, 7))
def test_a_flipped_bit_in_the_header_is_refused(target, position, bit):
    damaged = bytearray(CONTENT)
    damaged[position] ^= 1 << bit
    target.write_bytes(damaged)
    refused(target)


@damages
@given(st.binary(max_size=300))
def test_bytes_that_are_no_bundle_are_refused(target, content):
    target.write_bytes(content)
    refused(target)


def test_more_bytes_at_the_end_are_refused(target):
    target.write_bytes(CONTENT + b"\0")
    refused(target)


def test_a_path_that_is_no_file_is_refused(tmp_path):
    assert "sentryfuse export" in refused(tmp_path / "none.bundle", "does not exist")
    refused(tmp_path)


def test_a_safetensors_file_of_something_else_is_refused(target):
    for metadata in (None, {"format": "pt"}, {"manifest": "3"}, {"manifest": "[]"}, {"manifest": "{"}):
        save_file({"x": np.zeros(3)}, target, metadata=metadata)
        refused(target)


def test_another_version_is_refused_and_named(target):
    manifest, tensors = parts()
    save_file(tensors, target, metadata={"manifest": json.dumps({**manifest, "format": 99})})
    refused(target, "format 99, this version reads 3")


@pytest.mark.parametrize("version", [0, -1, 2, 4, 10**40, 3.0, True, None, "3", [3]])
def test_what_is_no_version_of_ours_is_refused(target, version):
    manifest, tensors = parts()
    save_file(tensors, target, metadata={"manifest": json.dumps({**manifest, "format": version})})
    refused(target, "format|without a sentryfuse manifest")


def test_a_bundle_of_the_format_that_carried_graphs_is_refused_and_named(target):
    """As the first format was: graphs as bytes beside the weights."""
    manifest, tensors = parts()
    manifest |= {"format": 1, "graphs": ["head"], "step_graphs": {"head": {"dense": "head"}}}
    text = json.dumps(manifest)
    seal = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    tensors |= {"graph.0": np.frombuffer(b"\x08\x0a", np.uint8), SEAL: seal}
    save_file(tensors, target, metadata={"manifest": text})
    refused(target, "has bundle format 1, whose graphs .*; export the model again with this version")


def test_a_changed_manifest_is_refused_even_when_it_is_sound(target):
    manifest, tensors = parts()
    with safe_open(GOOD, framework="np") as file:
        seal = file.get_tensor(SEAL)
    manifest["classes"][0] = "other"
    for every in (tensors, {**tensors, SEAL: seal}):
        save_file(every, target, metadata={"manifest": json.dumps(manifest)})
        refused(target, "manifest has another digest")


def test_a_bundle_without_one_of_its_tensors_is_refused(target):
    """Also when someone wrote it so, with digests that fit."""
    manifest, tensors = parts()
    for name in sorted(tensors)[::3]:
        fewer = {other: t for other, t in tensors.items() if other != name}
        save_bundle(target, manifest=manifest, tensors=fewer)
        refused(target)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(target, value):
    manifest, tensors = parts()
    for name in ("weights.head.norm.bias", "gate.units.bias"):
        broken = tensors[name].copy()
        broken[1] = value
        save_bundle(target, manifest=manifest, tensors={**tensors, name: broken})
        refused(target, name)


Change = Callable[[dict[str, Any], dict[str, np.ndarray]], Any]
CHANGES: dict[str, Change] = {
    "no layout": lambda m, t: m.pop("layout"),
    "no classes": lambda m, t: m.pop("classes"),
    "layout is a list": lambda m, t: m.update(layout=[]),
    "a step without a name": lambda m, t: m["layout"]["steps"][0].pop("name"),
    "an unknown step field": lambda m, t: m["layout"]["steps"][0].update(more=1),
    "graphs, which no bundle has any more": lambda m, t: m.update(graphs=[], step_graphs={}),
    "a field that a later version may have": lambda m, t: m.update(signature={"by": "somebody"}),
    "an unknown core": lambda m, t: m["layout"]["attention"].update(core="flash"),
    "an unknown kind of tensor": lambda m, t: t.update({"other.x": np.zeros(2)}),
    "a tensor without a kind": lambda m, t: t.update({"x": np.zeros(2)}),
    "a graph among the tensors": lambda m, t: t.update({"graph.0": np.full(9, 255, np.uint8)}),
    "bytes among the weights": lambda m, t: t.update({"weights.head.x": np.full(9, 255, np.uint8)}),
    "a block of another width": lambda m, t: m["layout"]["steps"][1]["blocks"][1].update(units=32),
    "a gate of another width": lambda m, t: t.update(
        {"gate.units.bias": t["gate.units.bias"][:-1], "gate.units.weight": t["gate.units.weight"][:-1]}
    ),
    "a gate for other sensors": lambda m, t: t.update(
        {"gate.hidden.weight": t["gate.hidden.weight"][:, :-1]}
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_bundle_that_contradicts_itself_is_refused(target, change):
    manifest, tensors = parts()
    CHANGES[change](manifest, tensors)
    save_bundle(target, manifest=manifest, tensors=tensors)
    refused(target)


def test_facts_that_cannot_be_written_again_are_refused(target):
    manifest, tensors = parts()
    text = json.dumps({**manifest, "about": {"score": 12345.5}})
    for number in ("12345.5", "1e999", "-1e999", '"\\ud800"'):
        target.write_bytes(sealed(text.replace("12345.5", number), tensors))
        if number == "12345.5":
            assert load_bundle(target).about == {"score": 12345.5}
        else:
            refused(target)


def test_written_again_a_bundle_is_the_same_file(target):
    manifest, tensors = parts()
    save_bundle(target, manifest=manifest, tensors=dict(reversed(tensors.items())))
    assert target.read_bytes() == CONTENT


def test_a_bundle_plans_for_sensors_and_budget(bundle):
    for present in SENSOR_SETS:
        dense = bundle.plan(present)
        small = bundle.plan(present, Budget(ratio=0.4))
        assert dense.present == present
        assert dense.cost == dense.dense
        assert small.is_nested_in(dense)
        assert small.cost.macs < dense.cost.macs
    with pytest.raises(ConfigError, match="unknown sensor ecg"):
        bundle.plan(["ecg"])
