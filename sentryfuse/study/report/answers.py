"""The answers behind the lines: what every single window adds to a score.

A score is written as the mean of one value per window, so that resampling windows is a weighted mean:
for accuracy the value is 1 or 0; for AUROC it is AUROC plus the window's placement (the share of the
other class it stands on the right side of) less AUROC, divided by the share of its own class.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentryfuse.errors import InputError
from sentryfuse.study.report.cells import Floats, Grid

# Answers may be kept with fewer digits than the line was scored with: ties fall elsewhere.
NEAR = 2e-3


class Answered(NamedTuple):
    """Values of one line.

    Attributes:
        values: one per window, their mean is the score, `(N,)`.
        windows: which windows of the recording they are, `(N,)`.
    """

    values: Floats
    windows: NDArray[np.int64]


class Answers:
    """Answers in folders of npz files.

    A file holds an array `(N, K)` of probabilities per line, named by the line's key (or one array
    `probabilities`, the file named by the key), and for all of them `windows` and `y`, `(N,)`.

    Args:
        grid: the lines the answers belong to.
        folders: where the files are.

    Raises:
        InputError: a file is no npz file.
    """

    def __init__(self, grid: Grid, folders: Sequence[Path]) -> None:
        self._grid = grid
        self._files: dict[str, Path] = {}
        for path in sorted(path for folder in folders for path in folder.glob("*.npz")):
            try:
                with zipfile.ZipFile(path) as archive:
                    names = [name.removesuffix(".npy") for name in archive.namelist()]
            except (OSError, zipfile.BadZipFile) as error:
                raise _broken(path, error) from error
            for name in names:
                self._files[path.stem if name == "probabilities" else name] = path

    def __contains__(self, number: int) -> bool:
        return self._grid.lines[number].key in self._files

    def read(self, numbers: Sequence[int]) -> dict[int, Answered]:
        """Values of some lines, every file opened once.

        Args:
            numbers: of the lines; all must be there.

        Returns:
            Line number -> its values.

        Raises:
            InputError: a file is damaged, or its answers do not give the line's score.
        """
        of_file: dict[Path, list[int]] = {}
        for number in numbers:
            of_file.setdefault(self._files[self._grid.lines[number].key], []).append(number)
        found: dict[int, Answered] = {}
        for path, wanted in of_file.items():
            try:
                with np.load(path) as arrays:
                    windows, y = arrays["windows"], arrays["y"]
                    for number in wanted:
                        key = self._grid.lines[number].key
                        table = arrays[key if key in arrays else "probabilities"]
                        found[number] = Answered(self._values(number, y, table), windows)
            except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile) as error:
                raise error if isinstance(error, InputError) else _broken(path, error) from error
        return found

    def _values(self, number: int, y: NDArray[Any], table: NDArray[Any]) -> Floats:
        line = self._grid.lines[number]
        if self._grid.metrics[line.dataset] == "auroc":
            values = placements(y, table[:, 1])
        else:
            values = (table.argmax(axis=1) == y).astype(np.float64)
        score = self._grid.line_scores[number]
        if not abs(values.mean() - score) <= NEAR:
            raise InputError(
                f"the answers of line {line.key!r} score {values.mean():.4f} and the line says {score:.4f}; "
                "answers and lines are of two runs, delete the answers or run the study again"
            )
        return values


def placements(y: ArrayLike, score: ArrayLike) -> Floats:
    """Values per window whose mean is AUROC, and whose weighted mean is AUROC of the weighted windows.

    The second to first order in the weights.

    Args:
        y: true classes 0 and 1, both of them there, `(N,)`.
        score: of class 1, `(N,)`.

    Returns:
        `(N,)`.

    Source:
        DeLong, DeLong and Clarke-Pearson 1988, structural components.
    """
    truth, scored = np.asarray(y) == 1, np.asarray(score, dtype=np.float64)
    values = np.empty(len(scored))
    sides = (scored[truth], scored[~truth])
    for own, mask, other in ((0, truth, sides[1]), (1, ~truth, sides[0])):
        ordered = np.sort(other)
        below = np.searchsorted(ordered, sides[own], "left") + np.searchsorted(ordered, sides[own], "right")
        share = below / (2 * len(ordered))
        values[mask] = share if own == 0 else 1 - share
    area = values[truth].mean()
    share_of_class = np.where(truth, truth.mean(), 1 - truth.mean())
    return np.asarray(area + (values - area) / share_of_class, dtype=np.float64)


def _broken(path: Path, error: Exception) -> InputError:
    return InputError(f"answers {path} cannot be read ({error}); delete the file or run the study again")
