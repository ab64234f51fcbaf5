"""One result line: what it holds, and the files that hold many. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

DESIGN, LINES, ANSWERS = "design.json", "lines.jsonl", "answers"  # in the folder of a study
SUFFIXES = (".jsonl", ".jsonl.gz")
TRAINING = ("backbone", "dataset", "seed", "fold", "training")  # which training a line is of
SCORES, COUNTS = ("accuracy", "macro_f1", "auroc"), ("macs", "params", "n_windows")  # what came out

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Place(NamedTuple):
    """Where in the grid a line stands; a dense line has no protocol."""

    protocol: str | None
    ratio: float
    missing_rate: float


IDENTITY = (*TRAINING, "method", *Place._fields)  # what was evaluated


class Line(BaseModel):
    """One evaluation: one training, made smaller by one method, at one ratio and missing rate.

    Attributes:
        key: content address, the same for the same evaluation.
        training: how the checkpoint was trained: plain, gate or static.
        method: readable name of scorer, allocation, repair and sensors; `dense` at ratio 0.
        protocol: what the ratio refers to; `None` where that makes no difference.
        macs: of one window [MAC].
        model: digest of the trained model's weights; the same for all lines of a training.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    key: str
    backbone: str
    dataset: str
    seed: int
    fold: int | str | None
    training: str
    method: str
    scorer: str | None
    sensors: str | None
    allocation: str | None
    repair: str | None
    protocol: Literal["present", "full"] | None
    ratio: Annotated[float, Field(ge=0, lt=1)]
    missing_rate: Share
    accuracy: Share
    macro_f1: Share | None
    auroc: Share | None
    macs: Count | None
    params: Count | None
    n_windows: Count | None
    model: str | None = None

    @property
    def is_dense(self) -> bool:
        """Whether nothing was removed."""
        return self.ratio == 0

    @property
    def identity(self) -> tuple[object, ...]:
        """What was evaluated, without what came out."""
        return tuple(getattr(self, name) for name in IDENTITY)


def line_files(folder: Path) -> list[Path]:
    """Files of result lines in a folder: `lines*.jsonl`, also compressed."""
    return sorted(path for path in folder.glob("lines*") if path.name.endswith(SUFFIXES))
