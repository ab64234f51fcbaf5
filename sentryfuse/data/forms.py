"""Labels, people, splits and values as people have them -> as windows hold them.

What can mean one thing only is taken; what could mean two is refused with a sentence.

Notation: N windows · T steps · C channels · K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.checks import DTYPES, check_classes, integers
from sentryfuse.errors import DataError
from sentryfuse.target import Target

UNLABELLED = -1  # the label of a window that has none
SPLIT_WORDS = {
    "train": 0, "training": 0, "fit": 0,
    "validation": 1, "valid": 1, "val": 1, "dev": 1,
    "test": 2, "testing": 2, "holdout": 2,
}  # fmt: skip
MANY = 8  # channels from which more channels than steps, without names, look like a transposed array


def labels_of(
    source: str, y: NDArray[Any], classes: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as numbers or names, with or without `classes`.

    Args:
        source: name of the recording, for the message.
        y: `(N,)` or `(N, 1)`; class numbers (also as whole floats or truth values), or names.
        classes: names of the classes; `None` takes the labels that occur, ascending.

    Returns:
        Class of each window, `(N,)`, and the K names.

    Raises:
        DataError: labels that are not whole, not named, or empty.
    """
    found = _column(y)
    if found.dtype.kind in "SU":
        return _named(source, texts_of(source, "y", found), classes)
    numbers = whole_numbers(source, "y", found)
    if classes is None and len(numbers):
        kinds, codes = np.unique(numbers, return_inverse=True)
        return codes.astype(np.int64), tuple(str(kind) for kind in kinds)
    names = tuple(str(c) for c in classes or ())
    if len(numbers):
        check_classes(source, names, numbers)
    return numbers, names


def numbers_of(
    source: str, y: NDArray[Any], names: Sequence[str] | None, target: Target
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """What a regression or a multi-label model learns.

    Args:
        source: name of the recording, for the message.
        y: `(N,)` or `(N, K)`; finite numbers, or of labels 0 and 1.
        names: of the K numbers or labels; `None` calls them "value" or "label", numbered where several.
        target: which of the two.

    Returns:
        `(N, K)` and the K names.

    Raises:
        DataError: not such numbers, or other names than columns.
    """
    if y.ndim not in (1, 2) or y.dtype.kind not in "biuf" or (y.ndim == 2 and not y.shape[1]):
        raise DataError(
            f"{source}: y is {y.dtype} {y.shape}; a {target.task} needs numbers of shape (windows,) or "
            "(windows, outputs)"
        )
    values = y.reshape(len(y), -1).astype(np.float32)
    with np.errstate(invalid="ignore"):
        broken = ~np.isfinite(values).all(axis=1)
    if broken.any():
        raise DataError(
            f"{source}: y is not finite in {int(broken.sum())} of {len(y)} windows; leave those windows out"
        )
    if target.task == "multilabel" and not np.isin(values, (0, 1)).all():
        other = values[~np.isin(values, (0, 1))][0]
        raise DataError(f"{source}: y holds {other:g}; give 1 where a label holds and 0 where it does not")
    k, word = values.shape[1], "label" if target.task == "multilabel" else "value"
    found = tuple(str(name) for name in names or ((word,) if k == 1 else [f"{word}{i}" for i in range(k)]))
    if len(found) != k or len(set(found)) < k or not all(n.strip() and n.isprintable() for n in found):
        raise DataError(
            f"{source}: `classes` holds {len(found)} names and y {k} outputs; give each output its own name"
        )
    return values, found


def people_of(source: str, subject: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Who each window is of: a number, or a name.

    Args:
        source: name of the recording, for the message.
        subject: `(N,)` or `(N, 1)`; whole numbers or names.

    Returns:
        Number of each window's subject, `(N,)`, and the names they stand for; `None` if they are numbers.

    Raises:
        DataError: neither whole numbers nor names.
    """
    found = _column(subject)
    if found.dtype.kind not in "SU":
        return whole_numbers(source, "subject", found), None
    names, codes = np.unique(texts_of(source, "subject", found), return_inverse=True)
    if any(not name.strip() or not name.isprintable() for name in names.tolist()):
        raise DataError(f"{source}: subject holds an empty or unprintable name; give each person one")
    return codes.astype(np.int64), tuple(str(name) for name in names)


def split_of(source: str, split: NDArray[Any]) -> NDArray[Any]:
    """Splits as numbers (0 train, 1 validation, 2 test) or as words.

    Raises:
        DataError: another word, or numbers that are not whole.
    """
    found = _column(split)
    if found.dtype.kind not in "SU":
        return whole_numbers(source, "split", found) if found.dtype.kind == "f" else found
    words = [str(word).strip().lower() for word in texts_of(source, "split", found)]
    unknown = sorted(set(words) - SPLIT_WORDS.keys())
    if unknown:
        raise DataError(
            f"{source}: split holds {unknown[0]!r}; give train, validation and test, or 0, 1 and 2"
        )
    return np.array([SPLIT_WORDS[word] for word in words], dtype=np.int8)


def values_of(source: str, key: str, values: NDArray[Any]) -> NDArray[Any]:
    """Values in one of the types that windows are stored in.

    What is in one already stays as it is; truth values become int8, uint8 int16, other numbers float32, which
    is what a model computes in.

    Raises:
        DataError: not real numbers.
    """
    kind = values.dtype.kind
    if kind not in "biuf":
        raise DataError(
            f"{source}: {key} is {values.dtype.str} ({values.dtype}); store it as one of {', '.join(DTYPES)}"
        )
    if values.dtype.name in DTYPES:
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
    small = {"bool": np.int8, "uint8": np.int16}
    with np.errstate(over="ignore"):  # becomes infinite, which is refused where every value is looked at
        return values.astype(small.get(values.dtype.name, np.float32))


def check_axes(
    source: str, name: str, shape: Sequence[int], channels: Sequence[str] | None, rate_hz: float
) -> None:
    """Notice windows stored as (windows, channels, steps).

    Args:
        source: name of the recording, for the message.
        name: of the modality.
        shape: of its array, `(N, T, C)` where all is well.
        channels: their names, where the recording has some.
        rate_hz: of the modality; 0 = static.

    Raises:
        DataError: the names belong to the middle axis, or none are given and it looks like it.
    """
    _, steps, columns = shape
    mend = f"store x_{name}.transpose(0, 2, 1), which is (windows, steps, channels)"
    if channels is not None and columns != len(channels) == steps:
        raise DataError(
            f"{source}: x_{name} has shape {tuple(shape)} and channels_{name} names {steps} channels, so it "
            f"is (windows, channels, steps); {mend}"
        )
    if channels is None and rate_hz > 0 and columns > steps and columns >= MANY:
        raise DataError(
            f"{source}: x_{name} has shape {tuple(shape)}, {steps} steps of {columns} channels, and looks "
            f"like (windows, channels, steps); {mend}, or name the channels in channels_{name} if it is right"
        )


def whole_numbers(source: str, key: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """Whole numbers, one per window, `(N,)`; also such that are stored as floats or truth values.

    Raises:
        DataError: another shape or type, NaN, or a number that is not whole.
    """
    if values.ndim == 1 and values.dtype.kind == "b":
        return values.astype(np.int64)
    if values.ndim != 1 or values.dtype.kind != "f":
        return integers(source, key, values)
    unknown = int(np.isnan(values).sum())
    if unknown:
        raise DataError(
            f"{source}: {key} is NaN in {unknown} of {len(values)} windows; leave those windows out"
            + (", or leave y out of what is only predicted" if key == "y" else "")
        )
    broken = values[(values != np.round(values)) | (np.abs(values) > 2.0**53)]
    if len(broken):
        raise DataError(
            f"{source}: {key} holds {broken[0]:g}; write whole numbers (int64)"
            + (" or class names, or store task = 'regression'" if key == "y" else "")
        )
    return values.astype(np.int64)


def texts_of(source: str, key: str, values: NDArray[Any]) -> NDArray[np.str_]:
    """Text, also where it is stored as bytes.

    Raises:
        DataError: bytes that are not UTF-8.
    """
    if values.dtype.kind == "U":
        return values
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{source}: {key} holds bytes that are not UTF-8 text; store it as text") from None


def _column(values: NDArray[Any]) -> NDArray[Any]:
    """`(N, 1)` is a column of one number a window."""
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _named(
    source: str, y: NDArray[np.str_], classes: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels that are names."""
    if y.ndim != 1:
        raise DataError(f"{source}: y has shape {y.shape}; give one label per window")
    kinds, codes = np.unique(y, return_inverse=True)
    found = tuple(str(kind) for kind in kinds)
    if any(not kind.strip() for kind in found):
        empty = sum(not label.strip() for label in y.tolist())
        raise DataError(f"{source}: y is empty in {empty} of {len(y)} windows; leave those windows out")
    names = found if classes is None else tuple(str(c) for c in classes)
    unknown = [kind for kind in found if kind not in names]
    if unknown:
        raise DataError(
            f"{source}: y holds {unknown[0]!r}, which is not among `classes` ({', '.join(names)}); "
            "add it there"
        )
    numbers = np.array([names.index(kind) for kind in found], dtype=np.int64)[codes]
    if len(numbers):
        check_classes(source, names, numbers)
    return numbers, names
