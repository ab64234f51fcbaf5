"""Streams made up for tests: packets of one sensor, and a run through a cutter on our clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from sentryfuse.stream import Cutter, CutWindow, Packet
from sentryfuse.types import Modality

FAST = Modality("acc", 100.0, 200, ("x", "y", "z"))
SLOW = Modality("temp", 4.0, 8, ("skin",), may_miss=True)
OTHER = Modality("gyro", 50.0, 100, ("x", "y"))
STATIC = Modality("age", 0.0, 1, ("years", "weight"))


def stream(
    modality: Modality,
    seconds: float,
    *,
    start_s: float = 0.0,
    rate: float = 1.0,
    jitter: float = 0.0,
    size: int = 1,
    clock: float = 0.0,
    ppm: float = 0.0,
    latency_s: float = 0.004,
    seed: int = 0,
) -> list[Packet]:
    """Packets of a healthy sensor; the first channel is the true time of the sample [s].

    Args:
        modality: whose.
        seconds: how long it runs [s].
        start_s: its first sample, on our clock [s].
        rate: share of the nominal rate it samples at.
        jitter: of the sampling, share of a period, uniform to both sides.
        size: samples in a packet.
        clock: how far the sensor's clock is ahead of ours [s].
        ppm: how much too fast it runs.
        latency_s: from the last sample of a packet to its arrival [s].
        seed: of noise and jitter.
    """
    rng = np.random.default_rng(seed)
    period = 1 / (modality.rate_hz * rate)
    n = round(seconds / period)
    true = start_s + (np.arange(n) + jitter * rng.uniform(-1, 1, n)) * period
    values = rng.normal(0, 1, (n, modality.n_channels)).astype(np.float32)
    values[:, 0] = true
    told = true * (1 + 1e-6 * ppm) + clock
    return [
        Packet(
            modality.name, values[i : i + size], told[i : i + size], float(true[i : i + size][-1] + latency_s)
        )
        for i in range(0, n, size)
    ]


def changed(packet: Packet, **fields) -> Packet:
    return replace(packet, **fields)


def play(
    cutter: Cutter, packets: Iterable[Packet], until_s: float | None = None, tick_s: float = 0.01
) -> list[CutWindow]:
    """Give packets to a cutter as time goes by, and cut at every tick."""
    waiting = sorted(packets, key=lambda p: p.received_s)
    end = until_s if until_s is not None else waiting[-1].received_s + 1
    windows = []
    low = 0
    for tick in range(int(end / tick_s) + 1):
        now = tick * tick_s
        high = low
        while high < len(waiting) and waiting[high].received_s <= now:
            high += 1
        cutter.push(waiting[low:high])
        low = high
        windows += cutter.cut(now)
    return windows


def verdicts(windows: Sequence[CutWindow], name: str) -> list[str]:
    return [str(window.verdicts[name]) for window in windows]
