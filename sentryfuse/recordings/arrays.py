"""`make_windows`: windows from what is in memory already: frames, dictionaries, arrays; or from files.

The same steps as for files, so the same samples give the same windows, to the last bit.

Notation: n samples of a sensor · C channels · N windows · T steps.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from sentryfuse.data.windows import Windows
from sentryfuse.errors import ConfigError, DataError
from sentryfuse.recordings.asked import Asked, Rates, Unit, finished
from sentryfuse.recordings.cases import windows_of_arrays
from sentryfuse.recordings.frames import from_frames, is_frame
from sentryfuse.recordings.guess import guess
from sentryfuse.recordings.make import collect_files
from sentryfuse.recordings.recipe import check_hop, load_recipe, make_recipe
from sentryfuse.recordings.sampled import from_arrays
from sentryfuse.recordings.samples import Storage
from sentryfuse.target import Target, TaskName


def make_windows(
    source: Any,
    *,
    window_s: float | None = None,
    hop_s: float | None = None,
    rate_hz: Rates | None = None,
    time: Any = None,
    unit: Unit | None = None,
    label: Any = None,
    subject: Any = None,
    sensors: Mapping[str, Sequence[str]] | None = None,
    split: Mapping[str, Sequence[str]] | ArrayLike | None = None,
    axes: str | None = None,
    resample: bool = False,
    gaps: Literal["absent", "drop", "keep"] = "absent",
    max_gap_s: float | None = None,
    label_rule: Literal["whole", "majority"] = "whole",
    label_share: float = 0.5,
    target: str | None = None,
    task: TaskName = "classification",
    target_unit: str = "",
    name: str = "recording",
    seed: int = 0,
) -> Windows:
    """Cut windows from recordings, never across gaps or changes of label; split them by subject.

    Args:
        source: one of
            a frame of pandas or polars (a row a sample, all people and sensors in it);
            a dictionary sensor -> frame, each with its own times;
            a dictionary sensor -> samples `(n, C)` or `(n,)`, or such an array alone;
            a dictionary sensor -> windows that are cut already, `(N, T, C)`, or such an array alone;
            the path of a recipe, or of files and folders that `sentryfuse data guess` can read.
        window_s: length of a window [s]; needed for all but windows that are cut and files.
        hop_s: from one window's start to the next [s]; `window_s` when not given.
        rate_hz: samples per second [Hz], one for all or sensor -> rate; found from times where there are
            some.
        time: column of times (frames), or times of the samples: `(n,)` or sensor -> `(n,)`, numbers in `unit`
            or datetime64; without it samples follow each other at `rate_hz`.
        unit: of times that are numbers: s, ms, us or ns; of a frame it is guessed when not given.
        label: column of labels (frames); labels of the samples `(n,)` of one of the sensors, or one for all;
            of the windows `(N,)` where they are cut already. Names or numbers.
        subject: likewise, whom the samples are of; one person when not given.
        sensors: sensor -> columns (frames); put together by their names when not given.
        split: "train", "validation", "test" -> subjects, instead of a draw; `(N,)` of 0, 1, 2 for windows
            that are cut already.
        axes: "NTC" or "NCT" for windows that are cut already; NTC when not given, if that is plausible.
        resample: interpolate linearly at even times, each sensor at its rate.
        gaps: windows in which a sensor has a gap: it is `absent` from them, they are `drop`ped, or they
            `keep` what was measured, NaN elsewhere.
        max_gap_s: a longer silence is a gap [s]; a tenth of a window, or two and a half steps where that is
            longer, when not given.
        label_rule: `whole`: no window crosses a change of label; `majority`: the label of the largest share.
        label_share: least share of the time that the majority needs.
        target: sensor of one channel whose mean over a window is what a regression answers, instead of
            labels; it is no input then.
        task: of windows that are cut already: what `label` is; "regression" takes numbers `(N,)` or `(N, K)`,
            "multilabel" 0 and 1, `(N, K)`.
        target_unit: of the numbers of a regression.
        name: of the recording.
        seed: of the split.

    Returns:
        The windows; what was dropped is said on standard error.

    Raises:
        DataError: something that cannot be read or cut; the message says what.
        ConfigError: arguments that do not go together.
    """
    rules = {
        "window_s": window_s,
        "hop_s": hop_s,
        "gaps": gaps,
        "max_gap_s": max_gap_s,
        "label_rule": label_rule,
        "label_share": label_share,
        "target": target,
        "unit": target_unit or None,
        "name": name,
    }
    asked = Asked(rate_hz, time, unit, label, subject, sensors, resample, rules, {"seed": seed})
    if isinstance(source, str | os.PathLike):
        return _from_files(Path(source), asked, split)
    if is_frame(source):
        return from_frames({"": source}, asked, split)
    if isinstance(source, Mapping):
        if not source:
            raise DataError(f"{name} holds no sensor; give at least one")
        if all(is_frame(value) for value in source.values()):
            return from_frames({str(k): v for k, v in source.items()}, asked, split)
        arrays = {str(k): np.asarray(v) for k, v in source.items()}
    else:
        arrays = {"sensor": np.asarray(source)}
    cut_already = all(a.ndim == 3 for a in arrays.values())
    if task != "classification" and not cut_already:
        raise ConfigError(
            f"task {task!r} is for windows that are cut already; name the sensor asked for as target"
        )
    if cut_already:
        if target is not None:
            raise ConfigError("target is for recordings; give the numbers of windows as label, with a task")
        if label is None:
            raise ConfigError("label is missing; give the label of each window, (N,)")
        rates = {key: asked.rate_of(key) for key in arrays}
        channels = {key: list((sensors or {}).get(key, ())) for key in arrays}
        return windows_of_arrays(
            arrays, name=name, rates=rates, channels=channels, label=label, subject=subject, split=split,
            axes=axes, seed=seed, target=Target(task, target_unit),
        )  # fmt: skip
    if split is not None and not isinstance(split, Mapping):
        raise ConfigError(
            "split of recordings is given by subject: {'train': [...], 'validation': [...], 'test': [...]}"
        )
    return from_arrays(arrays, asked, split)


def _from_files(path: Path, asked: Asked, split: Any) -> Windows:
    if path.suffix.lower() == ".toml":
        recipe = load_recipe(path)
    else:
        found = guess([path], beside=Path.cwd())
        if found.doubts:
            raise DataError(
                f"{path}: {found.doubts[0]}; `sentryfuse data guess {path} --out recipe.toml` writes what to "
                "mend"
            )
        recipe = found.recipe.model_copy(update={"folder": str((Path.cwd() / found.recipe.folder).resolve())})
    rules = ("window_s", "hop_s", "max_gap_s", "target", "unit")
    said = {k: asked.rules[k] for k in rules if asked.rules[k] is not None}
    if "window_s" in said and "hop_s" not in said:
        said["hop_s"] = None
    if split is not None:
        raise ConfigError("split of files stands in their recipe, under [split]; leave the argument out")
    recipe = make_recipe({**recipe.model_dump(), **said}, str(path))
    check_hop(recipe)
    storage = Storage()
    return finished(collect_files(recipe, storage), storage)
