"""Training is deterministic, survives being killed, and learns; on a model of 20 000 weights."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from sentryfuse.errors import CheckpointError, ConfigError
from sentryfuse.model.objective import Objective
from sentryfuse.model.pretrained import SentryModel, create_model
from sentryfuse.pruning.evaluation import evaluate
from sentryfuse.pruning.weights import magnitude_importance
from sentryfuse.target import Target
from sentryfuse.training import TrainSettings, train
from sentryfuse.training.steps import Run, class_weights
from sentryfuse.types import Modality
from tests.awkward import people
from tests.few_trees import few_trees
from tests.tiny import CLASSES, MAESTRO, MODALITIES, tiny_model, tiny_windows

WINDOWS = tiny_windows(144)
SETTINGS = TrainSettings(epochs=3, batch_size=16, seed=3, warm_up=0.2, gate_until=0.8, readout="none")


def levels(windows):
    """The same recording, every sensor of every person on a level of their own."""
    raw = dict(windows.raw)
    for m in windows.modalities:
        if m.length > 1:
            level = np.random.default_rng(1).normal(0, 20, (10, 1, m.n_channels))
            raw[m.name] = (raw[m.name] + level[windows.subject]).astype(np.float32)
    return replace(windows, raw=raw)


def fresh(**options) -> SentryModel:
    torch.set_num_threads(1)
    torch.manual_seed(5)
    sizes = {**MAESTRO, "n_heads": 8, "head_dim": 2, "d_ff": 64, **options}
    return create_model("maestro", modalities=MODALITIES, classes=CLASSES, options=sizes)


def equal_bits(first: SentryModel, second: SentryModel) -> bool:
    other = second.tensors()
    return all(torch.equal(t, other[name]) for name, t in first.tensors().items())


class PowerCut(Exception):
    pass


def cut_power_after(epochs: int, monkeypatch) -> None:
    """The process dies when epoch `epochs` + 1 is half done."""
    step = Run._step

    def step_or_die(self, *args):
        if self.step >= epochs * self.steps_per_epoch + 2:
            raise PowerCut
        return step(self, *args)

    monkeypatch.setattr(Run, "_step", step_or_die)


@pytest.mark.parametrize("elastic", ["gate", "static", "taylor", "none"])
def test_equal_seeds_train_to_equal_bits(elastic):
    settings = replace(SETTINGS, elastic=elastic, epochs=2)
    first, second = fresh(), fresh()
    rows = [train(model, WINDOWS, settings=settings) for model in (first, second)]
    for row in (*rows[0], *rows[1]):
        del row["seconds"], row["cpu_seconds"]
    assert rows[0] == rows[1]
    assert equal_bits(first, second)
    assert not equal_bits(first, fresh())


def test_another_seed_trains_to_other_bits():
    first, second = fresh(), fresh()
    train(first, WINDOWS, settings=replace(SETTINGS, epochs=1))
    train(second, WINDOWS, settings=replace(SETTINGS, epochs=1, seed=4))
    assert not equal_bits(first, second)


@pytest.mark.parametrize(("epochs", "elastic"), [(0, "gate"), (1, "static"), (1, "taylor"), (2, "gate")])
def test_a_killed_training_goes_on_as_if_nothing_had_happened(epochs, elastic, tmp_path, monkeypatch):
    settings = replace(SETTINGS, elastic=elastic, augment=0.1)
    whole = fresh(dropout=0.1)
    history = train(whole, WINDOWS, settings=settings)

    state = tmp_path / "state.safetensors"
    with monkeypatch.context() as patch:
        cut_power_after(epochs, patch)
        with pytest.raises(PowerCut):
            train(fresh(dropout=0.1), WINDOWS, settings=settings, state_file=state)
    assert state.exists() == (epochs > 0)

    resumed = fresh(dropout=0.1)
    torch.rand(7)  # another process has another past
    again = train(resumed, WINDOWS, settings=settings, state_file=state)
    for row in (*again, *history):
        del row["seconds"], row["cpu_seconds"]
    assert again == history
    assert equal_bits(resumed, whole)
    assert not state.exists(), "nothing is left to resume"


def test_the_state_of_another_training_is_refused(tmp_path, monkeypatch):
    state = tmp_path / "state.safetensors"
    with monkeypatch.context() as patch:
        cut_power_after(1, patch)
        with pytest.raises(PowerCut):
            train(fresh(), WINDOWS, settings=SETTINGS, state_file=state)
    with pytest.raises(CheckpointError, match="another output folder"):
        train(fresh(), WINDOWS, settings=replace(SETTINGS, seed=9), state_file=state)
    with pytest.raises(CheckpointError, match="another output folder"):
        train(fresh(d_ff=48), WINDOWS, settings=SETTINGS, state_file=state)
    content = state.read_bytes()
    for damaged in (content[:-10], content[:50], b"", b"not at all a state"):
        state.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="delete it"):
            train(fresh(), WINDOWS, settings=SETTINGS, state_file=state)


def test_it_learns_with_all_sensors_with_one_and_when_pruned():
    model = fresh()
    settings = replace(SETTINGS, epochs=12, learning_rate=5e-3)
    history = train(model, WINDOWS, settings=settings)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    rows = evaluate(model, WINDOWS, present=[None, ["age"]], ratios=[0.0, 0.6], scorers=["gate", "random"])
    by = {(len(r["present"]), r["ratio"], r["scorer"]): r["accuracy"] for r in rows}
    assert by[3, 0.0, "gate"] > 0.8
    assert by[1, 0.0, "gate"] > 0.45, "more than a third, which is chance"
    assert by[3, 0.6, "gate"] > 0.6
    assert by[3, 0.0, "gate"] == by[3, 0.0, "random"], "nothing is pruned, so nobody ranks"


def test_history_says_what_happened_in_every_epoch():
    history = train(fresh(), WINDOWS, settings=SETTINGS)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[0]["missing_rate"] == 0
    assert history[-1]["missing_rate"] == SETTINGS.sensor_dropout
    for row in history:
        assert all(math.isfinite(value) for value in row.values())
        assert 0 <= row["accuracy"] <= 1
        assert 0 <= row["validation"] <= 1


def test_a_model_whose_experts_were_just_trained_can_be_trained_again():
    model = tiny_model("flexmoe")
    settings = replace(SETTINGS, epochs=1)
    first = train(model, WINDOWS, settings=settings)
    assert train(model, WINDOWS, settings=settings)[-1]["loss"] < first[-1]["loss"]


def test_a_pruned_mixture_of_fewer_experts_than_a_token_takes_can_be_trained():
    model = tiny_model("flexmoe", widths={"layers.0.ffn": (0,) * 16})
    assert math.isfinite(train(model, WINDOWS, settings=replace(SETTINGS, epochs=1))[-1]["loss"])


def test_the_gate_learns_and_then_stands_still():
    model = fresh()
    train(model, WINDOWS, settings=replace(SETTINGS, epochs=2, gate_until=1.0))
    assert model.gate.units.weight.abs().max() > 0
    frozen = fresh()
    train(frozen, WINDOWS, settings=replace(SETTINGS, epochs=2, gate_until=0.0))
    assert frozen.gate.units.weight.abs().max() == 0


def test_importance_ends_as_what_the_gate_learned_times_the_size_of_the_weights():
    model = fresh()
    train(model, WINDOWS, settings=replace(SETTINGS, epochs=1, gate_until=0.0, elastic="static"))
    sizes = magnitude_importance(model)
    for name, importance in model.gate.importance(("acc",)).items():
        np.testing.assert_allclose(importance, sizes[name], rtol=1e-5)


def test_the_last_weights_stay_where_no_mean_is_asked_for():
    model, other = fresh(), fresh()
    train(model, WINDOWS, settings=replace(SETTINGS, epochs=1, average=0.0))
    train(other, WINDOWS, settings=replace(SETTINGS, epochs=1, average=0.5))
    assert not all(torch.equal(t, other.tensors()[name]) for name, t in model.tensors().items())


def copied(model):
    return {name: t.clone() for name, t in model.tensors().items()}


def test_the_best_epoch_is_what_stays(monkeypatch):
    scores = iter([0.2, 0.9, 0.1, 0.3])
    seen: list[dict[str, torch.Tensor]] = []

    def validate(self):
        seen.append(copied(self.averaged))
        return next(scores)

    monkeypatch.setattr(Run, "validation", validate)
    model = fresh()
    history = train(
        model, WINDOWS, settings=replace(SETTINGS, epochs=10, patience=2, keep_after=0.0, gate_until=0.0)
    )
    assert [row["validation"] for row in history] == [0.2, 0.9, 0.1, 0.3], "patience ends it"
    kept = {name: t for name, t in model.tensors().items() if name != "gate.units.bias"}
    assert all(torch.equal(t, seen[1][name]) for name, t in kept.items())
    assert not model.training


def test_no_epoch_is_kept_before_the_subnetworks_have_been_trained(monkeypatch):
    scores = iter([0.9, 0.8, 0.1, 0.3, 0.2])
    seen = []

    def validate(self):
        seen.append(copied(self.averaged))
        return next(scores)

    monkeypatch.setattr(Run, "validation", validate)
    model = fresh()
    history = train(model, WINDOWS, settings=replace(SETTINGS, epochs=5, gate_until=0.2, patience=2))
    assert len(history) == 5, "patience counts from the third epoch on"
    kept = {name: t for name, t in model.tensors().items() if name != "gate.units.bias"}
    assert all(torch.equal(t, seen[3][name]) for name, t in kept.items()), "the fourth is the best"


def test_sizes_count_when_the_gate_is_frozen_and_again_at_the_end():
    model = fresh()
    train(model, WINDOWS, settings=replace(SETTINGS, epochs=2, gate_until=0.0, learning_rate=1e-9))
    sizes = magnitude_importance(model)  # learned nothing and hardly moved
    for name, importance in model.gate.importance(("acc",)).items():
        np.testing.assert_allclose(importance, sizes[name] ** 2, rtol=1e-2)


def test_statistics_come_from_the_training_windows_alone():
    other = tiny_windows(144)
    other.raw["acc"][other.indices("test")] += 1000
    first, second = fresh(), fresh()
    for model, windows in ((first, WINDOWS), (second, other)):
        train(model, windows, settings=replace(SETTINGS, epochs=1))
    assert equal_bits(first, second)
    train_values = WINDOWS.raw["acc"][WINDOWS.indices("train")]
    np.testing.assert_allclose(first.statistics("acc")[0], train_values.mean((0, 1)), atol=1e-5)


def test_a_model_standardised_by_subject_remembers_its_floors():
    model = create_model(
        "maestro", modalities=MODALITIES, classes=CLASSES, options=MAESTRO, normalise="subject"
    )
    train(model, WINDOWS, settings=replace(SETTINGS, epochs=1, elastic="none"))
    assert set(model.config.subject_floor) == set(WINDOWS.names)
    assert evaluate(model, WINDOWS)[0]["n_windows"] == len(WINDOWS.indices("test"))


@pytest.mark.parametrize("readout", ["auto", "person", "population", "none"])
def test_windows_are_standardised_as_the_readout_is(readout):
    model, windows = fresh(), levels(tiny_windows(240))
    assert model.config.normalise == "auto"
    with few_trees():
        train(model, windows, settings=replace(SETTINGS, epochs=1, elastic="none", readout=readout))
    readout_of = model.mixture and model.mixture.readout
    by_person = bool(readout_of and (readout_of.own_signals or readout_of.person_weight is not None))
    assert readout == "auto" or by_person == (readout == "person")
    assert model.config.normalise == ("subject" if by_person else "train")
    assert set(model.config.subject_prior) == (set(windows.names) if by_person else set())


@pytest.mark.slow
def test_where_people_differ_the_folds_choose_their_own_statistics():
    windows = people()
    windows = windows.with_split(np.where(windows.subject < 2, 1, windows.split))
    model = create_model("maestro", modalities=windows.modalities, classes=windows.classes, options=MAESTRO)
    train(model, windows, settings=replace(SETTINGS, epochs=1, elastic="none", readout="auto"))
    assert model.config.normalise == "subject"
    assert model.mixture is not None
    assert model.mixture.readout.own_signals, "offsets and gains are taken away before statistics"


@pytest.mark.parametrize(
    "sizes",
    [{}, {"n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_ff": 64, "tokens": 16}],
    ids=["hardest with one sensor", "hardest with two"],
)
def test_even_a_model_too_small_for_the_ratios_can_be_trained(sizes):
    """The smallest sub-network of these is a third of them; ratios up to 0.9 are drawn."""
    model = create_model("maestro", modalities=MODALITIES, classes=CLASSES, options={**MAESTRO, **sizes})
    history = train(model, WINDOWS, settings=replace(SETTINGS, epochs=2, warm_up=0.0))
    assert history[-1]["elastic_loss"] > 0


def test_a_recording_of_something_else_is_refused():
    other = [Modality("ecg", 16.0, 64, ("x", "y", "z"))]
    model = create_model("maestro", modalities=other, classes=CLASSES, options=MAESTRO)
    with pytest.raises(ConfigError, match="use its own data"):
        train(model, WINDOWS, settings=SETTINGS)


@pytest.mark.parametrize(
    ("windows", "epochs"), [(20, 40), (560, 40), (1900, 17), (3000, 10), (6000, 8), (50_000, 8)]
)
def test_a_recording_is_seen_as_often_as_its_size_asks_for(windows, epochs):
    steps = math.ceil(windows / TrainSettings().batch_size)
    assert TrainSettings().epochs_for(steps) == epochs
    assert TrainSettings(epochs=3).epochs_for(steps) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"elastic": "magnitude"}, "gate, static, taylor, none"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"seed": -1}, "seed"),
        ({"ratios": (0.5, 1.0)}, "ratio"),
        ({"ratios": (0.9, 0.3)}, "ratio"),
        ({"sensor_dropout": 1.0}, "rate"),
        ({"augment": -0.1}, "augment"),
        ({"augment": math.nan}, "augment"),
        ({"average": 1.1}, "average"),
        ({"all_present": 1.5}, "all_present"),
        ({"warm_up": -0.1}, "warm_up"),
        ({"keep_after": 1.5}, "keep_after"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        TrainSettings(**changes)


def test_balanced_classes_count_alike():
    some = np.flatnonzero((WINDOWS.split == 0) & ((WINDOWS.y == 0) | (np.arange(len(WINDOWS)) % 3 == 0)))
    of_window = class_weights(WINDOWS, some).numpy()[WINDOWS.y[some]]
    of_class = [of_window[WINDOWS.y[some] == k].sum() for k in np.unique(WINDOWS.y[some])]
    np.testing.assert_allclose(of_class, of_class[0], rtol=1e-5)
    assert of_window.mean() == pytest.approx(1)
    # the smoothed share of a label does not take the weight of other classes
    objective = Objective(Target(), 2, label_smoothing=0.1)
    run = SimpleNamespace(objective=objective, class_weight=torch.tensor([1.0, 9.0]))
    losses = [float(Run._task_loss(cast(Any, run), torch.zeros(1, 2), torch.eye(2)[[k]])) for k in (0, 1)]
    assert losses[1] == pytest.approx(9 * losses[0])
    plain, balanced = fresh(), fresh()
    train(plain, WINDOWS, settings=replace(SETTINGS, epochs=1))
    train(balanced, WINDOWS, settings=replace(SETTINGS, epochs=1, balance=True))
    assert not equal_bits(plain, balanced)
