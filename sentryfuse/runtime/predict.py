"""A bundle and windows -> probabilities, without torch and without labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.data import Windows, make_windows
from sentryfuse.data.matching import matched
from sentryfuse.data.scoring import answer_all, prepared, presence_mask
from sentryfuse.errors import ConfigError
from sentryfuse.planning.profile import DeviceProfile
from sentryfuse.readout.recording import on_recording
from sentryfuse.runtime.answers import Answers
from sentryfuse.runtime.score import BundleAnswer
from sentryfuse.types import Budget, Plan


def predict(
    bundle: Bundle,
    windows: Windows | Mapping[str, ArrayLike],
    *,
    split: str = "all",
    present: Iterable[str] | None = None,
    budget: Budget | None = None,
    threads: int = 2,
    profile: DeviceProfile | None = None,
) -> NDArray[np.float32]:
    """Probabilities of every class for windows; labels are not looked at.

    Args:
        bundle: of `load_bundle`.
        windows: a recording, or modality -> `(N, T, C)`, physical units, cut and sampled as in training, of
            one person. A sensor without an array, or with a window that is NaN, is absent; also one whose
            window has gaps, if it had none in training.
        split: which part of a recording.
        present: names of the sensors that may be used; `None` means all. Those that a window lacks are
            never used.
        budget: limits of one window; `None` means none.
        threads: of the engine.
        profile: times measured on the device; needed for a budget in milliseconds.

    Returns:
        `(N, K)`, in the order of the windows; NaN where a window has none of the sensors.

    Raises:
        ConfigError: unknown names, windows that do not belong to the bundle, or none of them has a sensor.
        DataError: arrays that cannot be windows.
        BudgetError: a budget no sub-network reaches.
    """
    answers = answer_windows(
        bundle, windows, split=split, present=present, budget=budget, threads=threads, profile=profile
    )
    return answers.probabilities


def answer_windows(
    bundle: Bundle,
    windows: Windows | Mapping[str, ArrayLike],
    *,
    split: str = "all",
    present: Iterable[str] | None = None,
    budget: Budget | None = None,
    threads: int = 2,
    profile: DeviceProfile | None = None,
) -> Answers:
    """As `predict`, with the plan behind each answer.

    Args:
        bundle: as in `predict`, as all others.
        windows: a recording or arrays.
        split: which part.
        present: sensors that may be used.
        budget: limits of one window.
        threads: of the engine.
        profile: times measured on the device.

    Returns:
        Probabilities, plans, and whom each window is of.

    Raises:
        ConfigError: as in `predict`.
        DataError: as in `predict`.
        BudgetError: as in `predict`.
    """
    if not isinstance(windows, Windows):
        windows = _of_arrays(bundle, windows)
    windows = matched(bundle.layout.modalities, bundle.classes, windows, target=bundle.target, labels=False)
    windows = prepared(windows, bundle)
    indices = windows.indices(split)
    if not len(indices):
        raise ConfigError(f"{windows.name} has no window in split {split}; choose another split")
    mask = presence_mask(windows.names, len(indices), present=present, missing_rate=None, seed=0)
    plans: dict[tuple[str, ...], Plan] = {}
    chosen = partial(bundle.plan, budget=budget or Budget(ratio=0.0), profile=profile)

    def plan_for(on: tuple[str, ...]) -> Plan:
        return plans.setdefault(on, chosen(on))

    answered, found, _, _ = answer_all(
        windows,
        indices,
        present=mask,
        plan_for=plan_for,
        answer=BundleAnswer(bundle, threads=threads),
        beside=on_recording(bundle.mixture, windows, indices),
    )
    place = np.full(len(windows), -1, dtype=np.intp)
    place[indices] = np.arange(len(indices))
    probabilities = np.full((len(indices), len(bundle.classes)), np.nan, dtype=np.float32)
    probabilities[place[answered]] = found
    number = {on: k for k, on in enumerate(plans)}
    names = np.array(windows.names, dtype=object)
    sets = [tuple(names[row]) for row in windows.present[indices] & mask]
    return Answers(
        classes=bundle.classes,
        window=indices,
        probabilities=probabilities,
        plans=tuple(plans.values()),
        plan=np.array([number.get(on, -1) for on in sets], dtype=np.intp),
        subject=windows.subject_names(indices),
        target=bundle.target,
    )


def _of_arrays(bundle: Bundle, arrays: Mapping[str, ArrayLike]) -> Windows:
    """Windows of one person whose names and rates are those of the bundle."""
    own = [replace(m, may_miss=True) for m in bundle.layout.modalities if m.name in arrays]
    unknown = [name for name in arrays if name not in bundle.names]
    if unknown or not own:
        raise ConfigError(
            f"the windows are of {', '.join(map(str, arrays)) or 'no sensor'}, the model was made for "
            f"{', '.join(bundle.names)}; use those names"
        )
    raw = {m.name: np.asarray(arrays[m.name]) for m in own}
    raw = {name: x[:, :, None] if x.ndim == 2 else x for name, x in raw.items()}
    return make_windows("windows", own, raw=raw)
