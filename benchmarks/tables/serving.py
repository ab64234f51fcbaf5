"""What serving costs beside the runtime."""

from __future__ import annotations

from statistics import median

from tables.rows import result, table

WAYS = {"not served": "not served", "served": "served, nobody there", "20 clients": "served, 20 who follow"}


def serving_table() -> str:
    """Share of a core and delay of the windows, one row for each way and pace."""
    made = []
    for pace, found in sorted((result("serving.json") or {}).items()):
        for way, label in WAYS.items():
            shares = [100 * share for share in found["core_share"][way]]
            delay = found["delay_ms"][way]
            made.append(
                [
                    pace,
                    label,
                    f"{median(shares):.1f} ({min(shares):.1f} to {max(shares):.1f})",
                    "" if way == "not served" else f"{100 * found['added'][way]:+.1f}",
                    f"{delay['p50']:.1f} / {delay['p99']:.1f}",
                ]
            )
    heads = ["windows", "", "command [% of a core]", "added by serving", "delay of a window, p50 / p99 [ms]"]
    return table(heads, made)
