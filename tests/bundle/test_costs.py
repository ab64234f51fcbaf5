"""What a bundle costs is never believed: one that is taken multiplies what its layout says. No torch."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks.reliability.made import everything
from benchmarks.reliability.mutants import at_place, places, signed, taken_apart
from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.engine.parts import whole
from sentryfuse.errors import BundleError
from tests.runtime.counting import multiplied
from tests.tiny import GOLDEN


def sources() -> dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    found = {"every kind": everything()}
    for path in sorted(GOLDEN.glob("*.bundle")):
        found[path.stem] = taken_apart(path.read_bytes())
    return found


SOURCES = sources()


def windows_of(bundle: Bundle) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        m.name: rng.normal(size=(1, m.length, m.n_channels)).astype(np.float32)
        for m in bundle.layout.modalities
    }


def executed_and_told(bundle: Bundle, present: tuple[str, ...]) -> tuple[int, int]:
    plan = bundle.plan(present)
    text = bundle.writer.write(plan, whole(bundle.layout, present), batch=1, fused=False)
    told = plan.cost.macs
    if bundle.mixture is not None:
        told -= bundle.mixture.readout.cost(present).macs
    return multiplied(onnx.load_from_string(text), windows_of(bundle)), told


def changes(manifest: dict[str, Any]) -> list[tuple[tuple[Any, ...], Any]]:
    """Every number of a layout, made another one."""
    found: list[tuple[tuple[Any, ...], Any]] = []
    for place in places(manifest["layout"], ("layout",)):
        value = at_place(manifest, place)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        others = {0, 1, value - 1, value + 1, value * 2, value // 2, 19}
        found += [(place, type(value)(other)) for other in others if other != value and other >= 0]
        if isinstance(value, float):
            found += [(place, value / 2), (place, 1e-6)]
    return found


def test_what_is_executed_is_what_is_told(tmp_path):
    for name, (manifest, tensors) in SOURCES.items():
        path = tmp_path / "good.bundle"
        path.write_bytes(signed({k: v for k, v in manifest.items() if k != "digests"}, tensors))
        bundle = load_bundle(path)
        for present in (bundle.names, *((one,) for one in bundle.names)):
            executed, told = executed_and_told(bundle, present)
            assert executed == pytest.approx(told, rel=0.01), (name, present)


def none_claims_another_cost(name: str, tmp_path: Path, most: int | None) -> None:
    manifest, tensors = SOURCES[name]
    manifest = {k: v for k, v in manifest.items() if k != "digests"}
    asked = changes(manifest)
    some = asked if most is None else random.Random(0).sample(asked, min(len(asked), most))
    taken = [place for place, value in some if not told_wrong(manifest, tensors, place, value, tmp_path)]
    assert len(taken) < len(some)


@pytest.mark.parametrize("name", SOURCES)
def test_a_bundle_signed_again_with_another_number_executes_what_it_tells(name, tmp_path):
    none_claims_another_cost(name, tmp_path, 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_no_number_of_a_layout_lets_a_bundle_claim_another_cost(name, tmp_path):
    none_claims_another_cost(name, tmp_path, None)


@pytest.mark.parametrize("name", SOURCES)
def test_a_bundle_that_claims_to_multiply_nothing_beside_its_units_is_refused(name, tmp_path):
    manifest, tensors = copy.deepcopy(SOURCES[name])
    manifest.pop("digests", None)
    for step in manifest["layout"]["steps"]:
        step |= {"macs_per_token": 0, "macs_per_entering": 0, "macs_fixed": 0}
    (tmp_path / "cheap.bundle").write_bytes(signed(manifest, tensors))
    with pytest.raises(BundleError, match=r"multiplies .* where the layout says otherwise"):
        load_bundle(tmp_path / "cheap.bundle")


def told_wrong(
    manifest: dict[str, Any], tensors: dict[str, np.ndarray], place: tuple[Any, ...], value: Any, room: Path
) -> bool:
    """Whether it is refused; one that is not must tell what it executes."""
    changed = copy.deepcopy(manifest)
    at_place(changed, place[:-1])[place[-1]] = value
    path = room / "changed.bundle"
    path.write_bytes(signed(changed, tensors))
    try:
        bundle = load_bundle(path)
    except BundleError:
        return True
    for present in (bundle.names, *((one,) for one in bundle.names)):
        executed, told = executed_and_told(bundle, present)
        assert executed == pytest.approx(told, rel=0.01), (place, value, present, executed, told)
    return False
