"""One training: epochs of steps, the best of them kept; needs torch."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sentryfuse.bundle import check_exportable
from sentryfuse.data import Windows
from sentryfuse.data.learnable import check_training, weak_points
from sentryfuse.data.matching import matched
from sentryfuse.errors import ConfigError
from sentryfuse.model.pretrained import SentryModel, bundle_name
from sentryfuse.progress import Progress, say
from sentryfuse.readout import Fit
from sentryfuse.training.callbacks import Callback, wants_to_stop
from sentryfuse.training.distributed import ProcessGroup, check_device
from sentryfuse.training.mixture import fit_beside, fit_mixture
from sentryfuse.training.settings import TrainSettings
from sentryfuse.training.state import TrainState, identity_of
from sentryfuse.training.steps import Run


def train(
    model: SentryModel,
    windows: Windows,
    *,
    settings: TrainSettings | None = None,
    state_file: Path | None = None,
    device: str | torch.device = "cpu",
    callbacks: Sequence[Callback] = (),
) -> list[dict[str, Any]]:
    """Train a model in place: task loss, gate loss, sensor dropout, elastic steps.

    Every step answers a batch with a random set of sensors. The same backward pass gives the saliency
    that teaches the gate. Then two sub-networks, ranked by the elastic rule for the same sensors, are cut
    out by slicing and learn the full network's answer: a very small one and one between. A running mean
    of the weights is what is validated and kept. When the gate has learned enough it is fitted to all it
    was taught and frozen, and where it chooses the sub-networks its importance of every unit is
    multiplied by the size of the unit's weights: a small derivative says little of a unit with large
    weights, and the other way round. At the end it is multiplied by the size of the weights that are
    kept, and a readout is fitted beside the transformer (`training.mixture`).

    Processes started by `torchrun` and joined (`training.distributed.process_group`) compute a share of every
    batch each, and all end with the same weights.

    Args:
        model: changed in place; ends where it was, with the weights of the best epoch by validation score.
        windows: the recording; "train" is learned from, "validation" chooses the epoch.
        settings: how; `None` means the defaults.
        state_file: where to keep what is needed to resume after a kill; an existing one of the same
            settings is continued, on whatever device, and it is removed at the end.
        device: what computes; random numbers and pruning stay on the CPU, so that another device takes the
            same steps up to rounding.
        callbacks: called after every epoch with its row and the model; one that returns True ends the
            training there, at the price of what later epochs would have learned.

    Returns:
        One dictionary per epoch: losses, accuracy, validation score, missing rate, seconds by the clock, and
        CPU seconds of all threads and processes.

    Raises:
        ConfigError: the recording does not belong to the model, or has no windows to learn from or to
            choose the epoch with; a model too large to be exported; or the device is not here.
        DataError: nothing can be learned from the recording: no labels, training windows of one class, or a
            split in which no window has any sensor.
        CheckpointError: `state_file` is of another training.

    Source:
        SentryFuse (arXiv 2604.08971) for gate and curriculum; sandwich steps with in-place distillation
        as in slimmable networks and DynaBERT; their combination is our choice. Importance times size: our
        choice, made on validation people.
    """
    settings = settings or TrainSettings()
    return run_epochs(model, windows, settings, state_file, device, fresh=True, callbacks=callbacks)


def run_epochs(
    model: SentryModel,
    windows: Windows,
    settings: TrainSettings,
    state_file: Path | None,
    device: str | torch.device,
    *,
    fresh: bool,
    callbacks: Sequence[Callback] = (),
) -> list[dict[str, Any]]:
    """The loop itself: `train`, or without `fresh` `fine_tune`, which changes no statistics and no gate."""
    windows = matched(model.layout.modalities, model.config.classes, windows, target=model.config.target)
    check_training(windows)
    if settings.balance and not windows.target.of_classes:
        raise ConfigError(f"balance counts classes alike, and {windows.name} has none; train without it")
    model.with_mixture(None)  # epochs are chosen by what the transformer answers alone
    shapes = {bundle_name(name): tuple(t.shape) for name, t in model.tensors().items()}
    check_exportable(model.layout, model.config.classes, shapes, model.config.target)
    group = ProcessGroup(check_device(device) if isinstance(device, str) else device)
    home = model.device
    fit = _chosen(model, windows, settings, group) if fresh else None
    run = Run(model, windows, settings, group, fresh=fresh)
    identity = identity_of(model, windows, settings)
    said = json.dumps(identity).encode()
    if group.broadcast(said) != said:
        raise ConfigError(
            f"process {group.rank} has another model, recording or other settings than process 0; start all "
            "with the same command and files"
        )
    state = TrainState(state_file, identity, group)
    history = state.resume(run.parts())
    for point in weak_points(windows, balance=settings.balance) if group.leads else ():
        say(f"{windows.name}: {point}")
    could = [h["validation"] for h in history if h["epoch"] >= run.first_kept]
    best = max(could, default=-1.0)
    since = len(could) - 1 - int(np.argmax(could)) if could else 0
    best_tensors = state.best or {name: t.clone() for name, t in model.tensors().items()}
    if not fresh:
        best = run.validation()  # what was there stays if nothing better comes
    with Progress("train", run.epochs) if group.leads else nullcontext() as bar:
        if bar:
            bar.update(len(history), "starting")
        for epoch in range(len(history), run.epochs):
            if since >= settings.patience:
                break
            started, spent = time.perf_counter(), time.process_time()
            row = run.epoch(epoch)
            row["validation"] = run.validation()
            row["seconds"] = time.perf_counter() - started
            row["cpu_seconds"] = group.sum_numbers([time.process_time() - spent])[0]
            history.append(row)
            if epoch + 1 >= run.first_kept:
                since += 1
                if row["validation"] > best:
                    best, since = row["validation"], 0
                    best_tensors = {name: t.clone() for name, t in run.averaged.tensors().items()}
            state.save(run.parts(), history, best_tensors)
            if bar:
                bar.update(
                    epoch + 1,
                    f"loss {row['loss']:.3f}  {run.objective.word} {row[run.objective.word]:.3f}  "
                    f"validation {row['validation']:.3f}",
                )
            stops = group.leads and wants_to_stop(callbacks, row, run.averaged)
            if callbacks and group.broadcast(json.dumps(stops).encode()) == b"true":
                if not could and epoch + 1 < run.first_kept:  # too early to choose: what there is
                    best_tensors = {name: t.clone() for name, t in run.averaged.tensors().items()}
                break
    model.load_tensors(best_tensors)
    model.to(home).eval()
    if fresh:
        run.finish_gate()
        if settings.readout != "none":
            if fit is None:
                say("fitting the readout")
            fit = fit or fit_beside(windows, settings)
            mixture, judged = fit_mixture(model, windows, fit, balance=settings.balance, seed=settings.seed)
            model.with_mixture(mixture).with_about({"out_of_person": judged})
            model.set_target(mixture.readout.target)
    state.remove()
    return history


def _chosen(model: SentryModel, windows: Windows, settings: TrainSettings, group: ProcessGroup) -> Fit | None:
    """Settle how the transformer's windows are standardised: as the readout's folds of people choose.

    A transformer that reads each person's own deviations answers new people better exactly where a readout
    does; whatever says so must not look at the transformer, which would have to be trained twice.

    Returns:
        The readout that was fitted for it; `None` where nothing had to be asked.
    """
    if model.config.normalise != "auto":
        return None
    own = {"population": "train", "person": "subject", "none": "train"}.get(settings.readout)
    if model.config.encoders:  # may ask for physical units
        own = "train"
    if own is not None:
        model.set_normalise(own)
        return None
    fit = None
    if group.leads:
        say("fitting the readout")
        fit = fit_beside(windows, settings)
        own = "train" if fit.readout.person_weight is None else "subject"
    model.set_normalise(group.broadcast((own or "").encode()).decode())
    return fit
