"""Checks of a recording; each error names what is wrong and what to do.

Notation: N windows · T steps · C channels · K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.data.splits import check_no_shared_subject
from sentryfuse.errors import DataError
from sentryfuse.types import Modality

DTYPES = ("int8", "int16", "float16", "float32")
LARGEST_SCALE = 1e30  # an int16 times this is still a finite float32
MOST_NAMES = 4096  # of modalities, and of channels of each; what a bundle can hold
MOST_STEPS = 10**6
CHUNK_VALUES = 1 << 22  # values looked at together: 16 MB as float32
FORBIDDEN = frozenset(",/=\\")  # names become lists on a command line and paths of weights


def chunks(n: int, values_per_window: int) -> Iterator[slice]:
    """Slices of windows that together hold about `CHUNK_VALUES` values."""
    step = max(1, CHUNK_VALUES // max(1, values_per_window))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


def check_names(source: str, names: Sequence[str]) -> None:
    """Refuse modality names that a command line or a path of weights could not carry.

    Args:
        source: name of the recording, for the message.
        names: modality names, in order.

    Raises:
        DataError: none at all, a name twice, or a name that cannot be used.
    """
    if not names:
        raise DataError(f"{source} names no modality; `modalities` is empty; name at least one")
    if len(names) > MOST_NAMES:
        raise DataError(
            f"{source} names {len(names)} modalities, more than {MOST_NAMES}; give those of one model"
        )
    for name in names:
        plain = name.isprintable() and name.strip() == name and not FORBIDDEN & set(name)
        if not plain or name in ("", "all"):
            raise DataError(
                f"{source}: the modality name {name!r} cannot be used; "
                "rename it without commas, slashes, '=' or outer spaces, and not 'all'"
            )
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise DataError(f"{source}: modality {', '.join(twice)} is named twice; make names unique")


def integers(source: str, key: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """Whole numbers, one per window, `(N,)`.

    Raises:
        DataError: another shape or type.
    """
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(
            f"{source}: {key} must be integers of shape (N,), not {values.dtype} {values.shape}; "
            f"write {key} as int64"
        )
    if values.dtype.kind == "u" and values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{source}: {key} holds {values.max()}, too large; write {key} as int64")
    return values.astype(np.int64)


def check_classes(source: str, classes: Sequence[str], y: NDArray[np.int64]) -> None:
    """Refuse class names that cannot be told apart and labels without a name.

    Raises:
        DataError: no name, one twice or unprintable, a label outside 0..K-1.
    """
    if not classes or (len(classes) == 1 and y.any()):
        raise DataError(
            f"{source} has {len(classes)} class in `classes` but other labels in y; name two or more"
        )
    if len(set(classes)) < len(classes) or not all(c.strip() and c.isprintable() for c in classes):
        raise DataError(
            f"{source}: `classes` holds a name that is empty, unprintable or there twice; "
            "give each class its own name"
        )
    if y.min() < 0 or y.max() >= len(classes):
        wrong = int(y.min() if y.min() < 0 else y.max())
        from_one = y.min() == 1 and y.max() == len(classes)
        raise DataError(
            f"{source}: y holds the label {wrong} but there are {len(classes)} classes; "
            f"use 0..{len(classes) - 1}{' (y - 1)' if from_one else ''}, or store names in y"
        )


def check_shape(source: str, modality: Modality, values: NDArray[Any], n: int) -> None:
    """Refuse an array of another shape than its modality.

    Raises:
        DataError: another type or shape, an unprintable channel name, a rate that means nothing.
    """
    key = f"x_{modality.name}"
    if values.dtype.name not in DTYPES or not values.dtype.isnative:
        raise DataError(
            f"{source}: {key} is {values.dtype.str} ({values.dtype}); store it as one of {', '.join(DTYPES)}"
        )
    check_count(source, modality, values.shape, n)
    if 0 in values.shape:
        raise DataError(f"{source}: {key} has shape {values.shape}, nothing inside; leave that modality out")
    if not all(channel.isprintable() for channel in modality.channels):
        raise DataError(f"{source}: channels_{modality.name} holds unprintable text; rename them")
    rate = modality.rate_hz
    if not (np.isfinite(rate) and rate >= 0):
        raise DataError(f"{source}: rate_{modality.name} is {rate}; give the sampling rate in Hz")
    if rate == 0 and modality.length != 1:
        raise DataError(
            f"{source}: rate_{modality.name} is 0, which means static, "
            f"but there are {modality.length} steps; give the rate in Hz or keep one step"
        )


def check_lengths(source: str, name: str, shape: Sequence[int]) -> None:
    """Refuse windows that hold nothing, or more than any model takes, by their shape alone.

    Args:
        source: name of the recording, for the message.
        name: of the modality.
        shape: of its array, (windows, steps, channels).

    Raises:
        DataError: no step or channel, or too many of them.
    """
    _, steps, channels = shape
    at = f"{source}: x_{name} has shape {tuple(shape)}"
    if not steps or not channels:
        raise DataError(f"{at}, nothing inside; leave that modality out")
    if steps > MOST_STEPS:
        raise DataError(f"{at}, and windows have at most {MOST_STEPS} steps; cut shorter ones")
    if channels > MOST_NAMES:
        raise DataError(f"{at}, and a modality has at most {MOST_NAMES} channels; make several of it")


def check_count(source: str, modality: Modality, shape: Sequence[int], n: int) -> None:
    """Refuse a shape that is not `n` windows of a modality.

    Raises:
        DataError: it is another one.
    """
    expected = (n, modality.length, modality.n_channels)
    if tuple(shape) != expected:
        raise DataError(
            f"{source}: x_{modality.name} has shape {tuple(shape)} but {n} windows and "
            f"channels_{modality.name} ask for {expected} (windows, steps, channels); make them agree"
        )


def checked_scale(source: str, modality: Modality, scale: ArrayLike) -> NDArray[np.float32]:
    """One factor for each channel, `(C,)`.

    Raises:
        DataError: another shape, or not positive and finite.
    """
    key = f"scale_{modality.name}"
    values = np.asarray(scale)
    if values.dtype.kind not in "iuf" or values.shape not in ((), (1,), (modality.n_channels,)):
        raise DataError(
            f"{source}: {key} is {values.dtype} {values.shape}; give one number or one for each of "
            f"{modality.n_channels} channels"
        )
    with np.errstate(over="ignore", under="ignore"):
        narrow = values.astype(np.float32)
    full = np.ascontiguousarray(np.broadcast_to(narrow, (modality.n_channels,)))
    if not ((full < LARGEST_SCALE).all() and (full > 0).all()):
        raise DataError(f"{source}: {key} must be positive and finite, not {values.tolist()}; mend it")
    return full


def scan(
    source: str, modality: Modality, values: NDArray[Any], scale: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Look at every value once and find where the modality is present, `(N,)`.

    Raises:
        DataError: NaN in part of a window that is not declared, or infinite values once scaled.
    """
    present = np.ones(len(values), dtype=bool)
    if values.dtype.kind != "f":
        return present
    undeclared = False
    for part in chunks(len(values), values[0].size):
        with np.errstate(over="ignore", invalid="ignore"):  # some NaN of a damaged file complain
            physical = values[part].astype(np.float32) * scale
        if np.isfinite(physical).all():
            continue
        missing = np.isnan(physical)
        absent = missing.all(axis=(1, 2))
        undeclared |= not modality.may_miss and bool(missing[~absent].any())
        if np.isinf(physical).any():
            raise DataError(
                f"{source}: x_{modality.name} holds infinite values; replace them, "
                f"or store NaN and missing_{modality.name} = True"
            )
        present[part] = ~absent
    if undeclared:
        raise DataError(
            f"{source}: x_{modality.name} holds NaN in parts of windows but is not declared to; "
            f"store missing_{modality.name} = True if NaN means 'not measured'"
        )
    return present


def checked_split(
    source: str,
    split: NDArray[Any],
    subject: NDArray[np.int64] | None,
    people: Sequence[str] | None = None,
) -> NDArray[np.int8]:
    """A split in which no subject is on two sides, `(N,)`; subjects that nobody knows are not looked at.

    Raises:
        DataError: another length or type, a value outside 0..2, a subject in two splits.
    """
    if split.ndim != 1 or (subject is not None and split.shape != subject.shape):
        there = "one entry per window" if subject is None else f"{len(subject)} windows"
        raise DataError(
            f"{source}: split has shape {split.shape} but there are {there}; give one entry per window"
        )
    if split.dtype.kind not in "iu":
        raise DataError(
            f"{source}: split is {split.dtype}; store 0 train, 1 validation, 2 test as int8, or those words"
        )
    everybody = np.arange(len(split)) if subject is None else subject
    try:
        check_no_shared_subject(everybody, split, people)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    return split.astype(np.int8)
