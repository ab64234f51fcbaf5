"""A recording in the terms of a model: its sensors, its channels, its classes.

Names decide, not places: sensors and classes are put into the model's order, and a sensor that the recording
lacks is absent in every window. What cannot be put right by names is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.checks import chunks
from sentryfuse.data.forms import UNLABELLED
from sentryfuse.data.windows import Windows
from sentryfuse.errors import ConfigError
from sentryfuse.progress import say
from sentryfuse.target import CLASSES, Target
from sentryfuse.types import Modality

RATE_TOLERANCE = 5e-3  # clocks of one kind of logger differ by less


def matched(
    modalities: Sequence[Modality],
    classes: Sequence[str],
    windows: Windows,
    *,
    target: Target = CLASSES,
    labels: bool = True,
) -> Windows:
    """Put a recording into the terms of a model.

    Args:
        modalities: of the model, in order.
        classes: of the model, in order.
        windows: the recording. Sensors that the model does not know are left out; those that it lacks, and
            windows with gaps in a sensor that never had any in training, are without that sensor. A line on
            standard error says so.
        target: what the model answers.
        labels: whether its labels are needed; without, those of other classes are dropped.

    Returns:
        The same object where nothing had to be done; values are never copied.

    Raises:
        ConfigError: no sensor of the model, another sampling rate, window length or order of channels,
            labels of classes that the model does not know, or of another task.
    """
    given = {m.name: m for m in windows.modalities}
    shared = [m.name for m in modalities if m.name in given]
    if not shared:
        raise ConfigError(
            f"{windows.name} has sensors {', '.join(windows.names)}, the model was made for "
            f"{', '.join(m.name for m in modalities)}; use its own data"
        )
    for own in modalities:
        if own.name in given:
            check_modality(windows.name, own, given[own.name])
    if target.of_classes and windows.target.of_classes:
        windows = _with_classes(windows, tuple(classes), needed=labels)
    else:
        windows = _with_numbers(windows, tuple(classes), target, needed=labels)
    if windows.modalities == tuple(modalities):
        return windows
    lacking = [m.name for m in modalities if m.name not in given]
    extra = [name for name in windows.names if name not in {m.name for m in modalities}]
    if lacking:
        say(f"{windows.name} has no {', '.join(lacking)}: answered without")
    if extra:
        say(f"{windows.name}: {', '.join(extra)} is not known to the model and left out")
    present = np.zeros((len(windows), len(modalities)), dtype=bool)
    raw: dict[str, NDArray[Any]] = {}
    scale = {}
    for column, m in enumerate(modalities):
        if m.name in given:
            raw[m.name], scale[m.name] = windows.raw[m.name], windows.scale[m.name]
            present[:, column] = _usable(windows, m)
        else:
            shape = (len(windows), m.length, m.n_channels)
            raw[m.name] = np.broadcast_to(np.float32(np.nan), shape)  # takes no memory
            scale[m.name] = np.ones(m.n_channels, dtype=np.float32)
    return replace(windows, modalities=tuple(modalities), raw=raw, scale=scale, present=present)


def check_modality(source: str, own: Modality, given: Modality) -> None:
    """Refuse windows of one sensor that are cut or sampled otherwise than the model's.

    Args:
        source: name of the recording, for the message.
        own: the model's.
        given: the recording's, of the same name.

    Raises:
        ConfigError: another length, number or order of channels, or sampling rate.
    """
    if (own.length, own.n_channels) != (given.length, given.n_channels):
        turned = (own.length, own.n_channels) == (given.n_channels, given.length)
        raise ConfigError(
            f"{source} has {given.length} steps of {given.n_channels} channels of {own.name}, the "
            f"model was made for {own.length} of {own.n_channels}; "
            + (
                "it looks stored as (windows, channels, steps), so turn the last two axes"
                if turned
                else "cut the windows like its own data"
            )
        )
    if not math.isclose(own.rate_hz, given.rate_hz, rel_tol=RATE_TOLERANCE):
        raise ConfigError(
            f"{source} has {own.name} at {given.rate_hz:g} Hz, the model was made for {own.rate_hz:g} Hz; "
            "resample it and cut the windows like its own data"
        )
    if given.channels != own.channels and _named(given) and _named(own):
        same = sorted(given.channels) == sorted(own.channels)
        raise ConfigError(
            f"{source} has the channels {', '.join(given.channels)} of {own.name}, the model was made for "
            f"{', '.join(own.channels)}; " + ("put them in that order" if same else "give those channels")
        )


def _named(modality: Modality) -> bool:
    """Whether somebody named its channels; without names, places are all there is."""
    return modality.channels != tuple(f"c{i}" for i in range(modality.n_channels))


def _usable(windows: Windows, own: Modality) -> NDArray[np.bool_]:
    """Windows in which a sensor can be used, `(N,)`: with gaps only where the model knows them."""
    column = windows.names.index(own.name)
    there: NDArray[np.bool_] = windows.present[:, column].copy()
    if own.may_miss or not windows.modalities[column].may_miss:
        return there
    before, raw = int(there.sum()), windows.raw[own.name]
    for part in chunks(len(raw), own.length * own.n_channels):
        there[part] &= ~np.isnan(raw[part]).any(axis=(1, 2))
    gaps = before - int(there.sum())
    if gaps:
        say(
            f"{windows.name}: {gaps} windows have gaps in {own.name}, which the model was trained without; "
            f"they are answered without {own.name}"
        )
    return there


def _with_numbers(windows: Windows, names: tuple[str, ...], target: Target, *, needed: bool) -> Windows:
    """Numbers or labels by name as the model counts them."""
    same = windows.target.task == target.task
    if same and windows.classes == names and windows.target.unit in ("", target.unit):
        return windows
    known = same and windows.labelled and set(names) <= set(windows.classes)
    if known and windows.target.unit in ("", target.unit):
        return replace(windows, y=windows.y[:, [windows.classes.index(n) for n in names]], classes=names)
    if needed and windows.labelled:
        unit = f" [{target.unit}]" if target.unit else ""
        theirs = f" [{windows.target.unit}]" if windows.target.unit else ""
        raise ConfigError(
            f"{windows.name} is a {windows.target.task} of {', '.join(windows.classes)}{theirs}, the model "
            f"was made for {target.task} of {', '.join(names)}{unit}; use its own data"
        )
    n, k = len(windows), len(names)
    empty = np.full(n, UNLABELLED) if target.of_classes else np.full((n, k), np.nan, np.float32)
    return replace(windows, y=empty, classes=names, target=target)


def _with_classes(windows: Windows, classes: tuple[str, ...], *, needed: bool) -> Windows:
    """Labels as the model counts its classes."""
    if windows.classes == classes:
        return windows
    if not windows.labelled:
        return replace(windows, classes=classes)
    place = {name: number for number, name in enumerate(classes)}
    unknown = [windows.classes[k] for k in np.unique(windows.y) if windows.classes[k] not in place]
    if not unknown:
        table = np.array([place.get(name, UNLABELLED) for name in windows.classes], dtype=np.int64)
        return replace(windows, y=table[windows.y], classes=classes)
    if needed:
        raise ConfigError(
            f"{windows.name} has windows of the class {unknown[0]!r}, the model was made for the classes "
            f"{', '.join(classes)}; use its own data, or name the classes as it does"
        )
    return replace(windows, y=np.full(len(windows), UNLABELLED, dtype=np.int64), classes=classes)
