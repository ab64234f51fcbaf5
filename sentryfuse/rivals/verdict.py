"""Rows of a comparison -> one honest sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sentryfuse.data.metrics import WORDS, measure_of

OURS = "ours"
ALL, ONE_MISSING = "all", "one missing"
KINDS = {ALL: "with all sensors", ONE_MISSING: "with one missing"}
LEVEL = 0.5  # [points]; a smaller difference is called level, and shown
Row = Mapping[str, Any]


class Gap(NamedTuple):
    """Ours against the best rival, for one kind of presence.

    Attributes:
        presence: the kind.
        rival: name of the best one.
        points: ours minus it [points].
    """

    presence: str
    rival: str
    points: float


def gaps_of(rows: Sequence[Row]) -> tuple[Gap, ...]:
    """Ours at the smallest ratio against the best rival, for every kind of presence."""
    measure = measure_of(rows)
    least = min(row["ratio"] for row in rows if row["system"] == OURS)
    found = []
    for presence in KINDS:
        here = [row for row in rows if row["presence"] == presence]
        if not here:
            continue
        (ours,) = (row for row in here if row["system"] == OURS and row["ratio"] == least)
        best = max((row for row in here if row["system"] != OURS), key=lambda row: float(row[measure]))
        found.append(Gap(presence, best["system"], round(100 * (ours[measure] - best[measure]), 1)))
    return tuple(found)


def verdict_of(rows: Sequence[Row]) -> str:
    """Who is ahead, by how many points, with all sensors and with one missing.

    The rival is the best one of each kind by the very windows that are scored, so the sentence is strict with
    ours. Ours is that of the smallest ratio.

    Args:
        rows: of `Comparison`.
    """
    ratio = min(row["ratio"] for row in rows if row["system"] == OURS)
    ours = f"ours at r = {ratio:g}"
    clauses: list[str] = []
    for gap in gaps_of(rows):
        clauses.append(_clause(gap, ours))
        ours = "ours"
    return f"by {WORDS[measure_of(rows)]}, {', and '.join(clauses)}"


def _clause(gap: Gap, ours: str) -> str:
    when = KINDS[gap.presence]
    size = f"{abs(gap.points):.1f} points"
    if gap.points >= LEVEL:
        return f"{ours} is {size} above the best rival ({gap.rival}) {when}"
    if gap.points <= -LEVEL:
        return f"{gap.rival} is {size} better than {ours} {when}"
    return f"{ours} is level with the best rival ({gap.rival}, {gap.points:+.1f} points) {when}"
