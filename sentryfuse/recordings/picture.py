"""A picture of windows: a strip of each sensor, classes by split, what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentryfuse.data.windows import SPLITS, Windows
from sentryfuse.errors import ConfigError
from sentryfuse.files import write_atomically

FORMATS = (".png", ".svg", ".pdf")
_STRIP_WINDOWS = 12  # shown of each sensor
_MOST_CHANNELS = 6
_MOST_SENSORS = 12
_MOST_CLASSES = 30


def plot_windows(windows: Windows, path: Path) -> None:
    """Draw a recording and write it.

    Args:
        windows: what to show.
        path: `.png`, `.svg` or `.pdf`.

    Raises:
        ConfigError: another suffix.
        InputError: the system refuses to write.
    """
    check_picture(path)
    from matplotlib.figure import Figure

    shown = windows.modalities[:_MOST_SENSORS]
    indices = _examples(windows)
    figure = Figure(figsize=(11, 1.5 * len(shown) + 4), layout="constrained")
    grid = figure.add_gridspec(len(shown) + 1, 2, height_ratios=[*[1.5] * len(shown), 3])
    for row, m in enumerate(shown):
        axes = figure.add_subplot(grid[row, :])
        values = windows.batch(indices, [m.name])[m.name]
        for c in range(min(m.n_channels, _MOST_CHANNELS)):
            # a step of nothing between windows: they are not neighbours in time
            line = np.pad(values[:, :, c], ((0, 0), (0, 1)), constant_values=np.nan).ravel()
            at = np.arange(len(line)) / (m.length + 1)
            axes.plot(at, line, linewidth=0.7, label=m.channels[c], marker="." if m.length == 1 else "")
        for i, index in enumerate(indices):
            if not windows.present[index, windows.names.index(m.name)]:
                axes.axvspan(i, i + 1, color="0.9")
        axes.set_xlim(0, len(indices))
        axes.set_ylabel(m.name)
        axes.set_xticks(np.arange(len(indices)) + 0.5)
        last = row == len(shown) - 1
        axes.set_xticklabels([_label(windows, i) for i in indices] if last else [], fontsize=7)
        if m.n_channels > 1:
            axes.legend(loc="upper right", fontsize=6, ncols=_MOST_CHANNELS)
    _draw_classes(windows, figure.add_subplot(grid[-1, 0]))
    _draw_missing(windows, figure.add_subplot(grid[-1, 1]))
    hidden = len(windows.modalities) - len(shown)
    more = f" ({hidden} more sensors are not shown)" if hidden else ""
    figure.suptitle(
        f"{windows.name}: {len(windows)} windows; {len(indices)} of them; grey: sensor absent{more}",
        fontsize=10,
    )
    with write_atomically(path) as draft:
        figure.savefig(draft, dpi=110, format=path.suffix[1:].lower())


def check_picture(path: Path) -> None:
    """Refuse a name that no picture can have.

    Raises:
        ConfigError: another suffix than of `FORMATS`.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot {path}: a picture ends in {', '.join(FORMATS)}; give such a name")


def _examples(windows: Windows) -> NDArray[np.intp]:
    """A few windows of every class in turn, spread over the recording."""
    by_class = [np.flatnonzero(windows.y == k) for k in np.unique(windows.y)]
    each = max(1, _STRIP_WINDOWS // len(by_class))
    chosen = [mine[np.unique(np.linspace(0, len(mine) - 1, each).astype(int))] for mine in by_class]
    return np.concatenate(chosen)[:_STRIP_WINDOWS]


def _label(windows: Windows, index: int) -> str:
    k = int(windows.y[index])
    return windows.classes[k][:14] if 0 <= k < len(windows.classes) else ""


def _draw_classes(windows: Windows, axes: object) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    names = [name[:20] for name in windows.classes[:_MOST_CLASSES]]
    place = np.arange(len(names))
    for k, word in enumerate(SPLITS):
        counts = np.bincount(
            windows.y[(windows.split == k) & (windows.y >= 0)], minlength=len(windows.classes)
        )
        axes.barh(place + (k - 1) * 0.27, counts[: len(names)], height=0.25, label=word)
    axes.set_yticks(place, names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("windows")
    axes.set_title("classes by split", fontsize=9)
    axes.legend(fontsize=7)


def _draw_missing(windows: Windows, axes: object) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    absent, missing = [], []
    for column, m in enumerate(windows.modalities):
        here = windows.present[:, column]
        raw = windows.raw[m.name]
        absent.append(100 * (1 - here.mean()))
        unknown = np.isnan(raw).sum() / raw.size * 100 if raw.dtype.kind == "f" else 0.0
        missing.append(max(0.0, unknown - absent[-1]))
    place = np.arange(len(windows.modalities))
    axes.barh(place, absent, height=0.6, label="sensor absent")
    axes.barh(place, missing, left=absent, height=0.6, label="single values")
    axes.set_yticks(place, [m.name for m in windows.modalities], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("not measured [%]")
    axes.set_title("missing", fontsize=9)
    axes.legend(fontsize=7)
