"""A training that is stopped, at any moment, goes on when the same command is given again."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import pytest

from sentryfuse import files
from sentryfuse.pruning import evaluation
from sentryfuse.training import folder
from sentryfuse.training.state import TrainState


@pytest.fixture
def training(recording, tmp_path):
    """The same command each time, and its folder."""
    run = tmp_path / "run"
    return run, ["train", "--data", recording, "--out", run, "--epochs", 2, "--quiet"]


def stop(*args, **kwargs):
    raise KeyboardInterrupt


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_training_goes_on_from_its_last_epoch(command, monkeypatch, training):
    run, line = training
    save = TrainState.save

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "save", save_and_stop)
        assert command(*line).code == 130
    assert names(run) == ["state.safetensors"]
    early = command("evaluate", run, "--data", "wearable")
    assert (early.code, early.out) == (2, "")
    assert "not finished" in early.err

    other = command(*line, "--seed", 5)
    assert other.code == 2
    assert "other settings" in other.err
    assert names(run) == ["state.safetensors"]

    saves = []

    def save_and_count(*args):
        saves.append(1)
        save(*args)

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "save", save_and_count)
        assert command(*line).code == 0
    assert len(saves) == 1  # the second epoch only
    assert "state.safetensors" not in names(run)
    assert len(json.loads((run / "metrics.json").read_text(encoding="utf-8"))["history"]) == 2


def test_a_training_stopped_while_it_is_scored_only_scores_again(command, monkeypatch, training):
    run, line = training
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate", stop)
        assert command(*line).code == 130
    assert names(run) == ["README.md", "config.json", "history.json", "model.safetensors"]
    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "save", stop)  # training again would stop here
        done = command(*line, "--json", "-")
    assert done.code == 0
    assert len(done.json["history"]) == 2
    assert names(run) == ["README.md", "config.json", "metrics.json", "model.safetensors"]


@pytest.mark.parametrize("written", [0, 1, 4])
def test_a_training_stopped_while_its_model_is_written_only_writes_it_again(
    command, monkeypatch, training, written
):
    """After so many of its files; a kill in there once cost the training, or made the folder useless."""
    run, line = training
    places: list[Path] = []
    whole = files.write_atomically

    @contextmanager
    def write_and_stop(path, **more):
        if Path(path).name != "state.safetensors":
            if len(places) == written:
                raise KeyboardInterrupt
            places.append(Path(path))
        with whole(path, **more) as draft:
            yield draft

    with monkeypatch.context() as patch:
        for module in (files, folder):
            patch.setattr(module, "write_atomically", write_and_stop)
        assert command(*line).code == 130
    assert len(places) == written
    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "save", stop)  # training again would stop here
        done = command(*line, "--json", "-")
    assert done.code == 0, done.err
    assert len(done.json["history"]) == 2
    assert names(run) == ["README.md", "config.json", "metrics.json", "model.safetensors"]


def test_overwrite_drops_a_half_done_training_of_other_settings(command, monkeypatch, training):
    _, line = training
    save = TrainState.save

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "save", save_and_stop)
        assert command(*line).code == 130
    done = command(*line, "--epochs", 1, "--seed", 5, "--overwrite", "--json", "-")
    assert done.code == 0
    assert (done.json["seed"], len(done.json["history"])) == (5, 1)


def test_overwrite_drops_a_training_of_other_settings_that_was_stopped_while_it_was_scored(
    command, monkeypatch, training
):
    _, line = training
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate", stop)
        assert command(*line).code == 130
    other = (*line, "--epochs", 1, "--seed", 5)
    assert "other settings" in command(*other).err
    done = command(*other, "--overwrite", "--json", "-")
    assert done.code == 0
    assert (done.json["seed"], len(done.json["history"])) == (5, 1)


def test_files_of_other_people_are_not_replaced(command, training):
    run, line = training
    run.mkdir(parents=True)
    (run / "README.md").write_text("mine", encoding="utf-8")
    done = command(*line)
    assert done.code == 2
    assert "holds no training" in done.err
    assert (run / "README.md").read_text(encoding="utf-8") == "mine"
