"""The steps of a training: the state they share, one epoch of them, one batch; needs torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sentryfuse.data import Curriculum, Windows, batches, subject_floor, subject_prior, training_statistics
from sentryfuse.data.scoring import prepared
from sentryfuse.gate.memory import SaliencyMemory
from sentryfuse.gate.saliency import SaliencyScale, batch_saliency, saliency_loss, unit_factors
from sentryfuse.model import Selection
from sentryfuse.model.encoder import running_statistics
from sentryfuse.model.objective import Objective
from sentryfuse.model.pretrained import SentryModel
from sentryfuse.pruning.weights import magnitude_importance
from sentryfuse.training.augment import blend, hide, vary
from sentryfuse.training.distributed import ProcessGroup
from sentryfuse.training.elastic import draw_subnetwork, make_rule
from sentryfuse.training.settings import TrainSettings
from sentryfuse.training.validation import Evaluator

CLIP_NORM = 1.0
MEASURED = 2048  # training windows from which the statistics of a sensor are standardised


def class_weights(windows: Windows, indices: NDArray[np.intp]) -> Tensor:
    """Weight of each class under which all count alike and a window counts 1 in the mean, `(K,)`."""
    count = np.bincount(windows.y[indices], minlength=len(windows.classes))
    there = count > 0
    return torch.from_numpy(np.where(there, count.sum() / (there.sum() * np.maximum(count, 1)), 0.0)).float()


class Run:
    """The state of one training; `fresh` sets statistics and teaches the gate."""

    def __init__(
        self,
        model: SentryModel,
        windows: Windows,
        settings: TrainSettings,
        group: ProcessGroup,
        *,
        fresh: bool,
    ) -> None:
        model.to(group.device)
        self.model, self.settings, self.group, self.fresh = model, settings, group, fresh
        indices = windows.indices("train")
        if model.config.normalise == "subject" and not model.config.subject_floor:
            floor, prior = subject_floor(windows, indices), subject_prior(windows, indices)
            model.set_subject(
                {name: values.tolist() for name, values in floor.items()},
                {name: values.tolist() for name, values in prior.items()},
            )
        self.partly_measured = {m.name for m in windows.modalities if m.may_miss and m.length > 1}
        self.windows = prepared(windows, model.config)
        self.indices = indices
        if fresh:
            model.set_target(windows.target.fitted(windows.y[indices]))
        self.objective = Objective(
            model.config.target, len(windows.classes), label_smoothing=settings.label_smoothing
        )
        statistics = training_statistics(self.windows, indices)
        if fresh:
            model.set_statistics(statistics.mean, statistics.std)
            model.set_features(statistics.within, self._some_windows())
        self.within = {name: torch.from_numpy(values) for name, values in statistics.within.items()}
        group.broadcast_weights(model)
        self.rng = np.random.default_rng(settings.seed)
        torch.manual_seed(settings.seed)
        self.curriculum = Curriculum(max_rate=settings.sensor_dropout)
        self.rule = make_rule(settings.elastic, model, self.windows, seed=settings.seed)
        self.evaluator = Evaluator(self.windows, settings, device=group.device)
        self.scale = SaliencyScale()
        self.memory = SaliencyMemory(model.gate)
        self.class_weight = class_weights(self.windows, indices) if settings.balance else None
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
        total = self.steps_per_epoch * self.epochs
        self.freeze_step = math.ceil(settings.gate_until * total)
        frozen = self.freeze_step // self.steps_per_epoch + 1 if self.rule is not None else 1
        self.first_kept = min(self.epochs, max(frozen, math.ceil(settings.keep_after * self.epochs)))
        # a mean over the last steps answers new people better than the last step does
        reach = max(1.0, settings.average * self.steps_per_epoch * self.epochs)
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / reach))

    def _some_windows(self) -> dict[str, NDArray[np.float32]]:
        """Training windows of each sensor in which it is present, evenly spread over the recording."""
        some = {}
        for column, name in enumerate(self.windows.names):
            there = self.indices[self.windows.present[self.indices, column]]
            there = there[:: max(1, len(there) // MEASURED)]
            some[name] = self.windows.batch(there, (name,))[name]
        return some

    @property
    def averaged(self) -> SentryModel:
        """The model with the running mean of the weights."""
        return cast(SentryModel, self.average.module)

    def freeze_gate(self) -> None:
        """End the gate's training; its mean over steps is what it is now."""
        assert self.rule is not None
        self.memory.fit(self.model.gate)
        self.rule.freeze()
        self.averaged.gate.load_state_dict(self.model.gate.state_dict())

    def finish_gate(self) -> None:
        """Fit the gate if it has not been frozen, and weigh its units with the weights that are kept."""
        if self.rule is None or self.step <= self.freeze_step:
            self.memory.fit(self.model.gate)
        self.model.gate.weigh(magnitude_importance(self.model))

    def parts(self) -> dict[str, Any]:
        """What a resumed training must get back."""
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "rng": self.rng,
            "run": self,
            "scale": self.scale,
            "memory": self.memory,
            "average": self.averaged,
        }

    def epoch(self, epoch: int) -> dict[str, Any]:
        """All training windows once; means of the losses."""
        settings = self.settings
        if self.rule:
            self.rule.new_epoch(frozen=self.step > self.freeze_step)
        self.model.train()
        rate = self.curriculum.rate(epoch / self.epochs)
        totals = dict.fromkeys(("loss", "elastic_loss", "gate_loss", self.objective.word), 0.0)
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
        sums = self.group.sum_numbers(totals.values())
        means = {key: value / seen for key, value in zip(totals, sums, strict=True)}
        return {"epoch": epoch + 1, "missing_rate": rate} | means

    def _step(self, on: tuple[str, ...], chosen: NDArray[np.intp]) -> dict[str, float]:
        batch, target = self._varied(on, chosen)
        rows, part = self.group.share(len(chosen))
        device = self.group.device
        batch = {name: x[rows].to(device) for name, x in batch.items()}
        weight = len(chosen) / self.settings.batch_size  # a small batch is a small step
        with self.group.own_rng(self.settings.seed, self.step):
            return self._learn(on, batch, target[rows].to(device), part, weight)

    def _varied(self, on: tuple[str, ...], chosen: NDArray[np.intp]) -> tuple[dict[str, Tensor], Tensor]:
        """A batch to learn from and what is wanted of it, the same in every process."""
        settings = self.settings
        batch = {n: torch.from_numpy(x) for n, x in self.windows.batch(chosen, on).items()}
        target = self.objective.wanted(self.windows.y[chosen])
        if settings.augment:
            batch = vary(batch, self.within, settings.augment)
        if settings.hide:
            batch = hide(batch, self.partly_measured, settings.hide)
        if settings.mixup:
            batch, target = blend(batch, target, self.rng, settings.mixup)
        return batch, target

    def _learn(
        self, on: tuple[str, ...], batch: Mapping[str, Tensor], target: Tensor, part: float, weight: float
    ) -> dict[str, float]:
        """One step; `part` is the share of the batch, and of every mean over it, that this process has."""
        settings, model = self.settings, self.model
        progress = self.step / (self.steps_per_epoch * self.epochs)
        self.optimizer.zero_grad()
        if self.rule is not None and self.step == self.freeze_step:
            self.freeze_gate()
        teach_gate = self.fresh and (self.step < self.freeze_step or self.rule is None)
        factors: dict[str, Tensor] = {}
        if teach_gate:
            live = [b for step in model.layout.route(on) for b in step.blocks]
            factors = unit_factors(live, len(target), self.group.device)
        logits = model(batch, on, select=Selection(gates=factors))
        loss = part * self._task_loss(logits, target)
        routers = model.backbone.router_loss(on, self.group.batch_mean(part))
        if not self.fresh:
            routers = None  # where experts have been cut away, the others have new numbers
        ((loss if routers is None else loss + routers) * weight).backward()
        gate_loss = 0.0
        if factors:  # none where a pruned model has no block for these sensors
            for xi in factors.values():
                xi.grad = xi.grad / weight if xi.grad is not None else None
            if progress > 0.02:
                gate_loss = self._teach_gate(on, batch_saliency(factors), part)
        elastic_loss = 0.0
        if self.rule and progress >= settings.warm_up:
            elastic_loss = self._elastic_step(on, batch, logits.detach(), part, weight)
        self.group.sum_gradients(model.parameters())
        torch.nn.utils.clip_grad_norm_(model.backbone.parameters(), CLIP_NORM)
        torch.nn.utils.clip_grad_norm_(model.gate.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.group.average(running_statistics(model), part)
        self.average.update_parameters(model)
        return {
            "loss": float(loss.detach()),
            "elastic_loss": elastic_loss,
            "gate_loss": gate_loss,
            self.objective.word: part * self.objective.right(logits, target),
        }

    def _task_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss, mean over the batch; with classes balanced a window counts by its class."""
        each = self.objective.loss(logits, target)
        if self.class_weight is not None:
            each = target @ self.class_weight.to(target.device) * each
        return each.mean()

    def _teach_gate(self, on: tuple[str, ...], saliency: Mapping[str, Tensor], part: float) -> float:
        saliency = dict(zip(saliency, self.group.sum_tensors(saliency.values()), strict=True))
        targets = self.scale.normalise(saliency, self.kinds)
        mask = self.model.gate.mask_of(on)
        self.memory.add(mask, targets)
        loss = part * saliency_loss(self.model.gate(mask), targets)
        (self.settings.gate_weight * loss).backward()
        return float(loss.detach())

    def _elastic_step(
        self, on: tuple[str, ...], batch: Mapping[str, Tensor], teacher: Tensor, part: float, weight: float
    ) -> float:
        """Train a very small sub-network and one in between (the sandwich rule); cheap, they are small."""
        assert self.rule is not None
        importance, layout, total = self.rule.importance(on), self.model.layout, 0.0
        low, high = self.settings.ratios
        for ratio in (self.rng.uniform(low, high), high):
            kept = draw_subnetwork(layout, importance, present=on, ratio=ratio)
            units = {
                name: torch.tensor(few, dtype=torch.long, device=self.group.device)
                for name, few in kept.items()
            }
            logits = self.model(batch, on, select=Selection(kept=units))
            loss = part * self.objective.distil(logits, teacher)
            (0.5 * loss * weight).backward()
            total += 0.5 * float(loss.detach())
        return total

    def _set_learning_rate(self) -> None:
        """One cycle: up over the first 15 %, then down along a cosine to nothing."""
        progress = self.step / (self.steps_per_epoch * self.epochs)
        if progress < 0.15:
            factor = 0.1 + 0.9 * progress / 0.15
        else:
            factor = 0.5 * (1 + np.cos(np.pi * (progress - 0.15) / 0.85))
        for group, peak in zip(self.optimizer.param_groups, self.peak, strict=True):
            group["lr"] = peak * float(factor)

    def validation(self) -> float:
        """The validation score; process 0 computes it for all."""
        score = self.evaluator.score(self.averaged) if self.group.leads else 0.0
        return float(json.loads(self.group.broadcast(json.dumps(score).encode())))
