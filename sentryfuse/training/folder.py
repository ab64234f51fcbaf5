"""The folder of one training: checking it, resuming after a kill, and finishing it.

torch is loaded only by what trains or opens a model; a folder that may not be used is refused at once.

| file | there while |
| --- | --- |
| `state.safetensors` | training; `train` goes on from it |
| `history.json` | trained, scores not written yet |
| `config.json`, `model.safetensors`, `README.md` | trained |
| `metrics.json` | finished; written last |
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentryfuse.errors import CheckpointError, ConfigError
from sentryfuse.files import PARTIAL, read_json, room_beside, write_atomically, write_json, writing

if TYPE_CHECKING:
    from sentryfuse.data import Windows
    from sentryfuse.model.pretrained import SentryModel
    from sentryfuse.training import TrainSettings
    from sentryfuse.training.distributed import ProcessGroup

STATE, HISTORY, METRICS = "state.safetensors", "history.json", "metrics.json"
MODEL = ("README.md", "config.json", "model.safetensors")  # in the order they are written
RATIOS = (0.0, 0.6)


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds a finished model or something else.

    Raises:
        ConfigError: it does, unless `overwrite`.
    """
    if overwrite or not folder.is_dir():
        return
    inside = {path.name for path in folder.iterdir() if not path.name.endswith(PARTIAL)}
    if METRICS in inside or (MODEL[-1] in inside and not inside & {STATE, HISTORY}):
        raise ConfigError(f"{folder} holds a finished model; add --overwrite or choose another --out")
    if inside and not inside & {STATE, HISTORY}:
        raise ConfigError(
            f"{folder} is not empty and holds no training; choose another --out, or add --overwrite"
        )


def open_run(folder: Path, *, sparse_from: int | None = None) -> SentryModel:
    """The model of a folder.

    Args:
        folder: of `sentryfuse train` or `prune`.
        sparse_from: shortest length of the sparse attention core [tokens]; `None` = as it was trained.

    Raises:
        CheckpointError: none is there yet, or it is damaged.
    """
    if not folder.exists():
        raise CheckpointError(f"{folder} does not exist; make it with `sentryfuse train --out {folder}`")
    if (folder / STATE).is_file() and not (folder / MODEL[-1]).is_file():
        raise CheckpointError(
            f"{folder}: training is not finished; repeat the same `sentryfuse train` command"
        )
    from sentryfuse.model.pretrained import SentryModel, from_pretrained

    model = from_pretrained(folder)
    if sparse_from is None or model.config.attention.core == "dense":
        return model
    rule = replace(model.config.attention, sparse_from=sparse_from)
    other = SentryModel(replace(model.config, attention=rule))
    other.load_tensors(model.tensors())
    return other.eval()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What decides a trained model, beside its recording.

    Attributes:
        settings: how to train.
        backbone: of `create_model`, as the next three.
        preset: sizes.
        attention: "sentry" or "dense".
        normalise: "train", "subject" or "auto".
        fold: `I/K`, written into the model card; `None` = the recording's own split.
    """

    settings: TrainSettings
    backbone: str = "maestro"
    preset: str = "small"
    attention: str = "sentry"
    normalise: str = "auto"
    fold: str | None = None

    def make_model(self, windows: Windows) -> SentryModel:
        """The fresh model for a recording, the same one each time.

        Raises:
            ConfigError: a name that is not known.
        """
        import torch

        from sentryfuse.machine import own_version
        from sentryfuse.model.pretrained import create_model

        torch.manual_seed(self.settings.seed)
        model = create_model(
            self.backbone,
            modalities=windows.modalities,
            classes=windows.classes,
            preset=self.preset,
            attention=self.attention,
            normalise=self.normalise,
            target=windows.target,
        )
        about = {
            "dataset": windows.name,
            "seed": self.settings.seed,
            "elastic": self.settings.elastic,
            "sentryfuse": own_version(),
        }
        return model.with_about(about if self.fold is None else {**about, "fold": self.fold})


def train_into(
    folder: Path, windows: Windows, recipe: Recipe, *, group: ProcessGroup, overwrite: bool = False
) -> dict[str, Any]:
    """Train, or go on, and fill the folder.

    Args:
        folder: where to; free in the sense of `check_free`.
        windows: the recording, split as the recipe's fold says.
        recipe: which model, and how to train it.
        group: the processes that train together; process 0 alone touches the folder.
        overwrite: drop a half-done training of other settings instead of refusing.

    Returns:
        What `metrics.json` holds; nothing in other processes than 0.

    Raises:
        ConfigError: a name that is not known.
        CheckpointError: the folder holds a half-done training of other settings or data.
        DataError: nothing can be learned from the recording.
    """
    from sentryfuse.data.learnable import check_training
    from sentryfuse.model.pretrained import from_pretrained
    from sentryfuse.training.state import identity_of

    check_training(windows)  # before there is a folder
    settings = recipe.settings
    identity = identity_of(recipe.make_model(windows), windows, settings)
    trained = not (folder / METRICS).is_file() and (folder / HISTORY).is_file()
    if group.leads and trained and overwrite and not _is_of(folder, identity):
        (folder / HISTORY).unlink()
        trained = False
    if group.broadcast(b"trained" if trained else b"") == b"trained":
        if not group.leads:
            return {}
        history = _read_history(folder, identity)
        model = from_pretrained(folder)
    else:
        if group.leads:
            folder.mkdir(parents=True, exist_ok=True)
        model, history = _train(folder, windows, recipe, group, overwrite=overwrite)
        if not group.leads:
            return {}
        model.with_about({"epochs": len(history)})
        _write_model(folder, model, {"identity": identity, "history": history})
    metrics = _metrics(model, windows, settings, history, group)
    write_json(folder / METRICS, metrics)
    (folder / HISTORY).unlink()
    return metrics


def _train(
    folder: Path, windows: Windows, recipe: Recipe, group: ProcessGroup, *, overwrite: bool
) -> tuple[SentryModel, list[dict[str, Any]]]:
    """Train, from where a killed training of the same settings stopped."""
    from sentryfuse.training import train

    state = folder / STATE

    def once() -> tuple[SentryModel, list[dict[str, Any]]]:
        model = recipe.make_model(windows)
        return model, train(model, windows, settings=recipe.settings, state_file=state, device=group.device)

    try:
        return once()
    except CheckpointError:
        if not overwrite:
            raise
    if group.leads:
        state.unlink()
    return once()


def _write_model(folder: Path, model: SentryModel, history: Mapping[str, Any]) -> None:
    """Put the model's files in place, each whole; the last one is there only when all are."""
    for name in (METRICS, MODEL[-1]):
        (folder / name).unlink(missing_ok=True)
    write_json(folder / HISTORY, history)
    with (
        writing(folder),
        room_beside(folder / "model") as room,
    ):
        model.write_into(room)
        for name in MODEL:
            with write_atomically(folder / name) as draft:
                (room / name).replace(draft)


def _is_of(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether the training that was stopped after its last epoch is this one."""
    return bool(read_json(folder / HISTORY).get("identity") == json.loads(json.dumps(identity)))


def _read_history(folder: Path, identity: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The epochs of a training that was stopped after its last epoch."""
    found = read_json(folder / HISTORY)
    if not _is_of(folder, identity):
        raise CheckpointError(
            f"{folder} belongs to a training with other settings or data; finish it with those "
            "settings, or choose another output folder"
        )
    history: list[dict[str, Any]] = found["history"]
    return history


def _metrics(
    model: SentryModel,
    windows: Windows,
    settings: TrainSettings,
    history: list[dict[str, Any]],
    group: ProcessGroup,
) -> dict[str, Any]:
    from sentryfuse.machine import machine
    from sentryfuse.pruning.evaluation import evaluate
    from sentryfuse.readout.worth import worth

    started, spent = time.perf_counter(), time.process_time()
    scores = {
        split: evaluate(model, windows, split=split, ratios=RATIOS, device=group.device)
        for split in ("validation", "test")
        if len(windows.indices(split))
    }
    config = model.config
    alone = None if model.mixture is None else model.mixture.readout.cost(model.names).macs
    return {
        "dataset": windows.name,
        "backbone": config.backbone,
        "preset": config.preset,
        "attention": config.attention.core,
        "normalise": config.normalise,
        "seed": settings.seed,
        "fold": config.about.get("fold"),
        "params": sum(t.numel() for t in model.tensors().values()),
        "settings": asdict(settings),
        "history": history,
        "out_of_person": config.about.get("out_of_person"),
        "worth": worth(config.about, alone),
        **scores,
        "seconds": {
            "train": sum(epoch["seconds"] for epoch in history),
            "evaluate": time.perf_counter() - started,
        },
        "cpu_seconds": {
            "train": sum(epoch["cpu_seconds"] for epoch in history),
            "evaluate": time.process_time() - spent,
        },
        "device": group.device.type,
        "processes": group.size,
        **machine(),
    }
