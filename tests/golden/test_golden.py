"""Bundles of released formats are read and answer as torch answered when they were made. No torch."""

from __future__ import annotations

import numpy as np
import pytest

from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session
from sentryfuse.types import Budget
from tests.tiny import GOLDEN

pytestmark = pytest.mark.device

VERSIONS = sorted(path.stem for path in GOLDEN.glob("*.bundle"))


def stored(version: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    with np.load(GOLDEN / f"{version}.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    windows = {n.split("|")[1]: x for n, x in arrays.items() if n.startswith("window|")}
    return windows, {n: x for n, x in arrays.items() if n.startswith("answer|")}


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_bundle_still_gives_the_same_plans_and_answers(version):
    bundle = load_bundle(GOLDEN / f"{version}.bundle")
    windows, answers = stored(version)
    assert len(answers) > 10
    for key, expected in answers.items():
        _, present, ratio, plan_id, macs = key.split("|")
        plan = bundle.plan(present.split("+"), Budget(ratio=float(ratio)))
        assert plan.plan_id == plan_id, key
        assert plan.cost.macs == int(macs), key
        np.testing.assert_allclose(Session(bundle, plan).run(windows), expected, atol=1e-4)


def test_the_format_this_version_writes_has_a_golden_bundle():
    assert VERSIONS == ["encoder-v3", "tiny-v3"]
