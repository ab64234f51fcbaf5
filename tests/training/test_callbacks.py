"""Callbacks see every epoch, and one of them may end the training."""

from __future__ import annotations

import pytest
import torch

from sentryfuse.model.pretrained import SentryModel
from sentryfuse.training import TrainSettings, train
from tests.tiny import tiny_model, tiny_windows

WINDOWS = tiny_windows(96)
SETTINGS = TrainSettings(epochs=4, batch_size=32, readout="none")


def test_every_epoch_is_told_once_with_its_row_and_the_model_that_was_validated():
    rows, models = [], []
    history = train(
        tiny_model(),
        WINDOWS,
        settings=SETTINGS,
        callbacks=[lambda row, model: rows.append(dict(row)), lambda row, model: models.append(model)],
    )
    assert rows == history
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert all(isinstance(model, SentryModel) for model in models)


def test_looking_on_changes_nothing():
    alone, watched = tiny_model(), tiny_model()
    train(alone, WINDOWS, settings=SETTINGS)
    train(watched, WINDOWS, settings=SETTINGS, callbacks=[lambda row, model: None])
    other = watched.tensors()
    assert all(torch.equal(t, other[name]) for name, t in alone.tensors().items())


@pytest.mark.parametrize("last", [1, 3])
def test_a_callback_ends_the_training_and_what_was_learned_is_kept(last):
    model = tiny_model()
    before = {name: t.clone() for name, t in model.tensors().items()}
    history = train(model, WINDOWS, settings=SETTINGS, callbacks=[lambda row, _: row["epoch"] == last])
    assert len(history) == last
    moved = [name for name, t in model.tensors().items() if not torch.equal(t, before[name])]
    assert any(name.startswith("fusion") for name in moved)


def test_what_a_callback_raises_ends_the_training_and_it_can_be_resumed(tmp_path):
    def fall(row, model):
        if row["epoch"] == 2:
            raise OSError("the disk of the logger is full")

    state = tmp_path / "state.safetensors"
    with pytest.raises(OSError, match="logger"):
        train(tiny_model(), WINDOWS, settings=SETTINGS, state_file=state, callbacks=[fall])
    seen = []
    history = train(
        tiny_model(),
        WINDOWS,
        settings=SETTINGS,
        state_file=state,
        callbacks=[lambda row, _: seen.append(row["epoch"])],
    )
    assert seen == [3, 4]
    assert len(history) == 4
