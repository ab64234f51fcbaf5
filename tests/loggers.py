"""Files as loggers write them, made from a seed: three people, two sensors, gaps, labels."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

LABELS = ("rest", "walk", "run")
START = datetime(2024, 5, 31, 10, 0, 0, tzinfo=UTC)


def label_at(t: float) -> str:
    """A change every 10 s."""
    return LABELS[int(t // 10) % 3]


def acc_at(t: float, rng: np.random.Generator) -> list[float]:
    """Three axes; faster and stronger from label to label."""
    k = LABELS.index(label_at(t))
    return [float(v) for v in 0.1 * rng.normal(size=3) + k * np.sin(2 * np.pi * (1 + k) * t + np.arange(3))]


def stamp(t: float) -> str:
    """ISO 8601 with a zone that is not ours."""
    return (START + timedelta(seconds=t)).astimezone(tz=None).isoformat(timespec="milliseconds")


def write_people(folder: Path, *, seconds: float = 60, people: int = 3, rate_hz: float = 25.0) -> Path:
    """A file a sensor and person, labels in those of acc; a gap of both at 30 s, one of hr at 45 s."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for person in range(1, people + 1):
        with (folder / f"p{person}_acc.csv").open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["time", "x", "y", "z", "activity"])
            for i in range(int(seconds * rate_hz)):
                t = i / rate_hz
                if not 30 <= t < 33:
                    out.writerow([stamp(t), *(f"{v:.4f}" for v in acc_at(t, rng)), label_at(t)])
        with (folder / f"p{person}_hr.csv").open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["time", "bpm"])
            for i in range(int(seconds * 2)):
                t = i / 2
                if not (30 <= t < 33 or 45 <= t < 50):
                    out.writerow([stamp(t), f"{70 + 20 * LABELS.index(label_at(t)) + rng.normal():.1f}"])
    return folder


def rows(*, seconds: float = 40, people: int = 3, rate_hz: float = 20.0) -> list[dict[str, object]]:
    """One long table: every row of every person, acc in each, hr in every tenth."""
    rng = np.random.default_rng(2)
    found: list[dict[str, object]] = []
    for person in range(1, people + 1):
        for i in range(int(seconds * rate_hz)):
            t = i / rate_hz
            x, y, z = acc_at(t, rng)
            found.append(
                {
                    "time_s": t,
                    "acc_x": x,
                    "acc_y": y,
                    "acc_z": z,
                    "hr": 70.0 + i if i % 10 == 0 else None,
                    "label": label_at(t),
                    "subject": f"p{person}",
                }
            )
    return found
