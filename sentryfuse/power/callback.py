"""An instrument or a power manager of the user's own, asked through a function."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real

from sentryfuse.errors import ConfigError
from sentryfuse.power.reading import (
    EVIDENCE,
    QUANTITIES,
    Integrator,
    Label,
    MeterUnavailable,
    Quantity,
    Reading,
    StuckCheck,
)

_MAX_GAP_S = 10.0


class CallbackMeter:
    """Asks a function of the user's.

    Args:
        function: answers some of `power_w` [W], `energy_j` (counted since any moment [J]), `charge`
            (0..1) and `cap_w` [W] by name. It may raise, which counts as a meter in trouble; it should
            answer at once, for nothing can wait in its place.
        tells: the names it answers.
        label: how far the numbers can be believed; only the user knows.
        scope: what they are about, such as "bench supply".
        frozen_s: the same answer for so long is a frozen meter [s]; `None` never.

    Raises:
        ConfigError: a name or label that does not exist.
    """

    name = "callback"

    def __init__(
        self,
        function: Callable[[], Mapping[str, float | None]],
        *,
        tells: frozenset[Quantity] | set[Quantity],
        label: Label,
        scope: str,
        frozen_s: float | None = None,
    ) -> None:
        unknown = sorted({*tells} - {*QUANTITIES})
        if unknown or not tells:
            raise ConfigError(
                f"a callback cannot tell {', '.join(unknown) or 'nothing'}; choose of {', '.join(QUANTITIES)}"
            )
        if label not in EVIDENCE:
            raise ConfigError(f"label {label!r} is unknown; choose one of {', '.join(EVIDENCE)}")
        self.tells = frozenset(tells)
        self._function, self._label, self._scope = function, label, scope
        self._rests = frozen_s is None
        self._stuck = StuckCheck(limit_s=frozen_s or 0.0, min_reads=2)
        self._integrator = Integrator(max_gap_s=_MAX_GAP_S)
        self._count: tuple[float, float, float] | None = None  # first energy, since when, last energy

    def read(self, now_s: float) -> Reading:
        """Ask the function.

        Raises:
            MeterUnavailable: it raised, answered something impossible, or its energy fell.
            MeterImplausible: it is frozen.
        """
        try:
            answer = dict(self._function())
        except Exception as error:  # whatever a user's function does must not end the stream
            raise MeterUnavailable(f"the callback failed: {type(error).__name__}: {error}") from error
        values = {name: _checked(name, answer.get(name)) for name in self.tells}
        self._stuck.see(tuple(values.get(name) for name in QUANTITIES), now_s, may_rest=self._rests)
        if "energy_j" in self.tells:
            energy_j, since_s = self._counted(values["energy_j"], now_s)
        else:
            energy_j, since_s = self._integrator.add(values.get("power_w"), now_s)
        if self._label == "modelled-generic":
            energy_j = since_s = None  # only ratios may be shown
        return Reading(
            at_s=now_s,
            label=self._label,
            scope=self._scope,
            power_w=values.get("power_w"),
            energy_j=energy_j,
            since_s=since_s,
            charge=values.get("charge"),
            cap_w=values.get("cap_w"),
            updates=self._stuck.changes,
        )

    def close(self) -> None:
        """Nothing is held open."""

    def _counted(self, energy_j: float | None, now_s: float) -> tuple[float | None, float | None]:
        if energy_j is None:
            self._count = None
            return None, None
        first_j, since_s, last_j = self._count or (energy_j, now_s, energy_j)
        if energy_j < last_j:
            self._count = None
            raise MeterUnavailable(f"the callback's energy fell from {last_j:g} to {energy_j:g} J")
        self._count = (first_j, since_s, energy_j)
        return energy_j - first_j, since_s


def _checked(name: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, Real) or isinstance(value, bool):
        raise MeterUnavailable(f"the callback answered {name} = {str(value)[:20]!r}, not a number")
    number, most = float(value), 1.0 if name == "charge" else math.inf
    if not 0 <= number <= most or math.isinf(number):
        raise MeterUnavailable(f"the callback answered {name} = {number}, which cannot be")
    return number
