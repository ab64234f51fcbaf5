"""A CSV file of samples -> windows, cut as the runtime cuts a stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentryfuse.bundle import Bundle
from sentryfuse.data import Windows, make_windows
from sentryfuse.errors import DataError
from sentryfuse.runtime.answering import scale_of
from sentryfuse.stream import Cutter, CutWindow
from sentryfuse.stream.replay import open_replay


class CutRecording(NamedTuple):
    """Windows of a file of samples.

    Attributes:
        windows: unlabelled, of one person; sensors that a stream would not use in a window are absent there.
        end_s: where each window ends on the file's clock, `(N,)` [s].
    """

    windows: Windows
    end_s: NDArray[np.float64]


def cut_csv(path: str | Path, bundle: Bundle, *, hop_s: float | None = None) -> CutRecording:
    """Cut a CSV file of samples into windows.

    Args:
        path: as `replay:` takes it: `time_s`, and `<modality>.<channel>` for each channel.
        bundle: whose windows they are to be.
        hop_s: from the start of one window to the next [s]; `None` is the window's length.

    Raises:
        DataError: no such file, another table, or samples for less than one window.
        ConfigError: a hop that means nothing.
    """
    modalities = bundle.layout.modalities
    with open_replay(str(path), modalities) as source:
        cutter = Cutter(modalities, hop_s=hop_s, scale=scale_of(bundle), start_s=source.start_s)
        cut: list[CutWindow] = []
        while not source.ended:
            cutter.push(source.read(0.0))
            cut += cutter.cut(source.now_s())
        while last := cutter.flush(source.now_s()):
            cut += last
    if not cut:
        raise DataError(f"{path} holds less than one window of {cutter.window_s:g} s; record more")
    raw = {}
    for m in modalities:
        nothing = np.full((1, m.length, m.n_channels), np.nan, dtype=np.float32)
        raw[m.name] = np.concatenate([w.values.get(m.name, nothing) for w in cut])
    windows = make_windows(Path(path).stem, modalities, raw=raw)
    there = np.array([[name in w.present for name in windows.names] for w in cut])
    moving = [m.rate_hz > 0 for m in modalities]
    if any(moving):  # as the runtime: static values alone say nothing about a moment
        there[~there[:, moving].any(axis=1)] = False
    windows = replace(windows, present=windows.present & there)
    return CutRecording(windows, np.array([w.end_s for w in cut]))
