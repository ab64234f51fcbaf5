"""What a command leaves: JSON in a file or on standard output, tables for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from sentryfuse.files import check_place, write_json
from sentryfuse.progress import set_quiet, show, table, visible
from sentryfuse.types import sensor_label

STDOUT = "-"


class Output:
    """Where the results of one command go.

    Args:
        json_to: file for JSON, "-" for standard output, `None` for none.
        quiet: no progress and no tables.
        files: other files the command will write; checked now, not after an hour of work.
        folders: folders the command will write.

    Raises:
        InputError: a file cannot be written there.
    """

    def __init__(
        self,
        json_to: str | None,
        *,
        quiet: bool,
        files: Sequence[Path] = (),
        folders: Sequence[Path] = (),
    ) -> None:
        set_quiet(quiet)
        self._quiet = quiet
        self._json_to = json_to
        for path in (*files, *([] if json_to in (None, STDOUT) else [Path(str(json_to))])):
            check_place(path)
        for path in folders:
            check_place(path, folder=True)

    @property
    def shows(self) -> bool:
        """Whether standard output is free for people."""
        return not self._quiet and self._json_to != STDOUT

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Show a table, unless JSON has standard output."""
        if self.shows:
            table(title, columns, rows)

    def line(self, text: str) -> None:
        """Show a line of the result, unless JSON has standard output."""
        if self.shows:
            show(text + "\n")

    def json(self, data: Any) -> None:
        """Write JSON where it was asked for; NaN and infinity become null."""
        if self._json_to == STDOUT:
            show(json_text(plain(data), sys.stdout, indent=1) + "\n")
        elif self._json_to is not None:
            write_json(self._json_to, plain(data))


def json_text(data: Any, stream: TextIO, *, indent: int | None = None) -> str:
    """JSON that a stream can carry: letters outside its encoding are escaped as JSON does.

    Args:
        data: of `plain`.
        stream: where it goes.
        indent: as `json.dumps`.
    """
    knows_all = (stream.encoding or "").lower().replace("-", "").startswith("utf")
    return visible(json.dumps(data, indent=indent, allow_nan=False, ensure_ascii=not knows_all))


def plain(value: Any) -> Any:
    """The same data as JSON knows it: no NaN, no tuples, no paths."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def score_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Title -> key of the scores that rows hold: of classes, of numbers, or of several labels."""
    if rows and "mae" in rows[0]:
        return {"R2": "r2", "MAE": "mae", "RMSE": "rmse"}
    if rows and "map" in rows[0]:
        return {"mAP": "map", "macro F1": "macro_f1", "accuracy": "accuracy", "NLL": "nll"}
    return {"accuracy": "accuracy", "macro F1": "macro_f1", "AUROC": "auroc", "NLL": "nll", "ECE": "ece"}


def score_table(
    output: Output,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    weak: Sequence[str] = (),
) -> None:
    """The rows of `evaluate` and `sf.score` for people.

    Args:
        output: where to.
        title: above.
        rows: one per combination.
        names: every sensor.
        weak: what these scores cannot tell, of `data.learnable.weak_split`.
    """
    scores = score_columns(rows)
    output.table(
        title,
        ("sensors", "missing", "ratio", "scorer", *scores, "MMAC", "weights", "windows"),
        [
            (
                sensor_label(row["present"], names),
                row["missing_rate"],
                float(row["ratio"]),
                row["scorer"],
                *(row.get(key) for key in scores.values()),
                row["macs"] / 1e6,
                row["params"],
                row["n_windows"],
            )
            for row in rows
        ],
    )
    for sentence in weak:
        output.line(sentence)
