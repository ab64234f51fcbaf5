"""The teacher: what the running mean of the weights answers with all sensors a window has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sentryfuse.training import TrainSettings, loop, train
from tests.tiny import tiny_windows
from tests.training.test_train import equal_bits, fresh

WINDOWS = tiny_windows(144)
SETTINGS = TrainSettings(epochs=2, batch_size=16, seed=3, warm_up=0.25, gate_until=0.5, augment=0.0, hide=0.0)


@pytest.mark.parametrize(("elastic", "alike"), [("none", True), ("gate", False), ("static", False)])
def test_only_elastic_training_has_a_teacher(elastic, alike):
    without, with_it = fresh(), fresh()
    for model, distil in ((without, 0.0), (with_it, 1.0)):
        train(model, WINDOWS, settings=replace(SETTINGS, elastic=elastic, distil=distil))
    assert equal_bits(without, with_it) == alike


def test_what_is_learned_where_sensors_were_dropped(monkeypatch):
    step, learn, seen = loop._Run._step, loop._Run._learn, []

    def watched_step(self, on, chosen, whole):
        inputs = {name: torch.from_numpy(x) for name, x in self.windows.batch(chosen, whole).items()}
        with torch.no_grad():
            self.expected = self.averaged(inputs, whole).softmax(1)
        self.before_warm_up = self.step < 0.25 * self.steps_per_epoch * self.epochs
        self.all_on = on == whole
        return step(self, on, chosen, whole)

    def watched_learn(self, lesson, part, weight):
        assert set(lesson.batch) == set(lesson.on), "the pupil does not see what was dropped"
        seen.append((self.before_warm_up, self.all_on))
        with torch.no_grad():
            logits = self.model(lesson.batch, lesson.on)
        loss = F.cross_entropy(logits, lesson.target)
        if self.before_warm_up:
            assert lesson.teacher is None
        else:
            torch.testing.assert_close(lesson.teacher, self.expected)
            if not self.all_on:
                entropy = (lesson.teacher * lesson.teacher.log()).sum(1).mean()
                loss = 0.7 * loss + 0.3 * (entropy - (lesson.teacher * logits.log_softmax(1)).sum(1).mean())
        found = learn(self, lesson, part, weight)
        np.testing.assert_allclose(found["loss"], float(loss), rtol=1e-4)
        assert (found["elastic_loss"] > 0) != self.before_warm_up
        return found

    monkeypatch.setattr(loop._Run, "_step", watched_step)
    monkeypatch.setattr(loop._Run, "_learn", watched_learn)
    train(fresh(), WINDOWS, settings=replace(SETTINGS, distil=0.3))
    assert {(True, True), (False, True), (False, False)} <= set(seen)


def test_a_share_is_a_share():
    with pytest.raises(Exception, match="distil is a share"):
        TrainSettings(distil=1.5)
