"""Energy of a piece of work, or the reason why there is none.

Work is measured in windows of time, idle windows beside it; the figure is the median over the work
windows of what they took above idle, per piece. Three things make a figure that would mean nothing, and
none is given then: a meter that moved fewer than 20 times in a window, a meter that changed under way, and
work that does not stand out from the idle noise by three deviations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median, quantiles, stdev
from typing import Any

from sentryfuse.errors import ConfigError
from sentryfuse.power.reading import EVIDENCE, Label, PowerReader, Reading

MIN_UPDATES = 20
MIN_DEVIATIONS = 3.0
_MIN_IDLE = 3  # windows, for a deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyWindow:
    """One stretch of time under a meter.

    Attributes:
        seconds: its length [s].
        gross_j: drawn in it, idle included [J]; `None` where refused.
        updates: how often the meter moved.
        label: of the meter.
        scope: of the meter.
        refused: why there is no energy, or `None`.
    """

    seconds: float
    gross_j: float | None
    updates: int
    label: Label
    scope: str
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyFigure:
    """Energy of one piece of work, with label and spread; or why there is none.

    Attributes:
        net_mj: above idle, median over the windows [mJ]; `None` where refused.
        spread_mj: distance between its quartiles [mJ].
        gross_mj: idle included, median [mJ].
        idle_w: mean of the idle windows [W].
        idle_deviation_w: between idle windows [W].
        label: how far it can be believed.
        scope: what was measured.
        windows: of work.
        pieces: in every window.
        refused: why there is no figure, or `None`.
    """

    net_mj: float | None = None
    spread_mj: float | None = None
    gross_mj: float | None = None
    idle_w: float | None = None
    idle_deviation_w: float | None = None
    label: Label
    scope: str
    windows: int
    pieces: int
    refused: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `json.dumps`, with the evidence class of the label."""
        return {**asdict(self), "evidence": EVIDENCE[self.label]}


class EnergyMeter:
    """Windows of time over a reader.

    Call `sample` while the work runs, as often as the meter refreshes or every few milliseconds: chips
    without a counter know only the moments at which they were asked.

    Args:
        reader: of `open_reader`.
    """

    def __init__(self, reader: PowerReader) -> None:
        self._reader = reader
        self._first: Reading | None = None
        self._changed = False

    def begin(self, now_s: float | None = None) -> None:
        """Open a window; one that was open is forgotten. `now_s` is monotonic [s]."""
        self._first = self._reader.read(now_s)
        self._changed = False

    def sample(self, now_s: float | None = None) -> Reading:
        """Look at the meter inside a window.

        Raises:
            ConfigError: no window is open.
        """
        if self._first is None:
            raise ConfigError("no energy window is open; call begin first")
        reading = self._reader.read(now_s)
        self._changed |= _source(reading) != _source(self._first)
        return reading

    def end(self, now_s: float | None = None) -> EnergyWindow:
        """Close the window.

        Raises:
            ConfigError: no window is open.
        """
        last = self.sample(now_s)
        first, self._first = self._first, None
        assert first is not None
        seconds = last.at_s - first.at_s
        updates = last.updates - first.updates
        gross_j = None
        if self._changed:
            refused = f"the meter changed from {first.scope} to {last.scope}, or began a new count"
        elif first.energy_j is None or last.energy_j is None:
            refused = f"no energy is measured ({last.label})"
        elif updates < MIN_UPDATES:
            refused = (
                f"the meter moved {updates} times in {seconds:.3g} s; measure longer or sample more often, "
                f"{MIN_UPDATES} are needed"
            )
        elif not math.isfinite(last.energy_j - first.energy_j):
            refused = f"the meter said {last.energy_j} J"
        else:
            gross_j, refused = last.energy_j - first.energy_j, None
        return EnergyWindow(
            seconds=seconds,
            gross_j=gross_j,
            updates=updates,
            label=last.label,
            scope=last.scope,
            refused=refused,
        )


def energy_per_piece(
    work: Sequence[EnergyWindow], idle: Sequence[EnergyWindow], *, pieces: int
) -> EnergyFigure:
    """The figure of several windows of equal work.

    Args:
        work: windows in which the same number of pieces ran; ten of at least 10 s are good practice.
        idle: windows in which the machine did nothing else, at least 3, as long as those of work.
        pieces: in every work window, such as inferences.

    Raises:
        ConfigError: no window of work, or fewer than one piece.

    Source:
        At least 20 updates and three deviations are our choice, after common practice of energy studies.
    """
    if not work or pieces < 1:
        raise ConfigError(
            f"energy needs windows of work and pieces in them, got {len(work)} and {pieces}; measure some"
        )
    facts: dict[str, Any] = {
        "label": work[0].label,
        "scope": work[0].scope,
        "windows": len(work),
        "pieces": pieces,
    }
    refused = [window.refused for window in (*work, *idle) if window.refused]
    if refused:
        return EnergyFigure(**facts, refused=refused[0])
    if len({(window.label, window.scope) for window in (*work, *idle)}) > 1:
        return EnergyFigure(**facts, refused="work and idle were not measured by the same meter")
    if len(idle) < _MIN_IDLE:
        return EnergyFigure(
            **facts, refused=f"{len(idle)} idle windows tell no deviation; measure at least {_MIN_IDLE}"
        )
    idle_powers = [_energy(window) / window.seconds for window in idle]
    facts |= {"idle_w": fmean(idle_powers), "idle_deviation_w": stdev(idle_powers)}
    nets = [_energy(window) - facts["idle_w"] * window.seconds for window in work]
    noise = [facts["idle_deviation_w"] * window.seconds for window in work]
    if not median(nets) > 0 or median(nets) < MIN_DEVIATIONS * median(noise):
        return EnergyFigure(
            **facts,
            refused=f"the work took {median(nets):.3g} J above idle, less than {MIN_DEVIATIONS:g} times the "
            f"idle deviation of {median(noise):.3g} J; measure longer or on a quieter machine",
        )
    in_mj = [1e3 * net / pieces for net in nets]
    return EnergyFigure(
        **facts,
        net_mj=median(in_mj),
        spread_mj=_quartile_distance(in_mj),
        gross_mj=median(1e3 * _energy(window) / pieces for window in work),
    )


def _source(reading: Reading) -> tuple[object, ...]:
    return (reading.label, reading.scope, reading.since_s)


def _energy(window: EnergyWindow) -> float:
    assert window.gross_j is not None
    return window.gross_j


def _quartile_distance(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    low, _, high = quantiles(values, n=4, method="inclusive")
    return high - low
