"""Energy per millisecond, by a meter that knows what this process does."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sentryfuse.bundle import load_bundle
from sentryfuse.engine import Session
from sentryfuse.errors import ConfigError
from sentryfuse.measure.consumption import mj_per_ms
from sentryfuse.power import CallbackMeter, open_reader
from tests.tiny import GOLDEN, tiny_batch

pytestmark = pytest.mark.device

BUNDLE = load_bundle(GOLDEN / "tiny-v3.bundle")
IDLE_W, BUSY_W = 2.0, 10.0


def energy() -> dict[str, float | None]:
    """A machine that draws 2 W, and 10 W more while this process computes."""
    return {"energy_j": IDLE_W * time.perf_counter() + BUSY_W * time.process_time()}


def test_a_millisecond_of_work_takes_what_the_meter_says_above_idle():
    meter = CallbackMeter(energy, tells={"energy_j"}, label="measured-external", scope="bench")
    session = Session(BUNDLE, BUNDLE.plan(), batch=1)
    for _ in range(3):  # where others take the processor, work may not stand out from idling
        began = time.process_time(), time.perf_counter()
        rate, facts = mj_per_ms(session, [tiny_batch(1)], open_reader(meter), seconds=4.0)
        share = (time.process_time() - began[0]) / (time.perf_counter() - began[1])
        if rate is not None:
            break
    assert rate is not None, facts
    assert 0.5 * share * BUSY_W < rate < 1.1 * BUSY_W
    assert facts["label"] == "measured-external"
    assert np.isfinite(facts["spread_mj"])


def test_without_energy_there_is_no_figure_and_a_reason():
    meter = CallbackMeter(lambda: {"charge": 0.5}, tells={"charge"}, label="measured-battery", scope="b")
    session = Session(BUNDLE, BUNDLE.plan(), batch=1)
    rate, facts = mj_per_ms(session, [tiny_batch(1)], open_reader(meter), seconds=0.4)
    assert rate is None
    assert "no energy" in facts["refused"]
    with pytest.raises(ConfigError, match="positive number of seconds"):
        mj_per_ms(session, [tiny_batch(1)], open_reader(meter), seconds=0)
