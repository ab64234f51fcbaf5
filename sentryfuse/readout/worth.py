"""Whether the transformer earns its cost beside the readout, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAYS = 0.005  # accuracy, R2 or mean average precision; less is no reason to run layers


def worth(about: Mapping[str, Any], readout_macs: int | None) -> str | None:
    """What validation people say of a model with a readout; `None` where nobody was asked.

    Args:
        about: of the model, with "out_of_person" as `fit_mixture` gives it.
        readout_macs: of the readout alone with all sensors [MAC]; `None` without a readout.

    Returns:
        One sentence for the card, the command line and the report.
    """
    found = about.get("out_of_person")
    if not found or readout_macs is None:
        return None
    alone, both = found["readout"], found["both"]
    people = f"{found['people']} validation people"
    if found.get("measure", "accuracy") != "accuracy":
        return _of_numbers(found, people, readout_macs)
    if found["people"] < 2:
        return (
            f"one validation person cannot tell whether the transformer adds to the statistics "
            f"({100 * alone:.1f} % alone, {100 * both:.1f} % with it)"
        )
    if both - alone < PAYS:
        return (
            f"on this recording the statistics alone are as good ({100 * alone:.1f} % against "
            f"{100 * both:.1f} % with the transformer, {people}); deploy with --ratio 1 at "
            f"{readout_macs / 1e6:.2g} MMAC"
        )
    return (
        f"the transformer adds {100 * (both - alone):.1f} points to the statistics ({100 * alone:.1f} % "
        f"alone, {100 * both:.1f} % with it, {people})"
    )


def _of_numbers(found: Mapping[str, Any], people: str, readout_macs: int) -> str:
    """The same by R2 or mean average precision."""
    alone, both = found["readout"], found["both"]
    word = {"r2": "R2", "map": "mean average precision"}[found["measure"]]
    figures = f"{word} {alone:.3f} alone, {both:.3f} with the transformer"
    if found["people"] < 2:
        return f"one validation person cannot tell whether the transformer adds to the statistics ({figures})"
    if both - alone < PAYS:
        return (
            f"on this recording the statistics alone are as good ({figures}, {people}); "
            f"deploy with --ratio 1 at {readout_macs / 1e6:.2g} MMAC"
        )
    return f"the transformer adds {both - alone:.3f} to the statistics ({figures}, {people})"
