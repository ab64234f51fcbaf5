"""NVML, the counters of NVIDIA graphics processors, through the driver's own library.

Called by ctypes, so nothing has to be installed beside the driver. The counter refreshes about ten times
a second, and some processors look at their power only a quarter of the time: repeat what is measured.
"""

from __future__ import annotations

import ctypes
from typing import Any

from sentryfuse.power.reading import Integrator, MeterUnavailable, Quantity, Reading, StuckCheck

LIBRARY = "libnvidia-ml.so.1"
_FROZEN_COUNTER = (10.0, 2)  # seconds, equal readings
_FROZEN_POWER = (60.0, 100)
_MAX_GAP_S = 10.0
_MIN_STEP_S = 0.1
_NOT_SUPPORTED = 3  # NVML_ERROR_NOT_SUPPORTED


class NvmlMeter:
    """Energy of one graphics processor; it sees nothing of the rest of the machine.

    Args:
        now_s: monotonic time [s].
        index: of the processor, in the driver's order.
        library: file name of NVML.

    Raises:
        MeterUnavailable: no driver, no such processor, or one that tells neither energy nor power.
    """

    name = "nvml"
    tells: frozenset[Quantity] = frozenset({"power_w", "energy_j"})

    def __init__(self, now_s: float, *, index: int = 0, library: str = LIBRARY) -> None:
        try:
            self._nvml = ctypes.CDLL(library)
        except OSError as error:
            raise MeterUnavailable(f"{library} is not here; it comes with the NVIDIA driver") from error
        self._scope = f"gpu-{index}"
        self._handle = ctypes.c_void_p()
        self._integrator = Integrator(max_gap_s=_MAX_GAP_S)
        self._call("nvmlInit_v2")
        try:
            self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(self._handle))
            self._first_mj = self._counter_mj()
            limit_s, min_reads = _FROZEN_POWER if self._first_mj is None else _FROZEN_COUNTER
            self._stuck = StuckCheck(limit_s=limit_s, min_reads=min_reads)
            self._last: tuple[int, float] | None = None
            self._since_s = now_s
            self._power_w: float | None = None
            self.read(now_s)
        except MeterUnavailable:
            self.close()
            raise

    def read(self, now_s: float) -> Reading:
        """Energy since the meter was opened and power; integrated power where there is no counter.

        Raises:
            MeterUnavailable: the driver refuses, or its counter went back.
            MeterImplausible: the counter is frozen.
        """
        energy_j: float | None
        since_s: float | None = self._since_s
        if self._first_mj is None:
            self._power_w = self._power_mw() / 1e3
            self._stuck.see((self._power_w,), now_s)
            energy_j, since_s = self._integrator.add(self._power_w, now_s)
        else:
            now_mj = self._counter_mj() or 0
            self._stuck.see((now_mj,), now_s)
            self._follow(now_mj, now_s)
            energy_j = (now_mj - self._first_mj) / 1e3
        return Reading(
            at_s=now_s,
            label="measured-onboard",
            scope=self._scope,
            power_w=self._power_w,
            energy_j=energy_j,
            since_s=since_s,
            updates=self._stuck.changes,
        )

    def close(self) -> None:
        """Tell the driver that it is no longer needed."""
        self._nvml.nvmlShutdown()

    def _follow(self, now_mj: int, now_s: float) -> None:
        """Mean power between two looks at the counter."""
        if self._last is None:
            self._last = (now_mj, now_s)
            return
        before_mj, before_s = self._last
        if now_mj < before_mj:
            raise MeterUnavailable(f"the counter of {self._scope} went back; the driver was loaded anew")
        if now_s - before_s >= _MIN_STEP_S:
            self._power_w = (now_mj - before_mj) / 1e3 / (now_s - before_s)
            self._last = (now_mj, now_s)

    def _counter_mj(self) -> int | None:
        """Energy since the driver was loaded [mJ]; `None` on processors without a counter."""
        value = ctypes.c_ulonglong()
        code = self._code("nvmlDeviceGetTotalEnergyConsumption", self._handle, ctypes.byref(value))
        if code == _NOT_SUPPORTED:
            return None
        self._check(code)
        return value.value

    def _power_mw(self) -> int:
        value = ctypes.c_uint()
        self._call("nvmlDeviceGetPowerUsage", self._handle, ctypes.byref(value))
        return value.value

    def _call(self, function: str, *args: Any) -> None:
        self._check(self._code(function, *args))

    def _code(self, function: str, *args: Any) -> int:
        try:
            return int(getattr(self._nvml, function)(*args))
        except AttributeError as error:
            raise MeterUnavailable(f"this NVML has no {function}; the driver is too old") from error

    def _check(self, code: int) -> None:
        if code:
            self._nvml.nvmlErrorString.restype = ctypes.c_char_p
            said = self._nvml.nvmlErrorString(code) or b"unknown"
            raise MeterUnavailable(f"NVML says: {said.decode('ascii', 'replace').lower()}")
