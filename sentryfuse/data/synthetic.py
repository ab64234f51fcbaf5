"""The embedded default: a wearable recording made from a seed; no person was recorded.

Made so that what is useful truly depends on which sensors are present:

| pair | told apart by |
| --- | --- |
| sit, stress | `bvp` and `eda`, each only half sure because people differ at rest |
| sit, desk_work | `wrist_acc` only |
| sit, stand | sway in `chest_acc` and `leg_gyro` |
| sit, cycle | `leg_gyro`; the wrist feels a little of the road |
| walk, stairs | `chest_acc` (impacts) and `leg_gyro`, and the heart in `bvp` |
| walk, run | every motion sensor (redundant) |

`temp` says little and is often off. People differ in amplitude, cadence, heart rate, skin and how
they wear each sensor, and nobody is in two splits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.windows import Windows, make_windows
from sentryfuse.errors import ConfigError
from sentryfuse.types import Modality

Floats = NDArray[np.float64]

WINDOW_S = 4
_BOUT = 9  # windows of one activity in a row, so that a replay looks like a day and not like dice
_VAL_SHARE, _TEST_SHARE = 0.17, 0.28
_SENSOR_OFF = 0.12  # share of bouts without skin temperature
_AXES = ("x", "y", "z")

MODALITIES = (
    Modality("wrist_acc", 32.0, 32 * WINDOW_S, _AXES),
    Modality("chest_acc", 32.0, 32 * WINDOW_S, _AXES),
    Modality("leg_gyro", 16.0, 16 * WINDOW_S, _AXES),
    Modality("bvp", 64.0, 64 * WINDOW_S, ("pulse",)),
    Modality("eda", 4.0, 4 * WINDOW_S, ("conductance_uS",)),
    Modality("temp", 4.0, 4 * WINDOW_S, ("skin_C",), may_miss=True),
)
_SCALE = {"wrist_acc": 0.001, "chest_acc": 0.001, "leg_gyro": 0.001, "bvp": 0.1, "eda": 0.001}

# steps [Hz] · swing of wrist [g], chest [g], leg [rad/s] · irregular movement of the same three ·
# heart above rest [1/min] · skin conductance [factor] · arousal peaks in a window ·
# skin temperature [degree C]
_ACTIVITIES: dict[str, tuple[float, ...]] = {
    "sit": (0.0, 0.00, 0.00, 0.0, 0.018, 0.008, 0.04, 0, 1.00, 0.12, 0.0),
    "stand": (0.0, 0.00, 0.00, 0.0, 0.022, 0.020, 0.07, 6, 1.05, 0.12, -0.1),
    "desk_work": (0.0, 0.00, 0.00, 0.0, 0.070, 0.009, 0.04, 4, 1.05, 0.15, 0.0),
    "stress": (0.0, 0.00, 0.00, 0.0, 0.019, 0.009, 0.04, 26, 1.45, 1.60, -0.5),
    "walk": (1.8, 0.22, 0.15, 1.6, 0.060, 0.030, 0.30, 20, 1.15, 0.20, 0.1),
    "stairs": (1.6, 0.17, 0.23, 2.0, 0.070, 0.050, 0.45, 44, 1.30, 0.25, 0.2),
    "cycle": (1.3, 0.02, 0.02, 1.3, 0.030, 0.011, 0.12, 36, 1.25, 0.25, 0.3),
    "run": (2.6, 0.60, 0.65, 3.2, 0.150, 0.100, 0.60, 65, 1.50, 0.30, 0.6),
}
_COLUMNS = (
    "steps_hz", "wrist", "chest", "leg", "wrist_noise", "chest_noise", "leg_noise", "heart", "skin",
    "peaks", "warmth",
)  # fmt: skip
_SWING = {  # along the body's axes: first and second harmonic of the step
    "wrist": ((0.9, 0.3, 0.4), (0.3, 0.2, 0.2)),
    "chest": ((0.3, 0.2, 1.0), (0.2, 0.1, 0.5)),
    "leg": ((1.0, 0.25, 0.2), (0.35, 0.1, 0.1)),
}
_GRAVITY = {"wrist": (0.3, -0.5, 0.81), "chest": (0.1, 0.0, 0.99), "leg": (0.0, 0.0, 0.0)}


def synthetic_wearable(*, seed: int = 0, n_people: int = 14, windows_per_person: int = 216) -> Windows:
    """Make the recording; equal arguments give equal bits.

    Args:
        seed: of people and windows.
        n_people: 3 or more; about 3/5 for training, the rest for validation and test.
        windows_per_person: of 4 s; eight activities in turn, nine windows each.

    Returns:
        Windows named "wearable", six modalities, eight classes.

    Raises:
        ConfigError: fewer than three people or eight windows each.
    """
    if n_people < 3 or windows_per_person < len(_ACTIVITIES):
        raise ConfigError(
            f"{n_people} people with {windows_per_person} windows each are too few; "
            f"use 3 people and {len(_ACTIVITIES)} windows or more"
        )
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(n_people), windows_per_person)
    y = np.tile(np.arange(windows_per_person) // _BOUT % len(_ACTIVITIES), n_people)
    of_class = dict(zip(_COLUMNS, np.array(list(_ACTIVITIES.values()))[y].T, strict=True))
    steps = of_class["steps_hz"] * rng.normal(1, 0.07, n_people)[person]
    steps = steps * rng.normal(1, 0.04, len(y))  # (N,) [Hz]
    start = rng.uniform(0, 2 * np.pi, len(y))  # phase of the step, the same for the whole body
    values = {
        m.name: _motion(rng, m, of_class, steps=steps, start=start, person=person) for m in MODALITIES[:3]
    }
    values["bvp"] = _pulse(rng, MODALITIES[3], of_class, steps=steps, start=start, person=person)
    values["eda"] = _conductance(rng, MODALITIES[4], of_class, person=person)
    values["temp"] = _temperature(rng, MODALITIES[5], of_class, person=person)
    limits = np.iinfo(np.int16)
    raw = {
        name: np.rint(x / _SCALE[name]).clip(limits.min, limits.max).astype(np.int16)
        if name in _SCALE
        else x.astype(np.float32)
        for name, x in values.items()
    }
    n_test = max(1, round(_TEST_SHARE * n_people))
    n_val = max(1, round(_VAL_SHARE * n_people))
    side = np.repeat([0, 1, 2], [n_people - n_val - n_test, n_val, n_test])
    return make_windows(
        "wearable",
        MODALITIES,
        raw=raw,
        scale=_SCALE,
        y=y,
        classes=tuple(_ACTIVITIES),
        subject=person + 1,
        split=side[person],
        licence="Apache-2.0",
    )


def _motion(
    rng: np.random.Generator,
    modality: Modality,
    of_class: dict[str, Floats],
    *,
    steps: Floats,
    start: Floats,
    person: NDArray[np.intp],
) -> Floats:
    """Acceleration [g] or turning rate [rad/s] at one place of the body, `(N, T, 3)`."""
    place = modality.name.partition("_")[0]
    n, n_people = len(person), int(person[-1]) + 1
    strength = rng.lognormal(0, 0.18, n_people)[person] * rng.lognormal(0, 0.15, n)
    if place == "wrist":  # sometimes the hand is in a pocket or on a rail
        strength = np.where(rng.random(n) < 0.15, 0.35 * strength, strength)
    angle = 2 * np.pi * steps[:, None] * _seconds(modality) + start[:, None]
    lag = rng.uniform(-0.5, 0.5, (n_people, 3))[person][:, None, :]
    first, second = (np.array(weights) for weights in _SWING[place])
    swing = first * np.sin(angle[..., None] + lag) + second * np.sin(2 * angle[..., None] + 2 * lag)
    body = (of_class[place] * strength)[:, None, None] * swing
    restless = of_class[f"{place}_noise"] * rng.lognormal(0, 0.25, n_people)[person]
    restless = restless * rng.lognormal(0, 0.30, n)
    body = body + restless[:, None, None] * _smooth_noise(rng, body.shape)
    body += np.array(_GRAVITY[place])
    worn = _rotations(rng, n_people, 0.35)[person] @ _rotations(rng, n, 0.12)
    noise = rng.normal(0, 0.01 if place != "leg" else 0.03, body.shape)
    worn_body: Floats = body @ worn + noise
    return worn_body


def _pulse(
    rng: np.random.Generator,
    modality: Modality,
    of_class: dict[str, Floats],
    *,
    steps: Floats,
    start: Floats,
    person: NDArray[np.intp],
) -> Floats:
    """Blood volume pulse [arbitrary units], `(N, T, 1)`: heart beat and arm movement."""
    n, n_people = len(person), int(person[-1]) + 1
    rest = rng.normal(68, 7, n_people)[person]
    response = rng.normal(1, 0.15, n_people)[person]
    rate_hz = (rest + of_class["heart"] * response + rng.normal(0, 3.5, n)).clip(45, 195) / 60
    strength = 40 * rng.lognormal(0, 0.25, n_people)[person] * rng.lognormal(0, 0.15, n)
    strength = strength * (1 - 0.18 * (of_class["peaks"] > 1))  # vessels narrow under stress
    angle = 2 * np.pi * rate_hz[:, None] * _seconds(modality) + rng.uniform(0, 2 * np.pi, n)[:, None]
    notch = rng.uniform(0.25, 0.5, n_people)[person][:, None]
    wave = strength[:, None] * (np.sin(angle) + notch * np.sin(2 * angle + 0.8))
    moved = 2 * np.pi * steps[:, None] * _seconds(modality) + start[:, None]
    wave = wave + 90 * (of_class["wrist"] * rng.lognormal(0, 0.3, n))[:, None] * np.sin(moved)
    return (wave + rng.normal(0, 6, wave.shape))[..., None]


def _conductance(
    rng: np.random.Generator,
    modality: Modality,
    of_class: dict[str, Floats],
    *,
    person: NDArray[np.intp],
) -> Floats:
    """Skin conductance [uS], `(N, T, 1)`: a personal level, and arousal peaks."""
    n, n_people = len(person), int(person[-1]) + 1
    rest = rng.lognormal(1.0, 0.35, n_people)[person]
    level = rest * of_class["skin"] * rng.lognormal(0, 0.12, n)
    drift = rng.normal(0, 0.02, n) * level
    seconds = _seconds(modality)
    signal = level[:, None] + drift[:, None] * (seconds - WINDOW_S / 2)
    for _ in range(2):  # at most two peaks fit
        onset = rng.uniform(-2, WINDOW_S, n)[:, None]
        height = rng.exponential(0.22, n) * rest * (rng.random(n) < of_class["peaks"] / 2)
        since = np.maximum(seconds - onset, 0)
        signal = signal + height[:, None] * 2 * (np.exp(-since / 2) - np.exp(-since / 0.5))
    return (signal + rng.normal(0, 0.01, signal.shape)).clip(0.05)[..., None]


def _temperature(
    rng: np.random.Generator,
    modality: Modality,
    of_class: dict[str, Floats],
    *,
    person: NDArray[np.intp],
) -> Floats:
    """Skin temperature [degree C], `(N, T, 1)`: slow, personal, and off for whole bouts."""
    n, n_people = len(person), int(person[-1]) + 1
    level = rng.normal(32.5, 0.9, n_people)[person] + of_class["warmth"] + rng.normal(0, 0.25, n)
    slope = rng.normal(0, 0.01, n) + 0.01 * of_class["warmth"]
    signal = level[:, None] + slope[:, None] * _seconds(modality)
    signal = signal + rng.normal(0, 0.02, signal.shape)
    signal[rng.random(signal.shape) < 0.01] = np.nan  # lost packets
    bout = np.arange(n) // _BOUT
    signal[(rng.random(int(bout[-1]) + 1) < _SENSOR_OFF)[bout]] = np.nan
    return signal[..., None]


def _seconds(modality: Modality) -> Floats:
    """Time of each step since the start of the window [s], `(T,)`."""
    return np.arange(modality.length) / modality.rate_hz


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Noise of spread 1 without the fastest changes, as limbs move, `(N, T, C)`."""
    noise = rng.normal(size=(shape[0], shape[1] + 3, shape[2]))
    return (noise[:, :-3] + noise[:, 1:-2] + noise[:, 2:-1] + noise[:, 3:]) / 2


def _rotations(rng: np.random.Generator, n: int, spread: float) -> Floats:
    """Random turns about random axes, `(n, 3, 3)`; the angle has this spread [rad]."""
    axis = rng.normal(size=(n, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = rng.normal(0, spread, n)[:, None, None]
    cross = np.zeros((n, 3, 3))
    cross[:, [2, 0, 1], [1, 2, 0]] = axis
    cross[:, [1, 2, 0], [2, 0, 1]] = -axis
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
