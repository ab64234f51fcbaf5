"""What a sub-network takes on one device: a file of measured times, and the formula that uses it.

A sub-network is described by a handful of features (steps, tokens, MACs by kind of layer); a profile holds
the milliseconds of one unit of each, fitted to sub-networks that were timed on the device. Torch-free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sentryfuse.errors import ConfigError
from sentryfuse.files import read_json, write_json
from sentryfuse.planning.layout import Layout, Span, Step

FORMAT = 1
LONGEST_MS = 1e9  # of one unit of a feature
MOST_FEATURES = 10_000
OF_LAYER = 0.5  # share of a layer that one of its two blocks is
Kept = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class DeviceProfile:
    """Times of one device, engine and number of threads.

    Attributes:
        engine: that was timed.
        threads: of the engine.
        ms_per: feature -> milliseconds per unit of it, >= 0; see `features`.
        p95_factor: measured 95th percentile of a window over the fitted median, middle of the plans timed.
        safe_factor: the same, exceeded by 5 % of the plans timed; budgets are held with it.
        cold_switch_ms: median of slicing and building a sub-network [ms].
        rss_mb: resident memory of a process with one dense session [MB].
        sparse_from: shortest length at which the sparse attention core is as fast as the dense one [tokens];
            `None` where the model has one core only.
        mj_per_ms: what a millisecond of work takes above idle [mJ/ms = W]; `None` without a figure.
        energy: where that figure is from: label, scope, spread; or why there is none.
        about: device, versions, spread, date of the measurement.
    """

    engine: str
    threads: int
    ms_per: Mapping[str, float]
    p95_factor: float
    safe_factor: float
    cold_switch_ms: float
    rss_mb: float | None
    sparse_from: int | None
    mj_per_ms: float | None
    energy: Mapping[str, Any]
    about: Mapping[str, Any]

    def median_ms(self, layout: Layout, present: Iterable[str] | None, kept: Kept | None = None) -> float:
        """Expected median time of one window [ms].

        Args:
            layout: of the model.
            present: names of the sensors that are on; `None` means all.
            kept: block name -> kept units; an absent name means all of that block's.

        Raises:
            ConfigError: the model has a kind of step that was not timed.
        """
        found = features(layout, present, kept)
        missing = sorted(found.keys() - self.ms_per.keys())
        if missing:
            raise ConfigError(
                f"the profile has no time for {missing[0]!r}; profile a bundle of this model on the device"
            )
        return sum(amount * self.ms_per[name] for name, amount in found.items())

    def readout_ms(self, present: Iterable[str]) -> float | None:
        """Expected median time of the readout alone [ms]; `None` where it was not timed for these sensors."""
        found = readout_features(present)
        if not found.keys() <= self.ms_per.keys():
            return None
        return sum(amount * self.ms_per[name] for name, amount in found.items())

    def p95_ms(self, layout: Layout, present: Iterable[str] | None, kept: Kept | None = None) -> float:
        """Expected 95th percentile of one window [ms]; arguments as in `median_ms`."""
        return self.p95_factor * self.median_ms(layout, present, kept)

    def energy_mj(
        self, layout: Layout, present: Iterable[str] | None, kept: Kept | None = None
    ) -> float | None:
        """Expected energy of one window above idle [mJ], `None` without a figure; arguments: `median_ms`.

        Source:
            Power of work is taken to be the same for all sub-networks, so that energy goes with time; our
            choice, and why such a number is modelled even where the meter was not.
        """
        return None if self.mj_per_ms is None else self.mj_per_ms * self.median_ms(layout, present, kept)

    def ms_per_mac(self, layout: Layout, step: Step, span: Span, kind: str) -> float:
        """Time a removed MAC of a layer saves, at the factor that holds budgets [ms].

        Args:
            layout: of the model.
            step: the layer.
            span: its tokens.
            kind: of the block inside, "heads" or "ffn".
        """
        return self.safe_factor * self.ms_per.get(f"{_kind_of(layout, step, span)} {kind}", 0.0) / 1e6

    def ms_per_block(self, layout: Layout, step: Step, span: Span) -> float:
        """Time beside its MACs that goes with a block's last unit, at the factor that holds budgets [ms].

        Args:
            layout: of the model.
            step: the layer.
            span: its tokens.
        """
        kind = _kind_of(layout, step, span)
        tokens = span.leaving * layout.d_model / 1e6
        per_layer = self.ms_per.get(f"{kind} steps", 0.0) + tokens * self.ms_per.get(f"{kind} tokens", 0.0)
        return self.safe_factor * OF_LAYER * per_layer

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON, under a temporary name first."""
        write_json(Path(path), self.to_json())

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `json.dumps`."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def load(cls, path: str | Path) -> DeviceProfile:
        """Read what `save` wrote.

        Raises:
            ConfigError: not a profile, of another version, or with numbers that mean nothing.
        """
        data = read_json(Path(path))
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ConfigError(
                f"{path} is not a device profile of format {FORMAT}; write one with `sentryfuse profile`"
            )
        missing = [key for key in cls.__dataclass_fields__ if key not in data]
        if missing:
            raise ConfigError(f"{path} is a damaged profile (it lacks {missing[0]}); measure it again")
        body = {key: data[key] for key in cls.__dataclass_fields__}
        wrong = [(key, value) for key, value in body.items() if not _KINDS[key](value)]
        if not wrong:
            wrong = [
                (f"ms_per {name!a:.60}", value) for name, value in body["ms_per"].items() if not _TIME(value)
            ]
        for what, value in wrong:
            told = ascii(value) if _is_short(value) else "something else"
            raise ConfigError(
                f"{path} is a damaged profile ({what} is {told}, which it cannot be); measure it again"
            )
        return cls(**body)


def _is_short(value: object) -> bool:
    """Whether something can be told in a sentence; thousands of digits are not even made text."""
    if isinstance(value, int):
        return abs(value) < 10**30
    return not isinstance(value, dict | list) and len(repr(value)) <= 40


def _within(least: float, most: float, *, none: bool = False, whole: bool = False) -> Callable[[Any], bool]:
    """A test for a number, not a truth value, in a range; NaN is in none."""

    def fits(value: Any) -> bool:
        if value is None:
            return none
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            return False
        return least <= value <= most

    return fits


_TIME = _within(0, LONGEST_MS)
_FACTOR = _within(1e-3, 1e3)
_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "engine": lambda value: isinstance(value, str) and len(value) <= 500 and value.isprintable(),
    "threads": _within(1, 1024, whole=True),
    "ms_per": lambda value: isinstance(value, dict) and len(value) <= MOST_FEATURES,
    "p95_factor": _FACTOR,
    "safe_factor": _FACTOR,
    "cold_switch_ms": _TIME,
    "rss_mb": _within(0, 1e9, none=True),
    "sparse_from": _within(2, 10**9, none=True, whole=True),
    "mj_per_ms": _within(1e-12, 1e3, none=True),
    "energy": lambda value: isinstance(value, dict),
    "about": lambda value: isinstance(value, dict),
}


def features(layout: Layout, present: Iterable[str] | None, kept: Kept | None = None) -> dict[str, float]:
    """What of a sub-network takes time, by name; arguments as in `DeviceProfile.median_ms`.

    Returns:
        `session` (1), `embed <name>` (1), `join` (steps without arithmetic of their own), `head` (1), and
        for every kind of layer its steps, tokens [million values], and MACs of heads and FFN [million]. A
        layer that has lost one of its two blocks counts half.
    """
    spans = layout.spans(present)
    found: dict[str, float] = {"session": 1.0}

    def add(name: str, amount: float) -> None:
        found[name] = found.get(name, 0.0) + amount

    for step in layout.route(present):
        span = spans[step.name]
        if step.window:
            add(f"embed {step.window}", 1)
        elif not step.blocks:
            add("head" if step.writes == "logits" else "join", 1)
        else:
            kind = _kind_of(layout, step, span)
            for block in step.blocks:
                units = None if kept is None else kept.get(block.name)
                if units is not None and not len(units):
                    continue
                add(f"{kind} steps", OF_LAYER)
                add(f"{kind} tokens", OF_LAYER * span.leaving * layout.d_model / 1e6)
                macs = block.macs(layout.d_model, layout.attention, span, units)
                add(f"{kind} {block.kind}", macs / 1e6)
    return found


def readout_features(present: Iterable[str]) -> dict[str, float]:
    """What takes time where the readout answers alone, by name: itself, and each sensor's statistics."""
    return {"readout": 1.0, **{f"readout {name}": 1.0 for name in present}}


def _kind_of(layout: Layout, step: Step, span: Span) -> str:
    """Layers whose work takes its time in the same way."""
    sparse = layout.attention.picks(span.entering, span.source) is not None
    cross = " cross" if len(step.reads) > 1 else ""
    experts = " experts" if any(block.active for block in step.blocks) else ""
    return f"{'sparse' if sparse else 'dense'}{cross}{experts} layer"
