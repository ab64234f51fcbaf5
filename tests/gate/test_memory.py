"""The gate fitted to all that training has shown of saliency."""

from __future__ import annotations

import itertools

import torch

from sentryfuse.gate.memory import SaliencyMemory
from tests.tiny import tiny_model

SETS = [
    names
    for n in (1, 2, 3)
    for names in itertools.combinations(("acc", "temp", "age"), n)
]  # fmt: skip


def shown(gate, *, turns=6):
    """A memory in which a unit of a shared block matters with one sensor only, and what was shown."""
    memory, means = SaliencyMemory(gate), {}
    generator = torch.Generator().manual_seed(0)
    for present in SETS * turns:
        targets = {}
        for name, n in gate.sizes.items():
            if name.startswith("encoder") and name.split(".")[1] not in present:
                continue  # did not run
            mean = torch.ones(n)
            if name.startswith("fusion"):
                mean[0] = 4.0 if "acc" in present else 0.25
            means[present, name] = mean
            targets[name] = mean * (0.5 + torch.rand(n, generator=generator))
        memory.add(gate.mask_of(present), targets)
    return memory, means


def test_a_fitted_gate_knows_what_matters_with_which_sensors():
    gate = tiny_model().gate
    memory, means = shown(gate)
    memory.fit(gate)
    for (present, name), mean in means.items():
        ratio = gate.importance(present)[name][0] / mean[0]
        assert 0.5 < ratio < 2, (present, name)


def test_what_was_remembered_is_forgotten_once_it_is_fitted():
    gate = tiny_model().gate
    memory, _ = shown(gate)
    memory.fit(gate)
    after = {name: t.clone() for name, t in gate.state_dict().items()}
    assert memory.tensors() == {}
    memory.fit(gate)
    assert all(torch.equal(t, after[name]) for name, t in gate.state_dict().items())


def test_the_oldest_steps_do_not_count():
    fitted = []
    for old in (1.0, 50.0):
        gate = tiny_model().gate
        memory = SaliencyMemory(gate)
        for step in range(9):
            targets = {name: torch.full((n,), old if step < 3 else 2.0) for name, n in gate.sizes.items()}
            memory.add(gate.mask_of(SETS[step % len(SETS)]), targets)
        memory.fit(gate)
        fitted.append(gate.units.bias.detach().clone())
    assert torch.equal(*fitted)


def test_a_memory_comes_back_as_it_was():
    gate, other = tiny_model().gate, tiny_model().gate
    memory, _ = shown(gate)
    again = SaliencyMemory(other)
    again.load_tensors(memory.tensors())
    memory.fit(gate)
    again.fit(other)
    assert all(torch.equal(t, other.state_dict()[name]) for name, t in gate.state_dict().items())
    empty = SaliencyMemory(gate)
    empty.load_tensors(empty.tensors())
    assert empty.tensors() == {}
