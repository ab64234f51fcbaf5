"""Speed, memory and size: attention, engines, switching, absent sensors, what is installed."""

from __future__ import annotations

import json

from tables.rows import RESULTS, table


def attention_table() -> str:
    """MACs of the presets `paper` under three kinds of attention."""
    path = RESULTS / "attention.json"
    if not path.is_file():
        return ""
    rows = []
    for row in json.loads(path.read_text())["macs"]:
        for key, label in (("active_macs", "as papers count"), ("macs", "as executed")):
            dense, own, ours = (row[k][key] for k in ("dense multi-head", "sparse multi-head", "sentry"))
            if key == "active_macs" or row["sentry"]["active_macs"] != row["sentry"]["macs"]:
                cells = [f"{row['backbone']}, {row['sensors']} sensors", label]
                cells += [f"{value / 1e6:.1f}" for value in (dense, own, ours)]
                rows.append([*cells, f"{100 * (ours / dense - 1):.1f} %", f"{100 * (ours / own - 1):.1f} %"])
    heads = ["preset paper", "MMAC", "dense multi-head", "sparse multi-head", "SentryAttend"]
    return table([*heads, "against dense", "against sparse"], rows)


def core_table() -> str:
    """Latency of attention layers by number of tokens."""
    path = RESULTS / "attention.json"
    if not path.is_file():
        return ""
    rows: dict[str, list[str]] = {}
    for row in json.loads(path.read_text())["latency"]:
        cell = f"{row['latency_ms']['p50']:.2f} ms"
        if row["core"] != "dense multi-head":
            cell += f" ({row['speed_up']:.2f}x)"
        rows.setdefault(row["core"], [row["core"]]).append(cell)
    lengths = sorted({row["tokens"] for row in json.loads(path.read_text())["latency"]})
    return table(["four attention layers", *(f"{n} tokens" for n in lengths)], list(rows.values()))


def speed_table() -> str:
    """Latency against dense in the same engine, and against eager torch, by shape."""
    path = RESULTS / "speed.json"
    if not path.is_file():
        return ""
    ratios = (0.5, 0.6, 0.75)
    rows: dict[str, dict[str, str]] = {}
    for row in json.loads(path.read_text())["rows"]:
        made = rows.setdefault(row["shape"], {"sensors x tokens": row["shape"]})
        cell = f"{row['latency_ms']['p50']:.2f} ms"
        if row["engine"] == "torch":
            made["eager torch, dense"] = cell
        elif row["ratio"] == 0:
            made["dense"] = cell
        else:
            made[f"r = {row['ratio']:g}"] = (
                f"{cell} ({row['speed_up']:.1f}x, {row['speed_up_over_torch']:.1f}x)"
            )
    heads = ["sensors x tokens", "eager torch, dense", "dense", *(f"r = {r:g}" for r in ratios)]
    return table(heads, [[row.get(head, "") for head in heads] for row in rows.values()])


def switching_table() -> str:
    """What switching costs while a stream runs, and that nothing is lost."""
    path = RESULTS / "switching.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text())
    rows = []
    if "time" in found:
        part = found["time"]
        warm, cold, cpu = part["warm_ms"], part["cold_ms"], part["cold_processor_ms"]
        rows.append(
            [
                "warm switch, p50 / p99",
                f"{1e3 * warm['p50']:.1f} / {1e3 * warm['p99']:.1f} us",
                f"{part['swaps']:,} switches",
            ]
        )
        rows.append(
            [
                "cold switch (slice and build), p50 / p99",
                f"{cold['p50']:.1f} / {cold['p99']:.1f} ms",
                f"{part['builds']:,} builds",
            ]
        )
        rows.append(
            ["the same, processor time of the builder", f"{cpu['p50']:.1f} / {cpu['p99']:.1f} ms", ""]
        )
    if "memory" in found:
        part = found["memory"]
        rows.append(
            [
                "resident memory, many plans in turn",
                f"{part['ratio']:.2f} of one dense session",
                f"{part['plans']:,} plans",
            ]
        )
    if "growth" in found:
        part = found["growth"]
        first = part["inferences"] // 10
        rows.append(
            [
                f"growth from inference {first:,} on",
                f"{part['grown_bytes'] / 2**20:+.2f} MiB",
                f"{part['inferences']:,} inferences",
            ]
        )
    if "law" in found:
        part = found["law"]
        wrong = " / ".join(str(part[key]) for key in ("lost", "doubled", "mixed"))
        rows.append(["windows lost / doubled / mixed, 4 producers", wrong, f"{part['switches']:,} switches"])
    return table(["while the stream runs", "", "of"], rows)


def absence_table() -> str:
    """Time of a window without sensors, and with tokens kept."""
    path = RESULTS / "absence.json"
    if not path.is_file():
        return ""
    rows: dict[str, list[str]] = {}
    for row in json.loads(path.read_text())["rows"]:
        cell = f"{row['latency_ms']['p50']:.2f} ms ({100 * row['of_all']:.0f} %)"
        rows.setdefault(row["variant"], [row["variant"]]).append(cell)
    return table(["six sensors, three of them slow", "r = 0", "r = 0.6"], list(rows.values()))


def size_table() -> str:
    """What an environment without extras holds, the largest packages first."""
    path = RESULTS / "size.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text())
    largest = list(found["packages_mb"].items())[:3]
    heads = ["installed [MB]", *(name for name, _ in largest), "all others", "sentryfuse itself"]
    own = found["packages_mb"].get("sentryfuse", 0.0)
    rest = found["total_mb"] - own - sum(size for _, size in largest)
    cells = [found["total_mb"], *(size for _, size in largest), rest, own]
    return table(heads, [[f"{cell:.1f}" for cell in cells]])
