"""What the caller of `make_windows` said beside the source, as a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sentryfuse.data.windows import Windows
from sentryfuse.errors import ConfigError
from sentryfuse.progress import say
from sentryfuse.recordings.collect import Collector
from sentryfuse.recordings.columns import word
from sentryfuse.recordings.make import cut_and_deal
from sentryfuse.recordings.recipe import Recipe, check_hop, make_recipe
from sentryfuse.recordings.samples import Storage

Unit = Literal["s", "ms", "us", "ns", "iso"]
Rates = float | Mapping[str, float]


@dataclass(frozen=True)
class Asked:
    """What the caller said beside the source."""

    rate_hz: Rates | None
    time: Any
    unit: Unit | None
    label: Any
    subject: Any
    sensors: Mapping[str, Sequence[str]] | None
    resample: bool
    rules: dict[str, Any]
    split: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the recording."""
        return str(self.rules["name"])

    def rate_of(self, sensor: str) -> float | None:
        """The rate said for a sensor [Hz]."""
        if isinstance(self.rate_hz, Mapping):
            return None if sensor not in self.rate_hz else float(self.rate_hz[sensor])
        return None if self.rate_hz is None else float(self.rate_hz)

    def recipe(self, tables: list[dict[str, Any]], split: Any) -> Recipe:
        """A recipe of these tables and the rules.

        Raises:
            ConfigError: no length of a window.
        """
        if self.rules["window_s"] is None:
            raise ConfigError("window_s is missing; give the length of a window in seconds")
        rules = {key: value for key, value in self.rules.items() if value is not None}
        chosen = dict(self.split)
        if isinstance(split, Mapping):
            chosen |= {str(key): [word(v) for v in values] for key, values in split.items()}
        elif split is not None:
            raise ConfigError(
                "split of recordings is given by subject: {'train': [...], 'validation': [...], 'test': "
                "[...]}"
            )
        recipe = make_recipe({**rules, "split": chosen, "table": tables}, self.name)
        check_hop(recipe)
        return recipe


def finished(collector: Collector, storage: Storage) -> Windows:
    """Windows of what was collected; what was left out is said."""
    store, dealt = cut_and_deal(collector, storage)
    for sentence in collector.counts.sentences():
        say(sentence)
    return store.windows(collector.recipe.name, dealt, licence=collector.recipe.licence or None)
