"""When a sensor may be used: the rules, the verdicts, and how a sensor comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from sentryfuse.errors import ConfigError, InputError
from sentryfuse.files import read_json

_MOST = 1e15  # of a number in a rule; more is written by mistake


class Verdict(StrEnum):
    """Why a sensor is used for a window or not. Only `OK` is used."""

    OK = "ok"
    NEVER_SEEN = "never seen"
    UNREADABLE = "unreadable"
    SILENT = "silent"
    CLOCK = "clock"
    GAP = "gap"
    RATE = "rate"
    NAN = "nan"
    STUCK = "stuck"
    RANGE = "range"
    RECOVERING = "recovering"
    DROPPED = "dropped"
    OFF = "off"


@dataclass(frozen=True, kw_only=True)
class HealthRules:
    """What a sensor may do and still be used. The defaults hold on the recordings we know.

    Attributes:
        silent_s: a sensor is silent when nothing came for so long [s], for two sample periods or
            for twice what its packets span, whichever is longest.
        max_gap: share of a window that may be lacking, `0 <= max_gap < 1`; the holes are filled
            from their neighbours, or left NaN for sensors that may miss values.
        stuck_samples: so many equal samples in a row (all channels) are stuck, 2 or more; the whole
            window where it is shorter, and never less than `max_gap` of it.
        stuck_samples_of: modality -> another number, taken as it is; 0 = never stuck.
        stuck_channel_s: one channel that used to move and stands still for so long, while others of its
            sensor move, is stuck as well [s]; 0 = never. Of people at rest single axes of a real recording
            stand still for two minutes and more.
        slow_hz: sensors sampled at most so often may stand still and are never stuck [Hz].
        range_stds: values so many training standard deviations from the training mean are out of
            range and clipped to it, where the scale is known.
        max_clipped: share of the values of a window that may be clipped; above, it is not used.
        rate_tolerance: share by which the true rate may differ from the nominal one.
        clock_tolerance_s: a sensor's clock may jump by so much and be realigned [s]; above, the
            sensor is absent until its clock has been the same for a while.
        good_windows: so many good windows in a row bring an absent sensor back; the very first
            good window of a sensor counts at once.
        hold_off_windows: at most one return in so many windows.
        alone_good_windows: so many good windows bring sensors back where no other is left, as after the loss
            of the whole transport, and no hold-off applies: there is no sub-network to swing to and fro.
    """

    silent_s: float = 0.02
    max_gap: float = 0.2
    stuck_samples: int = 100
    stuck_samples_of: Mapping[str, int] = field(default_factory=dict)
    stuck_channel_s: float = 300.0
    slow_hz: float = 1.0
    range_stds: float = 20.0
    max_clipped: float = 0.05
    rate_tolerance: float = 0.1
    clock_tolerance_s: float = 0.5
    good_windows: int = 3
    hold_off_windows: int = 10
    alone_good_windows: int = 1

    def __post_init__(self) -> None:
        """Refuse rules that mean nothing."""
        below_one = ("max_gap", "max_clipped", "rate_tolerance")
        smallest = {"stuck_samples": 2, "good_windows": 1, "alone_good_windows": 1, "range_stds": 1.0}
        for item in fields(self):
            if item.name == "stuck_samples_of":
                continue
            value, least = getattr(self, item.name), smallest.get(item.name, 0)
            if not least <= value <= _MOST:  # NaN as well
                raise ConfigError(f"{item.name} must be a number of {least} or more, not {value!s:.40}")
            if item.name in below_one and value >= 1:
                raise ConfigError(f"{item.name} {value} is a share and must be below 1; give for example 0.2")
        for name, number in self.stuck_samples_of.items():
            if number != 0 and not 2 <= number <= _MOST:
                raise ConfigError(
                    f"stuck_samples_of {name} must be 0 (never) or 2 and more, not {number!s:.40}"
                )

    def stuck_after(self, name: str, rate_hz: float, length: int) -> int:
        """Equal samples in a row that mean stuck, 0 = never.

        Source:
            100 is PX4's rule. Never less than `max_gap` of the window is our choice: wrists lie still
            for seconds, and with 100 alone every ninth 60 s window of a real wrist at 32 Hz would go.
        """
        if name in self.stuck_samples_of:
            return self.stuck_samples_of[name]
        if rate_hz <= self.slow_hz or length < 2:
            return 0
        return min(length, max(self.stuck_samples, math.ceil(self.max_gap * length)))

    def still_after(self, name: str, rate_hz: float, length: int) -> int:
        """Equal samples in a row across windows that mean stuck, 0 = never.

        Source:
            As `stuck_after`, but a window that is shorter than the number does not lower it so far: what
            stands still for one short window by chance ends soon after. Our choice.
        """
        limit = self.stuck_after(name, rate_hz, length)
        if not limit or name in self.stuck_samples_of:
            return limit
        longest = max(self.stuck_samples, math.ceil(self.max_gap * length))
        return min(longest, max(math.ceil(1.5 * length), 64))


def read_rules(source: str) -> HealthRules:
    """Rules from a short text or a JSON file.

    Args:
        source: such as "good_windows=1,max_gap=0.3,stuck_samples_of.temp=0", or the name of a file that
            ends in .json with an object of the same names.

    Raises:
        ConfigError: it cannot be read, or a rule is unknown or means nothing.
    """
    data: dict[str, Any] = {}
    if source.lower().endswith(".json"):
        if not Path(source).is_file():
            raise ConfigError(f"there is no file {source} of health rules; check the name")
        try:
            data = read_json(source)
        except InputError as error:
            raise ConfigError(str(error)) from error
    else:
        for part in source.split(","):
            name, equals, text = (word.strip() for word in part.partition("="))
            try:
                value = float(text)
            except ValueError:
                equals = ""
            if not equals:
                raise ConfigError(
                    f"--health {part.strip()!r} is not NAME=NUMBER; give for example good_windows=1"
                )
            whole, dot, modality = name.partition(".")
            if not dot:
                data[name] = value
            elif isinstance(data.setdefault(whole, {}), dict):
                data[whole][modality] = value
            else:
                raise ConfigError(f"--health says {whole} for all and for {modality}; give one of them")
    known = {item.name: item.default for item in fields(HealthRules)}
    if not isinstance(data, dict) or not data.keys() <= known.keys():
        raise ConfigError(f"{source}: health rules are {', '.join(known)}; give some of these")
    for name, value in data.items():
        if name == "stuck_samples_of" and not isinstance(value, dict):
            raise ConfigError(f"{source}: {name} belongs to a sensor; give for example {name}.acc=200")
        numbers = value.values() if name == "stuck_samples_of" else [value]
        if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
            raise ConfigError(f"{source}: {name} must be a number, got {str(value)[:40]!r}; give one")
    return HealthRules(**data)


class SensorState:
    """Whether one sensor is in use: lost at once, back only after several good windows.

    Attributes:
        lost: how often a sensor in use was lost.
        back: how often it came back.
        absent: windows without it, by verdict.
    """

    def __init__(self, rules: HealthRules) -> None:
        self.lost = self.back = 0
        self.absent: dict[str, int] = {}
        self._rules = rules
        self._present = False
        self._good = 0
        self._used = False
        self._returned: int | None = None  # window of the latest return; the first use is none

    def after(self, window_id: int, verdict: Verdict) -> Verdict:
        """The verdict that counts, once the past is taken into account.

        Args:
            window_id: of this window; rises by one each time.
            verdict: of this window alone.
        """
        self._good = self._good + 1 if verdict is Verdict.OK else 0
        if verdict is Verdict.OK and not self._present:
            if not self._used:
                self._present = self._used = True
            elif self._may_return(window_id):
                self._present, self._returned = True, window_id
                self.back += 1
            else:
                verdict = Verdict.RECOVERING
        elif verdict is not Verdict.OK and self._present:
            self._present = False
            self.lost += 1
        if verdict is not Verdict.OK:
            self.absent[verdict.value] = self.absent.get(verdict.value, 0) + 1
        return verdict

    def after_alone(self, window_id: int) -> Verdict:
        """The verdict of a sensor that was recovering, once it is known that no other sensor is left."""
        if self._good < self._rules.alone_good_windows:
            return Verdict.RECOVERING
        self._present, self._returned = True, window_id
        self.back += 1
        left = self.absent[Verdict.RECOVERING.value] - 1
        self.absent[Verdict.RECOVERING.value] = left
        if not left:
            del self.absent[Verdict.RECOVERING.value]
        return Verdict.OK

    def _may_return(self, window_id: int) -> bool:
        rested = self._returned is None or window_id - self._returned >= self._rules.hold_off_windows
        return rested and self._good >= self._rules.good_windows
