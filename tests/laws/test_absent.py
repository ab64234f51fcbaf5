"""Absent means absent: what an absent sensor's buffer holds cannot matter, in torch."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from tests.tiny import CASES, SENSOR_SETS, tiny_batch, tiny_model

model_of = functools.cache(tiny_model)
GARBAGE = (np.nan, np.inf, 1e30)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("present", SENSOR_SETS, ids="+".join)
def test_not_one_bit_depends_on_an_absent_sensor(case, present):
    model = model_of(case)
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch().items()}
    with torch.no_grad():
        only = model({name: batch[name] for name in present}, present)
        assert torch.isfinite(only).all()
        for value in GARBAGE:
            filled = {name: x if name in present else torch.full_like(x, value) for name, x in batch.items()}
            assert torch.equal(model(filled, present), only)
        # an absent sensor may as well have no windows, or windows of another size
        empty = {n: x if n in present else torch.empty(0, 2) for n, x in batch.items()}
        assert torch.equal(model(dict(reversed(empty.items())), present), only)


@pytest.mark.parametrize("case", CASES)
def test_a_present_sensor_does_matter(case):
    model = tiny_model(case)
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch().items()}
    with torch.no_grad():
        before = model(batch)
        for name in batch:
            changed = {**batch, name: torch.from_numpy(tiny_batch(seed=1)[name])}
            assert not torch.equal(model(changed), before)


@pytest.mark.parametrize("case", CASES)
def test_no_gradient_reaches_what_belongs_to_an_absent_sensor(case):
    model = tiny_model(case)
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch().items()}
    model(batch, ("temp",)).sum().backward()
    for name, parameter in model.backbone.named_parameters():
        if name.startswith("bank."):  # stands in for what is absent, and only for that
            used = not name.startswith("bank.temp.")
        else:
            used = ".acc." not in name and ".age." not in name
        assert (parameter.grad is not None) == used, name
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


def test_a_whole_window_of_gaps_still_gets_an_answer():
    model = tiny_model()
    batch = {name: torch.from_numpy(x) for name, x in tiny_batch().items()}
    batch["temp"] = torch.full_like(batch["temp"], torch.nan)
    assert torch.isfinite(model(batch)).all()
