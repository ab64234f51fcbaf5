"""`sf.plan`: one answer for a model and for the bundle made of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sentryfuse as sf
from sentryfuse.errors import ConfigError
from sentryfuse.pruning.scorers import GateScorer
from tests.tiny import BACKBONES, FEW_SETS, GOLDEN, tiny_model


@pytest.mark.parametrize("case", BACKBONES)
def test_a_model_and_its_bundle_are_planned_alike(case, tmp_path):
    model = tiny_model(case)
    sf.export_bundle(model, tmp_path / "a.bundle")
    bundle = sf.load_bundle(tmp_path / "a.bundle")
    for present in FEW_SETS:
        for ratio in (0.0, 0.5, 0.9):
            budget = sf.Budget(ratio=ratio)
            assert sf.plan(model, present, budget) == sf.plan(bundle, present, budget)


def test_other_things_than_models_and_bundles_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match=r"got str; open the folder with sf.from_pretrained"):
        sf.plan("run/")  # type: ignore[arg-type]
    bundle = sf.load_bundle(GOLDEN / "tiny-v3.bundle")
    with pytest.raises(ConfigError, match="ranked by its own gate, not by gate; leave scorer out"):
        sf.plan(bundle, scorer=GateScorer(tiny_model()))


def test_a_bundle_is_planned_without_torch():
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "import sentryfuse as sf\n"
        f"bundle = sf.load_bundle({str(GOLDEN / 'tiny-v3.bundle')!r})\n"
        "print(sf.plan(bundle, None, sf.Budget(ratio=0.5)).cost.macs)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert int(done.stdout) > 0, done.stderr
