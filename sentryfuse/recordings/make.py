"""From recordings to windows: files by a recipe into one npz, arrays and frames into `Windows`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sentryfuse.files import room_beside
from sentryfuse.recordings.collect import Collector
from sentryfuse.recordings.counts import Counts
from sentryfuse.recordings.cut import cut_recording
from sentryfuse.recordings.deal import Dealt, deal
from sentryfuse.recordings.files import collect, files_of
from sentryfuse.recordings.recipe import Recipe, check_hop
from sentryfuse.recordings.samples import Storage
from sentryfuse.recordings.store import WindowStore
from sentryfuse.recordings.waiting import Waiting
from sentryfuse.types import Modality


@dataclass(frozen=True)
class Made:
    """What `make_file` has written.

    Attributes:
        path: the npz file.
        modalities: the sensors.
        dealt: classes, subjects and splits of the windows kept.
        counts: what was read, kept and dropped, and why.
    """

    path: Path
    modalities: tuple[Modality, ...]
    dealt: Dealt
    counts: Counts

    def plain(self) -> dict[str, Any]:
        """Ready for `json.dumps`."""
        d = self.dealt
        return {
            "path": str(self.path),
            "n_windows": len(d.kept),
            "modalities": [
                {"name": m.name, "rate_hz": m.rate_hz, "length": m.length, "channels": list(m.channels)}
                for m in self.modalities
            ],
            "task": d.target.task,
            "classes": {c: int((d.y == k).sum()) for k, c in enumerate(d.classes)}
            if d.target.of_classes
            else {},
            "subjects": {p: int((d.subject == k).sum()) for k, p in enumerate(d.people)},
            "splits": {
                word: {
                    "n_windows": int((d.split == k).sum()),
                    "subjects": [d.people[p] for p in np.unique(d.subject[d.split == k])],
                }
                for k, word in enumerate(("train", "validation", "test"))
            },
            **self.counts.plain(),
        }


def make_file(recipe: Recipe, out: Path) -> Made:
    """Cut windows from files and write them as npz; memory stays small whatever the size of the files.

    While it runs about half the size of the files is needed on the disk, beside `out`.

    Args:
        recipe: which files, and how to cut; its `folder` as `load_recipe` gives it.
        out: npz file to make or replace.

    Raises:
        DataError: a file or the recipe cannot be used; the message says which and why.
        ConfigError: lengths or shares that mean nothing.
        InputError: the system refuses to write.
    """
    check_hop(recipe)
    with room_beside(out) as room:
        storage = Storage(room)
        collector = collect_files(recipe, storage)
        store, dealt = cut_and_deal(collector, storage)
        store.save(out, dealt, licence=recipe.licence or None)
    return Made(out, tuple(store.inputs), dealt, collector.counts)


def collect_files(recipe: Recipe, storage: Storage) -> Collector:
    """Read every file of a recipe.

    Raises:
        DataError: a file that is not there or cannot be read.
    """
    return collect(recipe, files_of(recipe), storage)


def cut_and_deal(collector: Collector, storage: Storage) -> tuple[WindowStore, Dealt]:
    """Cut everything that was collected, and split it.

    Raises:
        DataError: nothing to cut, or nothing to split.
    """
    recipe = collector.recipe
    labelled = has_labels(recipe) and not recipe.target
    store = WindowStore(_modalities(recipe), storage, labelled=labelled, target=recipe.target)
    static = {s.name for s in recipe.sensors if s.rate_hz == 0}
    with Waiting("cut [recordings]", len(collector.found), even=False) as bar:
        for done, recording in enumerate(collector.recordings(), start=1):
            cut_recording(recording, recipe, store, collector.counts)
            for name, samples in recording.sensors.items():
                if name not in static:  # those are shared by recordings of one subject
                    samples.drop()
            bar.update(done, recording.title)
    for name in static & set(collector.counts.sensors):  # what never changes is in every window
        collector.counts.of(name).used = collector.counts.of(name).samples
    return store, deal(store, collector.labels.list, recipe, collector.counts)


def has_labels(recipe: Recipe) -> bool:
    """Whether a recipe says where labels are."""
    return any(table.label or "(?P<label>" in table.pattern for table in recipe.table)


def _modalities(recipe: Recipe) -> list[Modality]:
    return [
        Modality(
            s.name,
            s.rate_hz,
            max(1, round(recipe.window_s * s.rate_hz)) if s.rate_hz else 1,
            tuple(s.channels or s.columns),
        )
        for s in recipe.sensors
    ]
