"""Thousands of damaged and hostile bundles: each is refused in one sentence, or does no harm. No torch."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reliability.made import everything
from benchmarks.reliability.mutants import KINDS, Mutant, all_mutants, every_field
from benchmarks.reliability.wiring import WIRING
from sentryfuse.bundle import Bundle, load_bundle, save_bundle
from sentryfuse.engine import Session
from sentryfuse.errors import BudgetError, BundleError
from sentryfuse.types import Budget
from tests.tiny import GOLDEN, tiny_batch

pytestmark = pytest.mark.device

GOOD = GOLDEN / "tiny-v3.bundle"
SHARE = 30  # mutants of a kind in the unmarked tests
SECONDS = 2.0  # of processor time, to refuse any of them; they take a hundredth of it


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> bytes:
    """A bundle with every kind of step."""
    path: Path = tmp_path_factory.mktemp("made") / "made.bundle"
    manifest, tensors = everything()
    save_bundle(path, manifest=manifest, tensors=tensors)
    return path.read_bytes()


def load(path: Path, mutant: Mutant) -> Bundle | None:
    """What the reader makes of it: a bundle, or one sentence."""
    path.write_bytes(mutant.content)
    started = time.process_time()
    try:
        bundle = load_bundle(path)
    except BundleError as error:
        text = str(error)
        assert text.startswith(f"{path} "), mutant.label
        text = text.removeprefix(str(path))
        assert text.isprintable(), mutant.label
        assert len(text) < 500, mutant.label
        assert "cannot be understood" not in text, f"{mutant.label}: no check found it: {text}"
        bundle = None
    assert time.process_time() - started < SECONDS, mutant.label
    assert bundle is None or mutant.signed, f"{mutant.label}: loads with digests that do not fit"
    return bundle


def answer(bundle: Bundle, label: str) -> None:
    """Plan and answer for every set of sensors: probabilities, or an error of ours."""
    names = bundle.names[:3]
    sets = [p for n in range(1, len(names) + 1) for p in itertools.combinations(names, n)]
    for i, present in enumerate(sets):
        modalities = [m for m in bundle.layout.modalities if m.name in present]
        windows = tiny_batch(2, modalities=modalities)
        try:
            plan = bundle.plan(present, Budget(ratio=0.4 * (i % 2)))
            apart, batch = ((), None) if i % 3 else (present, 2)
            probabilities = Session(bundle, plan, batch=batch, apart=apart).run(windows)
        except BudgetError:
            continue
        except BundleError as error:  # such as averages of values that are alike for some sensors only
            if "refuses a sub-network" in str(error):
                pytest.fail(f"{label}: {error}")
            continue
        assert probabilities.shape == (2, len(bundle.classes)), label


def harm(path: Path, mutants: Iterable[Mutant]) -> Counter[str]:
    """Load every mutant, use those that load, and count both."""
    done: Counter[str] = Counter()
    for mutant in mutants:
        bundle = load(path, mutant)
        done["loaded" if bundle else "refused"] += 1
        if bundle is not None:
            with warnings.catch_warnings():
                # a sound bundle of other numbers may answer NaN, which is for the runtime to see
                warnings.simplefilter("ignore", RuntimeWarning)
                answer(bundle, mutant.label)
    return done


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_or_hostile_bundle_is_refused_or_harmless(tmp_path, made, kind):
    share = len(WIRING) if kind == "wiring" else SHARE
    done = harm(tmp_path / "mutant.bundle", all_mutants(made, seed=0, share=share, kinds=[kind]))
    assert done["refused"] + done["loaded"] >= share
    assert done["refused"] > 4 * done["loaded"]


def test_every_field_is_refused_without_a_value_and_with_a_wrong_one(tmp_path, made):
    """One of each sort: the reads of one step stand for those of all."""
    fields = set()
    for mutant in every_field(made):
        fields.add(mutant.label.split(" = ")[0])
        assert load(tmp_path / "mutant.bundle", mutant) is None, mutant.label
    assert len(fields) > 45


@pytest.mark.slow
def test_every_attack_is_refused_at_least_once(tmp_path, made):
    """An attack that always passes would be no attack, or a hole; two change what nobody has to refuse."""
    refused = dict.fromkeys(WIRING, 0)
    for seed in range(5):
        for mutant in all_mutants(made, seed=seed, share=len(WIRING), kinds=["wiring"]):
            refused[mutant.label.removeprefix("wiring: ")] += load(tmp_path / "mutant.bundle", mutant) is None
    assert {attack for attack, n in refused.items() if not n} <= {"other attention", "blocks turned around"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_ten_thousand_mutants_are_refused_or_harmless(tmp_path, made, seed):
    """Of both bundles; most are copies with wrong bytes, which take least time."""
    shares = {"copies": 800, "headers": 100, "manifests": 250, "tensors": 60, "wiring": len(WIRING)}
    refused = n = 0
    for good in (GOOD.read_bytes(), made):
        for kind, share in shares.items():
            mutants = all_mutants(good, seed=seed, share=share, kinds=[kind])
            done = harm(tmp_path / "mutant.bundle", mutants)
            refused, n = refused + done["refused"], n + done["refused"] + done["loaded"]
    assert n >= 2500
    assert refused > 0.8 * n


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_refusing_takes_little_memory(tmp_path, made):
    """In a process of its own, which loads the worst of them and nothing else."""
    largest = 0
    asked = [("headers", 21), ("wiring", len(WIRING))]
    mutants = (m for kind, share in asked for m in all_mutants(made, seed=7, share=share, kinds=[kind]))
    for i, mutant in enumerate(mutants):
        (tmp_path / f"{i}.bundle").write_bytes(mutant.content)
        largest = max(largest, len(mutant.content))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(GOOD), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 2 * largest / 1e6 + 32


# The peak since this program began: what `resource` says is inherited from the process that started it.
PEAK = """
import contextlib, pathlib, sys
from sentryfuse.bundle import load_bundle
from sentryfuse.errors import BundleError

def peak_mb():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6

load_bundle(sys.argv[1])
start = peak_mb()
for path in pathlib.Path(sys.argv[2]).iterdir():
    with contextlib.suppress(BundleError):
        load_bundle(path)
print(peak_mb() - start)
"""


def test_loading_takes_the_memory_of_the_file():
    load_bundle(GOOD)
    tracemalloc.start()
    try:
        bundle = load_bundle(GOOD)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = GOOD.stat().st_size
    assert bundle
    assert held < 5 * size  # most of this tiny file is its header
    assert peak < 10 * size


def test_weights_of_a_bundle_cannot_be_written_to():
    bundle = load_bundle(GOOD)
    for weights in bundle.weights.values():
        with pytest.raises(ValueError, match="read-only"):
            weights[...] = np.float32(0)
