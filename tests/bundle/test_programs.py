"""Programs of encoders that somebody has changed: refused in one sentence, or they run as they say."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import numpy as np
import onnxruntime
import pytest

from benchmarks.reliability.made import everything
from sentryfuse.bundle import load_bundle, save_bundle
from sentryfuse.errors import BundleError
from sentryfuse.graph import Part
from sentryfuse.planning.operators import OPERATORS

pytestmark = pytest.mark.device

WRONG: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 4, 7, 10**4, 1 << 16, 10**8, -(10**8), True, 1.5, 1e39, "x", "v0", "", None, {}),
    *([], [0], [1, 1], [2, 0, 1], [0, 2, 1], [-1, 4, 4], [1 << 16] * 3, [0] * 6, ["x"], ["v1", "v1"], [[]]),
)
OPTIONS = ("axis", "keep", "axes", "shape", "eps", "order", "groups", "stride", "pads", "places", "value")


def places(value: Any, at: tuple[Any, ...] = ()):
    """Where something stands in a tree of lists and dictionaries."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in [*items]:
        yield from places(inner, (*at, key))


def changed(program: Any, rng: random.Random) -> None:
    """One change: a value, something gone, something twice, an option more, another operator."""
    *outer, last = rng.choice([at for at in places(program) if at])
    inside = program
    for key in outer:
        inside = inside[key]
    act = rng.random()
    if act < 0.3:
        rng.choice(program["nodes"])["op"] = rng.choice(sorted(OPERATORS))
    elif act < 0.7:
        inside[last] = rng.choice(WRONG)
    elif isinstance(inside, list):
        inside.insert(rng.randrange(len(inside) + 1), copy.deepcopy(inside[last]))
    elif act < 0.8:
        inside.pop(last)
    else:
        inside[rng.choice(OPTIONS)] = rng.choice(WRONG)


def loaded(folder: Any, rng: random.Random) -> Any:
    """A bundle with such a program, or the sentence that refused it."""
    manifest, tensors = everything()
    manifest = json.loads(json.dumps(manifest))
    (step,) = (s for s in manifest["layout"]["steps"] if s["name"] == "embed.own")
    for _ in range(rng.choice([1, 1, 1, 2])):
        try:
            changed(step["program"], rng)
        except (AttributeError, IndexError, KeyError, TypeError):
            break  # the first change has left nothing to change
    save_bundle(folder / "changed.bundle", manifest=manifest, tensors=tensors)
    try:
        return load_bundle(folder / "changed.bundle")
    except BundleError as error:
        return str(error)


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_program_is_refused_or_runs(seed, tmp_path):
    rng = random.Random(seed)
    x = np.random.default_rng(seed).normal(size=(3, 16, 2)).astype(np.float32)
    refused = ran = 0
    while refused + ran < 40:
        bundle = loaded(tmp_path, rng)
        if isinstance(bundle, str):
            assert "cannot be understood" not in bundle, bundle
            assert "\n" not in bundle
            refused += 1
            continue
        (step,) = (s for s in bundle.layout.steps if s.name == "embed.own")
        graph = bundle.writer.write(
            bundle.plan(("a",)), Part((step,), ("a",), (), step.writes), batch=3, fused=True
        )
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        assert session.run(None, {"window.a": x})[0].shape == (3, step.tokens, bundle.layout.d_model)
        ran += 1
    assert refused > ran
