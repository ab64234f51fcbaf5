"""The battery, through power_supply in sysfs.

    class/power_supply/BAT0/type          Battery
                            status        Discharging
                            capacity      71 [%]
                            energy_now    38500000 [uWh], energy_full; or charge_now [uAh], charge_full
                            power_now     6100000 [uW]; or current_now [uA] and voltage_now [uV]

Any attribute may be missing, and drivers do not agree on the sign of a current: what is left comes from
the best attribute there is, power from its size while the battery says that it discharges. On mains a
gauge knows nothing of what the machine draws.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sentryfuse.power.reading import (
    Integrator,
    MeterImplausible,
    MeterUnavailable,
    Quantity,
    Reading,
    StuckCheck,
)
from sentryfuse.power.sysfs import SYSFS, find_number, find_text, folders_in

_FROZEN_S = 1800.0  # gauges refresh every 1 to 60 s
_FROZEN_READS = 20
_MAX_GAP_S = 120.0
_OVERFULL = 1.1  # a full gauge may read a little over its own full
_ATTRIBUTES = (
    "capacity",
    "energy_now",
    "energy_full",
    "energy_full_design",
    "charge_now",
    "charge_full",
    "charge_full_design",
    "power_now",
    "current_now",
    "voltage_now",
)
_RATE = ("power_now", "current_now", "voltage_now")  # of use, but what is left is told without them
_MOST_W = 10_000.0  # a battery that gives more is in no machine that we know, or its gauge is broken
_FINE = ("energy_now", "charge_now", "power_now", "current_now", "voltage_now")


class BatteryMeter:
    """What is left in the machine's batteries, and what they give.

    Args:
        now_s: monotonic time [s].
        root: where sysfs is mounted.

    Raises:
        MeterUnavailable: no battery here, or none that tells what is left.
    """

    name = "battery"
    tells: frozenset[Quantity] = frozenset({"charge", "power_w", "energy_j"})

    def __init__(self, now_s: float, *, root: Path = SYSFS) -> None:
        self._folders = folders_in(root / "class" / "power_supply", _is_battery, "battery")
        self._scope = "+".join(folder.name for folder in self._folders)
        self._stuck = StuckCheck(limit_s=_FROZEN_S, min_reads=_FROZEN_READS)
        self._integrator = Integrator(max_gap_s=_MAX_GAP_S)
        self.read(now_s)

    def read(self, now_s: float) -> Reading:
        """Charge left, power while discharging, and the energy of the readings so far.

        A gauge may take tens of milliseconds to answer; keep this off the path of a window.

        Raises:
            MeterUnavailable: a battery is gone, cannot be read, or does not tell what is left.
            MeterImplausible: it says what cannot be, or stands still while discharging.
        """
        cells = [_Cell.look(folder) for folder in self._folders]
        draining = [cell for cell in cells if cell.status == "discharging"]
        rests = not any(cell.is_fine for cell in draining)
        self._stuck.see(tuple(cell.raw for cell in cells), now_s, may_rest=rests)
        powers = [cell.power_w() for cell in draining]
        power_w = sum(p for p in powers if p is not None) if powers and None not in powers else None
        energy_j, since_s = self._integrator.add(power_w, now_s)
        return Reading(
            at_s=now_s,
            label="measured-battery",
            scope=self._scope,
            power_w=power_w,
            energy_j=energy_j,
            since_s=since_s,
            charge=_share(cells),
            updates=self._stuck.changes,
        )

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True)
class _Cell:
    """One battery at one moment, in the units of sysfs."""

    name: str
    status: str
    says: dict[str, int]

    @classmethod
    def look(cls, folder: Path) -> _Cell:
        found = {attribute: _find(folder / attribute) for attribute in _ATTRIBUTES}
        status = (find_text(folder / "status") or "unknown").lower()
        return cls(folder.name, status, {key: value for key, value in found.items() if value is not None})

    @property
    def raw(self) -> tuple[object, ...]:
        return (self.status, *sorted(self.says.items()))

    @property
    def is_fine(self) -> bool:
        """Whether it tells more than whole percents, which may stand still for an hour."""
        return any(attribute in self.says for attribute in _FINE)

    def full(self, unit: str) -> int:
        """Full amount in "energy" [uWh] or "charge" [uAh]; 0 where it is not known."""
        full = self.says.get(f"{unit}_full", 0)
        return full if full > 0 else max(0, self.says.get(f"{unit}_full_design", 0))

    def shares(self) -> Iterable[float]:
        """What is left, from the finest attribute to the coarsest."""
        for unit in ("energy", "charge"):
            if f"{unit}_now" in self.says and self.full(unit):
                yield self.says[f"{unit}_now"] / self.full(unit)
        if "capacity" in self.says:
            yield self.says["capacity"] / 100

    def share(self) -> float:
        """What is left, 0..1: the first statement that can be true."""
        found = list(self.shares())
        if not found:
            raise MeterUnavailable(f"{self.name} does not tell what is left")
        for share in found:
            if 0 <= share <= _OVERFULL:
                return min(share, 1.0)
        raise MeterImplausible(f"{self.name} says that {100 * found[0]:.0f} % is left")

    def power_w(self) -> float | None:
        """Size of what flows [W]; 0 of a discharging battery, and what none can give, mean not known."""
        watts = 0.0
        if "power_now" in self.says:
            watts = abs(self.says["power_now"]) / 1e6
        elif "current_now" in self.says and "voltage_now" in self.says:
            watts = abs(self.says["current_now"] * self.says["voltage_now"]) / 1e12
        return watts if 0 < watts <= _MOST_W else None


def _find(path: Path) -> int | None:
    """A number, `None` where it is not told; a rate that cannot be read does not hide what is left."""
    try:
        return find_number(path)
    except MeterUnavailable:
        if path.name in _RATE:
            return None
        raise


def _share(cells: list[_Cell]) -> float:
    """What is left in all of them, by size where all tell it in one unit."""
    shares = [cell.share() for cell in cells]
    for unit in ("energy", "charge"):
        sizes = [cell.full(unit) for cell in cells]
        if all(sizes):
            return sum(s * size for s, size in zip(shares, sizes, strict=True)) / sum(sizes)
    return sum(shares) / len(shares)


def _is_battery(folder: Path) -> bool:
    """A battery of the machine itself, in its bay; not one of a mouse or keyboard."""
    return (
        (find_text(folder / "type") or "").lower() == "battery"
        and (find_text(folder / "scope") or "").lower() != "device"
        and find_number(folder / "present") != 0
    )
