"""INA3221, the power monitor on Jetson modules, through hwmon in sysfs.

    class/hwmon/hwmon3/name          ina3221
                       in1_label     VDD_IN
                       in1_input     5072 [mV]
                       curr1_input   980  [mA]
                       in7_label     sum of shunt voltages: no rail

Rails nest (the module's input feeds all others), so exactly one is read and the scope names it. The
carrier board is not in it.
"""

from __future__ import annotations

import re
from pathlib import Path

from sentryfuse.power.reading import (
    Integrator,
    MeterImplausible,
    MeterUnavailable,
    Quantity,
    Reading,
    StuckCheck,
)
from sentryfuse.power.sysfs import SYSFS, find_number, find_text, folders_in, read_number

# The widest scope first: input of the module, then what the processor is fed from.
_PREFERRED = ("VDD_IN", "POM_5V_IN", "VDD_CPU_GPU_CV", "VDD_CPU_CV", "VDD_CPU")
_CHANNELS = (1, 2, 3)  # 4..6 are shunt voltages, 7 is their sum
_NOT_CONNECTED = re.compile(r"nc|sum of .*", re.IGNORECASE)
_FROZEN_S = 60.0
_FROZEN_READS = 100  # steps of 8 mV and 40 uV: an idle rail may stand still for a while
_MAX_GAP_S = 10.0


class Ina3221Meter:
    """Power of one rail of a Jetson module.

    Args:
        now_s: monotonic time [s].
        root: where sysfs is mounted.

    Raises:
        MeterUnavailable: no such chip, no connected rail, or it may not be read.
    """

    name = "ina3221"
    tells: frozenset[Quantity] = frozenset({"power_w", "energy_j"})

    def __init__(self, now_s: float, *, root: Path = SYSFS) -> None:
        rails = _rails(root)
        chosen = next((name for name in _PREFERRED if name in rails), next(iter(rails)))
        self._folder, self._channel = rails[chosen]
        self._scope = chosen
        self._stuck = StuckCheck(limit_s=_FROZEN_S, min_reads=_FROZEN_READS)
        self._integrator = Integrator(max_gap_s=_MAX_GAP_S)
        self.read(now_s)

    def read(self, now_s: float) -> Reading:
        """Power now, and the energy of the readings so far.

        The chip has no counter: read it several times a second for an energy that means something.

        Raises:
            MeterUnavailable: it cannot be read.
            MeterImplausible: it is frozen or negative.
        """
        millivolts = read_number(self._folder / f"in{self._channel}_input")
        milliamperes = read_number(self._folder / f"curr{self._channel}_input")
        if millivolts < 0 or milliamperes < 0:
            raise MeterImplausible(f"{self._scope} is negative: {millivolts} mV, {milliamperes} mA")
        self._stuck.see((millivolts, milliamperes), now_s)
        power_w = millivolts * milliamperes / 1e6
        energy_j, since_s = self._integrator.add(power_w, now_s)
        return Reading(
            at_s=now_s,
            label="measured-onboard",
            scope=self._scope,
            power_w=power_w,
            energy_j=energy_j,
            since_s=since_s,
            updates=self._stuck.changes,
        )

    def close(self) -> None:
        """Nothing is held open."""


def _rails(root: Path) -> dict[str, tuple[Path, int]]:
    """Connected rails by name: the chip's folder and the channel."""
    rails: dict[str, tuple[Path, int]] = {}
    for chip in folders_in(root / "class" / "hwmon", lambda f: find_text(f / "name") == "ina3221", "ina3221"):
        for channel in _CHANNELS:
            label = find_text(chip / f"in{channel}_label")
            is_off = find_number(chip / f"in{channel}_enable") == 0
            if label and not is_off and not _NOT_CONNECTED.fullmatch(label):
                rails.setdefault(label, (chip, channel))
    if not rails:
        raise MeterUnavailable("hwmon shows an ina3221 without a connected rail")
    return rails
