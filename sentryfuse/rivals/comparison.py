"""Ours and rivals scored on the same windows with the same sensors.

Notation: N windows · K classes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sentryfuse.bundle import Bundle, load_bundle
from sentryfuse.data import Windows, leave_one_out
from sentryfuse.data.learnable import check_labelled
from sentryfuse.data.matching import matched
from sentryfuse.data.metrics import measure_of
from sentryfuse.data.scoring import prepared
from sentryfuse.errors import ConfigError
from sentryfuse.rivals.features import Table
from sentryfuse.rivals.models import FOREST, LDA, LOGISTIC, RIDGE, Workshop, need_scikit_learn, rivals_of
from sentryfuse.rivals.rows import Sets, merged, our_rows, rival_rows
from sentryfuse.rivals.verdict import verdict_of
from sentryfuse.types import Budget

if TYPE_CHECKING:
    from sentryfuse.model.pretrained import SentryModel

FITTED_ON = ("train", "validation")
RATIOS = (0.0, 0.8, 1.0)  # by default


@dataclass(frozen=True, eq=False)
class Comparison:
    """Ours beside its rivals.

    Attributes:
        rows: one for each system and kind of presence. `system` is "ours" or a rival's name, `ratio` `None`
            for rivals; `presence` is "all", or "one missing", the mean over each sensor missing in turn.
            Scores: those of `sentryfuse.data.metrics.scores`. Cost:
            `time_ms` (one window, median, one thread), `size_mb`, `macs` (`None` for rivals), `n_models`
            (how many fitted ones serve these sets). `n_windows` answers were scored, `n_refused` windows
            had none of the sensors.
        verdict: one sentence: who is ahead.
        measure: what the verdict goes by: "accuracy", "auroc", "r2" or "map".
    """

    rows: tuple[Mapping[str, Any], ...]
    verdict: str
    measure: str


def compare(
    run_or_bundle: str | Path | Bundle | SentryModel,
    windows: Windows,
    *,
    ratios: Sequence[float] | None = None,
    rivals: Sequence[str] | None = None,
    missing: bool = True,
    seed: int = 0,
    threads: int = 2,
) -> Comparison:
    """Fit what a user would pick instead and score it beside ours on test windows.

    Rivals see the same windows as ours (standardised by person where ours is) as statistics of
    `sentryfuse.statistics`; they are fitted on training and validation windows together, because ours uses
    both, and fitted again for every set of sensors, which is their strong form.

    Args:
        run_or_bundle: a folder of `train` or `prune` or a model (both need torch), or a bundle or its file.
        windows: the recording, split as the model was trained.
        ratios: share of ours to remove; `None` takes 0, 0.8 and 1.
        rivals: names of some; `None` takes all that answer what is asked for.
        missing: score with each sensor missing in turn, too.
        seed: of the rivals.
        threads: for fitting and scoring; one window at a time is always timed on one.

    Returns:
        Rows and the verdict.

    Raises:
        ConfigError: scikit-learn is missing, an unknown rival, no test windows, or a recording that does not
            belong to the model.
        BudgetError: a ratio outside 0..1.
    """
    asked = RATIOS if ratios is None else ratios
    rows = _rows(run_or_bundle, windows, asked, rivals, missing, seed=seed, threads=threads, timed=True)
    return Comparison(rows, verdict_of(rows), measure_of(rows))


def _rows(
    run_or_bundle: str | Path | Bundle | SentryModel,
    windows: Windows,
    ratios: Sequence[float],
    rivals: Sequence[str] | None,
    missing: bool,
    *,
    seed: int,
    threads: int,
    timed: bool,
) -> tuple[Mapping[str, Any], ...]:
    """Of a comparison; `time_ms` is `None` where nobody asks for times."""
    need_scikit_learn()
    rivals = _checked(windows, rivals)
    bundle = bundle_of(run_or_bundle)
    windows = matched(bundle.layout.modalities, bundle.classes, windows, target=bundle.target)
    check_labelled(windows, "comparing needs them; store y")
    windows = prepared(windows, bundle)
    taught = np.concatenate([windows.indices(word) for word in FITTED_ON])
    if not len(taught):
        raise ConfigError(f"{windows.name} has no training window to fit rivals on; choose another --fold")
    workshop = Workshop(
        Table.of_recording(windows, taught),
        windows.y[taught],
        len(windows.classes),
        target=windows.target,
        seed=seed,
        threads=threads,
    )
    sets = _sets(windows, missing)
    budgets = [(float(ratio), Budget(ratio=ratio)) for ratio in sorted(set(ratios))]
    found = our_rows(bundle, windows, sets, budgets, threads, timed=timed)
    found += rival_rows(workshop, windows, sets, rivals, timed=timed)
    return tuple(merged(found))


def quick_verdict(source: Bundle | SentryModel, windows: Windows) -> str | None:
    """The verdict against a forest and LDA with all sensors, for a command that has other work to do.

    Args:
        source: a bundle or a model.
        windows: the recording, split as the model was trained.

    Returns:
        One sentence; `None` where scikit-learn is missing, no test window has a sensor, or a single class was
        trained on.
    """
    taught = np.concatenate([windows.indices(word) for word in FITTED_ON])
    scored = windows.present[windows.indices("test")].any()
    if find_spec("sklearn") is None or not scored or len(np.unique(windows.y[taught])) < 2:
        return None
    rivals = (FOREST, {"regression": RIDGE, "multilabel": LOGISTIC}.get(windows.target.task, LDA))
    return verdict_of(_rows(source, windows, [0.0], rivals, False, seed=0, threads=2, timed=False))


def opened(source: str | Path) -> Bundle | SentryModel:
    """A bundle's file, or the model of a folder (needs torch).

    Raises:
        BundleError: a file that is no bundle.
        CheckpointError: a folder without a model.
    """
    if Path(source).is_file():
        return load_bundle(source)
    from sentryfuse.training.folder import open_run

    return open_run(Path(source))


def bundle_of(source: str | Path | Bundle | SentryModel) -> Bundle:
    """What would run on the device: the bundle itself, or that of a folder or model (needs torch).

    Raises:
        BundleError: a file that is no bundle.
        CheckpointError: a folder without a model.
    """
    if isinstance(source, str | Path):
        source = opened(source)
    if isinstance(source, Bundle):
        return source
    from sentryfuse.export import export_bundle

    with tempfile.TemporaryDirectory() as folder:
        export_bundle(source, Path(folder) / "model.bundle")
        return load_bundle(Path(folder) / "model.bundle")


def _checked(windows: Windows, rivals: Sequence[str] | None) -> Sequence[str]:
    if not len(windows.indices("test")):
        raise ConfigError(f"{windows.name} has no test windows to score; choose --fold")
    known = rivals_of(windows.target)
    asked = known if rivals is None else rivals
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        raise ConfigError(
            f"rival {', '.join(unknown) or 'none'} is unknown; there are {', '.join(known)}; name some"
        )
    return asked


def _sets(windows: Windows, missing: bool) -> Sets:
    """All sensors and each one missing, with the windows that have any of them; all sensors first."""
    indices = windows.indices("test")
    found: Sets = []
    for names in (windows.names, *(leave_one_out(windows.names) if missing else ())):
        columns = [windows.names.index(name) for name in names]
        some = windows.present[indices][:, columns].any(axis=1)
        if some.any():
            found.append((names, indices[some]))
    if not found or found[0][0] != windows.names:
        raise ConfigError(f"no test window of {windows.name} has any sensor; choose another --fold")
    return found
