"""Choosing a meter, and going down one level when it fails.

    auto      rapl -> ina3221 -> battery -> none
    rapl      rapl -> ina3221 -> battery -> none
    battery   battery -> none
    nvml      nvml -> none            asked for by name only: it sees the graphics processor alone
    trace:F   trace -> none

A meter that cannot be read is left for the next one and tried again after 5 s, then after 10, 20 and so on
up to an hour. One that says what cannot be true is never asked again.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from sentryfuse.errors import ConfigError
from sentryfuse.power.battery import BatteryMeter
from sentryfuse.power.ina3221 import Ina3221Meter
from sentryfuse.power.modelled import ModelledMeter
from sentryfuse.power.nvml import NvmlMeter
from sentryfuse.power.rapl import RaplMeter
from sentryfuse.power.reading import Meter, MeterImplausible, MeterUnavailable, Quantity, Reading
from sentryfuse.power.sysfs import SYSFS
from sentryfuse.power.trace import TraceMeter
from sentryfuse.register import Register

SPECS = ("auto", "rapl", "ina3221", "battery", "nvml", "nvml:INDEX", "trace:FILE", "none")
_SYSFS_METERS: dict[str, type[RaplMeter] | type[Ina3221Meter] | type[BatteryMeter]] = {
    "rapl": RaplMeter,
    "ina3221": Ina3221Meter,
    "battery": BatteryMeter,
}
_LEVELS = tuple(_SYSFS_METERS)  # best first
_RETRY_S = 5.0
_MAX_RETRY_S = 3600.0
_KEPT_NOTES = 100

Opener = Callable[[float], Meter]
MakesMeter = Callable[[str, float], Meter]
T = TypeVar("T", bound=MakesMeter)
_OWN: Register[MakesMeter] = Register("power meter", group="sentryfuse.meters", decorator="sf.register_meter")


def register_meter(name: str) -> Callable[[T], T]:
    """Decorate what opens a `Meter`, so that `--power NAME` or `NAME:REST` finds it.

    It is called with the text behind the colon ("" without one) and the monotonic time [s]; where it cannot
    work it raises `MeterUnavailable`. An installed package makes its own known by an entry point of the group
    `sentryfuse.meters`.

    Raises:
        ConfigError: the name is taken, or is one of ours.
    """

    def register(make: T) -> T:
        if name in {spec.partition(":")[0] for spec in SPECS}:
            raise ConfigError(f"a power meter called {name} exists; register under another name")
        _OWN.add(name, make)
        return make

    return register


class LadderReader:
    """A `PowerReader`: several meters, best first; the first that works answers. For one thread.

    Args:
        rungs: name and opener of each meter; an opener takes the monotonic time [s].
        now_s: monotonic time [s].
    """

    def __init__(self, rungs: Sequence[tuple[str, Opener]], now_s: float) -> None:
        self._rungs = [_Rung(name, opener) for name, opener in rungs]
        self._modelled = ModelledMeter()
        self._notes: deque[str] = deque(maxlen=_KEPT_NOTES)
        self._source: tuple[str, str] | None = None
        self._now_s = now_s
        self._first: Reading | None = self._look(now_s)

    @property
    def notes(self) -> Sequence[str]:
        """Notes since the reader was opened, oldest first; the latest 100."""
        return tuple(self._notes)

    def read(self, now_s: float | None = None) -> Reading:
        """One look at the best meter that works; never raises.

        It reads files or calls a function of the user's, which takes from microseconds to tens of
        milliseconds (fuel gauges): about once a second, not between a window and its answer.

        Args:
            now_s: monotonic time [s]; by default taken now. A step back counts as no step.

        Returns:
            What the meter says; what changed with this very reading is in its `notes`.
        """
        now_s = time.monotonic() if now_s is None else now_s
        if now_s > self._now_s:  # false for NaN
            self._now_s = now_s
        reading = self._look(self._now_s)
        if self._first is not None:  # what opening had to say was not heard yet
            reading = replace(reading, notes=(*self._first.notes, *reading.notes))
            self._first = None
        return reading

    def count(self, macs: int, dense_macs: int) -> None:
        """Tell of one window's work, for the level without a meter; see `ModelledMeter.count`."""
        self._modelled.count(macs, dense_macs)

    def close(self) -> None:
        """Close the meters; later readings have the label "none"."""
        for rung in self._rungs:
            rung.close()
        self._rungs = []

    def _look(self, now_s: float) -> Reading:
        said: list[str] = []
        meter: Meter = self._modelled
        reading = None
        for rung in self._rungs:
            reading = rung.read(now_s, said)
            if reading is not None:
                meter = rung.meter or meter
                break
        if reading is None:
            reading = self._modelled.read(now_s)
        if self._source != (meter.name, reading.label):
            self._source = (meter.name, reading.label)
            said.append(_tell(meter, reading))
        self._notes.extend(said)
        return replace(reading, notes=tuple(said))


class _Rung:
    """One meter and when it may be tried again."""

    def __init__(self, name: str, opener: Opener) -> None:
        self.meter: Meter | None = None
        self._name, self._opener = name, opener
        self._retry_at_s, self._delay_s = -math.inf, _RETRY_S
        self._failed = False

    def read(self, now_s: float, said: list[str]) -> Reading | None:
        """A reading, or `None` with the reason in `said` where it is new."""
        if self.meter is None and now_s < self._retry_at_s:
            return None
        try:
            if self.meter is None:
                self.meter = self._opener(now_s)
            reading = self.meter.read(now_s)
            if not isinstance(reading, Reading):
                raise TypeError(f"it answered {type(reading).__name__}, not a Reading")
        except MeterUnavailable as trouble:
            self._fail(str(trouble), now_s, said, for_ever=isinstance(trouble, MeterImplausible))
            return None
        except Exception as error:  # a meter of the user's own; the stream goes on without it
            self._fail(f"{type(error).__name__}: {error}", now_s, said, for_ever=False)
            return None
        self._failed = False
        if now_s - self._retry_at_s > _MAX_RETRY_S:  # it worked for long: the next trouble is a new one
            self._delay_s = _RETRY_S
        return reading

    def close(self) -> None:
        if self.meter is not None:
            self.meter.close()
            self.meter = None

    def _fail(self, reason: str, now_s: float, said: list[str], *, for_ever: bool) -> None:
        if not self._failed:
            self._failed = True
            said.append(f"{self._name} cannot be used: {reason}")
        self._retry_at_s = math.inf if for_ever else now_s + self._delay_s
        self._delay_s = min(2 * self._delay_s, _MAX_RETRY_S)
        try:
            self.close()
        except Exception as error:  # as above
            self.meter = None
            said.append(f"{self._name} could not be closed: {type(error).__name__}: {error}")


def open_reader(
    spec: str | Meter = "auto",
    *,
    needs: Quantity | None = None,
    root: str | Path = SYSFS,
    now_s: float | None = None,
) -> LadderReader:
    """Open a meter and what stands below it.

    Args:
        spec: "auto" (the best that works), "rapl", "ina3221", "battery", "nvml", "nvml:1" (the second
            processor), "trace:FILE", "none", the name of a registered meter (`register_meter`), or a meter of
            your own such as a `CallbackMeter`.
        needs: what it has to tell; "charge" makes "auto" take the battery beside a processor that has
            RAPL. A `Policy` names it as `watch`.
        root: where sysfs is mounted.
        now_s: monotonic time [s]; by default taken now.

    Returns:
        A reader; its first notes say what was taken and why better ones were not.

    Raises:
        ConfigError: an unknown spec; a meter asked for by name that cannot be used here or does not
            tell what is needed; a trace that cannot be read.
    """
    now_s = time.monotonic() if now_s is None else now_s
    if not isinstance(spec, str):
        _check_tells(spec.name, spec.tells, needs)
        return LadderReader([(spec.name, lambda _: spec)], now_s)
    kind, _, rest = spec.partition(":")
    if kind == "trace" and rest:
        meter = TraceMeter(now_s, path=Path(rest))
        _check_tells(spec, meter.tells, needs)
        return LadderReader([("trace", lambda _: meter)], now_s)
    if kind == "nvml" and (not rest or (rest.isascii() and rest.isdecimal())):
        _check_tells(spec, NvmlMeter.tells, needs)
        return _named(spec, [(spec, partial(NvmlMeter, index=int(rest or 0)))], now_s)
    if kind not in SPECS and _OWN.has(kind):
        make = _OWN.find(kind)
        return _named(spec, [(kind, partial(make, rest))], now_s, needs)
    if rest or spec not in SPECS:
        raise ConfigError(
            f"power meter {spec!r} is unknown; choose one of {', '.join([*SPECS, *_OWN.names()])}"
        )
    if spec == "none":
        return LadderReader([], now_s)
    levels = _LEVELS if spec == "auto" else _LEVELS[_LEVELS.index(spec) :]
    if spec != "auto":
        _check_tells(spec, _SYSFS_METERS[spec].tells, needs)
    rungs: list[tuple[str, Opener]] = [
        (name, partial(_SYSFS_METERS[name], root=Path(root)))
        for name in levels
        if needs is None or needs in _SYSFS_METERS[name].tells
    ]
    if spec == "auto":
        return LadderReader(rungs, now_s)
    return _named(spec, rungs, now_s)


def _named(
    spec: str, rungs: Sequence[tuple[str, Opener]], now_s: float, needs: Quantity | None = None
) -> LadderReader:
    """A ladder whose first meter must work when it is opened."""
    try:
        meter = rungs[0][1](now_s)
        meter.read(now_s)
        meter.close()
        _check_tells(spec, meter.tells, needs)
    except MeterUnavailable as trouble:
        raise ConfigError(
            f"power meter {spec!r} cannot be used: {trouble}; choose auto or none, or see docs/power.md"
        ) from trouble
    return LadderReader(rungs, now_s)


def _check_tells(name: str, tells: frozenset[Quantity], needs: Quantity | None) -> None:
    if needs is not None and needs not in tells:
        raise ConfigError(
            f"power meter {name!r} does not tell {needs}, only {', '.join(sorted(tells))}; "
            "choose another meter or another policy"
        )


def _tell(meter: Meter, reading: Reading) -> str:
    if reading.label == "none":
        return "no power meter in use: energy not measured"
    if isinstance(meter, ModelledMeter):
        return "no power meter in use: work is counted, modelled-generic"
    return f"power from {meter.name} ({reading.scope}), {reading.label}"
