from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sentryfuse.pruning import make_plan, prune
from sentryfuse.pruning.evaluation import evaluate
from sentryfuse.training import TrainSettings, fine_tune, train
from sentryfuse.training.steps import Run
from sentryfuse.types import Budget
from tests.tiny import tiny_model, tiny_windows

WINDOWS = tiny_windows(144)
SETTINGS = TrainSettings(epochs=6, batch_size=16, seed=3, learning_rate=5e-3, elastic="none", readout="none")


@pytest.fixture(scope="module")
def pruned():
    model = tiny_model("flexmoe")
    train(model, WINDOWS, settings=replace(SETTINGS, epochs=1, learning_rate=1e-3))
    return prune(model, make_plan(model, None, Budget(ratio=0.6)))


def test_a_pruned_model_gets_better_and_says_what_it_cost(pruned):
    before = evaluate(pruned, WINDOWS, split="train")[0]["accuracy"]
    gate = {name: t.clone() for name, t in pruned.tensors().items() if name.startswith("gate.")}
    layout = pruned.layout
    history = fine_tune(pruned, WINDOWS, epochs=5, settings=SETTINGS)
    assert evaluate(pruned, WINDOWS, split="train")[0]["accuracy"] > before
    assert len(history) == 5
    assert all(row["cpu_seconds"] > 0 for row in history)
    assert {row["gate_loss"] for row in history} == {row["elastic_loss"] for row in history} == {0.0}
    assert all(torch.equal(t, pruned.tensors()[name]) for name, t in gate.items()), "the gate stands still"
    assert pruned.layout is layout
    assert not pruned.training


def test_the_model_keeps_its_own_statistics(pruned):
    before = pruned.statistics("acc")
    other = tiny_windows(144)
    other.raw["acc"][:] *= 3
    fine_tune(pruned, other, epochs=1, settings=SETTINGS)
    for mine, kept in zip(before, pruned.statistics("acc"), strict=True):
        np.testing.assert_array_equal(mine, kept)


def test_what_is_learned_slowly_stays_close(pruned, monkeypatch):
    scores = iter([0.1, 0.2, 0.1, 0.2])  # better each time, so that what was learned is kept
    monkeypatch.setattr(Run, "validation", lambda self: next(scores))
    start = {name: t.clone() for name, t in pruned.tensors().items()}
    moved = []
    for rate in (1e-3, 1e-2):
        pruned.load_tensors(start)
        fine_tune(pruned, WINDOWS, epochs=1, settings=replace(SETTINGS, learning_rate=rate))
        moved.append(max(float((t - start[name]).abs().max()) for name, t in pruned.tensors().items()))
    steps = 10
    assert 0 < moved[0] < steps * 1e-4 < moved[1] * 10


def test_what_only_gets_worse_is_left_as_it_was(pruned):
    before = {name: t.clone() for name, t in pruned.tensors().items()}
    wild = replace(SETTINGS, learning_rate=5.0)
    fine_tune(pruned, WINDOWS, epochs=1, settings=wild)
    assert all(torch.equal(t, pruned.tensors()[name]) for name, t in before.items())


def test_a_model_may_go_on_in_the_process_that_trained_it():
    model = tiny_model("experts")
    train(model, WINDOWS, settings=replace(SETTINGS, epochs=1))
    assert len(fine_tune(model, WINDOWS, epochs=1, settings=SETTINGS)) == 1
