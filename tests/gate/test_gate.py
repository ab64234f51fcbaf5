from __future__ import annotations

import numpy as np
import pytest
import torch

from sentryfuse.gate.gate import LEAST, SentryGate
from sentryfuse.gate.predict import NumpyGate
from tests.tiny import CASES, SENSOR_SETS, tiny_model, uneven_widths


@pytest.mark.parametrize("case", CASES)
def test_the_gate_in_numpy_gives_the_numbers_of_torch(case):
    model = tiny_model(case, widths=uneven_widths(case))
    tensors = {name: t.numpy() for name, t in model.gate.state_dict().items()}
    device = NumpyGate(model.layout, tensors)
    for present in SENSOR_SETS:
        want = model.gate.importance(present)
        got = device.importance(present)
        assert list(got) == list(want) == list(model.layout.blocks)
        for name, scores in want.items():
            torch.testing.assert_close(torch.from_numpy(got[name]), scores, rtol=1e-5, atol=1e-5)


def test_a_fresh_gate_thinks_all_units_equal():
    gate = SentryGate(tiny_model().layout)
    for present in SENSOR_SETS:
        assert all((s == 1).all() for s in gate.importance(present).values())


def test_importance_depends_on_the_sensors_and_is_positive():
    model = tiny_model()
    all_on, one = model.gate.importance(SENSOR_SETS[0]), model.gate.importance(("age",))
    assert any(not torch.equal(all_on[name], one[name]) for name in all_on)
    assert all((scores > 0).all() for scores in (*all_on.values(), *one.values()))


def test_a_batch_of_masks_is_scored_row_by_row():
    gate = tiny_model().gate
    masks = torch.stack([gate.mask_of(present) for present in SENSOR_SETS])
    together = gate(masks)
    for i, present in enumerate(SENSOR_SETS):
        for name, scores in gate(gate.mask_of(present)).items():
            torch.testing.assert_close(together[name][i], scores)
            assert scores.shape == (gate.sizes[name],)


def test_the_mask_does_not_ask_for_an_order():
    gate = tiny_model().gate
    assert gate.mask_of(("age", "acc")).tolist() == [1.0, 0.0, 1.0]
    assert torch.equal(gate.mask_of(("age", "acc")), gate.mask_of({"acc", "age"}))


def test_weighing_multiplies_importance_for_every_set_of_sensors():
    model = tiny_model()
    before = {on: dict(model.gate.importance(on)) for on in SENSOR_SETS}
    factors = {n: np.linspace(0, 2, b.units, dtype=np.float32) for n, b in model.layout.blocks.items()}
    model.gate.weigh(factors)
    for on, old in before.items():
        for name, now in model.gate.importance(on).items():
            want = old[name] * torch.from_numpy(factors[name]).clamp(min=LEAST)
            torch.testing.assert_close(now, want, rtol=1e-4, atol=0)
