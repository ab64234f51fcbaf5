"""Counts, times and findings of many inputs, small enough for JSON whatever their number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

FINENESS = 1.05  # of a bin of times over the one before
MOST_FINDINGS = 50


class Tally:
    """What came of inputs.

    Attributes:
        counts: name -> how many.
        bins: bin of times -> how many; a bin is 5 % wide.
        longest_ms: exactly.
        grown_mb: most memory of a process above what it began with.
        findings: what went wrong, a text each, the first fifty.
    """

    def __init__(self, told: Mapping[str, Any] | None = None) -> None:
        """Go on with what `told` of another tally says."""
        told = told or {}
        self.counts: Counter[str] = Counter(told.get("counts", {}))
        self.bins: Counter[str] = Counter(told.get("bins", {}))
        self.longest_ms: float = told.get("longest_ms", 0.0)
        self.grown_mb: float = told.get("grown_mb", 0.0)
        self.findings: list[str] = list(told.get("findings", []))

    def took(self, ms: float) -> None:
        """The time of one input [ms]."""
        self.bins[str(math.ceil(math.log(max(ms, 1e-4), FINENESS)))] += 1
        self.longest_ms = max(self.longest_ms, ms)

    def found(self, what: str) -> None:
        """Something that may not be."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(what)

    def add(self, other: Tally) -> None:
        """Take in another."""
        self.counts += other.counts
        self.bins += other.bins
        self.longest_ms = max(self.longest_ms, other.longest_ms)
        self.grown_mb = max(self.grown_mb, other.grown_mb)
        for what in other.findings:
            self.found(what)

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "counts": dict(sorted(self.counts.items())),
            "bins": dict(sorted(self.bins.items(), key=lambda item: int(item[0]))),
            "longest_ms": self.longest_ms,
            "grown_mb": self.grown_mb,
            "findings": self.findings,
        }


def quantile_ms(bins: Mapping[str, int], share: float) -> float:
    """Upper end of the bin in which a share of the times lies [ms]."""
    wanted, seen = share * sum(bins.values()), 0
    for name, count in sorted(bins.items(), key=lambda item: int(item[0])):
        seen += count
        if seen >= wanted:
            return FINENESS ** int(name)
    return 0.0
