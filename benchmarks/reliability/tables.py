"""Tables of the parts of the campaign in which streams are answered: switches, soak, faults, outage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from sentryfuse.report import markdown_table

Row = dict[str, Any]


def switches(found: Row) -> str:
    """What was answered, and what must be 0."""
    tally, memory, done = found["tally"], found["resident_mb"], found["done"]
    rows = [
        ("switches seen in the answers", f"{done:,}"),
        ("windows", f"{tally['windows']:,}"),
        ("sub-networks that answered", f"{found['plans']:,}"),
        ("built anew, as they were no longer kept", f"{tally['built']:,}"),
        ("STALE, not ready in time: the answer before, again", f"{tally.get('STALE', 0):,}"),
        ("REFUSED, no live sensor", f"{tally.get('REFUSED', 0):,}"),
        *((f"**{what}**", f"{n:,}") for what, n in found["wrong"].items()),
        ("upper bound of each of these in a million switches, 95 %", f"{3e6 / done:,.0f}"),
        ("resident memory after one block [MB]", f"{memory['after one block']:.1f}"),
        ("at the end [MB]", f"{memory['at the end']:.1f}"),
        (
            "growth in 100,000 switches, second half [MB]",
            f"{memory['per 100,000 switches, second half']:+.2f}",
        ),
    ]
    return table(("what", "found"), rows)


def soak(found: Row) -> str:
    """Some of the minutes, and what must be 0."""
    minutes = found["minutes"]
    chosen = sorted({round(k * (len(minutes) - 1) / 6) for k in range(7)})
    rows = [
        (
            f"{k + 1}",
            f"{minutes[k]['windows']:,}",
            f"{minutes[k]['resident_mb']:.1f}",
            str(minutes[k]["open_files"]),
            str(minutes[k]["threads"]),
            *(_times(minutes[k][name]) for name in ("latency_ms", "delay_ms")),
        )
        for k in chosen
    ]
    heads = ("minute", "windows", "resident [MB]", "open files", "threads", "latency p50 / p99 [ms]")
    statuses = ", ".join(f"{n:,} {status}" for status, n in sorted(found["statuses"].items()))
    facts = [
        ("windows", f"{found['windows']:,} ({statuses})"),
        ("switches", f"{found['events'].get('switch', 0):,}"),
        ("budgets", f"{found['events'].get('budget', 0):,}"),
        ("memory, slope of the second half [MB an hour]", f"{found['slope_mb_per_hour']:+.2f}"),
        ("latency, median of the minutes, p50 / p99 [ms]", _median(minutes, "latency_ms")),
        ("from cut to answer, the same [ms]", _median(minutes, "delay_ms")),
        *((f"**{what}**", f"{n:,}") for what, n in found["wrong"].items()),
    ]
    return f"{table((*heads, 'cut to answer p50 / p99 [ms]'), rows)}\n\n{table(('what', 'found'), facts)}"


def faults(found: Row) -> str:
    """One row per fault and strength."""
    heads = ("fault", "what is injected", "what must come of it", "trials", "noticed", "after p50 / max [s]")
    rows = []
    for row in found["rows"].values():
        after, measured, limit = row["after_s"], row["measured"], row["limit_s"]
        rows.append(
            (
                row["fault"],
                row["what"],
                row["wanted"],
                f"{row['trials']:,}",
                f"{row['noticed']:,} of {row['to notice']:,}" if row["to notice"] else "",
                f"{after['p50']:.2f} / {after['max']:.2f}" if after else "",
                f"{limit:.2f}" if limit is not None else "",
                f"{row['wrong']:,}",
                ", ".join(f"{name} {_of(name, value)}" for name, value in measured.items()),
            )
        )
    return table((*heads, "limit [s]", "wrong", "measured"), rows)


def outage(found: Row) -> str:
    """The outage and the chaos side by side."""
    parts = [found[name] for name in ("outage", "chaos") if name in found]
    rows = [
        ("minutes", *(f"{part['seconds'] / 60:.1f}" for part in parts)),
        ("broker killed for [s]", *(_number(part.get("away_s")) for part in parts)),
        ("kills and starts", *(_counts(part.get("kills", {})) for part in parts)),
        ("messages", *(_counts(part.get("messages", {})) for part in parts)),
        ("windows", *(f"{part['windows']:,} ({_counts(part['statuses'])})" for part in parts)),
        ("of these decided by what was sent alone", *(f"{part['windows_judged']:,}" for part in parts)),
        ("broker lost, back (events)", *(_lost_and_back(part["events"]) for part in parts)),
        ("sensor silent after [s] (limit)", *(_silent(part) for part in parts)),
        ("back after return of the broker [s]", *(_back(part.get("back", {})) for part in parts)),
        ("pauses of the machine [s]", *(_number(part["paused_s"]) for part in parts)),
    ]
    wrong = dict.fromkeys(what for part in parts for what in part["wrong"])
    rows += [(f"**{what}**", *(f"{p['wrong'].get(what, 0):,}" for p in parts)) for what in wrong]
    return table(("what", "outage", "chaos")[: len(parts) + 1], rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table from lists."""
    made = markdown_table([dict(zip(heads, row, strict=True)) for row in rows], heads)
    return made.rstrip("\n")


def _times(times: Mapping[str, float]) -> str:
    return f"{times['p50']:.2f} / {times['p99']:.2f}" if times else ""


def _median(minutes: list[dict[str, Any]], name: str) -> str:
    known = [minute[name] for minute in minutes if minute[name]]
    return _times({q: median(times[q] for times in known) for q in ("p50", "p99")}) if known else ""


def _of(name: str, value: float) -> str:
    """Shares in percent; numbers of what is counted as they are."""
    shares = ("accuracy", "answers", "answered", "readings")
    return f"{100 * value:.1f} %" if name.startswith(shares) else f"{value:.3g}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items())


def _lost_and_back(events: Mapping[str, int]) -> str:
    return f"{events.get('source_lost', 0)}, {events.get('source_back', 0)}"


def _silent(part: Row) -> str:
    limits = part.get("limit_s", {})
    return ", ".join(f"{name} {s:.2f} ({limits[name]:.2f})" for name, s in part.get("absent", {}).items())


def _back(back: Mapping[str, float | None]) -> str:
    return ", ".join(f"{n.replace('_', ' ')} {_number(s) or 'never'}" for n, s in back.items())
