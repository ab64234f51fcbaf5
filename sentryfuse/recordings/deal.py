"""Windows are dealt to training, validation and test: by whole subjects, never by window.

Where there are fewer than three subjects, nobody can be held out. Then each class of each subject is cut by
time into a part for each split, with a margin between windows of different splits; the parts count as
subjects of their own, so that nothing that learns from one sees the other, and a sentence says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.splits import fold, split_by_subject
from sentryfuse.data.windows import SPLITS
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.recordings.columns import by_size
from sentryfuse.recordings.counts import Counts
from sentryfuse.recordings.recipe import Recipe, SplitRecipe
from sentryfuse.recordings.store import WindowStore
from sentryfuse.target import CLASSES, Target


@dataclass(frozen=True)
class Dealt:
    """Which windows are kept, and what is said about each of those.

    Attributes:
        kept: positions in the store, ascending, `(N,)`.
        y: class, or number where a sensor is the target, `(N,)`.
        classes: names of the classes, or of the number.
        subject: position in `people`, `(N,)`.
        people: names of the subjects.
        split: 0 train, 1 validation, 2 test, `(N,)`.
        target: what `y` is.
    """

    kept: NDArray[np.int64]
    y: NDArray[Any]
    classes: tuple[str, ...]
    subject: NDArray[np.int64]
    people: tuple[str, ...]
    split: NDArray[np.int8]
    target: Target = CLASSES


def deal(store: WindowStore, labels: list[str], recipe: Recipe, counts: Counts) -> Dealt:
    """Give every window a class, a subject and a split.

    Args:
        store: the windows cut.
        labels: names of the labels, by code.
        recipe: who is where.
        counts: gets what the margin drops, and remarks.

    Raises:
        DataError: no window, one class only, or subjects that cannot be split as asked.
        ConfigError: shares or a fold that mean nothing.
    """
    codes, starts, recording = store.codes, store.starts, store.recording
    if not len(codes):
        reasons = "; ".join(counts.sentences())
        raise DataError(
            f"no window of {recipe.window_s:g} s could be cut from {recipe.name}: "
            f"{reasons or 'there is too little'}; make window_s shorter or max_gap_s longer"
        )
    known, numbers = np.arange(len(codes)), None
    if store.target:
        numbers = store.target_means()
        known = np.flatnonzero(np.isfinite(numbers))
        lost = len(codes) - len(known)
        if not len(known):
            raise DataError(f"{recipe.target} is in no window of {recipe.name}; ask for another target")
        if lost:
            counts.dropped["untold"] += lost
            counts.kept -= lost
        codes, starts, recording = codes[known], starts[known], recording[known]
        y = np.zeros(len(known), np.int64)
        classes: tuple[str, ...] = (store.target,)
    else:
        y, classes = _classes(codes, labels, recipe, labelled=store.labelled)
    titles = sorted({r.subject for r in store.recordings}, key=by_size)
    people = np.array([titles.index(r.subject) for r in store.recordings])[recording]
    given = np.array([r.split for r in store.recordings])[recording]
    kept = np.arange(len(codes))
    names = [title or "1" for title in titles]
    if (given >= 0).any():
        if (given < 0).any():
            who = store.recordings[int(recording[np.argmin(given)])].title
            raise DataError(f"{who} has no split while others have one; name one for each, or for none")
        people, names = _apart(people, names, given, counts)
        split = given.astype(np.int8)
    elif numbers is None and not store.labelled and not _named(recipe.split) and not recipe.split.fold:
        split = np.full(len(y), SPLITS.index("test"), np.int8)  # nothing can be learned from them
    elif len(titles) < 3 and not _named(recipe.split):
        split, keep = _by_time(y, people, recording, starts, recipe)
        counts.dropped["margin"] += int((~keep).sum())
        counts.kept -= int((~keep).sum())
        if not counts.dropped["margin"]:
            del counts.dropped["margin"]
        kept, y, people, split = kept[keep], y[keep], people[keep], split[keep]
        pairs = people * 3 + split
        found = np.unique(pairs)
        counts.remark(
            f"there {'is one subject' if len(titles) == 1 else 'are two subjects'} only, so splits are parts "
            "in time with a margin between them: scores tell of these people, not of new ones"
        )
        names = [f"{names[pair // 3]} ({SPLITS[pair % 3]} part)" for pair in found]
        people = np.searchsorted(found, pairs)
    else:
        split = _by_subject(people, titles, recipe.split)
    if numbers is not None:
        kept = known[kept]
        target = Target("regression", recipe.unit)
        return Dealt(kept, numbers[kept], classes, people.astype(np.int64), tuple(names), split, target)
    if not store.labelled:
        counts.remark("there are no labels, so these windows can be predicted and nothing else")
    else:
        _remark_classes(y, classes, split, counts)
    return Dealt(kept, y, classes, people.astype(np.int64), tuple(names), split)


def _classes(
    codes: NDArray[np.int64], labels: list[str], recipe: Recipe, *, labelled: bool
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if not labelled:
        return np.full(len(codes), -1), ()
    here = [int(code) for code in np.unique(codes)]
    if len(here) < 2:
        raise DataError(
            f"every window of {recipe.name} has the label {labels[here[0]]!r}; a classifier needs two "
            "classes or more"
        )
    order = sorted(here, key=lambda code: by_size(labels[code]))
    table = np.full(len(labels), -1)
    table[order] = np.arange(len(order))
    return table[codes], tuple(labels[code] for code in order)


def _named(split: SplitRecipe) -> bool:
    return bool(split.train or split.validation or split.test)


def _by_subject(people: NDArray[np.int64], titles: list[str], split: SplitRecipe) -> NDArray[np.int8]:
    if _named(split):
        of_title = {}
        for number, word in enumerate(SPLITS):
            for name in getattr(split, word):
                if name in of_title:
                    raise DataError(f"subject {name!r} is named twice in [split]; put it in one split")
                if name not in titles:
                    raise DataError(f"[split] names the subject {name!r}; there are {', '.join(titles[:20])}")
                of_title[name] = number
        lacking = [title for title in titles if title not in of_title]
        if lacking:
            raise DataError(
                f"[split] does not say where subject {lacking[0]!r} goes ({len(lacking)} such); name all"
            )
        return np.array([of_title[title] for title in titles], np.int8)[people]
    if split.fold:
        parts = split.fold.split("/")
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise ConfigError(f"fold {split.fold!r} cannot be read; give I/K, for example 0/5")
        return fold(people, int(parts[0]), int(parts[1]))
    return split_by_subject(people, seed=split.seed, fractions=split.fractions)


def _apart(
    people: NDArray[np.int64], names: list[str], given: NDArray[np.int64], counts: Counts
) -> tuple[NDArray[np.int64], list[str]]:
    """Subjects that files put in several splits become one subject for each."""
    pairs = people * 3 + given
    found = np.unique(pairs)
    if len(found) == len(np.unique(people)):
        return people, names
    counts.remark(
        "a subject is in several splits, as the files say: scores tell of these people, not of new ones"
    )
    return np.searchsorted(found, pairs), [f"{names[pair // 3]} ({SPLITS[pair % 3]} part)" for pair in found]


def _by_time(
    y: NDArray[np.int64],
    people: NDArray[np.int64],
    recording: NDArray[np.int64],
    starts: NDArray[np.int64],
    recipe: Recipe,
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Parts in time of every class, and which windows stay once those too near to another part are gone."""
    fractions = recipe.split.fractions
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(f"fractions {fractions} must be three shares that add up to 1")
    split = np.zeros(len(y), np.int8)
    edges = np.cumsum(fractions)[:2]
    for person in np.unique(people):
        for k in np.unique(y):
            mine = np.flatnonzero((people == person) & (y == k))
            order = mine[np.lexsort((starts[mine], recording[mine]))]
            split[order] = np.searchsorted(edges, (np.arange(len(order)) + 0.5) / max(1, len(order)))
    margin_s = recipe.window_s if recipe.split.margin_s is None else recipe.split.margin_s
    reach = round((recipe.window_s + margin_s) * 1e9)
    keep = np.ones(len(y), bool)
    last: dict[tuple[int, int], int] = {}
    for i in np.lexsort((starts, recording)):
        r, own, begin = int(recording[i]), int(split[i]), int(starts[i])
        near = any(begin - last[r, s] < reach for s in range(3) if s != own and (r, s) in last)
        if near:
            keep[i] = False
        else:
            last[r, own] = begin
    return split, keep


def _remark_classes(
    y: NDArray[np.int64], classes: tuple[str, ...], split: NDArray[np.int8], counts: Counts
) -> None:
    for number, word in enumerate(SPLITS):
        here = np.bincount(y[split == number], minlength=len(classes))
        lacking = [classes[k] for k in np.flatnonzero(here == 0)]
        if not here.sum():
            counts.remark(f"{word} has no window")
        elif lacking:
            counts.remark(f"{word} has no window of {', '.join(lacking[:5])}")
