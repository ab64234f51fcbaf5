"""One training: task, gate and sub-networks in the same steps; needs torch."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sentryfuse.checkpoint import SentryModel
from sentryfuse.data import Curriculum, Windows, batches, subject_floor, training_statistics
from sentryfuse.errors import ConfigError
from sentryfuse.evaluation import evaluate
from sentryfuse.gate.saliency import SaliencyScale, batch_saliency, saliency_loss, unit_factors
from sentryfuse.model import Selection
from sentryfuse.progress import Progress
from sentryfuse.pruning.plan import largest_ratio
from sentryfuse.scoring import check_recording, prepared, presence_mask
from sentryfuse.training.augment import blend, hide, vary
from sentryfuse.training.elastic import draw_subnetwork, make_rule
from sentryfuse.training.settings import TrainSettings
from sentryfuse.training.state import TrainState

CLIP_NORM = 1.0
VALIDATION_RATIO, VALIDATION_MISSING = 0.7, 0.3


def train(
    model: SentryModel,
    windows: Windows,
    *,
    settings: TrainSettings | None = None,
    state_file: Path | None = None,
) -> list[dict[str, Any]]:
    """Train a model in place: task loss, gate loss, sensor dropout, elastic steps.

    Every step answers a batch with a random set of sensors. The same backward pass gives the saliency that
    teaches the gate. Then two sub-networks, ranked by the elastic rule for the same sensors, are cut out by
    slicing and learn the full network's answer: the smallest and one between. A running mean of the weights
    is what is validated and kept.

    Args:
        model: changed in place; ends with the weights of the best epoch by validation score.
        windows: the recording; "train" is learned from, "validation" chooses the epoch.
        settings: how; `None` means the defaults.
        state_file: where to keep what is needed to resume after a kill; an existing one of the same
            settings is continued, and it is removed at the end.

    Returns:
        One dictionary per epoch: losses, accuracy, validation score, missing rate, seconds.

    Raises:
        ConfigError: the recording does not belong to the model, or has no windows to learn from or to
            choose the epoch with.
        CheckpointError: `state_file` is of another training.

    Source:
        SentryFuse (arXiv 2604.08971) for gate and curriculum; sandwich steps with in-place distillation
        as in slimmable networks and DynaBERT; their combination is our choice.
    """
    settings = settings or TrainSettings()
    check_recording(model.layout.modalities, model.config.classes, windows)
    for split in ("train", "validation"):
        if not len(windows.indices(split)):
            raise ConfigError(
                f"{windows.name} has no {split} windows; give a recording with both, or choose --fold"
            )
    run = _Run(model, windows, settings)
    identity = {
        "settings": asdict(settings),
        "model": model.config.to_json(),
        "data": [windows.name, len(windows), hashlib.sha256(windows.y.tobytes()).hexdigest()],
    }
    state = TrainState(state_file, identity)
    history = state.resume(run.parts())
    best = max((h["validation"] for h in history), default=-1.0)
    since = len(history) - 1 - int(np.argmax([h["validation"] for h in history])) if history else 0
    best_tensors = state.best or model.tensors()
    with Progress("train", run.epochs) as bar:
        bar.update(len(history), "starting")
        for epoch in range(len(history), run.epochs):
            if since >= settings.patience:
                break
            started = time.perf_counter()
            row = run.epoch(epoch)
            row["validation"] = run.validate()
            row["seconds"] = time.perf_counter() - started
            history.append(row)
            since += 1
            if row["validation"] > best:
                best, since = row["validation"], 0
                best_tensors = {name: t.clone() for name, t in run.averaged.tensors().items()}
            state.save(run.parts(), history, best_tensors)
            bar.update(
                epoch + 1,
                f"loss {row['loss']:.3f}  accuracy {row['accuracy']:.3f}  validation {row['validation']:.3f}",
            )
    model.load_tensors(best_tensors)
    model.eval()
    state.remove()
    return history


class _Run:
    """The moving parts of one training."""

    def __init__(self, model: SentryModel, windows: Windows, settings: TrainSettings) -> None:
        self.model, self.settings = model, settings
        indices = windows.indices("train")
        if model.config.normalise == "subject" and not model.config.subject_floor:
            floor = subject_floor(windows, indices)
            model.set_subject_floor({name: values.tolist() for name, values in floor.items()})
        self.partly_measured = {m.name for m in windows.modalities if m.may_miss and m.length > 1}
        self.windows = prepared(windows, normalise=model.config.normalise, floor=model.config.subject_floor)
        self.indices = indices
        statistics = training_statistics(self.windows, indices)
        model.set_statistics(statistics.mean, statistics.std)
        self.rng = np.random.default_rng(settings.seed)
        torch.manual_seed(settings.seed)
        self.curriculum = Curriculum(max_rate=settings.sensor_dropout)
        self.rule = make_rule(settings.elastic, model)
        self.validation_ratio = self._validation_ratio()
        self.scale = SaliencyScale()
        self.kinds = {name: block.kind for name, block in model.layout.blocks.items()}
        groups = [
            {"params": list(model.backbone.parameters()), "lr": settings.learning_rate},
            {"params": list(model.gate.parameters()), "lr": 2.5 * settings.learning_rate},
        ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
        self.peak = [settings.learning_rate, 2.5 * settings.learning_rate]
        self.steps_per_epoch = sum(1 for _ in batches(self.windows, indices, batch_size=settings.batch_size))
        self.epochs = settings.epochs_for(self.steps_per_epoch)
        self.step = 0
        # a mean over the last steps answers new people better than the last step does
        reach = max(1.0, settings.average * self.steps_per_epoch * self.epochs)
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / reach))

    @property
    def averaged(self) -> SentryModel:
        """The model with the running mean of the weights."""
        return cast(SentryModel, self.average.module)

    def parts(self) -> dict[str, Any]:
        """What a resumed training must get back."""
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "rng": self.rng,
            "run": self,
            "scale": self.scale,
            "average": self.averaged,
        }

    def epoch(self, epoch: int) -> dict[str, Any]:
        settings = self.settings
        self.model.train()
        if self.rule:
            self.rule.new_epoch()
        rate = self.curriculum.rate(epoch / self.epochs)
        totals = {"loss": 0.0, "elastic_loss": 0.0, "gate_loss": 0.0, "accuracy": 0.0}
        seen = 0
        for on, chosen in batches(self.windows, self.indices, batch_size=settings.batch_size, rng=self.rng):
            if self.rng.random() >= settings.all_present:
                on = self.curriculum.draw(on, rate, self.rng)
            self._set_learning_rate()
            part = self._step(on, chosen)
            self.step += 1
            seen += len(chosen)
            for key, value in part.items():
                totals[key] += value * len(chosen)
        return {"epoch": epoch + 1, "missing_rate": rate} | {k: v / seen for k, v in totals.items()}

    def _step(self, on: tuple[str, ...], chosen: NDArray[np.intp]) -> dict[str, float]:
        settings, model = self.settings, self.model
        progress = self.step / (self.steps_per_epoch * self.epochs)
        batch = {n: torch.from_numpy(x) for n, x in self.windows.batch(chosen, on).items()}
        target = self._target(chosen)
        if settings.augment:
            std = {name: torch.from_numpy(model.statistics(name)[1]) for name in batch}
            batch = vary(batch, std, settings.augment)
        if settings.hide:
            batch = hide(batch, self.partly_measured, settings.hide)
        if settings.mixup:
            batch, target = blend(batch, target, self.rng, settings.mixup)
        weight = len(chosen) / settings.batch_size  # a small batch is a small step
        self.optimizer.zero_grad()

        teach_gate = progress < settings.gate_until or self.rule is None
        factors: dict[str, Tensor] = {}
        if teach_gate:
            live = [b for step in model.layout.route(on) for b in step.blocks]
            factors = unit_factors(live, len(chosen))
        logits = model(batch, on, select=Selection(gates=factors))
        loss = F.cross_entropy(logits, target)
        routers = model.backbone.router_loss(on)
        ((loss if routers is None else loss + routers) * weight).backward()
        gate_loss = 0.0
        if teach_gate:
            for xi in factors.values():
                xi.grad = xi.grad / weight if xi.grad is not None else None
            gate_loss = self._teach_gate(on, batch_saliency(factors)) if progress > 0.02 else 0.0
        elastic_loss = 0.0
        if self.rule and progress >= settings.warm_up:
            elastic_loss = self._elastic_step(on, batch, logits.detach(), weight)
        torch.nn.utils.clip_grad_norm_(model.backbone.parameters(), CLIP_NORM)
        torch.nn.utils.clip_grad_norm_(model.gate.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.average.update_parameters(model)
        accuracy = float((logits.argmax(1) == target.argmax(1)).float().mean())
        return {
            "loss": float(loss.detach()),
            "elastic_loss": elastic_loss,
            "gate_loss": gate_loss,
            "accuracy": accuracy,
        }

    def _teach_gate(self, on: tuple[str, ...], saliency: Mapping[str, Tensor]) -> float:
        targets = self.scale.normalise(saliency, self.kinds)
        loss = saliency_loss(self.model.gate(self.model.gate.mask_of(on)), targets)
        (self.settings.gate_weight * loss).backward()
        return float(loss.detach())

    def _elastic_step(
        self,
        on: tuple[str, ...],
        batch: Mapping[str, Tensor],
        teacher: Tensor,
        weight: float,
    ) -> float:
        """Train the smallest sub-network and one in between (the sandwich rule); cheap, they are small."""
        assert self.rule is not None
        scores, layout, total = self.rule.scores(on), self.model.layout, 0.0
        low, high = self.settings.ratios
        for ratio, spread in ((self.rng.uniform(low, high), 0.5), (high, 0.0)):
            kept = draw_subnetwork(layout, scores, present=on, ratio=ratio, equal_widths=spread, rng=self.rng)
            select = Selection(kept={name: torch.tensor(units) for name, units in kept.items()})
            logits = self.model(batch, on, select=select)
            loss = F.kl_div(logits.log_softmax(1), teacher.softmax(1), reduction="batchmean")
            (0.5 * loss * weight).backward()
            total += 0.5 * float(loss.detach())
        return total

    def _target(self, chosen: NDArray[np.intp]) -> Tensor:
        """Label distributions, `(B, n_classes)`."""
        labels = torch.from_numpy(self.windows.y[chosen])
        return F.one_hot(labels, len(self.windows.classes)).float()

    def _set_learning_rate(self) -> None:
        """One cycle: up over the first 15 %, then down along a cosine to nothing."""
        progress = self.step / (self.steps_per_epoch * self.epochs)
        if progress < 0.15:
            factor = 0.1 + 0.9 * progress / 0.15
        else:
            factor = 0.5 * (1 + np.cos(np.pi * (progress - 0.15) / 0.85))
        for group, peak in zip(self.optimizer.param_groups, self.peak, strict=True):
            group["lr"] = peak * float(factor)

    def validate(self) -> float:
        """Mean score on validation windows: full with all sensors, pruned with some missing."""
        found = []
        for rate, ratio in ((None, 0.0), (VALIDATION_MISSING, self.validation_ratio)):
            found += evaluate(
                self.averaged,
                self.windows,
                split="validation",
                missing_rates=(rate,),
                ratios=(ratio,),
                scorers=("magnitude" if self.settings.elastic == "static" else "gate",),
                seed=self.settings.seed,
            )
        return float(np.mean([headline(row) for row in found]))

    def _validation_ratio(self) -> float:
        """The ratio to validate at: 0 without elastic steps, less than usual for a very small model."""
        if self.rule is None:
            return 0.0
        indices = self.windows.indices("validation")
        mask = presence_mask(
            self.model.names,
            len(indices),
            present=None,
            missing_rate=VALIDATION_MISSING,
            seed=self.settings.seed,
        )
        groups = batches(self.windows, indices, batch_size=len(indices), present=mask)
        return min(VALIDATION_RATIO, *(largest_ratio(self.model.layout, on) for on, _ in groups))


def headline(row: Mapping[str, Any]) -> float:
    """The score that chooses an epoch: AUROC for two classes, else the mean of accuracy and macro-F1."""
    if row["auroc"] is not None:
        return float(row["auroc"])
    return float(0.5 * (row["accuracy"] + row["macro_f1"]))
