"""RAPL, the energy counters of Intel and AMD processors, through powercap in sysfs.

    class/powercap/intel-rapl:0/name                  package-0
                                energy_uj             12345678, wraps
                                max_energy_range_uj   262143328850
                   intel-rapl:0:0/name                core: inside package-0, so never added
                   intel-rapl:1/name                  psys: around the packages, so never added

The packages of a machine with several sockets lie beside each other and are added. `intel-rapl-mmio` is
another door to the same counter and is left alone. Since Linux 5.10 only root may read the counters.
"""

from __future__ import annotations

import re
from pathlib import Path

from sentryfuse.power.reading import MeterImplausible, MeterUnavailable, Quantity, Reading, StuckCheck
from sentryfuse.power.sysfs import SYSFS, folders_in, read_number, read_text

_TOP = re.compile(r"(intel|amd)-rapl:[0-9]+")
_FROZEN_S = 5.0  # the counters move every millisecond, also when idle
_FROZEN_READS = 2
_MIN_STEP_S = 0.01  # ten refreshes; power over less is mostly jitter
_MAX_W = 2000.0  # of one package; more is a counter that was set back, as after a suspend
_SURE_W = 500.0  # of one package; a gap in which the counter could have wrapped at this begins anew


class RaplMeter:
    """Energy of the processor packages.

    Args:
        now_s: monotonic time [s].
        root: where sysfs is mounted.

    Raises:
        MeterUnavailable: no package here, or it may not be read.
    """

    name = "rapl"
    tells: frozenset[Quantity] = frozenset({"power_w", "energy_j"})

    def __init__(self, now_s: float, *, root: Path = SYSFS) -> None:
        self._counters = [_Counter(folder, now_s) for folder in _domains(root)]
        self._scope = "+".join(counter.name for counter in self._counters)
        self._stuck = StuckCheck(limit_s=_FROZEN_S, min_reads=_FROZEN_READS)
        self._stuck.see(self._raw(), now_s)
        self._energy_j, self._since_s = 0.0, now_s
        self._power_w: float | None = None
        self._power_from = (0.0, now_s)

    def read(self, now_s: float) -> Reading:
        """Energy since the meter was opened, and mean power since the last reading.

        A gap between two readings in which a counter could have wrapped unseen begins a new count.

        Raises:
            MeterUnavailable: a counter cannot be read or was set back.
            MeterImplausible: a counter is frozen or negative.
        """
        sure = all(counter.would_tell_wraps(now_s) for counter in self._counters)
        step_j = sum(counter.step_j(now_s) for counter in self._counters)
        self._stuck.see(self._raw(), now_s)
        if sure:
            self._energy_j += step_j
        else:
            self._energy_j, self._since_s = 0.0, now_s
            self._power_w, self._power_from = None, (0.0, now_s)
        before_j, before_s = self._power_from
        if now_s - before_s >= _MIN_STEP_S:
            self._power_w = (self._energy_j - before_j) / (now_s - before_s)
            self._power_from = (self._energy_j, now_s)
        return Reading(
            at_s=now_s,
            label="measured-onboard",
            scope=self._scope,
            power_w=self._power_w,
            energy_j=self._energy_j,
            since_s=self._since_s,
            updates=self._stuck.changes,
        )

    def close(self) -> None:
        """Nothing is held open."""

    def _raw(self) -> tuple[int, ...]:
        return tuple(counter.last_uj for counter in self._counters)


class _Counter:
    """One counter that wraps."""

    def __init__(self, folder: Path, now_s: float) -> None:
        self.name = read_text(folder / "name")
        self._path = folder / "energy_uj"
        self._range_uj = read_number(folder / "max_energy_range_uj")
        if self._range_uj <= 0:
            raise MeterImplausible(f"{self.name} says that its counter ends at {self._range_uj} uJ")
        self.last_uj, self._last_s = self._look(), now_s

    def would_tell_wraps(self, now_s: float) -> bool:
        return (now_s - self._last_s) * _SURE_W < self._range_uj / 1e6

    def step_j(self, now_s: float) -> float:
        """Energy since the last look [J]."""
        now_uj = self._look()
        step_uj = now_uj - self.last_uj
        if step_uj < 0:
            step_uj += self._range_uj
        most_j = _MAX_W * max(now_s - self._last_s, 1.0)
        self.last_uj, self._last_s = now_uj, now_s
        if not 0 <= step_uj / 1e6 <= most_j:
            raise MeterUnavailable(f"{self.name} jumped by {step_uj / 1e6:.0f} J; its counter was set back")
        return step_uj / 1e6

    def _look(self) -> int:
        now_uj = read_number(self._path)
        if now_uj < 0:
            raise MeterImplausible(f"{self.name} is negative: {now_uj} uJ")
        return now_uj


def _domains(root: Path) -> list[Path]:
    """Folders that lie beside each other and may be added."""
    folder = root / "class" / "powercap"
    domains = folders_in(folder, lambda f: _TOP.fullmatch(f.name) is not None, "energy counter (RAPL)")
    names = {domain: read_text(domain / "name") for domain in domains}
    packages = [domain for domain in domains if names[domain].startswith("package")]
    found = packages or [domain for domain in domains if names[domain] == "psys"][:1]
    if not found:
        raise MeterUnavailable("powercap shows no processor package")
    return found
