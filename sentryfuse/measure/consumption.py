"""What a millisecond of answering takes on this device above idle, by a meter; or why there is no figure."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sentryfuse.engine.session import Session
from sentryfuse.errors import ConfigError
from sentryfuse.power import EnergyMeter, PowerReader, energy_per_piece
from sentryfuse.power.energy import EnergyWindow

WORK, IDLE = 5, 3  # windows of time, taken in turns
SECONDS = 48.0
_ASK_EVERY_S = 0.01


def mj_per_ms(
    session: Session,
    windows: Sequence[Mapping[str, Any]],
    reader: PowerReader,
    *,
    seconds: float = SECONDS,
) -> tuple[float | None, dict[str, Any]]:
    """Measure idle and work in turns.

    Args:
        session: what is measured, as a rule the dense sub-network.
        windows: its input, repeated.
        reader: of `open_reader`.
        seconds: in all [s].

    Returns:
        Energy above idle per millisecond of work [mJ/ms = W], `None` where the meter allows no figure; and
        where it is from, with "refused" saying why not.

    Raises:
        ConfigError: a time that is not positive.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"energy is measured for a positive number of seconds, got {seconds}")
    each_s = seconds / (WORK + IDLE)
    began = time.perf_counter()
    n = 0
    while n < 3 or time.perf_counter() - began < 0.1 * each_s:
        session.run(windows[n % len(windows)])
        n += 1
    pieces = max(1, round(each_s * n / (time.perf_counter() - began)))
    meter = EnergyMeter(reader)
    work: list[EnergyWindow] = []
    idle: list[EnergyWindow] = []
    for turn in range(WORK):
        if turn < IDLE:
            idle.append(_idle(meter, each_s))
        work.append(_work(meter, session, windows, pieces))
    figure = energy_per_piece(work, idle, pieces=pieces)
    facts = figure.to_json()
    if figure.net_mj is None:
        return None, facts
    piece_ms = 1e3 * sorted(window.seconds for window in work)[len(work) // 2] / pieces
    return figure.net_mj / piece_ms, facts


def _idle(meter: EnergyMeter, seconds: float) -> EnergyWindow:
    meter.begin()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(_ASK_EVERY_S)
        meter.sample()
    return meter.end()


def _work(
    meter: EnergyMeter, session: Session, windows: Sequence[Mapping[str, Any]], pieces: int
) -> EnergyWindow:
    meter.begin()
    asked = time.perf_counter()
    for i in range(pieces):
        session.run(windows[i % len(windows)])
        if time.perf_counter() - asked >= _ASK_EVERY_S:
            meter.sample()
            asked = time.perf_counter()
    return meter.end()
