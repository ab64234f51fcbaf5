"""Recordings that are hard in one known way each, made from a seed; people of training and test are apart.

Notation: N windows · T steps · C channels · K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data import Windows, make_windows
from sentryfuse.types import Modality

Raw = dict[str, NDArray[np.float32]]


class Plan:
    """Who did what: labels, people and which of them are for the test."""

    def __init__(
        self, seed: int, *, people: int = 14, each: int = 60, classes: int = 2, test: int | None = None
    ):
        self.rng = np.random.default_rng(seed)
        self.subject = np.repeat(np.arange(people), each)
        self.y = np.concatenate([self.rng.permutation(np.arange(each) % classes) for _ in range(people)])
        last = max(1, round(0.35 * people)) if test is None else test
        self.split = np.where(self.subject >= people - last, 2, 0)
        self.classes = tuple(f"class{k}" for k in range(classes))
        self.n = len(self.y)

    def noise(self, t: int, c: int) -> NDArray[np.float64]:
        return self.rng.normal(size=(self.n, t, c))

    def of_person(self, values: NDArray[Any]) -> NDArray[Any]:
        """One drawn value (or row) per person, spread over the windows, `(N, 1, ...)`."""
        return values[self.subject][:, None]

    def windows(self, name: str, sensors: dict[str, NDArray[Any]], rates: dict[str, float]) -> Windows:
        modalities = [
            Modality(s, rates.get(s, 10.0), x.shape[1], tuple(f"c{i}" for i in range(x.shape[2])))
            for s, x in sensors.items()
        ]
        raw: Raw = {s: x.astype(np.float32) for s, x in sensors.items()}
        return make_windows(
            name, modalities, raw=raw, y=self.y, classes=self.classes, subject=self.subject, split=self.split
        )


def regimes(seed: int = 0) -> Windows:
    """Operating points far apart; what tells the classes is a hundredth of the global deviation."""
    p = Plan(seed, people=14, each=60, classes=3)
    level = p.rng.integers(0, 3, size=14)
    flow = np.array([32.0, 80.0, 125.0])[level]
    a = p.of_person(flow)[:, :, None] + 0.5 * p.noise(60, 1) + 0.25 * p.y[:, None, None]
    b = p.of_person(flow * 3)[:, :, None] + (0.5 + 0.1 * p.y)[:, None, None] * p.noise(60, 2)
    ramp = np.linspace(-1, 1, 60)[None, :, None]
    c = 1013 + p.of_person(level * 20.0)[:, :, None] + 0.5 * p.noise(60, 1) + 0.15 * p.y[:, None, None] * ramp
    d = p.of_person(flow)[:, :, None] + p.noise(60, 1)
    return p.windows("regimes", {"flow": a, "pressure": b, "air": c, "idle": d}, {})


def people(seed: int = 0) -> Windows:
    """Every person has an own offset and gain."""
    p = Plan(seed, people=16, each=60, classes=3)
    sensors = {}
    for i, s in enumerate(("chest", "wrist", "ankle")):
        gain = p.of_person(np.exp(0.5 * p.rng.normal(size=(16, 3))))
        offset = p.of_person(3 * p.rng.normal(size=(16, 3)))
        shift = np.array([0.0, 0.6, -0.4])[(p.y + i) % 3][:, None, None]
        wobble = 0.7 * p.rng.normal(size=(p.n, 1, 3))
        sensors[s] = gain * (shift + wobble + (1 + 0.3 * p.y)[:, None, None] * p.noise(50, 3)) + offset
    return p.windows("people", sensors, {})


def relation(seed: int = 0) -> Windows:
    """Only the difference of two sensors tells the class; each alone says nothing."""
    p = Plan(seed, people=14, each=60, classes=2)
    common = 4 * p.rng.normal(size=(p.n, 1, 1))
    a = common + 0.8 * p.noise(40, 1)
    b = common + 0.6 * (2 * p.y[:, None, None] - 1) + 0.8 * p.noise(40, 1)
    c = 0.3 * p.y[:, None, None] + p.noise(40, 1) + 0.5 * p.rng.normal(size=(p.n, 1, 1))
    return p.windows("relation", {"inside": a, "outside": b, "weak": c}, {})


def correlation(seed: int = 0) -> Windows:
    """Only the correlation of two channels of one sensor tells the class."""
    p = Plan(seed, people=14, each=60, classes=2)
    base = p.noise(80, 1)
    sign = (2 * p.y - 1)[:, None, None]
    a = np.concatenate([base, 0.35 * sign * base + p.noise(80, 1)], axis=2)
    b = p.noise(80, 2) * (1 + 0.1 * p.y)[:, None, None]
    return p.windows("correlation", {"pair": a, "weak": b}, {})


def frequency(seed: int = 0) -> Windows:
    """A class is a frequency, at any amplitude and phase."""
    p = Plan(seed, people=14, each=60, classes=3)
    t = np.arange(128)[None, :, None] / 128
    sensors = {}
    for i, s in enumerate(("left", "right", "back")):
        cycles = np.array([5.0, 7.0, 10.0])[(p.y + i) % 3] + 0.4 * p.rng.normal(size=p.n)
        amplitude = np.exp(0.5 * p.rng.normal(size=(p.n, 1, 1)))
        phase = 2 * np.pi * p.rng.random((p.n, 1, 1))
        wave = np.sin(2 * np.pi * cycles[:, None, None] * t + phase)
        sensors[s] = amplitude * (wave + (0.7 + 0.3 * i) * p.noise(128, 1))
    return p.windows("frequency", sensors, {})


def last_tenth(seed: int = 0) -> Windows:
    """Only the last tenth of the window tells the class."""
    p = Plan(seed, people=14, each=60, classes=3)
    late = (np.arange(100) >= 90)[None, :, None]
    level = 2 * p.rng.normal(size=(p.n, 1, 1))
    a = level + p.noise(100, 2) + 0.8 * (p.y == 1)[:, None, None] * late
    b = level + p.noise(100, 1) + 0.8 * (p.y == 2)[:, None, None] * late
    c = p.noise(100, 1) + 0.3 * p.y[:, None, None] * late
    return p.windows("last_tenth", {"door": a, "floor": b, "wall": c}, {})


def wide_and_narrow(seed: int = 0) -> Windows:
    """One sensor of 64 channels, one of a single one."""
    p = Plan(seed, people=12, each=60, classes=4)
    pattern = 0.25 * p.rng.normal(size=(4, 64))
    a = pattern[p.y][:, None, :] + 0.6 * p.rng.normal(size=(p.n, 1, 64)) + p.noise(32, 64)
    b = 0.5 * p.y[:, None, None] + p.noise(32, 1) + 0.5 * p.rng.normal(size=(p.n, 1, 1))
    c = 0.4 * (p.y % 2)[:, None, None] * p.noise(32, 3) + p.noise(32, 3)
    return p.windows("wide_and_narrow", {"array": a, "single": b, "triple": c}, {})


def slow_and_fast(seed: int = 0) -> Windows:
    """A sensor at 0.1 Hz beside one at 1 kHz, twenty seconds long."""
    p = Plan(seed, people=12, each=30, classes=3)
    slow = 20 + p.of_person(2 * p.rng.normal(size=(12, 1)))[:, :, :] + 0.3 * p.noise(2, 1)
    slow = slow + 0.5 * (p.y == 2)[:, None, None] * np.array([0.0, 1.0])[None, :, None]
    fast = p.noise(3840, 1)
    hum = np.sin(2 * np.pi * 0.11 * np.arange(3840))[None, :, None]
    fast = fast + 0.12 * (p.y == 1)[:, None, None] * hum + 0.002 * np.cumsum(p.noise(3840, 1), axis=1)
    middle = p.noise(100, 2) * (1 + 0.06 * p.y)[:, None, None]
    return p.windows(
        "slow_and_fast", {"slow": slow, "fast": fast, "middle": middle}, {"slow": 0.1, "fast": 1000.0}
    )


def heavy_tails(seed: int = 0) -> Windows:
    """Values that now and then are hundreds of deviations away."""
    p = Plan(seed, people=14, each=60, classes=2)
    sensors = {}
    for i, s in enumerate(("one", "two", "three")):
        wild = p.rng.standard_t(1.3, size=(p.n, 50, 2))
        burst = np.exp(1.5 * p.rng.standard_t(2.0, size=(p.n, 1, 1)).clip(-8, 8))
        sensors[s] = (0.25 + 0.1 * i) * (2 * p.y[:, None, None] - 1) + wild * (1 + 0.01 * burst)
    return p.windows("heavy_tails", sensors, {})


def sixty_windows(seed: int = 0) -> Windows:
    """Sixty windows in all, forty of them to learn from; a large test set would need more people."""
    p = Plan(seed, people=66, each=10, classes=2, test=60)
    sensors = {}
    for i, s in enumerate(("one", "two", "three", "four")):
        shift = (0.5 + 0.1 * i) * p.y[:, None, None]
        sensors[s] = shift + 0.6 * p.rng.normal(size=(p.n, 1, 3)) + p.noise(30, 3)
    return p.windows("sixty_windows", sensors, {})


def three_people(seed: int = 0) -> Windows:
    """Three people to learn from."""
    p = Plan(seed, people=11, each=90, classes=3, test=8)
    sensors = {}
    for i, s in enumerate(("one", "two", "three")):
        offset = p.of_person(0.8 * p.rng.normal(size=(11, 3)))
        loud = 1 + 0.25 * ((p.y + i) % 3)[:, None, None]
        sensors[s] = offset + 0.4 * p.y[:, None, None] + loud * p.noise(40, 3)
    return p.windows("three_people", sensors, {})


def nine_classes(seed: int = 0) -> Windows:
    """Nine classes with twenty windows each to learn from."""
    p = Plan(seed, people=30, each=18, classes=9, test=20)
    sensors = {}
    for s in ("one", "two", "three", "four", "five"):
        centre = 0.5 * p.rng.normal(size=(9, 4))
        loud = np.exp(0.25 * p.rng.normal(size=(9, 4)))
        sensors[s] = (
            centre[p.y][:, None, :]
            + 0.5 * p.rng.normal(size=(p.n, 1, 4))
            + (loud[p.y][:, None, :] * p.noise(30, 4))
        )
    return p.windows("nine_classes", sensors, {})


def exclusive_or(seed: int = 0) -> Windows:
    """The class is whether two channels have the same sign: nothing linear tells it."""
    p = Plan(seed, people=14, each=80, classes=2)
    first = p.rng.choice([-1.0, 1.0], size=p.n)
    second = first * (2 * p.y - 1)
    both = np.stack([first, second], axis=1)[:, None, :]
    a = 1.2 * both + 0.5 * p.rng.normal(size=(p.n, 1, 2)) + p.noise(30, 2)
    b = 0.5 * p.y[:, None, None] + 0.7 * p.rng.normal(size=(p.n, 1, 1)) + p.noise(30, 1)
    c = 1.0 * both[:, :, ::-1] + 0.8 * p.rng.normal(size=(p.n, 1, 2)) + p.noise(30, 2)
    return p.windows("exclusive_or", {"signs": a, "weak": b, "again": c}, {})


AWKWARD: dict[str, Callable[[int], Windows]] = {
    f.__name__: f
    for f in (
        regimes,
        people,
        relation,
        correlation,
        frequency,
        last_tenth,
        wide_and_narrow,
        slow_and_fast,
        heavy_tails,
        sixty_windows,
        three_people,
        nine_classes,
        exclusive_or,
    )
}
