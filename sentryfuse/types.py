"""The nouns every room shares; frozen, without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Annotated, Any

from annotated_types import Interval, Len, Predicate

from sentryfuse.errors import BudgetError, ConfigError, NoSensorsError

PROTOCOLS = ("present", "full")
LARGEST = 1e30  # of a limit; sums of such are still finite
Name = Annotated[str, Len(1, 500), Predicate(str.isprintable)]  # short, and a terminal shows it as it is


@dataclass(frozen=True, slots=True)
class Modality:
    """One sensor stream as the model sees it.

    Attributes:
        name: unique name of the stream.
        rate_hz: sampling rate [Hz]; 0 for a static modality.
        length: time steps in a window, `T`; 1 for a static modality.
        channels: names of its columns, `C` of them.
        may_miss: single values may be NaN ("not measured") while the sensor is present.
    """

    name: Name
    rate_hz: Annotated[float, Interval(ge=0, le=1e7)]
    length: Annotated[int, Interval(ge=1, le=10**6)]
    channels: Annotated[tuple[Name, ...], Len(1, 4096)]
    may_miss: bool = False

    @property
    def n_channels(self) -> int:
        """Number of columns, `C`."""
        return len(self.channels)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Modality:
        """Rebuild from `dataclasses.asdict`."""
        return cls(**{**data, "channels": tuple(data["channels"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Upper limits for one inference; `None` means "no limit". Several at once all hold.

    Attributes:
        ratio: share of the prunable MACs to remove, `0 <= ratio <= 1`; at 1 no layer runs and the readout
            answers alone.
        macs: multiply-accumulates of one window [MAC], everything that runs counted.
        latency_ms: 95th percentile of one window, batch 1 [ms]; needs a device profile.
        memory_mb: weights of the sub-network [MB, 1 MB = 10**6 bytes].
        energy_mj: energy of one window above idle [mJ]; needs a device profile.
        protocol: what `ratio` refers to: "present", the prunable MACs of what runs with the sensors
            present; "full", those of the model with all sensors, so branches of absent sensors count
            as savings already.
    """

    ratio: float | None = None
    macs: int | None = None
    latency_ms: float | None = None
    memory_mb: float | None = None
    energy_mj: float | None = None
    protocol: str = "present"

    def __post_init__(self) -> None:
        """Refuse limits that mean nothing."""
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"protocol {self.protocol!r} is unknown; choose one of {', '.join(PROTOCOLS)}")
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "protocol" or value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ConfigError(
                    f"{item.name} must be a number, got {value!r:.40} ({type(value).__name__}); give for "
                    f"example {item.name}={'0.6' if item.name == 'ratio' else '5'}"
                )
        if self.ratio is not None and not 0 <= self.ratio <= 1:
            raise BudgetError(
                f"ratio {self.ratio!r:.40} is outside 0 <= ratio <= 1; it is the share of the prunable MACs "
                "to remove, so give for example 0.6"
            )
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("ratio", "protocol") or value is None:
                continue
            if not 0 < value <= LARGEST:
                raise BudgetError(
                    f"{item.name} must be a positive number up to {LARGEST:g}, got {value!r:.40}"
                )

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by name."""
        found = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "protocol"}
        return {name: limit for name, limit in found.items() if limit is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one window costs.

    Attributes:
        macs: multiply-accumulates, everything that runs [MAC]; 1 FLOP count = 2 MAC.
        prunable_macs: the part spent in heads and FFN channels [MAC].
        params: weights held by what runs.
        weights_mb: those weights as float32 [MB].
    """

    macs: int
    prunable_macs: int
    params: int
    weights_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A frozen decision: which units stay, per block, for these sensors and this budget.

    Attributes:
        present: names of the sensors that are on, in the model's order.
        kept: block name -> indices of the units that stay, ascending; only blocks that run.
        budget: what was asked.
        scorer: who ranked the units.
        cost: of the sub-network.
        dense: cost with every unit of the blocks that run.
        binding: the limit that decided, or "none".
    """

    present: tuple[str, ...]
    kept: Mapping[str, tuple[int, ...]]
    budget: Budget
    scorer: str
    cost: Cost
    dense: Cost
    binding: str = "none"

    @property
    def plan_id(self) -> str:
        """Short digest of what runs: equal for equal sub-networks."""
        body = json.dumps([self.present, sorted((k, list(v)) for k, v in self.kept.items())])
        return hashlib.sha256(body.encode()).hexdigest()[:12]

    @property
    def readout_alone(self) -> bool:
        """Whether no layer runs and the readout beside the transformer answers alone."""
        return not self.kept

    def is_nested_in(self, larger: Plan) -> bool:
        """Whether every unit kept here is kept by `larger` as well."""
        return all(set(units) <= set(larger.kept.get(name, ())) for name, units in self.kept.items())

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `json.dumps`; `from_json` reads it back."""
        return {
            "plan_id": self.plan_id,
            "present": list(self.present),
            "kept": {name: list(units) for name, units in self.kept.items()},
            "budget": asdict(self.budget),
            "scorer": self.scorer,
            "cost": asdict(self.cost),
            "dense": asdict(self.dense),
            "binding": self.binding,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Rebuild from `to_json`."""
        return cls(
            present=tuple(data["present"]),
            kept={name: tuple(units) for name, units in data["kept"].items()},
            budget=Budget(**data["budget"]),
            scorer=data["scorer"],
            cost=Cost(**data["cost"]),
            dense=Cost(**data["dense"]),
            binding=data["binding"],
        )


def check_present(present: Iterable[str] | None, names: Iterable[str]) -> tuple[str, ...]:
    """Put sensor names into the model's order and refuse unknown ones.

    Args:
        present: names of the sensors that are on; `None` means all.
        names: every modality of the model, in order.

    Returns:
        The present names, in the model's order.

    Raises:
        ConfigError: a name the model does not know.
        NoSensorsError: no name at all.
    """
    names = tuple(names)
    if present is None:
        return names
    if isinstance(present, str):
        present = (present,)
    asked = set(present)
    unknown = sorted(asked - set(names))
    if unknown:
        raise ConfigError(
            f"unknown sensor {', '.join(unknown)}; this model has {', '.join(names)}; use those names"
        )
    if not asked:
        raise NoSensorsError(f"no sensor is present; this model has {', '.join(names)}; name at least one")
    return tuple(name for name in names if name in asked)


def sensor_label(present: Sequence[str], names: Sequence[str]) -> str:
    """Say a set of sensors in few words: all, without one or two, or the names that are on.

    Args:
        present: names of the sensors that are on.
        names: every modality of the model, in order.
    """
    missing = [name for name in names if name not in present]
    if not missing:
        return "all sensors"
    if len(missing) <= 2 and len(present) > 1:
        return "without " + ", ".join(missing)
    return ("only " if len(present) == 1 else "") + ", ".join(present)
