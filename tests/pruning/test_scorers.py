"""The register of scorers: one of a user's own works wherever a published one does."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sentryfuse as sf
from sentryfuse.cli import main
from sentryfuse.data import save_windows
from sentryfuse.errors import ConfigError
from sentryfuse.pruning import scorers
from sentryfuse.pruning.calibration import Calibrator
from sentryfuse.pruning.scorers import list_scorers, make_scorer
from sentryfuse.study.design import Method
from sentryfuse.study.methods import Pruner, Subject, check_methods
from sentryfuse.types import Budget
from tests.tiny import NAMES, tiny_model, tiny_windows

WINDOWS = tiny_windows()


@pytest.fixture
def own(monkeypatch):
    """A scorer that keeps the first units, registered for one test."""
    monkeypatch.setattr(scorers._SCORERS, "_known", dict(scorers._SCORERS._known))

    @sf.register_scorer("first-units")
    class FirstUnits:
        name = ""

        def __init__(self, calibrator):
            self.layout = calibrator.model.layout

        def importance(self, present):
            return {n: np.arange(b.units, 0, -1, dtype=np.float32) for n, b in self.layout.blocks.items()}

        def refine(self, plan):
            return plan

    return FirstUnits


def is_first(plan):
    return all(units == tuple(range(len(units))) for units in plan.kept.values())


def test_a_scorer_of_ones_own_is_evaluated_and_plans(own):
    model = tiny_model()
    rows = sf.evaluate(model, WINDOWS, ratios=[0.4], scorers=["first-units", "gate"])
    assert [row["scorer"] for row in rows] == ["first-units", "gate"]
    plan = sf.plan(
        model, budget=Budget(ratio=0.4), scorer=make_scorer("first-units", Calibrator(model, WINDOWS))
    )
    assert plan.scorer == "first-units"
    assert is_first(plan)


def test_a_scorer_of_ones_own_is_a_method_of_a_study(own):
    method = Method(scorer="first-units", allocation="uniform")
    check_methods([method])
    plan_for = Pruner(Subject(tiny_model(), WINDOWS, 64, seed=0), method).planner(0.4, "present")
    assert is_first(plan_for(NAMES))


def test_the_command_line_finds_it(own, tmp_path, capfd):
    tiny_model().save_pretrained(tmp_path / "run")
    save_windows(tmp_path / "tiny.npz", WINDOWS)
    asked = ["--data", tmp_path / "tiny.npz", "--ratio", 0.4, "--scorer", "first-units", "--json", "-"]
    assert main(["evaluate", *map(str, [tmp_path / "run", *asked])]) == 0
    assert json.loads(capfd.readouterr().out)["rows"][0]["scorer"] == "first-units"


def test_a_name_is_registered_once(own):
    assert list_scorers()[-1] == "first-units"
    with pytest.raises(ConfigError, match="a scorer called magnitude exists"):
        sf.register_scorer("magnitude")(own)
