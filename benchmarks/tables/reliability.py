"""docs/reliability.md: a table over the parts of the campaign that have a result, and one for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

from tables.rows import Row, result, table

PARTS = ("corrupt", "fuzz", "kills", "switches", "soak", "faults", "outage", "swaps")
UNTOLD = ("part", "seed", "done", "asked", "seconds", "commit", "machine", "versions")  # told by the overview


def overview() -> str:
    """One row per part that has a result: how many, how long, by which code, and what went wrong."""
    rows = []
    for name in PARTS:
        found = result(f"reliability/{name}.json")
        if found is not None:
            wrong = sum(found.get("wrong", {}).values())
            part = import_module(f"benchmarks.reliability.{name}")
            told = [
                found.get("done"),
                getattr(part, "TOTAL", part.FULL),
                wrong,
                found.get("seconds", 0) / 60,
                found.get("seed"),
                found.get("commit"),
            ]
            rows.append([name, *map(shown, told)])
    return table(("part", "done", "of", "wrong", "minutes", "seed", "commit"), rows) if rows else ""


def of_part(name: str) -> str:
    """The table of one part, its own where it makes one; empty without a result."""
    found = result(f"reliability/{name}.json")
    if found is None:
        return ""
    own: Callable[[Row], str] = getattr(import_module(f"benchmarks.reliability.{name}"), "table", listed)
    return own(found).rstrip("\n")


def listed(found: Row) -> str:
    """Every number of a result, one a row."""
    told = {key: value for key, value in found.items() if key not in UNTOLD}
    return table(("what", "found"), [[name, shown(value)] for name, value in _numbers(told, "")])


def shown(value: Any) -> str:
    """A number as a person reads it; nothing for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    )


def _numbers(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _numbers(value, f"{name}, {key}" if name else str(key))
    elif isinstance(tree, int | float | str):
        yield name, tree


TABLES: dict[str, Callable[[], str]] = {
    "reliability": overview,
    **{f"reliability_{name}": partial(of_part, name) for name in PARTS},
}
