"""Speed, memory and size: attention, engines, switching, absent sensors, what is installed."""

from __future__ import annotations

from tables.rows import result, table


def attention_table() -> str:
    """MACs of the presets `paper` under three kinds of attention."""
    found = result("attention.json")
    if found is None:
        return ""
    rows = []
    for row in found["macs"]:
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
    found = result("attention.json")
    if found is None:
        return ""
    rows: dict[str, list[str]] = {}
    for row in found["latency"]:
        cell = f"{row['latency_ms']['p50']:.2f} ms"
        if row["core"] != "dense multi-head":
            cell += f" ({row['speed_up']:.2f}x)"
        rows.setdefault(row["core"], [row["core"]]).append(cell)
    lengths = sorted({row["tokens"] for row in found["latency"]})
    return table(["four attention layers", *(f"{n} tokens" for n in lengths)], list(rows.values()))


def speed_table() -> str:
    """Latency against dense in the same engine, and against eager torch, by shape."""
    found = result("speed.json")
    if found is None:
        return ""
    ratios = (0.6, 0.8, 0.95)
    rows: dict[str, dict[str, str]] = {}
    for row in found["rows"]:
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
    found = result("switching.json")
    if found is None:
        return ""
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
    if "stream" in found:
        for way, part in found["stream"]["ways"].items():
            changed, same = (
                " / ".join(f"{part[name][p]:.1f}" for p in ("p50", "p90", "p99"))
                for name in ("changed_ms", "same_ms")
            )
            rows.append(
                [
                    f"cut of a window to its answer, {way}: another sub-network than before, p50 / p90 / p99",
                    f"{changed} ms",
                    f"{part['switches']:,} switches",
                ]
            )
            windows = part["windows"] - part["switches"]
            rows.append([f"{way}: the same as before", f"{same} ms", f"{windows:,} windows"])
            rows.append(
                [
                    f"{way}: processor time of all",
                    f"{part['processor_ms_per_window']:.1f} ms a window",
                    f"{100 * part['share_of_a_core']:.1f} % of a core",
                ]
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
    found = result("absence.json")
    if found is None:
        return ""
    rows: dict[str, list[str]] = {}
    for row in found["rows"]:
        cell = f"{row['latency_ms']['p50']:.2f} ms ({100 * row['of_all']:.0f} %)"
        rows.setdefault(row["variant"], [row["variant"]]).append(cell)
    return table(["six sensors, three of them slow", "r = 0", "r = 0.6"], list(rows.values()))


def size_table() -> str:
    """What an environment without extras holds, the largest packages first."""
    found = result("size.json")
    if found is None:
        return ""
    largest = list(found["packages_mb"].items())[:3]
    heads = ["installed [MB]", *(name for name, _ in largest), "all others", "sentryfuse itself"]
    own = found["packages_mb"].get("sentryfuse", 0.0)
    rest = found["total_mb"] - own - sum(size for _, size in largest)
    cells = [found["total_mb"], *(size for _, size in largest), rest, own]
    return table(heads, [[f"{cell:.1f}" for cell in cells]])
