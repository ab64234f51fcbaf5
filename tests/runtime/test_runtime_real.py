"""Sensor faults put into a replay of real people: what every window is answered with, and how soon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sentryfuse import create_model, export_bundle, load_windows
from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.engine import Session
from sentryfuse.runtime import Runtime, Status
from sentryfuse.stream import HealthRules, Packet, open_source
from sentryfuse.types import Budget

pytestmark = pytest.mark.data

WINDOW_S, SINCE_S, UNTIL_S, WINDOWS = 5.0, 51.0, 79.0, 24
RELOCKED_S = 61.0  # a clock that has jumped and then runs evenly is believed again
RNG = np.random.default_rng(0)
Edit = Callable[[Packet], list[Packet]]


def with_values(change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    return lambda p: [replace(p, values=change(p.values.copy()).astype(np.float32))]


def times_of(packet: Packet) -> np.ndarray:
    assert packet.times_s is not None
    return packet.times_s


def holes(values: np.ndarray) -> np.ndarray:
    values[RNG.random(len(values)) < 0.5] = np.nan
    return values


def spikes(values: np.ndarray) -> np.ndarray:
    values[0] += 50 * np.abs(values).max() + 1e6
    return values


FAULTS: dict[str, Edit] = {
    "F1 silent": lambda p: [],
    "F2 flapping": lambda p: [] if int(p.received_s / 2.5) % 2 else [p],
    "F3 half of every window": lambda p: [] if p.received_s % WINDOW_S < 2.5 else [p],
    "F4 stuck": with_values(lambda v: np.zeros_like(v)),
    "F5 spikes everywhere": with_values(spikes),
    "F8 out of range": with_values(lambda v: v + 3e38),
    "F9 not a number": with_values(holes),
    "F9 infinite": with_values(lambda v: np.full_like(v, np.inf)),
    "F10 clock ten seconds ahead": lambda p: [replace(p, times_s=times_of(p) + 10)],
    "F11 two windows late": lambda p: [replace(p, received_s=p.received_s + 2 * WINDOW_S)],
    "F12 half the rate": lambda p: [replace(p, values=p.values[::2], times_s=times_of(p)[::2])],
    "F13 another number of channels": lambda p: [replace(p, values=p.values[:, :2].copy())],
}


@pytest.fixture(scope="module")
def bundle(shared_data, tmp_path_factory) -> Bundle:
    windows = load_windows(shared_data("dsads.npz"))
    model = create_model("maestro", modalities=windows.modalities, classes=windows.classes)
    model.set_statistics(*statistics(windows))
    path = tmp_path_factory.mktemp("real") / "model.bundle"
    export_bundle(model, path)
    return load_bundle(path)


def statistics(windows: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    from sentryfuse.data import training_statistics

    found = training_statistics(windows, windows.indices("train"))
    return dict(found.mean), dict(found.std)


def play(bundle: Bundle, path: Any, edit: Edit) -> tuple[list[Any], dict[str, Any]]:
    """The first two minutes, the torso broken from `SINCE_S` to `UNTIL_S`."""
    with open_source(f"replay:{path}", bundle.layout.modalities) as source:
        real = source.read

        def broken(timeout_s: float) -> list[Packet]:
            return [
                made
                for p in real(timeout_s)
                for made in (edit(p) if p.modality == "torso" and SINCE_S < p.received_s < UNTIL_S else [p])
            ]

        source.read = broken  # type: ignore[method-assign]
        rules = HealthRules(hold_off_windows=1)
        with Runtime(bundle, source, budget=Budget(ratio=0.6), rules=rules, wait_s=0.2) as runtime:
            results = []
            for result in runtime:
                results.append(result)
                if len(results) == WINDOWS:
                    break
            return results, runtime.counters()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_sensor_is_left_out_of_the_next_window_and_comes_back(bundle, shared_data, fault):
    results, counted = play(bundle, shared_data("dsads.npz"), FAULTS[fault])
    assert [r.window_id for r in results] == list(range(WINDOWS))
    whole = set(bundle.names)
    for r in results:
        assert r.status in (Status.OK, Status.DEGRADED)
        assert np.isfinite(r.probabilities).all()
        assert r.plan_id == bundle.plan(r.present, Budget(ratio=0.6)).plan_id
        start_s = r.end_s - WINDOW_S
        if r.end_s <= SINCE_S or start_s > UNTIL_S + 5 * WINDOW_S:
            assert set(r.present) == whole, (fault, r.window_id, r.verdicts)
        elif start_s > SINCE_S and r.end_s < (RELOCKED_S if fault.startswith("F10") else UNTIL_S):
            assert set(r.present) == whole - {"torso"}, (fault, r.window_id, r.verdicts)
            assert r.cost.macs < results[0].cost.macs
    assert counted["events"]["sensor_lost"] >= 1
    assert counted["events"].get("fault", 0) == 0


def test_an_answer_without_the_torso_does_not_depend_on_what_it_sends(bundle, shared_data):
    silent, _ = play(bundle, shared_data("dsads.npz"), FAULTS["F1 silent"])
    wild, _ = play(bundle, shared_data("dsads.npz"), FAULTS["F9 infinite"])
    both = [(a, b) for a, b in zip(silent, wild, strict=True) if "torso" not in (*a.present, *b.present)]
    assert len(both) >= 4
    for a, b in both:
        np.testing.assert_array_equal(a.probabilities, b.probabilities)


def test_mixed_up_plans_would_be_noticed(bundle, shared_data):
    """F21: the plan of one set of sensors used with the windows of another gives another answer."""
    windows = load_windows(shared_data("dsads.npz"))
    batch = windows.batch(np.array([0]), bundle.names)
    right, wrong = (bundle.plan(names, Budget(ratio=0.6)) for names in (bundle.names, bundle.names[1:]))
    answers = [Session(bundle, plan, batch=1).run(batch) for plan in (right, wrong)]
    assert np.abs(answers[0] - answers[1]).max() > 1e-6
