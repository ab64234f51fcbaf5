"""A table from what is left to a budget, as a user writes it.

    100%:ratio=0, 50%:ratio=0.4, 20%:ratio=0.8

says: prune nothing at first, 40 % once the charge is at or below half, 80 % at or below a fifth. Written
`20%/25%` a level is left again at 25 %; without that, three points of a hundred (a tenth of a limit in
watts) above where it began, or half the way to the level above where that is less.
`15W:ratio=0,8W:ratio=0.6` follows a limit on power that a trace or a callback tells.

A file says the same, and more, in JSON:

    {"format": 1, "watch": "charge", "dwell_s": 30, "lost_after_s": 120,
     "levels": [{"budget": {"ratio": 0}},
                {"at": 0.5, "back_at": 0.55, "budget": {"ratio": 0.4}},
                {"at": 0.2, "budget": {"ratio": 0.8, "latency_ms": 4}}]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from sentryfuse.errors import ConfigError, InputError
from sentryfuse.files import read_json
from sentryfuse.types import Budget

FORMAT = 1
DWELL_S = 30.0
LOST_AFTER_S = 120.0
Watch = Literal["charge", "cap_w"]
_BAND = {"charge": 0.03, "cap_w": 0.1}  # share of a full battery; share of the threshold
_MAX_LEVELS = 100
_LIMITS = tuple(item.name for item in fields(Budget) if item.name != "protocol")
_NAMES = ("format", "watch", "dwell_s", "lost_after_s", "levels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One row of the table.

    Attributes:
        at: taken when what is left is at or below this; infinite for the first level. A share 0..1 for
            a charge, [W] for a limit on power.
        back_at: left for the level above when what is left is at or above this; more than `at`.
        budget: what one inference may take.
    """

    at: float
    back_at: float
    budget: Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is left -> budget, with two thresholds per level and a dwell time.

    Attributes:
        watch: what is looked at: "charge", or "cap_w", what may be drawn. Power drawn is not offered:
            it falls as soon as the budget does, so following it would swing for ever.
        levels: from the most generous to the most careful; thresholds fall, limits never loosen.
        dwell_s: no two changes are closer than this [s], > 0.
        lost_after_s: without a good reading for so long, the most careful level is taken [s], > 0.
    """

    watch: Watch
    levels: tuple[Level, ...]
    dwell_s: float = DWELL_S
    lost_after_s: float = LOST_AFTER_S

    def __post_init__(self) -> None:
        """Refuse a table that would flap or mean nothing."""
        if self.watch not in _BAND:
            raise ConfigError(f"a policy cannot watch {self.watch!r}; choose one of {', '.join(_BAND)}")
        for name in ("dwell_s", "lost_after_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"policy: {name} must be a positive time, got {getattr(self, name)}")
        if not 1 <= len(self.levels) <= _MAX_LEVELS:
            raise ConfigError(
                f"a policy has {len(self.levels)} levels; give 1 to {_MAX_LEVELS}, for example "
                "100%:ratio=0,50%:ratio=0.4"
            )
        if self.levels[0].at != math.inf:
            raise ConfigError("policy: the first level holds above all others, so it has no threshold")
        for above, level in zip(self.levels, self.levels[1:], strict=False):
            self._check_thresholds(above, level)
            _check_tighter(above.budget, level.budget, self.show(level.at))

    def show(self, left: float) -> str:
        """What is left, with its unit."""
        return f"{100 * left:.4g} %" if self.watch == "charge" else f"{left:.4g} W"

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `json.dumps`; `from_json` reads it back."""
        rows = []
        for i, level in enumerate(self.levels):
            budget = {k: v for k, v in asdict(level.budget).items() if v is not None}
            rows.append(({"at": level.at, "back_at": level.back_at} if i else {}) | {"budget": budget})
        return {
            "format": FORMAT,
            "watch": self.watch,
            "dwell_s": self.dwell_s,
            "lost_after_s": self.lost_after_s,
            "levels": rows,
        }

    @classmethod
    def from_json(cls, data: Any) -> Policy:
        """Build from what a policy file says.

        Raises:
            ConfigError: an unknown or missing name, a wrong type, or a table that means nothing.
        """
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ConfigError(f"a policy file holds one object with format {FORMAT}; see docs/power.md")
        _check_names("policy", data, _NAMES)
        watch, rows = data.get("watch"), data.get("levels")
        if watch not in tuple(_BAND):  # also where it cannot be hashed
            raise ConfigError(f"a policy cannot watch {watch!r}; choose one of {', '.join(_BAND)}")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ConfigError("policy: levels must be a list of objects; see docs/power.md")
        for i, row in enumerate(rows):
            _check_names(f"policy level {i}", row, ("at", "back_at", "budget") if i else ("budget",))
        given = [
            (
                _number(row.get("at"), "at") if i else math.inf,
                _number(row["back_at"], "back_at") if "back_at" in row else None,
                _budget(row.get("budget")),
            )
            for i, row in enumerate(rows)
        ]
        times = {name: _number(data[name], name) for name in ("dwell_s", "lost_after_s") if name in data}
        return cls(watch=watch, levels=_levels(watch, given), **times)

    def _check_thresholds(self, above: Level, level: Level) -> None:
        top = 1.0 if self.watch == "charge" else math.inf
        if not 0 < level.at < min(above.at, top):
            raise ConfigError(
                f"policy: the level at {self.show(level.at)} must lie below the one before it and above 0; "
                "write levels from the fullest to the emptiest"
            )
        if not level.at < level.back_at <= min(above.at, top):
            raise ConfigError(
                f"policy: the level at {self.show(level.at)} is left at {self.show(level.back_at)}; that "
                "must be above its own threshold and not above that of the level before it"
            )


def read_policy(source: str | Path) -> Policy:
    """A policy from a short text or from a JSON file.

    Args:
        source: such as "100%:ratio=0,50%:ratio=0.4;dwell_s=30" (several limits of a level are joined by
            +, times follow after ;), or the name of a file that ends in .json.

    Raises:
        ConfigError: it cannot be read as a policy; in one sentence.
    """
    if isinstance(source, Path) or source.lower().endswith(".json"):
        try:
            return Policy.from_json(read_json(source))
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
        except InputError as error:
            raise ConfigError(str(error)) from error
    return _from_text(source)


def _from_text(text: str) -> Policy:
    table, *options = text.split(";")
    times = {}
    for option in options:
        name, equals, value = (part.strip() for part in option.partition("="))
        if name not in ("dwell_s", "lost_after_s") or not equals:
            raise ConfigError(
                f"policy: {option.strip()!r} is not one of dwell_s=SECONDS, lost_after_s=SECONDS"
            )
        times[name] = _parsed(value, name)
    given = []
    watch: Watch | None = None
    for part in table.split(","):
        where, colon, limits = (word.strip() for word in part.partition(":"))
        if not colon:
            raise ConfigError(
                f"policy: {part.strip()!r} is not THRESHOLD:LIMIT=NUMBER, such as 50%:ratio=0.4 or "
                "8W:ratio=0.6"
            )
        at, slash, back_at = (word.strip() for word in where.partition("/"))
        unit, threshold = _threshold(at)
        back_unit, back = _threshold(back_at) if slash else (unit, None)
        if {unit, back_unit} != {watch or unit}:
            raise ConfigError(f"policy: {where!r} mixes % and W; a policy watches one of them")
        watch = unit
        given.append((threshold, back, _budget(_limits(limits))))
    assert watch is not None  # a text has at least one part
    if watch == "charge" and given[0][0] != 1.0:
        raise ConfigError(f"policy: the first level must begin at 100%, not at {100 * given[0][0]:g} %")
    if given[0][1] is not None:
        raise ConfigError("policy: the first level holds above all others; it is left at no threshold")
    given[0] = (math.inf, None, given[0][2])
    return Policy(watch=watch, levels=_levels(watch, given), **times)


def _levels(watch: Watch, given: Sequence[tuple[float, float | None, Budget]]) -> tuple[Level, ...]:
    """Levels with every second threshold filled in."""
    levels: list[Level] = []
    for at, back_at, budget in given:
        if back_at is None and levels:
            top = min(levels[-1].at, 1.0 if watch == "charge" else math.inf)
            band = _BAND[watch] * (1.0 if watch == "charge" else at)
            back_at = min(at + band, (at + top) / 2)
        levels.append(Level(at=at, back_at=math.inf if back_at is None else back_at, budget=budget))
    return tuple(levels)


def _threshold(text: str) -> tuple[Watch, float]:
    if text.endswith("%"):
        return "charge", _parsed(text[:-1], "threshold") / 100
    if text.endswith("W"):
        return "cap_w", _parsed(text[:-1], "threshold")
    raise ConfigError(f"policy: threshold {text!r} has no unit; write 50% for a charge or 8W for a power")


def _limits(text: str) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for part in text.split("+"):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or name in limits:
            raise ConfigError(f"policy: {text!r} is not LIMIT=NUMBER, or several joined by +")
        limits[name] = value if name == "protocol" else _parsed(value, name)
    return limits


def _budget(data: Any) -> Budget:
    if not isinstance(data, dict):
        raise ConfigError("policy: every level needs a budget, such as ratio=0.4")
    _check_names("policy budget", data, (*_LIMITS, "protocol"))
    limits: dict[str, Any] = {
        name: value if name == "protocol" else _number(value, name) for name, value in data.items()
    }
    if "macs" in limits:
        if not float(limits["macs"]).is_integer():
            raise ConfigError(f"policy: macs must be a whole number, got {limits['macs']}")
        limits["macs"] = int(limits["macs"])
    try:
        return Budget(**limits)
    except InputError as error:
        raise ConfigError(f"policy: {error}") from error


def _check_tighter(above: Budget, below: Budget, where: str) -> None:
    """A lower level may not allow more than the one above it."""
    if above.protocol != below.protocol:
        raise ConfigError(f"policy: the level at {where} changes the protocol; use one in all levels")
    for name in _LIMITS:
        was, now = getattr(above, name), getattr(below, name)
        if was is None:
            continue
        if now is None or (now < was if name == "ratio" else now > was):
            raise ConfigError(
                f"policy: the level at {where} has a looser {name} than the level before it; "
                "a lower level must be at least as careful"
            )


def _check_names(what: str, data: Mapping[Any, Any], names: Sequence[str]) -> None:
    unknown = sorted(str(name) for name in data.keys() - set(names))
    if unknown:
        raise ConfigError(f"{what}: unknown name {unknown[0]!r}; choose of {', '.join(names)}")


def _parsed(text: str, name: str) -> float:
    try:
        return _number(float(text), name)
    except ValueError:
        raise ConfigError(f"policy: {name} must be a number, got {text[:20]!r}") from None


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ConfigError(f"policy: {name} must be a number, got {str(value)[:20]!r}")
    try:
        return float(value)
    except OverflowError:
        raise ConfigError(f"policy: {name} is far too large") from None
