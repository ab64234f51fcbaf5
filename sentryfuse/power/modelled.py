"""No meter: the work that was done, beside what the dense model would have done.

Ratios only. Constants from the literature are off by a factor of a hundred, so there is no joule here.
"""

from __future__ import annotations

from sentryfuse.power.reading import Quantity, Reading


class ModelledMeter:
    """The last level, which always works: "modelled-generic" once work was counted, "none" before."""

    name = "modelled"
    tells: frozenset[Quantity] = frozenset()

    def __init__(self) -> None:
        self._macs = self._dense_macs = self._counted = 0

    def count(self, macs: int, dense_macs: int) -> None:
        """Add one window.

        Args:
            macs: that ran [MAC].
            dense_macs: that the dense model with all sensors would have run [MAC].
        """
        self._macs += macs
        self._dense_macs += dense_macs
        self._counted += 1

    def read(self, now_s: float) -> Reading:
        """Work so far over that of the dense model."""
        if self._dense_macs <= 0:
            return Reading(at_s=now_s, label="none", scope="energy not measured")
        return Reading(
            at_s=now_s,
            label="modelled-generic",
            scope="MACs over dense MACs",
            relative=self._macs / self._dense_macs,
            updates=self._counted,
        )

    def close(self) -> None:
        """Nothing is held open."""
